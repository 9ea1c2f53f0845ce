"""Policies trained with a set: end to end on drawn photos, resumable, order-free, told their budget."""

import csv
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mtlora.cli.main import cli
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.model.policy.plan import shares
from mtlora.model.policy.soft import straight_through, united
from mtlora.training.adapters.config import PolicyTraining, TrainConfig
from mtlora.training.adapters.train import build_trainer, open_cache, prepare_model, train
from mtlora.training.run.checkpoint import load_checkpoint, save_checkpoint
from mtlora.training.run.processes import ProcessGroup
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import SpecError, TrainingError
from mtlora.vocabulary.policy import PolicyMode
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone, save_backbone
from testing.factories import backbone_spec, make_backbone
from testing.policies import pooled, with_policy
from testing.tiny_dataset import write_dataset
from testing.training_runs import loop, silent, spec, train_config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_dataset(tmp_path_factory.mktemp("set") / "data")


@pytest.fixture(scope="module")
def backbone(data: Path) -> Path:
    path = data.parent / "backbone.safetensors"
    save_backbone(make_backbone(backbone_spec(window_size=2)), path)
    return path


def config_of(data: Path, backbone: Path, out: Path, steps: int, **changes: Any) -> TrainConfig:
    """Two tasks, two photos a step."""
    tasks = spec((Task.SEMSEG, Task.NORMALS))
    return train_config(data, backbone, out, steps, **({"spec": tasks, "batch": 2} | changes))


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds_per_step"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", PolicyMode)
def test_a_policy_learns_to_keep_its_budget(data: Path, backbone: Path, tmp_path: Path, mode: PolicyMode) -> None:
    """Open at first; then shares follow the budgets that are drawn, closer at the end than where all is computed."""
    policy = PolicyTraining(spec=pooled(mode=mode), open_steps=2, weight=20.0)
    config = config_of(data, backbone, tmp_path, 90, policy=policy, loop=loop(90, lr=1e-2))
    adapter = load_adapter(train(config, silent))
    found = rows(tmp_path)
    assert [(row["share"], row["budget"]) for row in found[:2]] == [(1.0, 0.0)] * 2
    assert found[2]["share"] == pytest.approx(1.0)  # the first gates are open
    early, late = (sum(row["budget"] for row in part) / len(part) for part in (found[2:12], found[-20:]))
    assert late < early / 2
    assert adapter.manifest.format_version == 2 and adapter.manifest.policy is not None
    assert adapter.manifest.policy.shape == policy.spec
    model = build_model(load_backbone(backbone), config.spec, policy=adapter.manifest.policy.shape).eval()
    model.load_adapter_tensors(adapter.tensors)
    model.load_policy_tensors(adapter.policy_tensors)
    gates = model.plan(torch.randn(2, 3, 64, 64), None, 0.5)
    assert (shares(gates, multiply_adds(config.spec), config.spec.task_names) <= 0.5 + 1e-6).all()


def test_a_run_with_a_policy_goes_on_where_it_stopped(data: Path, backbone: Path, tmp_path: Path) -> None:
    def config(name: str, steps: int) -> TrainConfig:
        policy = PolicyTraining(spec=pooled(), open_steps=1)
        return config_of(data, backbone, tmp_path / name, 9, policy=policy, loop=loop(steps, warmup=2))

    train(config("whole", 9), silent)
    whole = load_checkpoint(tmp_path / "whole")

    photos = open_cache(config("cut", 9))
    cut = build_trainer(config("cut", 9), load_backbone(backbone), photos, ProcessGroup())
    for _ in range(4):
        cut.advance()
    (tmp_path / "cut").mkdir()
    save_checkpoint(tmp_path / "cut", cut.state())
    train(config("cut", 9), silent, resume=True)
    resumed = load_checkpoint(tmp_path / "cut")
    assert all(torch.equal(resumed["model"][name], tensor) for name, tensor in whole["model"].items())
    assert any(name.startswith("policy.") for name in whole["model"])
    with pytest.raises(TrainingError, match="policy was"):
        train(dataclasses.replace(config("cut", 9), policy=None), silent, resume=True)


def test_a_run_starts_from_an_adapter_file(data: Path, backbone: Path, tmp_path: Path) -> None:
    """Pairs, norms, decoders and policy of the file are those before the first step."""
    policy = PolicyTraining(spec=pooled())
    source = train(config_of(data, backbone, tmp_path / "first", 3, policy=policy), silent)

    config = config_of(data, backbone, tmp_path / "second", 3, policy=policy, init=source)
    model = prepare_model(config, load_backbone(backbone), ProcessGroup())
    stored = load_adapter(source)
    wanted = stored.tensors | stored.policy_tensors
    for name, tensor in (model.adapter_tensors() | model.policy_tensors()).items():
        assert torch.equal(tensor, wanted[name].float()), name


