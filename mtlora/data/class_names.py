"""Names of a dataset's own classes: `classes.txt` beside the photos, one name a line, in order of index."""

import re
from collections.abc import Mapping
from pathlib import Path

from mtlora.data.text import read_text
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import IGNORE_INDEX, Task

CLASS_FILES: Mapping[Task, str] = {Task.SEMSEG: "classes.txt", Task.HUMAN_PARTS: "classes-human_parts.txt"}
"""Line i names the class of label value i; line 0 of semseg is usually `background`."""

MAX_NAME = 100
"""Characters of a name: what the description of an adapter set holds."""


def read_class_files(root: Path) -> dict[Task, tuple[str, ...]]:
    """Names of the label values 0, 1, … of those tasks that have a file; `DataError` names a file's faults."""
    return {task: read_classes(root / name) for task, name in CLASS_FILES.items() if (root / name).is_file()}


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in one file, UTF-8; empty lines at the end do not count."""
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if len(lines) == 1 and re.search(r"[,;\t]", lines[0]):
        raise DataError(f"{path} has all classes in one line, got {lines[0]!r}: one name a line is needed")
    if lines and all(re.match(rf"{index}[\s:,;=]", line) for index, line in enumerate(lines)):
        raise DataError(f"{path} has numbers before the names, got {lines[0]!r}: the line's place is the label value")
    return checked_classes(lines, str(path))


def checked_classes(names: list[str], source: str) -> tuple[str, ...]:
    """The names if they can be those of classes; `DataError` lists what is wrong, `source` says where they stand."""
    if not names:
        raise DataError(f"{source} names no class: one name a line is needed, line 1 is the class of label value 0")
    wrong = [f"class {index} has no name: write one, such as unused" for index, name in enumerate(names) if not name]
    wrong += [f"two classes are called {name!r}" for name in sorted({n for n in names if n and names.count(n) > 1})]
    wrong += [f"class {n[:MAX_NAME]!r}… has more than {MAX_NAME} characters" for n in names if len(n) > MAX_NAME]
    if len(names) > IGNORE_INDEX:
        wrong.append(f"{len(names)} classes, but label values are 0..{IGNORE_INDEX - 1}")
    if wrong:
        raise DataError(f"{source} cannot be read as classes", wrong)
    return tuple(names)
