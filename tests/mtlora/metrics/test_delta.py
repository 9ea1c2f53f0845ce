import pytest

from mtlora.errors import TaskError
from mtlora.metrics import delta_m
from mtlora.tasks import Task


def test_by_hand_with_an_error_among_the_scores() -> None:
    """semseg 10 % better; normals 20 degrees against 16: 25 % worse."""
    change = delta_m({Task.SEMSEG: 0.55, Task.NORMALS: 20.0}, {Task.SEMSEG: 0.5, Task.NORMALS: 16.0})
    assert change == pytest.approx((10 - 25) / 2)


def test_needs_the_same_tasks_and_no_zero() -> None:
    with pytest.raises(TaskError, match="same tasks twice"):
        delta_m({Task.SEMSEG: 1.0}, {Task.NORMALS: 1.0})
    with pytest.raises(TaskError, match="no relative change: semseg"):
        delta_m({Task.SEMSEG: 1.0}, {Task.SEMSEG: 0.0})