def test_gates_are_hard_and_their_gradients_soft() -> None:
    logits = torch.tensor([-2.0, 0.0, 1e-7, 3.0], requires_grad=True)
    gates = straight_through(logits, 2.0)
    assert gates.tolist() == [0.0, 0.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(gates.sum(), logits)
    soft = torch.sigmoid(logits.detach() / 2)
    torch.testing.assert_close(gradient, soft * (1 - soft) / 2)


def test_a_union_is_an_or_that_any_task_can_learn_from_in_any_order() -> None:
    """The published sum min(a + b, 1) gives no gradient to what another opens too, and depends on who comes first."""
    logits = torch.tensor([[-1.0, -1.0, 2.0], [-3.0, 2.0, 2.0]], requires_grad=True)
    opened = united(logits, 0, 1.0)
    assert opened.tolist() == [0.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(opened.sum(), logits)
    soft = torch.sigmoid(logits.detach())
    torch.testing.assert_close(gradient, soft * (1 - soft) * (1 - soft.flip(0)))
    assert (gradient > 0).all()
    (flipped,) = torch.autograd.grad(united(logits.flip(0), 0, 1.0).sum(), logits)
    torch.testing.assert_close(flipped, gradient)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SpecError, match=r"compute must be 0\.05 to 1, got 0"):
        PolicyTraining(spec=pooled(), least=0.0)
    with pytest.raises(TrainingError, match="weight above 0 and open steps from 0, got -1 and 0"):
        PolicyTraining(spec=pooled(), weight=-1)


def test_parts_of_a_batch_add_up(data: Path, backbone: Path, tmp_path: Path) -> None:
    """Two accumulation steps have the shares and the budget's loss of one."""
    found = []
    for accumulate in (1, 2):
        policy = PolicyTraining(spec=pooled())
        config = config_of(data, backbone, tmp_path, 2, policy=policy, batch=4, accumulate=accumulate, drop_path=0.0)
        trainer = build_trainer(config, load_backbone(backbone), open_cache(config), ProcessGroup())
        model = trainer.job.model
        assert isinstance(model, MTLoRAModel)
        source = with_policy(load_backbone(backbone), config.spec, pooled())
        model.load_policy_tensors(source.policy_tensors())
        losses = trainer.advance()
        found.append((losses["share"], losses["budget"]))
    assert 0.2 < found[0][0] < 0.8
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(("kind", "gates"), [("pooled", "blocks, windows"), ("published", "blocks, tokens")])
def test_the_command_trains_a_policy(data: Path, backbone: Path, tmp_path: Path, kind: str, gates: str) -> None:
    asked = ["train", "--data", data, "--backbone", backbone, "--out", tmp_path / "run", "--image-size", 64]
    asked += ["--ranks", "2,2,2,2", "--task-ranks", "2,2,2,2", "--decoder-channels", "4,4,4,4", "--tasks", "normals"]
    asked += ["--steps", 2, "--batch", 2, "--cache", data.parent / "cache", "--no-tensorboard", "--open-share", 0.5]
    asked += [
        "--processes",
        1,
        "--policy",
        kind,
        "--policy-mode",
        "per_task",
        "--policy-hidden",
        "3,4",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli, [str(each) for each in asked])
    assert result.exit_code == 0, result.exception
    policy = load_adapter(tmp_path / "run" / "adapter.safetensors").manifest.policy
    assert policy is not None and policy.kind == kind and policy.hidden == (3, 4) and policy.mode == "per_task"
    assert ", ".join(g for g in ("blocks", "windows", "tokens") if getattr(policy, g)) == gates
    assert [row["share"] for row in rows(tmp_path / "run")][-1] <= 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "guess"], "policy must be one of pooled, published, got 'guess'"),
        (
            ["--policy", "pooled", "--policy-gates", "tokens"],
            "gates of a pooled policy are blocks and windows, got tokens",
        ),
        (["--policy", "pooled", "--policy-hidden", "3"], "hidden units: two whole numbers with a comma.*got '3'"),
        (["--policy", "pooled", "--open-share", "1"], "--open-share must be from 0 to below 1, got 1"),
    ],
)
def test_options_that_cannot_be_are_refused(
    data: Path, backbone: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    asked = ["train", "--data", str(data), "--backbone", str(backbone), "--out", str(tmp_path / "run"), *options]
    result = CliRunner().invoke(cli, [*asked, "--image-size", "64", "--steps", "10"])
    assert isinstance(result.exception, TrainingError)
    assert re.search(message, str(result.exception)), result.exception


def test_a_policy_that_is_kept_stays_as_it_is(data: Path, backbone: Path, tmp_path: Path) -> None:
    """Pairs and decoders learn to do with what it opens, within budgets that are drawn anew."""
    source = train(config_of(data, backbone, tmp_path / "first", 2, policy=PolicyTraining(spec=pooled())), silent)
    kept = PolicyTraining(spec=pooled(), least=0.4, kept=True)
    result = train(config_of(data, backbone, tmp_path / "second", 6, policy=kept, init=source), silent)
    before, after = load_adapter(source), load_adapter(result)
    assert after.manifest.policy == before.manifest.policy
    assert all(torch.equal(tensor, after.policy_tensors[name]) for name, tensor in before.policy_tensors.items())
    assert any(not torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    spent = [row["share"] for row in rows(tmp_path / "second")]
    assert all(0.2 < share <= 1 for share in spent)
    assert min(spent) < 1


def test_to_keep_a_policy_there_must_be_one(data: Path, backbone: Path, tmp_path: Path) -> None:
    plain = train(config_of(data, backbone, tmp_path / "plain", 1), silent)
    asked = [
        "train",
        "--data",
        str(data),
        "--backbone",
        str(backbone),
        "--out",
        str(tmp_path / "out"),
        "--policy",
        "keep",
    ]
    for more in ([], ["--init", str(plain)]):
        result = CliRunner().invoke(cli, [*asked, *more, "--tasks", "normals", "--image-size", "64", "--steps", "10"])
        assert isinstance(result.exception, TrainingError), result.output
        assert "needs --init with an adapter file that has a pooled policy" in str(result.exception)
