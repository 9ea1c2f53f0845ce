"""Thresholds keep a budget on average, and the command stores them beside everything else of a set."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from mtlora.cli import calibrate as calibrating
from mtlora.cli import evaluate as evaluating
from mtlora.cli import files
from mtlora.data.layout import open_dataset
from mtlora.evaluation.calibrate import calibrate
from mtlora.images.opening import open_photo
from mtlora.model.policy.plan import shares
from mtlora.ops.preprocess import preprocess
from mtlora.prediction.gated import Gated, Spending
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import MTLoRAError, SpecError, TrainingError
from mtlora.vocabulary.policy import Policy, PolicySpec
from mtlora.weights.adapter_file import AdapterManifest, load_adapter, write_adapter
from mtlora.weights.backbone import save_backbone
from testing.factories import adapter_spec, make_backbone, make_model
from testing.policies import PER_TASK, pooled, published, with_policy
from testing.tiny_dataset import write_dataset

cli = typer.Typer()
for command in (files.forward, files.info, files.predict, evaluating.evaluate, calibrating.calibrate):
    cli.command()(command)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, MTLoRAError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrate")
    write_dataset(root / "data")
    save_backbone(make_backbone(), root / "backbone.safetensors")
    for name, policy in {"pooled": pooled(), "published": published(), "none": None}.items():
        _write(root / f"{name}.safetensors", policy)
    return root


def _write(path: Path, shape: PolicySpec | None) -> None:
    backbone, spec = make_backbone(), adapter_spec()
    model = make_model(backbone, spec) if shape is None else with_policy(backbone, spec, shape)
    policy = None if shape is None else Policy(**shape.model_dump())
    manifest = AdapterManifest(
        format_version=1 if shape is None else 2, name="street", spec=spec, backbone_name="b",
        backbone_fingerprint=backbone.fingerprint(spec), policy=policy, provenance={"steps": 3},
    )  # fmt: skip
    write_adapter(path, manifest, model.adapter_tensors() | model.policy_tensors(), torch.float32)


@pytest.mark.parametrize("shape", [pooled(), pooled(**PER_TASK), published()], ids=["pooled", "per task", "published"])
def test_the_mean_share_is_the_budget(folder: Path, shape: PolicySpec) -> None:
    """As near as six photos let it be, and never above: each photo's gates close at logits of their own."""
    model = with_policy(make_backbone(), adapter_spec(), shape)
    photos = open_dataset(folder / "data", "val")
    found = calibrate(model, Policy(**shape.model_dump()), photos, (0.4, 0.7, 1.0))
    assert [point.compute for point in found.calibration] == [0.4, 0.7, 1.0]
    assert found.calibration[-1].share_p5 == 1.0
    for point in found.calibration[:2]:
        gated = Gated(model, found, point.compute, Spending.MEAN)
        for record in photos.records:
            gated.coarse_logits(preprocess(open_photo(record.photo), model.spec)[None])
        assert point.compute - 0.15 < gated.mean_share <= point.compute + 1e-6
        assert point.share_p50 == pytest.approx(float(np.percentile(gated.shares, 50)), abs=1e-4)


def test_the_command_writes_a_new_file(folder: Path, tmp_path: Path) -> None:
    source, out = folder / "pooled.safetensors", tmp_path / "calibrated.safetensors"
    asked = ("--data", folder / "data", "--backbone", folder / "backbone.safetensors", "--budgets", "0.5,0.3,1")
    said = run("calibrate", source, *asked, "--out", out).output
    assert said.count("compute 0.") == 2 and "calibrated on 6 photos" in said and "semseg 0." in said
    before, after = load_adapter(source), load_adapter(out)
    assert before.manifest.policy is not None and after.manifest.policy is not None
    assert [point.compute for point in after.manifest.policy.calibration] == [0.3, 0.5, 1.0]
    assert after.manifest.policy.calibration[0].scores.keys() == {"semseg", "normals", "saliency", "human_parts"}
    assert after.manifest.model_copy(update={"policy": before.manifest.policy}) == before.manifest
    for old, new in ((before.tensors, after.tensors), (before.policy_tensors, after.policy_tensors)):
        assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)

    told = json.loads(run("info", out, "--json").output)
    assert told["policy"]["kind"] == "pooled" and told["calibration"][1]["compute"] == 0.5
    assert told["policy"]["parameters"] == sum(t.numel() for t in after.policy_tensors.values())
    assert "policy: kind pooled" in run("info", out).output
    with pytest.raises(SpecError, match=r"calibrated for compute 0\.3 to 1, got 0\.2"):
        run("evaluate", "--adapter", out, *asked[:4], "--compute", "0.2", "--spending", "mean")


@pytest.mark.parametrize("name", ["none", "pooled"])
def test_the_same_blocks_for_all_photos_need_no_training(name: str, folder: Path, tmp_path: Path) -> None:
    """Of any set; its own tensors stay, and what it computes of a photo is within the budget."""
    source, out = folder / f"{name}.safetensors", tmp_path / "fixed.safetensors"
    asked = ("--data", folder / "data", "--backbone", folder / "backbone.safetensors")
    said = run("calibrate", source, *asked, "--fixed", "--fixed-photos", 2, "--out", out, "--budgets", "0.5,1").output
    assert "left out first: stage " in said
    before, after = load_adapter(source), load_adapter(out)
    assert after.manifest.format_version == 2
    assert after.manifest.policy is not None
    assert [point.compute for point in after.manifest.policy.calibration] == [0.5, 1.0]
    assert all(torch.equal(before.tensors[key], tensor) for key, tensor in after.tensors.items())
    assert json.loads(run("info", out, "--json").output)["policy"]["fixed"] is True
    half = json.loads(run("evaluate", "--adapter", out, *asked, "--compute", "0.5", "--json").output)
    assert 0.3 < half["share"] <= 0.5


