"""The model against recordings of the published implementation; what they are: tests/data/golden/README.md."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlora.losses.dense import task_loss, weighted_sum
from mtlora.model.mtlora import MTLoRAModel, build_model, parameter_counts
from mtlora.vocabulary.tasks import TRAITS, Task
from mtlora.weights.backbone import Backbone
from mtlora.weights.convert import Converted, convert_checkpoint
from testing.paths import GOLDEN

CASES = ("tiny_w4_r8", "plus_w7_r4")
LOGITS_TOLERANCE = 1e-4  # of the largest absolute logit
STEP_TOLERANCE = 1e-3  # relative


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Converted]:
    return request.param, convert_checkpoint(GOLDEN / f"{request.param}.pth")


def model_of(converted: Converted) -> MTLoRAModel:
    model = build_model(converted.backbone, converted.spec)
    model.load_adapter_tensors(converted.tensors)
    return model


def recorded(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays), json.loads((GOLDEN / f"{name}.json").read_text())


def target_of(task: Task, labels: np.ndarray) -> Tensor:
    """Recorded labels [B, ·, S, S] in the form our losses take."""
    if TRAITS[task].outputs is None:
        return torch.from_numpy(labels[:, 0].astype(np.int64))
    if task is Task.SALIENCY:
        return torch.from_numpy(np.where(labels == 255, -1.0, labels).astype(np.float32))
    normals = labels.astype(np.float32)
    return torch.from_numpy(np.where(normals == 255, 0.0, normals).astype(np.float32))


def test_logits(case: tuple[str, Converted]) -> None:
    name, converted = case
    arrays, _ = recorded(name)
    with torch.inference_mode():
        logits = model_of(converted).eval()(torch.from_numpy(arrays["input"][:1]))
    assert set(logits) == {Task.SEMSEG, Task.HUMAN_PARTS, Task.SALIENCY, Task.NORMALS}
    for task, ours in logits.items():
        key = TRAITS[task].reference_key
        difference = np.abs(ours[:, :, 1::4, 2::4].numpy() - arrays[f"logits_{key}"]).max()
        assert difference <= LOGITS_TOLERANCE * arrays[f"max_logits_{key}"], task


def test_parameter_counts(case: tuple[str, Converted]) -> None:
    name, converted = case
    _, facts = recorded(name)
    counts = parameter_counts(model_of(converted))
    assert counts._asdict() == {key: facts[key] for key in ("trainable", "lora", "decoder", "extra", "total")}


def test_training_steps(case: tuple[str, Converted]) -> None:
    name, converted = case
    arrays, facts = recorded(name)
    model = model_of(converted).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.05)
    x = torch.from_numpy(arrays["input"])
    targets = {task: target_of(task, arrays[f"target_{TRAITS[task].reference_key}"]) for task in model.spec.task_names}
    for expected in facts["train_steps"]:
        losses = {task: task_loss(task, logits, targets[task]) for task, logits in model(x).items()}
        total = weighted_sum(losses)
        optimiser.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 5.0)
        optimiser.step()
        seen = {TRAITS[task].reference_key: loss.item() for task, loss in losses.items()}
        seen |= {"total": total.item(), "grad_norm": norm.item()}
        assert seen == pytest.approx(expected, rel=STEP_TOLERANCE)


def test_frozen_tensors_stay_frozen_through_training(case: tuple[str, Converted]) -> None:
    name, converted = case
    arrays, _ = recorded(name)
    before = converted.backbone.fingerprint(converted.spec)
    model = model_of(converted).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    sum(logits.square().mean() for logits in model(torch.from_numpy(arrays["input"])).values()).backward()
    optimiser.step()
    after = Backbone(converted.backbone.spec, {n: t.clone() for n, t in converted.backbone.tensors.items()})
    assert after.fingerprint(converted.spec) == before
