import numpy as np

from mtlora.data.histogram import ClassCounts, Histogram, wrong_values
from mtlora.vocabulary.tasks import VOC_CLASSES, Task

NAMES = ("background", "leaf", "stem")


def counts(*values: int) -> ClassCounts:
    """Of labels of one row each, ten pixels: `values` at its end, 0 before."""
    found = ClassCounts()
    for value in values:
        found.add(np.array([[0] * 9 + [value]], np.uint8))
    return found


def histogram(train: ClassCounts, val: ClassCounts | None = None, names: tuple[str, ...] = NAMES) -> Histogram:
    splits = {"train": train} | ({} if val is None else {"val": val})
    return Histogram(Task.SEMSEG, names, names is NAMES, splits)


def test_shares_and_labels_of_every_class() -> None:
    title, *rows = histogram(counts(1, 1, 2, 255), counts(1)).lines()
    assert title == "semseg: share of the pixels, and labels that show it (of train 4, val 1)"
    assert [row.split() for row in rows] == [
        ["0", "background", "90.00%", "train", "4", "val", "1"],
        ["1", "leaf", "6.00%", "train", "2", "val", "1"],
        ["2", "stem", "2.00%", "train", "1", "val", "0"],
        ["255", "(ignored)", "2.00%", "train", "1", "val", "0"],
    ]


def test_masks_of_0_and_255_are_a_problem() -> None:
    (problem,) = histogram(counts(255, 255)).problems()
    assert "only background and 255 (ignore), which covers 10.0%" in problem.cause
    assert "Are these 0/255 masks?" in problem.cause and "mtlora data import masks" in problem.mend


def test_one_class_only_is_a_problem_and_two_are_not() -> None:
    assert "hold only background: nothing can be learned" in histogram(counts(0)).problems()[0].cause
    ones = ClassCounts()
    ones.add(np.array([[1, 255]], np.uint8))
    assert "Is 255 another class" in histogram(ones).problems()[0].cause
    assert histogram(counts(1)).problems() == []


def test_only_what_is_trained_on_teaches() -> None:
    assert histogram(counts(255), counts(1, 2)).problems()


def test_classes_that_never_occur_are_noted() -> None:
    assert [note.cause for note in histogram(counts(1, 1)).notes()] == ["semseg labels never hold stem"]
    (note,) = [note.cause for note in histogram(counts(1, 255)).notes() if "never" in note.cause]
    assert "never hold stem, while 255 (ignore) covers 5.0%: is 255 one of these classes?" in note
    assert histogram(counts(1, 2)).notes() == []


def test_a_layouts_classes_are_not_ones_own() -> None:
    cause = histogram(counts(1, 255), names=VOC_CLASSES).notes()[0].cause
    assert "19 of 21 classes occur in no label" in cause and "classes.txt" in cause
    assert "255 (ignore) covers 5.0%: is it one of your classes?" in cause


def test_what_is_scored_and_not_taught_is_noted() -> None:
    causes = [note.cause for note in histogram(counts(1), counts(2)).notes()]
    assert causes == ["semseg labels of val hold stem, those of train do not"]
    causes = [note.cause for note in histogram(counts(1, 2), counts(255)).notes()]
    assert "semseg labels of val hold only background: scores on them say nothing" in causes


def test_values_that_are_no_class() -> None:
    assert wrong_values(np.array([[0, 2, 3, 7, 255]], np.uint8), 3) == [3, 7]
