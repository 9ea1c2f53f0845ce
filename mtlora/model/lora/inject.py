"""The injection of low-rank pairs into a Swin encoder: the one place where a spec meets a layer."""

from typing import Any

from torch import nn

from mtlora.model.lora.linear import LoRALinear, LowRankPair, TaskLoRALinear
from mtlora.vocabulary.spec import AdapterSpec, SharedMode


def inject(swin: Any, spec: AdapterSpec) -> None:
    """Replace the linears that `spec` adapts, in place; pairs are left uninitialised (see `LowRankPair`).

    swin: timm `SwinTransformer`; its blocks' qkv, proj, fc1, fc2 and the reductions of patch merging are replaced.
    """
    for index, stage in enumerate(swin.layers):
        for number, block in enumerate(stage.blocks):
            tasked = spec.intermediate_specialization or number == len(stage.blocks) - 1
            _adapt(block.attn, "qkv", spec, index, wanted=spec.adapt_qkv, tasked=False)
            _adapt(block.attn, "proj", spec, index, wanted=spec.adapt_proj, tasked=tasked)
            _adapt(block.mlp, "fc1", spec, index, wanted=spec.adapt_fc1, tasked=tasked)
            _adapt(block.mlp, "fc2", spec, index, wanted=spec.adapt_fc2, tasked=tasked)
        if index > 0:  # timm merges at the start of a stage, the paper at the end of the one before
            _adapt(stage.downsample, "reduction", spec, index - 1, wanted=spec.adapt_reduction, tasked=False)


def _adapt(owner: nn.Module, name: str, spec: AdapterSpec, stage: int, *, wanted: bool, tasked: bool) -> None:
    if not wanted or spec.ranks[stage] == 0:
        return
    base = owner.get_submodule(name)
    if not isinstance(base, nn.Linear):
        raise TypeError(f"{name} of stage {stage} is a {type(base).__name__}, not a linear layer")
    size = base.in_features, base.out_features
    tasked = tasked and spec.mode is not SharedMode.LORA_ONLY
    shared = None
    if not (tasked and spec.mode is SharedMode.ADDITION):
        shared = LowRankPair(*size, rank=spec.ranks[stage], scaling=spec.scaling[stage], learned=spec.learned_scaling)
    if not tasked:
        setattr(owner, name, LoRALinear(base, shared=shared, dropout=spec.dropout[stage]))
        return
    pairs = {
        t.task: LowRankPair(*size, rank=t.ranks[stage], scaling=t.scaling[stage], learned=spec.learned_task_scaling)
        for t in spec.tasks
        if t.ranks[stage] > 0
    }
    adapted = TaskLoRALinear(
        base, shared=shared, tasks=pairs, task_names=spec.task_names, mode=spec.mode, dropout=spec.dropout[stage]
    )
    setattr(owner, name, adapted)
