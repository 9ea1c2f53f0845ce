"""Memory needs of a set, from its shape alone: for sizing a machine, and batches."""

from collections.abc import Collection

import torch

from mtlora.inference.backends.choose import make_backend
from mtlora.vocabulary.encoder_shapes import encoder_shapes, table_names
from mtlora.vocabulary.options import FormKind, Precision
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import model_shapes
from mtlora.weights.backbone import Backbone

BYTES_PER_PIXEL = 400  # peak of one pass beyond the weights, measured as growth of a process (Swin-T, 448 and 896 px)
BYTES_PER_PIXEL_AND_TASK = 265


def forward_bytes(spec: AdapterSpec, tasks: Collection[Task]) -> int:
    """Memory that one image adds to a forward pass, beyond the weights; an upper estimate."""
    return spec.image_size**2 * (BYTES_PER_PIXEL + BYTES_PER_PIXEL_AND_TASK * len(tasks))


def device_bytes(spec: AdapterSpec) -> dict[str, int]:
    """Bytes that one set takes on a CPU beyond the backbone, by form: `merged`, `lowrank`, `merged_int8`, …

    Exactly what a server counts against its budget, on a machine with the same native kernels.
    """
    shapes = model_shapes(spec)
    names = [*encoder_shapes(spec.backbone), *table_names(spec.backbone)]
    backbone = Backbone(spec.backbone, {name: torch.zeros(shapes[f"backbone.{name}"]) for name in names})
    return {
        kind.value + ("" if precision is Precision.FLOAT32 else f"_{precision.value}"): make_backend(
            backbone, kind, precision=precision
        ).device_bytes(spec)
        for precision in (Precision.FLOAT32, Precision.INT8)
        for kind in (FormKind.MERGED, FormKind.LOWRANK)
    }
