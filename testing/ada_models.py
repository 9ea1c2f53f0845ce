"""Small AdaMTL models to test with: random specs and weights, and checkpoints as the published code saves them.

The published names are written independently of `mtlora.adamtl.names`, so that each tests the other.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.shapes import adamtl_shapes
from mtlora.adamtl.spec import AdaSpec, AdaTask, LayerLoss, Policy
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.vocabulary.tasks import TRAITS, Task
from testing.published_checkpoints import as_nodes, config_node_class
from testing.strategies import backbone_specs

SPEC = AdaSpec(
    backbone=BackboneSpec(name="swin_test", embed_dim=8, depths=(1, 2, 2, 1), num_heads=(1, 2, 2, 4), window_size=2),
    image_size=64,
    tasks=(AdaTask(task=Task.SEMSEG, outputs=3), AdaTask(task=Task.SALIENCY, outputs=1)),
    policy=Policy.PER_TASK,
    block_hidden=3,
    token_hidden=4,
    decoder_channels=6,
    quirks=Quirks.published(),
)

PLAIN = dict.fromkeys(Quirks.model_fields, False)

_DECODER = {
    "0.conv1": "2.conv1",
    "0.norm1": "2.bn1",
    "0.conv2": "2.conv2",
    "0.norm2": "2.bn2",
    "0.shortcut.conv": "2.downsample.0",
    "0.shortcut.norm": "2.downsample.1",
    "1.conv1": "3.conv1",
    "1.norm1": "3.bn1",
    "1.conv2": "3.conv2",
    "1.norm2": "3.bn2",
}
_HEAD = {"mix": "segment.0", "norm": "segment.1", "classify": "segment.3"}


@st.composite
def ada_specs(draw: st.DrawFn) -> AdaSpec:
    """Any AdaMTL model: policies, gates, tasks, sizes; quirks as published or none."""
    tasks = draw(st.lists(st.sampled_from(Task), min_size=1, max_size=3, unique=True))
    return AdaSpec(
        backbone=draw(backbone_specs()),
        image_size=draw(st.sampled_from([32, 64])),
        tasks=tuple(AdaTask(task=task, outputs=TRAITS[task].outputs or draw(st.integers(1, 5))) for task in tasks),
        policy=draw(st.sampled_from(Policy)),
        adaptive=draw(st.booleans()),
        ada_blocks=draw(st.booleans()),
        ada_tokens=draw(st.booleans()),
        block_hidden=draw(st.integers(1, 4)),
        token_hidden=draw(st.integers(1, 4)),
        decoder_channels=draw(st.integers(1, 4)),
        quirks=Quirks.published() if draw(st.booleans()) else Quirks(),
    )


def random_ada_tensors(spec: AdaSpec, seed: int = 0) -> dict[str, Tensor]:
    """Values for every tensor of a file of `spec`; variances are positive. About half of the gates are open."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in adamtl_shapes(spec).items()}
    return {name: t.abs() + 0.5 if name.endswith("running_var") else t for name, t in tensors.items()}


def random_images(spec: AdaSpec, count: int, seed: int = 5) -> Tensor:
    """float [count, 3, S, S]."""
    size = spec.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def opened(spec: AdaSpec, tensors: Mapping[str, Tensor], bias: float = 100.0) -> dict[str, Tensor]:
    """The same weights, but all selectors say the same whatever they see: open, or closed where `bias` is negative."""
    changed = dict(tensors)
    for name, tensor in tensors.items():
        if name.startswith("policy.") and ".out." in name:
            changed[name] = torch.full_like(tensor, bias) if name.endswith("bias") else torch.zeros_like(tensor)
    return changed


