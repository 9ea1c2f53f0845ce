"""Classes that a user names on the command line, and how they stand to those of a dataset."""

from dataclasses import dataclass

from mtlora.data.class_names import checked_classes
from mtlora.data.classes import BACKGROUND
from mtlora.data.records import PhotoDataset
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import Task

OPTION = "--semseg-classes"


@dataclass(frozen=True, slots=True)
class OwnClasses:
    """What `--semseg-classes` says: names, or a number of classes without names.

    names: in order of index; background, class 1, class 2, … where only a number was given
    """

    names: tuple[str, ...]
    is_number: bool = False

    @classmethod
    def parse(cls, text: str) -> "OwnClasses | None":
        """Of a comma list of names or a whole number; None of nothing."""
        if not text.strip():
            return None
        if text.strip().isdigit():
            count = int(text)
            names = [BACKGROUND, *(f"class {index}" for index in range(1, count))] if count else []
            return cls(checked_classes(names, OPTION), is_number=True)
        return cls(checked_classes([part.strip() for part in text.split(",") if part.strip()], OPTION))


def own_names(dataset: PhotoDataset, own: OwnClasses) -> tuple[str, ...]:
    """The classes of a set; `DataError` where the dataset names its own and these are others.

    A number stands for the names of the dataset where it has so many.
    """
    known = dataset.classes.get(Task.SEMSEG, ())
    source = dataset.declared.get(Task.SEMSEG)
    if source is None:
        return own.names
    if own.is_number:
        if len(own.names) != len(known):
            raise DataError(f"{OPTION} {len(own.names)}, but {source} of {dataset.root} names {len(known)} classes")
        return known
    strange = [name for name in own.names if name not in known]
    if strange:
        raise DataError(f"{OPTION}: {source} of {dataset.root} has no {', '.join(strange)}, only {', '.join(known)}")
    return own.names


def classes_of(dataset: PhotoDataset, own: OwnClasses | None) -> dict[Task, tuple[str, ...]]:
    """Names of the label values of each task, as training would read them."""
    classes = dict(dataset.classes)
    if own is not None:
        names, known = own_names(dataset, own), classes.get(Task.SEMSEG, ())
        classes[Task.SEMSEG] = known if set(names) <= set(known) else names
    return classes
