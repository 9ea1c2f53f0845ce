"""The start of a run from the weights of another."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mtlora.data.classes import source_rows
from mtlora.model.mtlora import UNSTORED, MTLoRAModel
from mtlora.training.run.checkpoint import load_checkpoint
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter


def source_of(path: Path) -> Mapping[str, Any]:
    """What `start_from` takes: the checkpoint of a run, or an adapter file as if it were one."""
    if not path.is_file():
        return load_checkpoint(path)
    found = load_adapter(path)
    identity = json.dumps({"spec": found.manifest.spec.to_json(), "unfreeze": "none"})
    tensors = {name: tensor.float() for name, tensor in (found.tensors | found.policy_tensors).items()}
    return {"model": tensors, "average": {}, "identity": identity}


def other_channels(state: Mapping[str, Any], spec: AdapterSpec) -> str:
    """How the decoders' channels differ, as the end of a sentence; empty where they do not."""
    shape = json.loads(json.loads(state.get("identity", "{}")).get("spec", "{}"))
    theirs = shape.get("decoder_channels", ())
    if not theirs or tuple(theirs) == spec.decoder_channels:
        return ""
    one, other = (",".join(map(str, channels)) for channels in (theirs, spec.decoder_channels))
    return f": it was trained with --decoder-channels {one}, this run has {other}; give the same"


def start_from(model: MTLoRAModel, state: Mapping[str, Any]) -> list[Task]:
    """Take over projections and decoders, class by class name; the tasks that got them.

    From an adapter run or file the encoder's trained tensors are taken too, where they have the same shape, and a
    policy of the same shape.
    """
    tensors: dict[str, Tensor] = {**state["model"], **state["average"]}
    identity = json.loads(state["identity"])
    source = AdapterSpec.from_json(str(identity["spec"]))
    if "unfreeze" in identity:
        _take_encoder(model, tensors)
    own = model.state_dict()
    _take_policy(model, tensors)
    taken: list[Task] = []
    for task in model.spec.tasks:
        prefixes = (f"projections.{task.task}.", f"decoders.{task.task}.")
        names = [name for name in own if name.startswith(prefixes) and not name.endswith(UNSTORED)]
        if task.task not in source.task_names or any(name not in tensors for name in names):
            continue
        rows = source_rows(task, source.task(task.task))
        fitted = {name: _fit(tensors[name], own[name], rows) for name in names}
        if any(tensor is None for tensor in fitted.values()):
            continue
        model.load_state_dict({name: t for name, t in fitted.items() if t is not None}, strict=False)
        taken.append(task.task)
    return taken


def _take_encoder(model: MTLoRAModel, tensors: Mapping[str, Tensor]) -> None:
    wanted = {f"backbone.{name}": p for name, p in model.backbone.named_parameters() if p.requires_grad}
    fitting = {n: tensors[n] for n, p in wanted.items() if n in tensors and tensors[n].shape == p.shape}
    model.load_state_dict(fitting, strict=False)


def _take_policy(model: MTLoRAModel, tensors: Mapping[str, Tensor]) -> None:
    own = model.policy_tensors()
    if all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in own.items()):
        model.load_state_dict({name: tensors[name] for name in own}, strict=False)


def _fit(tensor: Tensor, like: Tensor, rows: list[int] | None) -> Tensor | None:
    if tensor.shape == like.shape:
        return tensor
    if rows is None or tensor.shape[1:] != like.shape[1:] or len(like) != len(rows):
        return None
    return tensor[rows]