def published_name(name: str) -> str:
    """The published code's name of one of our tensors."""
    top, *rest = name.split(".")
    if top == "policy":
        kind, owner, stage, layer, part = rest
        inner = "" if owner == "shared" else f"{TRAITS[Task(owner)].reference_key}."
        tail = f"{'mlp' if layer == 'hidden' else 'fc'}.{part}"
        if kind == "tokens":
            return f"backbone.layers.{stage}.tokens_select.{inner}{tail}"
        return f"backbone.layers_controllers.{inner}{stage}.{tail}"
    if top == "decoders":
        prefix = f"decoders.{TRAITS[Task(rest[0])].reference_key}"
        if rest[1] == "scales":
            return f"{prefix}.fuse.{rest[2]}.{_DECODER['.'.join(rest[3:-1])]}.{rest[-1]}"
        return f"{prefix}.{_HEAD[rest[1]]}.{rest[2]}"
    parts = name.split(".")
    if "downsample" in parts:
        parts[2] = str(int(parts[2]) - 1)
    return ".".join(parts)


def published_ada_config(spec: AdaSpec) -> dict[str, Any]:
    """The configuration that the published code would have for this spec."""
    keys = [TRAITS[task].reference_key for task in spec.task_names]
    bb, wanted = spec.backbone, spec.efficiency
    selects = spec.ada_blocks or spec.ada_tokens
    return {
        "DATA": {"IMG_SIZE": spec.image_size},
        "MODEL": {
            "TYPE": "ada_swin" if selects or spec.adaptive else "swin",
            "DROP_PATH_RATE": spec.drop_path,
            "SWIN": {
                "PATCH_SIZE": 4,
                "EMBED_DIM": bb.embed_dim,
                "DEPTHS": list(bb.depths),
                "NUM_HEADS": list(bb.num_heads),
                "WINDOW_SIZE": bb.window_size,
                "MLP_RATIO": bb.mlp_ratio,
                "QK_SCALE": None,
                "DECODER_DIM": 2 * spec.decoder_channels,
                "DECODER_PATCH_RES": list(bb.feature_sides(spec.image_size))[::-1],
            },
        },
        "TRAIN": {
            "ADAPTIVE": spec.adaptive,
            "ADA_BLOCKS": spec.ada_blocks,
            "ADA_TOKENS": spec.ada_tokens,
            "HARD_GUMBEL": spec.hard,
            "POLICY": spec.policy.value,
            "BLOCK_CONTROLLER_DIM": spec.block_hidden,
            "TOKEN_CONTROLLER_DIM": spec.token_hidden,
            "EFFICIENCY_WEIGHT": wanted.weight,
            "TOKENS_EFFICIENCY_TARGET": wanted.tokens_target,
            "BLOCKS_EFFICIENCY_TARGET": wanted.blocks_target,
            "PERTASK_OVERLAP_WEIGHT": wanted.overlap_weight,
            "PER_LAYER_EFFICIENCY_LOSS": wanted.layers is LayerLoss.PER_LAYER,
            "MIXED_PER_LAYER_EFFICIENCY_LOSS": wanted.layers is LayerLoss.MIXED,
            "WEIGHTED_TOKENS_LOSS": wanted.weighted,
        },
        "TASKS": keys,
        "TASKS_CONFIG": {
            "ALL_TASKS": {"NUM_OUTPUT": {k: task.outputs for k, task in zip(keys, spec.tasks, strict=True)}}
        },
    }


def publish_ada(
    path: Path,
    spec: AdaSpec,
    tensors: Mapping[str, Tensor],
    *,
    config: dict[str, Any] | None = None,
    model_only: bool = False,
) -> Path:
    """Write a checkpoint as the published trainer does; `model_only` as after stage 2, without a configuration."""
    state = OrderedDict((published_name(name), tensor) for name, tensor in tensors.items())
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    state["backbone.layers.0.blocks.0.attn_mask"] = torch.zeros(1, 4, 4)
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    with config_node_class() as node:
        document: dict[str, Any] = {"model": state}
        if not model_only:
            document |= {
                "optimizer": {"state": {}, "param_groups": []},
                "lr_scheduler": {"last_epoch": 3},
                "max_accuracy": 12.5,
                "scaler": {},
                "epoch": 3,
                "config": as_nodes(node, published_ada_config(spec) if config is None else config),
            }
        torch.save(document, path)
    return path
