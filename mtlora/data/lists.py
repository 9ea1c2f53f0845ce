"""Lists of photos, one ID a line, read as other programs write them.

What is harmless is accepted, and noted: a byte order mark, UTF-16, any line ends, names of files, paths of either kind,
quotes, further columns, a heading, comments. A line counts as the first of these readings that a photo has.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtlora.data.findings import Finding, Findings
from mtlora.data.text import read_encoded, unified
from mtlora.vocabulary.errors import DataError

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip
"""Endings of photos, in lower case; the ending does not say what is in the file."""

LIST_SUFFIX = ".txt"
_COLUMNS = re.compile(r"[\s,;]+")
_QUOTES = "\"'"
_COMMENT = "#"
_HEADINGS = {
    "id",
    "ids",
    "image",
    "images",
    "image_id",
    "photo",
    "name",
    "file",
    "files",
    "filename",
    "file_name",
    "path",
}


@dataclass(frozen=True, slots=True)
class PhotoList:
    """The list of a split.

    ids:      of the photos that are there, in order
    problems: lines that name no photo
    notes:    lines that hold more than an ID, and were read all the same
    """

    ids: tuple[str, ...]
    problems: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()


def read_list(folder: Path, split: str, photos: Collection[str], photo_folder: Path) -> PhotoList:
    """The list `folder/split.txt`; `DataError` names the lists there are, or photos that are listed twice.

    photos: IDs of what lies in `photo_folder`
    """
    path = find_list(folder, split)
    text, encoding = read_encoded(path)
    lines = [line for line in (line.strip() for line in text.splitlines()) if line]
    if not lines:
        raise DataError(f"split {split!r} is empty: {path}")
    ids, missing, notes = [], [], Findings()
    if encoding:
        notes.add(
            f"lists hold {encoding}, which is left out" if "mark" in encoding else f"lists are {encoding}", path.name
        )
    for number, line in enumerate(lines):
        name, how = resolve(line, photos)
        if name:
            ids.append(name)
        elif line.startswith(_COMMENT) or (not number and _is_heading(line)):
            how = "a heading or comments, which are left out"
        else:
            missing.append(line)
        if how:
            notes.add(f"lines of {path.name} hold {how if not name else f'{how}; read as IDs'}", line)
    doubles = sorted(name for name, count in Counter(ids).items() if count > 1)
    if doubles:
        raise DataError(f"split {split!r} lists photos twice", doubles)
    problems = _missing(split, missing, photos, photo_folder) if missing else ()
    return PhotoList(tuple(ids), problems, notes.all())


def find_list(folder: Path, split: str) -> Path:
    """The file of a split; `DataError` names the splits there are."""
    for path in _lists(folder):
        if path.stem == split:
            return path
    known = "; ".join(filter(None, (", ".join(split_names(folder)) or "none", lists_below(folder))))
    raise DataError(f"no split {split!r}: {folder / split}{LIST_SUFFIX} does not exist; splits there: {known}")


def lists_below(folder: Path) -> str:
    """Where lists lie one folder deeper, as PASCAL VOC has them, in words; empty if there are none."""
    below = [path.name for path in sorted(folder.glob("*/")) if _lists(path)] if folder.is_dir() else []
    return f"there are lists in {folder.name}/{below[0]}/, copy those you mean to {folder.name}/" if below else ""


def split_names(folder: Path) -> list[str]:
    """Names of the lists in a folder."""
    return [path.stem for path in _lists(folder)]


def resolve(line: str, photos: Collection[str]) -> tuple[str, str]:
    """The ID that a line means, and what the line has beside it, in words; both empty where it means none."""
    return next(((name, how) for name, how in _readings(unified(line)) if name in photos), ("", ""))


def files_by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files directly in a folder that end in one of `suffixes`, by name without it; empty without the folder.

    Of two files of one ID the first in the order of `suffixes` counts, and of those the first by name.
    """
    if not folder.is_dir():
        return {}
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not _is_hidden(path))
    found.sort(key=lambda path: suffixes.index(path.suffix.lower()), reverse=True)
    by_id: dict[str, Path] = {}
    for path in found:
        by_id[unified(path.stem)] = path
    return by_id


def doubles(folder: Path, suffixes: tuple[str, ...]) -> tuple[Finding, ...]:
    """Two files of one ID, such as `ID.jpg` and `ID.JPG`, or `ID.png`."""
    if not folder.is_dir():
        return ()
    names: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not _is_hidden(path):
            names.setdefault(unified(path.stem), []).append(path.name)
    twice = tuple(" and ".join(files) for files in names.values() if len(files) > 1)
    cause = f"files of {folder.name}/ have the same ID"
    return (Finding(cause, twice, "Rename or remove one of each"),) if twice else ()


def _is_heading(line: str) -> bool:
    return _COLUMNS.split(line)[0].strip(_QUOTES).lower() in _HEADINGS


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")  # macOS writes `._ID.jpg` beside a file on a foreign disk


def _lists(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == LIST_SUFFIX and not _is_hidden(path))


def _readings(line: str) -> Iterator[tuple[str, str]]:
    yield line, ""
    bare = line.strip(_QUOTES)
    yield bare, "quotes"
    yield _without_suffix(bare), "names of files"
    first, *others = _COLUMNS.split(bare)
    if others:
        first = first.strip(_QUOTES)
        yield first, "more than one column"
        yield from ((name, "more than one column") for name, _ in _of_file(first))
    yield from _of_file(bare)


def _of_file(text: str) -> Iterator[tuple[str, str]]:
    yield _without_suffix(text), "names of files"
    name = PurePosixPath(text.replace("\\", "/")).name
    yield name, "paths"
    yield _without_suffix(name), "paths"


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in PHOTO_SUFFIXES and "/" not in name else name


def _missing(split: str, lines: list[str], photos: Collection[str], folder: Path) -> tuple[Finding, ...]:
    """Lines that name no photo, by the likely cause."""
    if not folder.is_dir():
        known = ", ".join(sorted(f"{path.name}/" for path in folder.parent.glob("*/")))
        cause = f"photos of split {split!r} are missing: there is no folder {folder.name}/, only {known}"
        return (Finding(cause, tuple(lines)),)
    lower = {name.lower(): name for name in photos}
    others = {unified(path.stem): path.name for path in folder.iterdir()}
    findings = Findings()
    for line in lines:
        names = [name for name, _ in _readings(unified(line))]
        other_case = next((lower[name.lower()] for name in names if name.lower() in lower), "")
        other_kind = next((others[name] for name in names if name in others), "")
        if other_case:
            findings.add(
                f"split {split!r} has IDs that are in {folder.name}/ only in other capitals",
                f"{line} (there: {other_case})",
                "Capitals count: write the IDs as the files have them",
            )
        elif other_kind:
            findings.add(
                f"split {split!r} has photos of a kind that is not read",
                f"{line} ({other_kind})",
                f"Photos end in {', '.join(PHOTO_SUFFIXES)}",
            )
        else:
            findings.add(f"photos of split {split!r} are missing in {folder.name}/", repr(line))
    return findings.all()
