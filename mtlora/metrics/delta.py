"""The multi-task score of the paper: mean relative change against single-task models."""

from collections.abc import Mapping

from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import Task

LOWER_IS_BETTER = frozenset({Task.NORMALS, Task.DEPTH})
"""Tasks whose headline metric is an error."""


def delta_m(scores: Mapping[Task, float], single_task: Mapping[Task, float]) -> float:
    """Mean over tasks of the signed relative change in percent; above 0 is better than the single-task models."""
    if not scores or scores.keys() != single_task.keys():
        raise TaskError(f"need the same tasks twice, got {sorted(scores)} and {sorted(single_task)}")
    zero = [task for task, value in single_task.items() if value == 0]
    if zero:
        raise TaskError(f"a single-task score of 0 has no relative change: {', '.join(zero)}")
    signs = {task: -1.0 if task in LOWER_IS_BETTER else 1.0 for task in scores}
    changes = [signs[t] * (scores[t] - single_task[t]) / single_task[t] for t in scores]
    return 100 * sum(changes) / len(changes)
