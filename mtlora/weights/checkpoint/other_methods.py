"""Checkpoints of methods that are not supported, told by their tensors' names and refused in one line."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mtlora.vocabulary.errors import ConversionError
from mtlora.vocabulary.shown import shown
from mtlora.weights.checkpoint.globals_allowed import TensorRef

_EXAMPLES = 3
_ANOTHER = "another method than MTLoRA"


@dataclass(frozen=True, slots=True)
class Method:
    """A method, and what in a tensor's name is its own.

    sign: its first group is how the message calls what was found
    hint: what can be done instead
    """

    name: str
    sign: re.Pattern[str]
    hint: str = ""


def _method(name: str, sign: str, hint: str = "") -> Method:
    return Method(name, re.compile(sign), hint)


METHODS = (
    _method("DoRA in PEFT's layout", r"(lora_magnitude_vector)"),
    _method(
        "an adapter of PEFT",
        r"(base_model\.model)\.|\.(lora_[AB])\.(?:\w+\.)?weight$|\.(lora_embedding_[AB])\b|\.(base_layer)\.weight$",
        "merge it with PEFT's merge_and_unload() to get a backbone; a set of ours is trained with `mtlora train`",
    ),
    _method(
        "SwinV2",
        r"\.(logit_scale|cpb_mlp|continuous_position_bias_mlp|relative_coords_table)\b",
        "backbones are Swin of version 1",
    ),
    _method("FAAR", r"\.(shared_log_m|task_log_m|ema_score_shared|ema_score_task__)"),
    _method("FAAR", r"\.(lora_eug_alpha|lora_freqs|anchor_scale)(?=[._])"),
    _method("TADFormer", r"(?:^|\.)(lora_filter|dtf|task_prompts?|prompts?)(?=[._]|$)"),
    _method("DiTASK", r"(?:^|[._])(cpab)(?=[._]|$)"),
    _method("DoRA", r"\.(lora_(?:shared|tasks)_m|lora_magnitude\w*)(?=\.|$)"),
    _method("a mixture of experts", r"\.(routers?|experts?|moe)(?=[._])"),
    _method(
        "a shard of FullyShardedDataParallel",
        r"(?:^|\.)(_?flat_param)",
        "save it with StateDictType.FULL_STATE_DICT",
    ),
)
_DITASK = "lora_shared_A"  # of one row, and without lora_shared_B


def refuse_other_methods(file: str, tensors: Mapping[str, TensorRef]) -> None:
    """`ConversionError` of one line if some of the tensors are of a method that is known but not supported."""
    found: dict[str, list[str]] = {}
    signs: dict[str, None] = {}
    hints: dict[str, None] = {}
    for key in tensors:
        for method in METHODS:
            if match := method.sign.search(key):
                found.setdefault(method.name, []).append(key)
                signs[next(group for group in match.groups() if group)] = None
                hints[method.hint] = None
                break
    if not found and (flows := _flows(tensors)):
        found, signs = {"DiTASK": flows}, {_DITASK: None}
    if found:
        keys = [key for each in found.values() for key in each]
        raise ConversionError(_message(file, list(found), keys, signs, [hint for hint in hints if hint]))


def _flows(tensors: Mapping[str, TensorRef]) -> list[str]:
    """DiTASK's parameters: they have the name of a pair's first half, and there is no second."""
    return [
        key
        for key, ref in tensors.items()
        if key.endswith(_DITASK) and ref.shape[:1] == (1,) and f"{key[:-1]}B" not in tensors
    ]


def _message(file: str, names: list[str], keys: list[str], signs: Collection[str], hints: list[str]) -> str:
    owner = names[0] if len(names) == 1 else _ANOTHER
    examples = ", ".join(shown(key, 120) for key in keys[:_EXAMPLES])
    found = ", ".join(map(shown, signs))
    told = f"{shown(file)}: this is {owner} ({found}), which is not supported"
    return "; ".join([f"{told}: {len(keys)} of its tensors belong to it, such as {examples}", *hints])
