"""AdaMTL against recordings of the published implementation; what they are: tests/data/golden_adamtl/README.md."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlora.adamtl.conversion import ConvertedAda, convert_adamtl
from mtlora.adamtl.cost import (
    block_multiply_adds,
    decoder_multiply_adds,
    encoder_multiply_adds,
    multiply_adds,
    static_multiply_adds,
)
from mtlora.adamtl.losses import StepLosses, efficiency_loss
from mtlora.adamtl.model import AdaModel, AdaOutput, build_ada_model
from mtlora.adamtl.names import rename
from mtlora.adamtl.noise import GivenNoise, Noise, NoNoise
from mtlora.adamtl.shapes import adamtl_shapes
from mtlora.adamtl.spec import SHARED, AdaSpec, LayerLoss
from mtlora.adamtl.statistics import statistics
from mtlora.adamtl.steps import alternating_step, joint_step, parameter_groups, pretraining_spec, pretraining_step
from mtlora.vocabulary.tasks import TRAITS, Task, task_of_reference_key
from testing.paths import GOLDEN_ADAMTL

CASES = ("per_task", "single")
LOGITS_TOLERANCE = 1e-4  # of the largest absolute value
STEP_TOLERANCE = 1e-3  # relative
SECOND_STEP_TOLERANCE = 1e-2  # of single norms: a run in float64 is as far from the recording
VARIANTS = {
    "eval_det": {},
    "eval_noise": {},
    "eval_dense": {"adaptive": False},
    "eval_token_only": {"ada_blocks": False},
    "eval_block_only": {"ada_tokens": False},
}


@dataclass(frozen=True)
class Case:
    """A recorded model and its recordings."""

    converted: ConvertedAda
    arrays: dict[str, np.ndarray]

    @property
    def spec(self) -> AdaSpec:
        return self.converted.manifest.spec

    def model(self, **changes: bool) -> AdaModel:
        spec = self.spec.switched(**changes)
        tensors = self.converted.tensors
        return build_ada_model(spec, {name: tensors[name].clone() for name in adamtl_shapes(spec)})

    def noise(self, run: str) -> Noise:
        found: dict[str, dict[tuple[str, int], Tensor]] = {"block": {}, "token": {}}
        for kind, by_place in found.items():
            for owner in self.spec.owners:
                for stage in range(4):
                    name = f"{run}/{kind}_noise/{published(owner)}/s{stage}"
                    if name in self.arrays:
                        by_place[owner, stage] = torch.from_numpy(self.arrays[name])
        return GivenNoise(found["block"], found["token"]) if any(found.values()) else NoNoise()

    @property
    def images(self) -> Tensor:
        return torch.from_numpy(self.arrays["image"])

    @property
    def targets(self) -> dict[Task, Tensor]:
        return {task: torch.from_numpy(self.arrays[f"target/{published(task)}"]) for task in self.spec.task_names}


def published(owner: str) -> str:
    return owner if owner == SHARED else TRAITS[Task(owner)].reference_key


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    with np.load(GOLDEN_ADAMTL / f"{request.param}.npz") as arrays:
        return Case(convert_adamtl(GOLDEN_ADAMTL / f"{request.param}.pth"), dict(arrays))


def evaluate(case: Case, run: str) -> tuple[AdaModel, AdaOutput]:
    model = case.model(**VARIANTS[run])
    with torch.inference_mode():
        return model, model(case.images, noise=case.noise(run))


@pytest.mark.parametrize("run", VARIANTS)
def test_logits_features_and_gates(case: Case, run: str) -> None:
    _, output = evaluate(case, run)
    for task, ours in output.logits.items():
        difference = np.abs(ours[:, :, 1::4, 2::4].numpy() - case.arrays[f"{run}/logits/{published(task)}"]).max()
        assert difference <= LOGITS_TOLERANCE * case.arrays[f"{run}/max_logits/{published(task)}"], task
    compared = 0
    for stage, decided in enumerate(output.decisions):
        for name, gates in (("block_gate", decided.blocks), ("token_gate", decided.tokens)):
            if (expected := case.arrays.get(f"{run}/{name}/s{stage}")) is not None:
                np.testing.assert_array_equal(gates.numpy(), expected, err_msg=f"{name} of stage {stage}")
                compared += 1
        if (features := case.arrays.get(f"{run}/features/s{stage}")) is not None:
            scale = np.abs(features).max()
            np.testing.assert_allclose(output.features[stage].numpy(), features, atol=LOGITS_TOLERANCE * scale, rtol=0)
    assert compared == (0 if run == "eval_dense" else 8)


@pytest.mark.parametrize("run", [run for run in VARIANTS if run != "eval_dense"])
def test_statistics(case: Case, run: str) -> None:
    model, output = evaluate(case, run)
    counts = statistics(model.spec, output.decisions)
    np.testing.assert_array_equal(torch.stack(counts[:2], dim=1), case.arrays[f"{run}/stat_blocks"])
    np.testing.assert_array_equal(torch.stack(counts[2:4], dim=1), case.arrays[f"{run}/stat_tokens"])
    if f"{run}/stat_matching" in case.arrays:
        np.testing.assert_array_equal(counts.agreeing[:, None], case.arrays[f"{run}/stat_matching"])


def test_multiply_adds(case: Case) -> None:
    _, output = evaluate(case, "eval_det")
    np.testing.assert_array_equal(multiply_adds(case.spec, output.decisions), case.arrays["flops/adaptive_total"])
    per_block = block_multiply_adds(case.spec, output.decisions).numpy() / 1e6
    np.testing.assert_allclose(per_block, case.arrays["flops/per_block_mmac"], rtol=1e-12)
    assert static_multiply_adds(case.spec) == case.arrays["flops/static_total"]
    assert encoder_multiply_adds(case.spec) == case.arrays["flops/static_backbone"]
    for task in case.spec.tasks:
        assert decoder_multiply_adds(case.spec, task) == case.arrays[f"flops/decoder/{published(task.task)}"]


def test_a_model_that_runs_in_full_takes_all(case: Case) -> None:
    model, output = evaluate(case, "eval_dense")
    assert set(multiply_adds(model.spec, output.decisions).tolist()) == {float(case.arrays["flops/static_total"])}


def sgd(model: AdaModel) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameter_groups(model), lr=0.02, momentum=0.9, nesterov=True)


def assert_norms(names: np.ndarray, found: dict[str, Tensor | None], expected: np.ndarray, tolerance: float) -> None:
    """Norms entry by entry, where they are not rounding alone; NaN: there is none."""
    floor = 1e-4 * np.nanmax(expected)
    for name, norm in zip(names, expected, strict=True):
        ours = found[rename(str(name)) or ""]
        assert (ours is None) == bool(np.isnan(norm)), name
        if ours is not None:
            assert abs(float(ours.norm()) - norm) <= tolerance * max(norm, floor), name


def assert_gradients(case: Case, run: str, model: AdaModel, total: float, tolerance: float = STEP_TOLERANCE) -> None:
    """Gradients after a step are clipped: they are brought back to what they were before."""
    factor = max(1.0, (total + 1e-6) / 5.0)
    gradients = {
        name: None if parameter.grad is None else parameter.grad * factor
        for name, parameter in model.named_parameters()
    }
    assert_norms(case.arrays[f"{run}/grad_names"], gradients, case.arrays[f"{run}/grad_norms"], tolerance)
    if f"{run}/grad_norm_total" in case.arrays:
        assert total == pytest.approx(float(case.arrays[f"{run}/grad_norm_total"]), rel=STEP_TOLERANCE)


def assert_losses(case: Case, run: str, losses: StepLosses) -> None:
    seen = {published(task): loss.item() for task, loss in losses.tasks.items()}
    seen |= {"tasks_weighted": losses.weighted.item(), "efficiency_weighted": losses.efficiency.item()}
    seen["total"] = losses.total.item()
    expected = {name: float(case.arrays[f"{run}/loss/{name}"]) for name in seen}
    assert seen == pytest.approx(expected, rel=STEP_TOLERANCE)


def test_two_joint_steps(case: Case) -> None:
    model = case.model()
    optimiser = sgd(model)
    for run, tolerance in (("train1", STEP_TOLERANCE), ("train2", SECOND_STEP_TOLERANCE)):
        step = joint_step(model, optimiser, case.images, case.targets, noise=case.noise(run))
        assert_losses(case, run, step.losses)
        assert_gradients(case, run, model, step.gradient_norm, tolerance)
    parameters: dict[str, Tensor | None] = {name: p.detach() for name, p in model.named_parameters()}
    buffers: dict[str, Tensor | None] = dict(model.named_buffers())
    after = case.arrays
    assert_norms(after["train_after/param_names"], parameters, after["train_after/param_norms"], STEP_TOLERANCE)
    assert_norms(after["train_after/bn_names"], buffers, after["train_after/bn_norms"], STEP_TOLERANCE)


@pytest.mark.parametrize(
    ("run", "changes"), [("train_token_only", {"ada_blocks": False}), ("train_block_only", {"ada_tokens": False})]
)
def test_steps_with_gates_of_one_kind(case: Case, run: str, changes: dict[str, bool]) -> None:
    model = case.model(**changes)
    step = joint_step(model, sgd(model), case.images, case.targets, noise=case.noise(run))
    assert_losses(case, run, step.losses)
    assert_gradients(case, run, model, step.gradient_norm)


def test_alternating_step(case: Case) -> None:
    """The recording has gradients of all decoders."""
    if "train_alt/task" not in case.arrays:
        assert len(case.spec.owners) == 1
        return
    model, run = case.model(), "train_alt"
    task = task_of_reference_key(str(case.arrays[f"{run}/task"]))
    noise = case.noise(run)
    step = alternating_step(model, sgd(model), case.images, case.targets, task, noise=noise, freeze_others=False)
    assert_losses(case, run, step.losses)
    # With AVX-512 one bias of a selector is 1.03e-3 off, by rounding alone.
    assert_gradients(case, run, model, step.gradient_norm, 2 * STEP_TOLERANCE)


def test_pretraining_step(case: Case) -> None:
    spec = pretraining_spec(case.spec)
    model = case.model(adaptive=spec.adaptive, hard=spec.hard)
    step = pretraining_step(model, sgd(model), case.images, noise=case.noise("pretrain"))
    assert step.loss.item() == pytest.approx(float(case.arrays["pretrain/loss/total"]), rel=STEP_TOLERANCE)
    assert_gradients(case, "pretrain", model, step.gradient_norm)
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {rename(str(name)) for name in case.arrays["pretrain/trainable"]}


@pytest.mark.parametrize("run", ["train1", "train_alt", "train_token_only"])
def test_gates_in_training(case: Case, run: str) -> None:
    if f"{run}/block_gate/s0" not in case.arrays:
        assert run == "train_alt"
        return
    model = case.model(**({"ada_blocks": False} if run == "train_token_only" else {})).train()
    task = task_of_reference_key(str(case.arrays["train_alt/task"])) if run == "train_alt" else None
    output = model(case.images, noise=case.noise(run), task=task)
    for stage, decided in enumerate(output.decisions):
        np.testing.assert_array_equal(decided.blocks.detach(), case.arrays[f"{run}/block_gate/s{stage}"])
        np.testing.assert_array_equal(decided.tokens.detach(), case.arrays[f"{run}/token_gate/s{stage}"])


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("layers", LayerLoss)
def test_efficiency_losses(case: Case, weighted: bool, layers: LayerLoss) -> None:
    decisions = case.model().train()(case.images, noise=case.noise("train1")).decisions
    efficiency = case.spec.efficiency.model_copy(update={"weighted": weighted, "layers": layers})
    loss = efficiency_loss(case.spec.switched(efficiency=efficiency), decisions)
    name = f"{'weighted' if weighted else 'unweighted'}_{layers.value}"
    assert loss.item() == pytest.approx(float(case.arrays[f"train1/efficiency_variants/{name}"]), rel=1e-5)
