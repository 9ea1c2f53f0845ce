"""The choice of a backend."""

import math
from typing import Any

from mtlora.inference.backends.backend import Backend
from mtlora.inference.backends.cpu import CpuBackend
from mtlora.inference.backends.cuda import CudaBackend
from mtlora.inference.backends.reference import ReferenceBackend
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.weights.backbone import Backbone

MERGED_SETS_AT_LEAST = 4  # with room for fewer, sets would be folded anew all the time


def make_backend(
    backbone: Backbone,
    kind: FormKind = FormKind.AUTO,
    *,
    precision: Precision = Precision.FLOAT32,
    budget_bytes: float = math.inf,
) -> Backend[Any]:
    """The form of a kind, on the backbone's device. int8 is for a CPU, bfloat16 for a GPU, neither for `plain`.

    `auto`: low-rank on a GPU; on a CPU merged, if `budget_bytes` holds a few merged sets, each about as large as the
    backbone, else low-rank.
    """
    on_cpu = backbone.device.type == "cpu"
    for lower, place, fits in ((Precision.INT8, "CPU", on_cpu), (Precision.BFLOAT16, "GPU", not on_cpu)):
        if precision is lower and (kind is FormKind.PLAIN or not fits):
            raise MTLoRAError(
                f"precision {lower} needs a {place} and form merged or lowrank, got {backbone.device}, form {kind}"
            )
    if kind is FormKind.PLAIN:
        return ReferenceBackend(backbone)
    if kind is FormKind.AUTO:
        roomy = budget_bytes >= MERGED_SETS_AT_LEAST * backbone.nbytes
        kind = FormKind.MERGED if roomy and on_cpu else FormKind.LOWRANK
    made = CpuBackend if on_cpu else CudaBackend
    return made(backbone, merge=kind is FormKind.MERGED, precision=precision)
