"""Makes checkpoints as the published code saves them, from our own tensors: names, layout, configuration turned round.

Written independently of `mtlora.weights.convert` and of the names in `mtlora.vocabulary.adapted_linears`, so that
`convert(publish(x)) == x` tests the one with the other.
"""

import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlora.vocabulary.model_shapes import frozen_shapes
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import TRAITS
from testing.small_models import random_tensors

ADAPTED = re.compile(r"(backbone\..+\.(?:qkv|proj|fc1|fc2|reduction))\.(?:shared|tasks|norm)\.")

HRNET = {"mix": "last_layer.0", "norm": "last_layer.1", "classify": "last_layer.3"}
SEGFORMER = {f"linear.{i}": f"linear_c{i + 1}.proj" for i in range(4)} | {
    "fuse": "linear_fuse.conv",
    "norm": "linear_fuse.bn",
    "classify": "linear_pred",
}
ASPP = {f"branches.{i}.conv": f"0.convs.{i}.0" for i in range(4)}
ASPP |= {f"branches.{i}.norm": f"0.convs.{i}.1" for i in range(4)}
ASPP |= {"branches.4.conv": "0.convs.4.1", "branches.4.norm": "0.convs.4.2", "classify": "4"}
ASPP |= {"project.conv": "0.project.0", "project.norm": "0.project.1", "refine.conv": "1", "refine.norm": "2"}
DECODERS = {"hrnet": HRNET, "segformer": SEGFORMER, "aspp": ASPP}


def published_names(spec: AdapterSpec, names: list[str]) -> dict[str, str]:
    """{our name: the published one}."""
    adapted = {match[1] for name in names if (match := ADAPTED.match(name))}
    return {name: _published(spec, name, adapted) for name in names}


def _published(spec: AdapterSpec, name: str, adapted: set[str]) -> str:
    top, task, *rest = name.split(".")
    if top == "projections":
        return f"downsampler.{_key(spec, task)}.downsample_{rest[0]}.weight"
    if top == "decoders":
        table = DECODERS[next(t for t in spec.tasks if t.task == task).decoder]
        return f"decoders.decoders.{_key(spec, task)}.{table['.'.join(rest[:-1])]}.{rest[-1]}"
    parts = name.split(".")
    if "downsample" in parts:
        parts[2] = str(int(parts[2]) - 1)
    owner = next((linear for linear in adapted if name.startswith(f"{linear}.")), None)
    if owner is None:
        return ".".join(parts)
    linear, tail = parts[: owner.count(".") + 1], parts[owner.count(".") + 1 :]
    return ".".join(linear + _tail(spec, tail))


def _tail(spec: AdapterSpec, tail: list[str]) -> list[str]:
    """What hangs below an adapted linear."""
    letters = {"lora_a": "A", "lora_b": "B"}
    match tail:
        case ["weight" | "bias"]:
            return ["linear", *tail]
        case ["shared", "scaling"]:
            return ["lora_shared_scale"]
        case ["shared", part]:
            return [f"lora_shared_{letters[part]}"]
        case ["tasks", task, "scaling"]:
            return ["lora_task_scale", _key(spec, task)]
        case ["tasks", task, part]:
            return [f"lora_tasks_{letters[part]}", _key(spec, task)]
        case ["norm", part]:
            return ["lora_norm", part]
    raise ValueError(f"unexpected {tail}")


def _key(spec: AdapterSpec, task: str) -> str:
    return TRAITS[next(t.task for t in spec.tasks if t.task == task)].reference_key


