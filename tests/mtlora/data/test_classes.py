from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtlora.data.classes import apply_table, check_classes, label_table, source_rows
from mtlora.data.records import PhotoDataset
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.spec import TaskSpec, palette_classes
from mtlora.vocabulary.tasks import VOC_CLASSES, Task


def test_fewer_classes_go_by_name() -> None:
    people = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "person")))
    target = apply_table(torch.tensor([0, 15, 7, 255]), label_table(people, VOC_CLASSES))
    assert target.tolist() == [0, 1, 0, 255]
    assert source_rows(people, TaskSpec.make(Task.SEMSEG)) == [0, 15]


def test_without_background_the_rest_is_ignored() -> None:
    pets = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("dog", "cat")))
    assert apply_table(torch.tensor([0, 8, 12]), label_table(pets, VOC_CLASSES)).tolist() == [255, 1, 0]


def test_classes_of_ones_own_are_plain_indices() -> None:
    rooms = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("wall", "floor", "bed")))
    assert apply_table(torch.tensor([0, 1, 2, 255]), label_table(rooms, VOC_CLASSES)).tolist() == [0, 1, 2, 255]
    assert source_rows(rooms, TaskSpec.make(Task.SEMSEG)) is None


def test_full_sets_change_nothing() -> None:
    assert label_table(TaskSpec.make(Task.SEMSEG), VOC_CLASSES)[:21].tolist() == list(range(21))
    normals = TaskSpec.make(Task.NORMALS)
    assert source_rows(normals, normals) == [0, 1, 2]


def test_a_dataset_that_names_its_classes_has_to_name_those_of_the_set() -> None:
    plain = PhotoDataset(Path("data"), "train", ())
    named = replace(plain, classes={Task.SEMSEG: ("background", "leaf")}, declared={Task.SEMSEG: "classes.txt"})
    leaves = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("background", "leaf", "stem")))
    check_classes(leaves, named)
    with pytest.raises(DataError, match=r"classes.txt of data does not name semseg classes of the set: aeroplane"):
        check_classes(TaskSpec.make(Task.SEMSEG), named)
    check_classes(TaskSpec.make(Task.SEMSEG), plain)


def test_a_set_with_more_classes_reads_values_by_name() -> None:
    turned = TaskSpec.make(Task.SEMSEG, classes=palette_classes(("stem", "leaf", "background")))
    table = label_table(turned, ("background", "leaf"))
    assert table[[0, 1, 255]].tolist() == [2, 1, 255]
    assert table[2] >= 3, "a value without a name is no class"
