from dataclasses import replace
from pathlib import Path

import pytest

from mtlora.data.own_classes import OwnClasses, classes_of, own_names
from mtlora.data.records import PhotoDataset
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.tasks import VOC_CLASSES, Task

PLAIN = PhotoDataset(Path("data"), "train", ())
NAMED = replace(PLAIN, classes={Task.SEMSEG: ("background", "leaf")}, declared={Task.SEMSEG: "classes.txt"})


def parse(text: str) -> OwnClasses:
    found = OwnClasses.parse(text)
    assert found is not None
    return found


def test_names_or_a_number() -> None:
    assert OwnClasses.parse(" ") is None
    assert parse("background, leaf").names == ("background", "leaf")
    assert parse("3") == OwnClasses(("background", "class 1", "class 2"), is_number=True)
    for text, told in (("0", "names no class"), ("a,a", "two classes"), ("256", "256 classes")):
        with pytest.raises(DataError, match=told):
            OwnClasses.parse(text)


def test_a_dataset_that_names_its_classes_has_no_others() -> None:
    assert own_names(NAMED, parse("2")) == ("background", "leaf")
    assert own_names(NAMED, parse("leaf")) == ("leaf",)
    with pytest.raises(DataError, match=r"has no stem, only background, leaf"):
        own_names(NAMED, parse("background,stem"))
    with pytest.raises(DataError, match=r"3, but classes.txt of data names 2 classes"):
        own_names(NAMED, parse("3"))


def test_what_label_values_are_called() -> None:
    assert classes_of(PLAIN, None)[Task.SEMSEG] == VOC_CLASSES
    assert classes_of(PLAIN, parse("background,person"))[Task.SEMSEG] == VOC_CLASSES
    assert classes_of(PLAIN, parse("background,leaf"))[Task.SEMSEG] == ("background", "leaf")
