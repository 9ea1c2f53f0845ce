"""The command `mtlora backbone`: a backbone file from timm, an official Swin checkpoint or another backbone file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli.say import say


class StorageType(StrEnum):
    """How tensors are stored in a file."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def backbone(
    source: Annotated[str, typer.Argument(help="timm name (swin_tiny_patch4_window7_224, …), .pth or .safetensors")],
    out: Annotated[Path, typer.Option(help="Backbone file to write (.safetensors).")],
    dtype: Annotated[StorageType, typer.Option(help="Storage type; sets fit only the file they were trained on.")] = (
        StorageType.FLOAT32
    ),
    random: Annotated[bool, typer.Option("--random", help="timm names: fresh weights, nothing downloaded.")] = False,
) -> None:
    """Make a backbone file from timm's pretrained Swins or from an official Swin checkpoint."""
    import torch

    from mtlora.weights.backbone import import_backbone, save_backbone

    imported = import_backbone(source, pretrained=not random)
    save_backbone(imported, out, getattr(torch, dtype.value))
    size = out.stat().st_size / 1e6
    say(f"{out}: {imported.spec.name}, width {imported.spec.embed_dim}, depths {imported.spec.depths}, {size:.1f} MB")