def published_state(spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> "OrderedDict[str, Tensor]":
    """The state dict, with the buffers and unused tensors that ours does without."""
    names = published_names(spec, list(tensors))
    state = OrderedDict((names[name], tensor) for name, tensor in tensors.items())
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    state["backbone.layers.0.blocks.0.attn_mask"] = torch.zeros(1, 4, 4)
    for name in names.values():
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
        if name.endswith("linear_pred.weight"):
            state[name.replace("linear_pred", "conv_seg")] = torch.zeros(2, 2, 1, 1)
        if name.endswith("lora_norm.weight") and spec.mode is SharedMode.ADDITION and spec.learned_scaling:
            state[name.replace("lora_norm.weight", "lora_shared_scale")] = torch.tensor([4.0])
    return state


def published_config(spec: AdapterSpec) -> dict[str, Any]:
    """The configuration that the published code would have for this spec."""
    keys = {t.task: TRAITS[t.task].reference_key for t in spec.tasks}
    bb = spec.backbone
    swin: dict[str, Any] = {"PATCH_SIZE": 4, "IN_CHANS": 3, "APE": False, "QK_SCALE": None, "QKV_BIAS": True}
    swin |= {"EMBED_DIM": bb.embed_dim, "DEPTHS": list(bb.depths), "NUM_HEADS": list(bb.num_heads)}
    swin |= {"WINDOW_SIZE": bb.window_size, "MLP_RATIO": bb.mlp_ratio, "PATCH_NORM": True}
    ranks = {keys[t.task]: list(t.ranks) for t in spec.tasks} | {"shared": list(spec.ranks)}
    mtlora = {
        "ENABLED": True,
        "R": [64] * 4,
        "R_PER_TASK": ranks,
        "SHARED_SCALE": list(spec.scaling),
        "TASK_SCALE": [1.0],
        "SCALE_PER_TASK": {keys[t.task]: list(t.scaling) for t in spec.tasks},
        "DROPOUT": list(spec.dropout),
        "SHARED_MODE": "add" if spec.mode is SharedMode.ADDITION else spec.mode.value,
        "TRAINABLE_SCALE_SHARED": spec.learned_scaling,
        "TRAINABLE_SCALE_PER_TASK": spec.learned_task_scaling,
        "QKV_ENABLED": spec.adapt_qkv,
        "PROJ_ENABLED": spec.adapt_proj,
        "FC1_ENABLED": spec.adapt_fc1,
        "FC2_ENABLED": spec.adapt_fc2,
        "DOWNSAMPLER_ENABLED": spec.adapt_reduction,
        "INTERMEDIATE_SPECIALIZATION": spec.intermediate_specialization,
        "SPLIT_QKV": False,
    }
    model = {
        "TYPE": "swin",
        "NAME": "published",
        "SWIN": swin,
        "MTLORA": mtlora,
        "DECODER_HEAD": {keys[t.task]: t.decoder.value for t in spec.tasks},
        "DECODER_CHANNELS": list(spec.decoder_channels),
        "SEGFORMER_CHANNELS": spec.segformer_channels,
        "DECODER_DOWNSAMPLER": True,
        "PER_TASK_DOWNSAMPLER": True,
    }
    train = {
        "FREEZE_PATCH_EMBED": not spec.train_patch_embed,
        "FREEZE_LAYER_NORM": not spec.train_layer_norm,
        "FREEZE_RELATIVE_POSITION_BIAS": not spec.train_position_bias,
        "FREEZE_DOWNSAMPLE_REDUCTION": not spec.train_reduction,
    }
    return {
        "DATA": {"IMG_SIZE": spec.image_size},
        "MODEL": model,
        "TRAIN": train,
        "TASKS": list(keys.values()),
        "TASKS_CONFIG": {"ALL_TASKS": {"NUM_OUTPUT": {keys[t.task]: t.outputs for t in spec.tasks}}},
    }


@contextmanager
def config_node_class() -> Iterator[type]:
    """A stand-in for yacs: a dict with attributes that pickles under yacs's name."""
    module = types.ModuleType("yacs.config")
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module.CfgNode = node  # type: ignore[attr-defined]
    saved = {name: sys.modules.get(name) for name in ("yacs", "yacs.config")}
    sys.modules |= {"yacs": types.ModuleType("yacs"), "yacs.config": module}
    try:
        yield node
    finally:
        for name, old in saved.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def as_nodes(node: type, config: Any) -> Any:
    """A configuration whose every level is a node with attributes of its own, as yacs pickles it."""
    if not isinstance(config, dict):
        return config
    made = node({key: as_nodes(node, value) for key, value in config.items()})
    made.__dict__ |= {"__immutable__": True, "__deprecated_keys__": set(), "__new_allowed__": False}
    return made


def publish(
    path: Path,
    spec: AdapterSpec,
    tensors: Mapping[str, Tensor],
    *,
    config: dict[str, Any] | None = None,
    prefix: str = "",
    zipped: bool = True,
) -> Path:
    """Write a checkpoint as the published trainer does."""
    state = OrderedDict((prefix + name, tensor) for name, tensor in published_state(spec, tensors).items())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    with config_node_class() as node:
        document = {
            "model": state,
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
            "lr_scheduler": {"last_epoch": 3},
            "max_accuracy": 12.5,
            "scaler": {},
            "epoch": 3,
            "config": as_nodes(node, published_config(spec) if config is None else config),
        }
        torch.save(document, path, _use_new_zipfile_serialization=zipped)
    return path


def whole(spec: AdapterSpec) -> dict[str, Tensor]:
    """Every tensor of a model with this spec."""
    frozen = {name: torch.randn(shape) for name, shape in frozen_shapes(spec).items()}
    return frozen | random_tensors(spec)
