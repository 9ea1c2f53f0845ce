"""The photos of an export: found by walking its folders, so a name in a document can only choose among them."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mtlora.data.lists import PHOTO_SUFFIXES
from mtlora.images.container import read_container
from mtlora.images.opening import DEFAULT_MAX_PIXELS
from mtlora.vocabulary.errors import DataError, ImageError

MOST_FILES = 2_000_000
OTHER_SUFFIXES = (".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif")
"""Photos that a dataset folder cannot hold: `find` says so."""
SIDEWAYS = range(5, 9)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Words that tools call folders and lists of a split by, and the split's name here."""


@dataclass(frozen=True)
class FoundPhoto:
    """A photo that is there. `name`: its path below the folder it was found in, `/` between folders."""

    path: Path
    name: str

    @cached_property
    def _head(self) -> tuple[int, int, int]:
        try:
            head = read_container(self.path.read_bytes(), DEFAULT_MAX_PIXELS)
        except (OSError, ImageError) as error:
            raise DataError(f"{self.name} cannot be read as a photo: {error}") from error
        if not head.width:
            raise DataError(f"{self.name} is no photo of a known format")
        return head.width, head.height, head.orientation

    @property
    def orientation(self) -> int:
        """Of EXIF, 1 to 8; 1 is upright."""
        return self._head[2]

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as the file has them; `DataError` where it is no photo."""
        return self._head[:2]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as it is shown."""
        width, height = self.stored_size
        return (height, width) if self.orientation in SIDEWAYS else (width, height)

    @property
    def split(self) -> str:
        """The split that one of its folders is named after; empty if none is."""
        return split_in(self.name.split("/")[:-1])


class PhotoIndex:
    """All photos below some folders. Links that lead out of their folder are not followed, and not opened."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._photos: dict[str, FoundPhoto] = {}
        self._by_file: dict[str, list[str]] = defaultdict(list)
        self._others: set[str] = set()
        self._outside: set[str] = set()
        for folder in folders:
            root = folder.resolve()
            for path in files_below(root):
                suffix = path.suffix.lower()
                if suffix not in PHOTO_SUFFIXES + OTHER_SUFFIXES:
                    continue
                if suffix in OTHER_SUFFIXES:
                    self._others.add(path.name)
                elif not path.resolve().is_relative_to(root):
                    self._outside.add(path.name)
                else:
                    self._add(path, path.relative_to(root).as_posix())

    def _add(self, path: Path, name: str) -> None:
        if name not in self._photos:
            self._photos[name] = FoundPhoto(path, name)
            self._by_file[path.name].append(name)

    def __iter__(self) -> Iterator[FoundPhoto]:
        return iter(sorted(self._photos.values(), key=lambda photo: photo.name))

    def __len__(self) -> int:
        return len(self._photos)

    def find(self, name: str, near: str = "") -> FoundPhoto:
        """The photo that a document calls `name`, whatever folders it puts before; `DataError` if there is none.

        near: folder of the document, below the export's, where its names usually begin
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", ".", ".."}]
        if not parts:
            raise DataError(f"a photo without a name: {name[:60]!r}")
        for known in ("/".join([near, *parts]) if near else "", "/".join(parts)):
            if known in self._photos:
                return self._photos[known]
        alike = self._by_file.get(parts[-1], [])
        if not alike:
            raise DataError(self._missing(parts[-1], name))
        common = {one: _common_tail(one.split("/"), parts) for one in alike}
        best = [one for one in alike if common[one] == max(common.values())]
        inside = [one for one in best if one.startswith(f"{near}/")] if near else []
        best = inside or best
        if len(best) > 1:
            raise DataError(f"photo {name[:200]!r} may be {best[0]} or {best[1]}")
        return self._photos[best[0]]

    def _missing(self, file: str, name: str) -> str:
        if file in self._others:
            return (
                f"photo {name[:200]!r} is of a kind that a dataset does not take ({', '.join(PHOTO_SUFFIXES)} it does)"
            )
        if file in self._outside:
            return f"photo {name[:200]!r} is a link out of the export's folder: name that folder with --photos"
        return f"photo {name[:200]!r} is not there; where photos lie in another folder, name it with --photos"


def split_in(words: Sequence[str]) -> str:
    """The split that one of these words means, the last one first; empty if none does."""
    for word in reversed(words):
        if word.lower() in SPLITS:
            return SPLITS[word.lower()]
    return ""


def files_below(root: Path) -> Iterator[Path]:
    """Files below a folder, hidden ones left out; linked folders are not entered."""
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            count += 1
            if count > MOST_FILES:
                raise DataError(f"{root} holds more than {MOST_FILES} files: import it in parts")
            if not name.startswith("."):
                yield Path(folder, name)


def _common_tail(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