def test_photos_without_labels_will_do(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.safetensors"
    photos, base = folder / "data" / "JPEGImages", folder / "backbone.safetensors"
    run("calibrate", folder / "pooled.safetensors", "--data", photos, "--backbone", base, "--out", out, "--photos", 3)
    policy = load_adapter(out).manifest.policy
    assert policy is not None and len(policy.calibration) == 8 and not policy.calibration[0].scores


def test_commands_take_a_budget(folder: Path, tmp_path: Path) -> None:
    adapter, backbone = folder / "pooled.safetensors", folder / "backbone.safetensors"
    data = ("--data", folder / "data", "--backbone", backbone, "--adapter", adapter, "--json")
    half, whole = (json.loads(run("evaluate", *data, *more).output) for more in (("--compute", "0.5"), ()))
    assert 0.4 < half["share"] <= 0.5 and half["compute"] == 0.5
    assert "share" not in whole and half["tasks"] != whole["tasks"]

    x = torch.randn(2, 3, 64, 64)
    np.savez(tmp_path / "x.npz", input=x.numpy())
    given = ("--backbone", backbone, "--adapter", adapter, "--input", tmp_path / "x.npz")
    run("forward", *given, "--output", tmp_path / "half.npz", "--compute", "0.5")
    run("forward", *given, "--output", tmp_path / "whole.npz", "--compute", "1")
    run("forward", *given, "--output", tmp_path / "plain.npz")
    with (
        np.load(tmp_path / "half.npz") as some,
        np.load(tmp_path / "whole.npz") as all_of_it,
        np.load(tmp_path / "plain.npz") as plain,
    ):
        model = with_policy(make_backbone(), adapter_spec(), pooled())
        with torch.inference_mode():
            expected = model(x, compute=0.5)
        for task, logits in expected.items():
            np.testing.assert_allclose(some[f"logits_{task}"], logits.numpy(), atol=1e-4)
            np.testing.assert_allclose(all_of_it[f"logits_{task}"], plain[f"logits_{task}"], atol=1e-4)

    photo = folder / "data" / "JPEGImages" / "photo0.jpg"
    run("predict", photo, "--adapter", adapter, "--backbone", backbone, "--out", tmp_path / "maps", "--compute", "0.5")
    assert (tmp_path / "maps" / "photo0.semseg.png").is_file()


def test_a_set_without_a_policy_takes_no_budget(folder: Path) -> None:
    asked = ("--data", folder / "data", "--backbone", folder / "backbone.safetensors")
    with pytest.raises(MTLoRAError, match="adapter set 'street' has no policy: it is computed as a whole"):
        run("evaluate", *asked, "--adapter", folder / "none.safetensors", "--compute", "0.5")


def test_a_published_policy_keeps_a_mean_only(folder: Path) -> None:
    asked = ("--data", folder / "data", "--backbone", folder / "backbone.safetensors")
    with pytest.raises(MTLoRAError, match="a published policy keeps a budget on average only"):
        run("evaluate", *asked, "--adapter", folder / "published.safetensors", "--compute", "0.5")
    with pytest.raises(SpecError, match="no calibration; `mtlora calibrate` makes one"):
        run("evaluate", *asked, "--adapter", folder / "published.safetensors", "--compute", "0.5", "--spending", "mean")


def test_shares_count_streams_of_the_tasks_asked_for() -> None:
    """Half of all windows is half the cost, whichever tasks are asked for: their streams are in both sums."""
    model = with_policy(make_backbone(), adapter_spec(), pooled())
    costs = multiply_adds(model.spec)
    names = model.spec.task_names
    gates = model.plan(torch.randn(1, 3, 64, 64), None, 0.5)
    assert costs.all_blocks(names) > costs.all_blocks(names[:1]) > sum(map(sum, costs.blocks))
    assert float(shares(gates, costs, names)[0]) == pytest.approx(0.5, abs=0.02)


def test_a_set_says_what_servers_compute_of_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sparing.safetensors"
    photos, base = folder / "data" / "JPEGImages", folder / "backbone.safetensors"
    asked = ("--data", photos, "--backbone", base, "--out", out, "--photos", 2, "--budgets", "0.4,1")
    run("calibrate", folder / "pooled.safetensors", *asked, "--default", "0.5")
    policy = load_adapter(out).manifest.policy
    assert policy is not None and policy.default_compute == 0.5
    run("calibrate", out, *asked)  # again, and it stays
    again = load_adapter(out).manifest.policy
    assert again is not None and again.default_compute == 0.5
    with pytest.raises(TrainingError, match=r"--default must be within --budgets, 0\.4 to 1, got 0\.3"):
        run("calibrate", folder / "pooled.safetensors", *asked, "--default", "0.3")
