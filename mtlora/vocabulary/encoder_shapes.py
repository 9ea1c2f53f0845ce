"""Names and shapes of a Swin encoder's tensors, in timm's naming. Pure: neither torch nor timm is imported."""

import math
import re
from collections.abc import Mapping

from mtlora.vocabulary.errors import BackboneError, SpecError
from mtlora.vocabulary.spec import IN_CHANNELS, PATCH_SIZE, BackboneSpec

_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_TABLE = "attn.relative_position_bias_table"

BLOCK_LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""The linears of a block, in the order in which features pass them."""

MERGING_LINEAR = "downsample.reduction"


def block_linear_sizes(spec: BackboneSpec, stage: int) -> dict[str, tuple[int, int]]:
    """(out, in) of the linears of a stage's blocks, in the order of `BLOCK_LINEARS`."""
    dim = spec.stage_dims[stage]
    hidden = int(dim * spec.mlp_ratio)
    return dict(zip(BLOCK_LINEARS, ((3 * dim, dim), (dim, dim), (hidden, dim), (dim, hidden)), strict=True))


def merging_linear_size(spec: BackboneSpec, stage: int) -> tuple[int, int]:
    """(out, in) of the linear of the patch merging that follows a stage."""
    dim = spec.stage_dims[stage]
    return 2 * dim, 4 * dim


def encoder_shapes(spec: BackboneSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor of an encoder but the position bias tables, whose shape depends on the input side."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (spec.embed_dim, IN_CHANNELS, PATCH_SIZE, PATCH_SIZE),
        "patch_embed.proj.bias": (spec.embed_dim,),
        "patch_embed.norm.weight": (spec.embed_dim,),
        "patch_embed.norm.bias": (spec.embed_dim,),
    }
    for stage, (dim, depth) in enumerate(zip(spec.stage_dims, spec.depths, strict=True)):
        if stage > 0:
            shapes[f"layers.{stage}.downsample.norm.weight"] = (2 * dim,)
            shapes[f"layers.{stage}.downsample.norm.bias"] = (2 * dim,)
            shapes[f"layers.{stage}.{MERGING_LINEAR}.weight"] = merging_linear_size(spec, stage - 1)
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}."
            for linear, (rows, columns) in block_linear_sizes(spec, stage).items():
                shapes[f"{prefix}{linear}.weight"] = (rows, columns)
                shapes[f"{prefix}{linear}.bias"] = (rows,)
            for norm in ("norm1", "norm2"):
                shapes[f"{prefix}{norm}.weight"] = (dim,)
                shapes[f"{prefix}{norm}.bias"] = (dim,)
    return shapes


def table_names(spec: BackboneSpec) -> list[str]:
    """Names of the relative position bias tables; the stage is the second part of each."""
    return [
        f"layers.{stage}.blocks.{block}.{_TABLE}" for stage, depth in enumerate(spec.depths) for block in range(depth)
    ]


def shape_problems(spec: BackboneSpec, found: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Every tensor that an encoder of shape `spec` lacks, has too many, or has in a wrong shape."""
    shapes = encoder_shapes(spec)
    tables = set(table_names(spec))
    problems = [f"missing tensor {name}" for name in sorted((shapes.keys() | tables) - found.keys())]
    problems += [f"unexpected tensor {name}" for name in sorted(found.keys() - shapes.keys() - tables)]
    for name, shape in found.items():
        if name in shapes and shape != shapes[name]:
            problems.append(f"{name} has shape {shape}, expected {shapes[name]}")
        if name in tables and not _is_table(shape, spec, stage=int(name.split(".")[1])):
            problems.append(f"{name} has shape {shape}, expected [(2w-1)^2, heads] with w <= window size")
    return problems


def _is_table(shape: tuple[int, ...], spec: BackboneSpec, stage: int) -> bool:
    if len(shape) != 2 or shape[1] != spec.num_heads[stage]:
        return False
    side = math.isqrt(shape[0])
    return side * side == shape[0] and side % 2 == 1 and (side + 1) // 2 <= spec.window_size


def spec_of_shapes(found: Mapping[str, tuple[int, ...]], name: str) -> BackboneSpec:
    """Shape of the encoder that tensors of these names and shapes belong to; `BackboneError` if they are no Swin's."""
    try:
        embed_dim = found["patch_embed.proj.weight"][0]
        blocks = [{int(m[2]) for key in found if (m := _BLOCK.match(key)) and int(m[1]) == i} for i in range(4)]
        tables = [found[f"layers.{i}.blocks.0.{_TABLE}"] for i in range(4)]
        hidden = found["layers.0.blocks.0.mlp.fc1.weight"][0]
        return BackboneSpec(
            name=name,
            embed_dim=embed_dim,
            depths=tuple(len(b) for b in blocks),
            num_heads=tuple(shape[1] for shape in tables),
            window_size=max((math.isqrt(shape[0]) + 1) // 2 for shape in tables),
            mlp_ratio=hidden / embed_dim,
        )
    except (KeyError, IndexError, ZeroDivisionError, SpecError) as error:
        raise BackboneError(f"{name!r} does not hold a Swin encoder", [f"could not read its shape: {error}"]) from error
