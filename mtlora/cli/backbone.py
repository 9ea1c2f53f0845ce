"""The command `mtlora backbone`: a backbone file from timm, or from a file of weights of many makes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli.hub import is_hub, local_path
from mtlora.cli.say import say

WeightsOption = Annotated[
    str, typer.Option(help="Which of a file's sets of weights, such as model_ema; default: the model's own.")
]


class StorageType(StrEnum):
    """How tensors are stored in a file."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def backbone(
    source: Annotated[
        str,
        typer.Argument(
            help="timm name (swin_tiny_patch4_window7_224, …), .pth or .safetensors, or hf://ORG/REPO/FILE."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Backbone file to write (.safetensors).")],
    dtype: Annotated[StorageType, typer.Option(help="Storage type; sets fit only the file they were trained on.")] = (
        StorageType.FLOAT32
    ),
    weights: WeightsOption = "",
    random: Annotated[bool, typer.Option("--random", help="timm names: fresh weights, nothing downloaded.")] = False,
) -> None:
    """Make a backbone file from timm's pretrained Swins or from a file of a Swin's weights; nothing in it is run."""
    import torch

    from mtlora.weights.backbone import import_backbone, save_backbone

    file = str(local_path(source)) if is_hub(source) else source
    imported = import_backbone(file, pretrained=not random, weights=weights, tell=say)
    save_backbone(imported, out, getattr(torch, dtype.value))
    size = out.stat().st_size / 1e6
    say(f"{out}: {imported.spec.name}, width {imported.spec.embed_dim}, depths {imported.spec.depths}, {size:.1f} MB")
