"""The injection of low-rank pairs into a Swin encoder: the one place where a spec meets a layer."""

from typing import Any

from torch import nn

from mtlora.model.lora.linear import LoRALinear, LowRankPair, TaskLoRALinear
from mtlora.vocabulary.adapted_linears import AdaptedLinear, PairSpec, adapted_linears
from mtlora.vocabulary.spec import AdapterSpec


def inject(swin: Any, spec: AdapterSpec) -> None:
    """Replace the linears that `spec` adapts, in place; pairs are left uninitialised (see `LowRankPair`).

    swin: timm `SwinTransformer` of the spec's shape
    """
    for adapted in adapted_linears(spec):
        owner, _, name = adapted.name.rpartition(".")
        base = swin.get_submodule(adapted.name)
        if not isinstance(base, nn.Linear):
            raise TypeError(f"{adapted.name} is a {type(base).__name__}, not a linear layer")
        setattr(swin.get_submodule(owner), name, _layer(base, adapted, spec))


def _layer(base: nn.Linear, adapted: AdaptedLinear, spec: AdapterSpec) -> LoRALinear:
    shared = None if adapted.shared is None else _pair(adapted.shared)
    dropout = spec.dropout[adapted.stage]
    if not adapted.splits:
        return LoRALinear(base, shared=shared, dropout=dropout)
    pairs = zip(spec.task_names, adapted.tasks, strict=True)
    return TaskLoRALinear(
        base,
        shared=shared,
        tasks={task: _pair(pair) for task, pair in pairs if pair is not None},
        task_names=spec.task_names,
        mode=spec.mode,
        dropout=dropout,
    )


def _pair(pair: PairSpec) -> LowRankPair:
    return LowRankPair(
        pair.in_features, pair.out_features, rank=pair.rank, scaling=pair.scaling, learned=pair.learned_scaling
    )
