"""The methods that papers compare, as settings of one trainer: what is added to the encoder, what of it is trained."""

from enum import StrEnum

from torch import nn

from mtlora.vocabulary.errors import TrainingError
from mtlora.vocabulary.spec import AdapterSpec, SharedMode

_NONE = (0, 0, 0, 0)


class Method(StrEnum):
    """How a pretrained encoder is brought to the tasks. Decoders are always trained."""

    MTLORA = "mtlora"  # TA and TS pairs; norms, position biases, patch embedding and merging trained
    MTLORA_PLUS = "mtlora+"  # the same, and patch merging has a TA pair instead of being trained
    LORA = "lora"  # TA pairs only, the rest as MTLoRA
    BITFIT = "bitfit"  # no pairs; the encoder's bias vectors
    DECODERS = "decoders"  # nothing of the encoder
    FULL = "full"  # all of the encoder, one for all tasks
    SINGLE = "single"  # all of an encoder of its own for one task: what delta_m is measured against


class Unfreeze(StrEnum):
    """What of the backbone itself is trained; with anything but `none` a run writes a backbone of its own."""

    NONE = "none"
    BIASES = "biases"
    ALL = "all"


_UNFREEZE = {Method.BITFIT: Unfreeze.BIASES, Method.FULL: Unfreeze.ALL, Method.SINGLE: Unfreeze.ALL}


def spec_for(method: Method, spec: AdapterSpec) -> AdapterSpec:
    """`spec` with the pairs and trained parts of a method."""
    if method is Method.SINGLE and len(spec.tasks) != 1:
        raise TrainingError(f"method single trains one task, got {', '.join(spec.task_names)}")
    if method is Method.MTLORA:
        return spec
    if method is Method.MTLORA_PLUS:
        return spec.model_copy(update={"adapt_reduction": True})
    if method is Method.LORA:
        return spec.model_copy(update={"mode": SharedMode.LORA_ONLY})
    tasks = tuple(task.model_copy(update={"ranks": _NONE}) for task in spec.tasks)
    frozen = dict.fromkeys(("train_patch_embed", "train_layer_norm", "train_position_bias", "train_reduction"), False)
    return spec.model_copy(update={"ranks": _NONE, "tasks": tasks, **frozen})


def unfreeze_for(method: Method) -> Unfreeze:
    """What of the backbone a method trains beside what its spec says."""
    return _UNFREEZE.get(method, Unfreeze.NONE)


def unfreeze(encoder: nn.Module, what: Unfreeze) -> None:
    """Let parts of a frozen encoder be trained; they get memory of their own, for the frozen tensors are shared."""
    if what is Unfreeze.NONE:
        return
    for name, parameter in encoder.named_parameters():
        if what is Unfreeze.ALL or name.endswith(".bias"):
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(True)
