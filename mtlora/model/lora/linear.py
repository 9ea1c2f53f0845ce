"""Linear layers with low-rank pairs (paper, section 3.2).

`weight` and `bias` keep the names and objects of the frozen layer, so a backbone's tensors can be shared by
any number of adapted models. Scaling multiplies B A x directly: it is neither alpha nor alpha / rank.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.vocabulary.spec import SharedMode
from mtlora.vocabulary.tasks import Task


class TaskOutputs(NamedTuple):
    """What a layer, block or stage gives: the shared path and one stream per task (may be empty)."""

    shared: Tensor  # float [..., C]
    by_task: dict[Task, Tensor]  # same shape each


class LowRankPair(nn.Module):
    """`scaling · B A x` for x float [..., in] -> float [..., out]; a fresh B is zero, so a fresh pair adds nothing."""

    def __init__(self, in_features: int, out_features: int, *, rank: int, scaling: float, learned: bool) -> None:
        super().__init__()
        self.rank = rank
        self.lora_a = nn.Parameter(torch.empty(rank, in_features))
        self.lora_b = nn.Parameter(torch.empty(out_features, rank))
        self.scaling: float | nn.Parameter = scaling
        if learned:
            del self.scaling
            self.scaling = nn.Parameter(torch.full((1,), scaling))

    def reset_parameters(self) -> None:
        """A Kaiming-uniform with a = √5 as in the published code, B zero."""
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        nn.init.zeros_(self.lora_b)

    def forward(self, x: Tensor) -> Tensor:
        """Low-rank term of x; the two thin products, never the full-size B A."""
        return F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scaling


class LoRALinear(nn.Linear):
    """Frozen linear with a TA-LoRA pair: y = W x + b + s · B A x."""

    shared: LowRankPair | None

    def __init__(self, base: nn.Linear, *, shared: LowRankPair | None, dropout: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.shared = shared
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def frozen(self, x: Tensor) -> Tensor:
        """The frozen product W x + b."""
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shared output: float [..., in] -> float [..., out]."""
        y = self.frozen(x)
        return y if self.shared is None else y + self.shared(self.dropout(x))


class TaskLoRALinear(LoRALinear):
    """Frozen linear with a TA-LoRA pair and one TS-LoRA pair per task (last block of a stage).

    A task without a pair (rank 0) gets the frozen product. `modes`: see `SharedMode`.
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        shared: LowRankPair | None,
        tasks: Mapping[Task, LowRankPair],
        task_names: Sequence[Task],
        mode: SharedMode,
        dropout: float,
    ) -> None:
        super().__init__(base, shared=shared, dropout=dropout)
        self.tasks = nn.ModuleDict({task.value: pair for task, pair in tasks.items()})
        self.task_names = tuple(task_names)
        self.mode = mode
        self.norm = nn.LayerNorm(self.out_features) if mode is SharedMode.ADDITION else None

    def forward_tasks(self, x: Tensor, streams: Mapping[Task, Tensor], tasks: Sequence[Task]) -> TaskOutputs:
        """Shared output and the outputs of `tasks`.

        x:       float [..., in], the shared input; the frozen product is computed from it alone, once for all tasks
        streams: a task's own input where it has one; a task not in it uses x
        tasks:   mode `addition` needs all tasks of the set, whichever are asked for
        """
        frozen = self.frozen(x)
        ta_term = None if self.shared is None else self.shared(self.dropout(x))
        by_task = {task: self._task_output(task, frozen, ta_term, streams.get(task, x)) for task in tasks}
        if self.norm is not None:
            return TaskOutputs(frozen + self.norm(torch.stack(tuple(by_task.values())).sum(dim=0)), by_task)
        return TaskOutputs(frozen if ta_term is None else frozen + ta_term, by_task)

    def _task_output(self, task: Task, frozen: Tensor, ta_term: Tensor | None, x: Tensor) -> Tensor:
        y = frozen
        if self.mode is SharedMode.MATRIX_V2 and ta_term is not None:
            y = y + ta_term
        if task.value in self.tasks:
            y = y + self.tasks[task.value](self.dropout(x))
        return y
