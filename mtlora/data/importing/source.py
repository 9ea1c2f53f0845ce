"""What an export is read from: its folder or its one document, and photos."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mtlora.data.importing.documents import json_kind
from mtlora.data.importing.photos import PhotoIndex, files_below
from mtlora.vocabulary.errors import DataError


@dataclass(frozen=True)
class Source:
    """A folder (or a document in it) with an export.

    photo_folders: more folders with photos
    classes: names that the user gave, of the values 0, 1, … where labels are numbers; may be empty
    soft:    saliency alone is wanted, so masks may be 255 * p
    """

    path: Path
    photo_folders: tuple[Path, ...] = ()
    classes: tuple[str, ...] = ()
    soft: bool = False

    def __post_init__(self) -> None:
        for path in (self.path, *self.photo_folders):
            if not path.exists():
                raise DataError(f"there is no folder or file {path}")

    @property
    def root(self) -> Path:
        """The folder."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def photos(self) -> PhotoIndex:
        """Photos below the folder, and below the others."""
        return PhotoIndex([self.root, *self.photo_folders])

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files of the export that do not lie, over a link, outside of it; the one document, if one was named."""
        if not self.path.is_dir():
            return (self.path,)
        inside = self.root.resolve()
        return tuple(path for path in files_below(self.root) if path.resolve().is_relative_to(inside))

    def documents(self, kind: str) -> list[Path]:
        """JSON files of this kind, see `json_kind`."""
        return [path for path in self.files if path.suffix.lower() == ".json" and json_kind(path) == kind]

    def named(self, wanted: Callable[[Path], bool]) -> Iterator[Path]:
        """Files whose path fits."""
        return (path for path in self.files if wanted(path))

    def place(self, path: Path) -> str:
        """A file's folder below the export's, `/` between folders; empty for the export's own."""
        place = path.parent.relative_to(self.root).as_posix()
        return "" if place == "." else place
