import pytest

from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import TRAITS, VOC_CLASSES, Task, parse_task, parse_tasks, task_of_reference_key, voc_color


@pytest.mark.parametrize(
    ("name", "task"),
    [("semseg", Task.SEMSEG), ("parts", Task.HUMAN_PARTS), ("sal", Task.SALIENCY), (" Normals ", Task.NORMALS)],
)
def test_names_and_aliases(name: str, task: Task) -> None:
    assert parse_task(name) is task


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        TaskError, match=r"unknown task 'pose'; known tasks: semseg, human_parts, parts, saliency, sal,"
    ):
        parse_task("pose")


def test_comma_list_keeps_order_and_drops_doubles() -> None:
    assert parse_tasks("normals, parts,human_parts,,semseg") == (Task.NORMALS, Task.HUMAN_PARTS, Task.SEMSEG)
    assert parse_tasks("") == ()


def test_every_task_has_traits_and_a_published_name() -> None:
    assert set(TRAITS) == set(Task)
    assert task_of_reference_key("sal") is Task.SALIENCY
    with pytest.raises(TaskError, match="unknown task 'saliency'; the published names are"):
        task_of_reference_key("saliency")


def test_voc_palette() -> None:
    """Colours as published with PASCAL VOC."""
    assert len(VOC_CLASSES) == 21
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {index: voc_color(index) for index in expected} == expected
    assert len({voc_color(index) for index in range(256)}) == 256
