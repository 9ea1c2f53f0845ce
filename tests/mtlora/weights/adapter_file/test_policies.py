"""Sets with a policy are files of version 2; all others keep the bytes of version 1."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlora.vocabulary.errors import AdapterFileError, SpecError
from mtlora.vocabulary.policy import CalibrationPoint, Policy, PolicyKind, PolicyMode, policy_shapes
from mtlora.vocabulary.spec import RESERVED_FIELDS
from mtlora.weights.adapter_file import AdapterManifest, load_adapter, save_adapter, write_adapter
from mtlora.weights.adapter_file.load import CheckedFiles
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from testing.adapter_bytes import join, split
from testing.small_models import FINGERPRINT, SPEC, random_tensors

POINTS = (
    CalibrationPoint(compute=0.3, threshold=1.5, share_p5=0.2, share_p50=0.3, share_p95=0.4),
    CalibrationPoint(compute=0.6, threshold=0.5, share_p5=0.5, share_p50=0.6, share_p95=0.8, scores={"semseg": 0.5}),
)
POLICIES = {
    "pooled": Policy(kind=PolicyKind.POOLED, hidden=(4, 3), windows=True, calibration=POINTS),
    "per task": Policy(kind=PolicyKind.POOLED, mode=PolicyMode.PER_TASK, hidden=(4, 3)),
    "published": Policy(kind=PolicyKind.PUBLISHED, hidden=(2, 3), tokens=True, residual="published"),
    "published per task": Policy(kind=PolicyKind.PUBLISHED, mode=PolicyMode.PER_TASK, hidden=(2, 3), tokens=True),
}


def manifest(policy: Policy | None) -> AdapterManifest:
    version = 1 if policy is None else 2
    return AdapterManifest(
        format_version=version, spec=SPEC, backbone_name="b", backbone_fingerprint=FINGERPRINT, policy=policy
    )


def policy_tensors(policy: Policy) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in policy_shapes(SPEC, policy).items()}


def write(path: Path, policy: Policy) -> str:
    return write_adapter(path, manifest(policy), random_tensors(SPEC) | policy_tensors(policy), torch.float32)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_round_trip(tmp_path: Path, policy: Policy) -> None:
    path = tmp_path / "a.safetensors"
    digest = write(path, policy)
    known = CheckedFiles()
    for _ in range(2):  # the second time without parsing
        loaded = load_adapter(path, known=known)
        assert loaded.digest == digest
        assert loaded.manifest == manifest(policy) and loaded.manifest.format_version == 2
        assert loaded.tensors.keys() == random_tensors(SPEC).keys()
        wanted = policy_tensors(policy)
        assert loaded.policy_tensors.keys() == wanted.keys()
        assert all(torch.equal(loaded.policy_tensors[name], wanted[name]) for name in wanted)


def test_without_a_policy_the_bytes_are_those_of_version_1(tmp_path: Path) -> None:
    """The digest was taken with the release that knew version 1 only."""
    path = tmp_path / "a.safetensors"
    save_adapter(path, SPEC, _ones(), backbone_name="swin_test", backbone_fingerprint=FINGERPRINT, name="x")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == VERSION_1_DIGEST
    assert json.loads(split(path.read_bytes())[0]["__metadata__"][METADATA_KEY])["format_version"] == 1


def _ones() -> dict[str, torch.Tensor]:
    return {name: torch.ones_like(t) for name, t in random_tensors(SPEC).items()}


VERSION_1_DIGEST = "a09691950e5ed7528c9435ad9df231fbf3ed927e396352f74545e105838338a0"


def _edited(content: bytes, change: Any) -> bytes:
    header, data = split(content)
    told = json.loads(header["__metadata__"][METADATA_KEY])
    change(told, header)
    header["__metadata__"][METADATA_KEY] = json.dumps(told)
    return join(json.dumps(header).encode(), data)


LIES: dict[str, tuple[Any, str]] = {
    "version 1": (lambda m, _: m.update(format_version=1), "a policy needs format_version 2, got 1"),
    "version 3": (lambda m, _: m.update(format_version=3), "format_version: Input should be 1 or 2"),
    "kind": (lambda m, _: m["policy"].update(kind="guess"), "kind: Input should be 'pooled' or 'published'"),
    "key": (lambda m, _: m["policy"].update(new=1), "new: Extra inputs are not permitted"),
    "hidden": (lambda m, _: m["policy"].update(hidden=[0, 3]), r"hidden units .* must be 1 to 256, got \(0, 3\)"),
    "too many": (lambda m, _: m["policy"].update(hidden=[9, 257]), r"a pooled policy must be 1 to 256, got \(9, 257\)"),
    "no gates": (lambda m, _: m["policy"].update(blocks=False, windows=False), "a policy needs gates"),
    "tokens": (lambda m, _: m["policy"].update(tokens=True), "a pooled policy has no gates of tokens"),
    "residual": (lambda m, _: m["policy"].update(residual="published"), "residual 'published' is about closed tokens"),
    "order": (lambda m, _: m["policy"]["calibration"].reverse(), r"rising order of compute.*\[0.6, 0.3\]"),
    "shares": (lambda m, _: m["policy"]["calibration"][0].update(share_p5=0.35), "shares must rise"),
    "scores": (lambda m, _: m["policy"]["calibration"][0].update(scores={"sky": 1.0}), "of tasks, got sky"),
    "no policy": (lambda m, _: m.pop("policy"), r"policy.blocks.hidden.bias: unexpected"),
    "other shape": (
        lambda m, _: m["policy"].update(hidden=[5, 3]),
        r"policy.blocks.hidden.bias: shape \[4\], expected",
    ),
    "missing": (
        lambda m, _: m["policy"].update(mode="per_task"),
        r"policy.blocks.out.bias: shape \[5\], expected \[15\]",
    ),
    "reserved adaptation": (
        lambda m, _: m["spec"].update(adaptation="dora"),
        "adaptation 'dora': reserved in format version 2, and this release does not read such sets yet",
    ),
    "ranks of no linear": (
        lambda m, _: m["spec"].update(linear_ranks={"x": 1}),
        r"shared: no pair belongs at 'x' \(pairs are at layers\.0\.blocks\.0\.attn\.qkv and such",
    ),
    "ranks as a list": (lambda m, _: m["spec"].update(linear_ranks=[["x", 1]]), "must be an object of linears' names"),
    "rank of the stage": (
        lambda m, _: m["spec"].update(linear_ranks={"layers.0.blocks.0.attn.qkv": m["spec"]["ranks"][0]}),
        r"layers\.0\.blocks\.0\.attn\.qkv has rank \d+ from its stage already, leave it out",
    ),
    "a rank below zero": (lambda m, _: m["spec"].update(linear_ranks={"x": -1}), "greater than or equal to 0"),
    "ranks in version 1": (
        lambda m, _: (
            (m.update(format_version=1), m.pop("policy"))
            and m["spec"].update(linear_ranks={"layers.0.blocks.0.attn.qkv": 7})
        ),
        "linear_ranks need format_version 2, got 1",
    ),
    "reserved base": (lambda m, _: m["spec"].update(task_base="own"), "task_base 'own': reserved"),
    "reserved in a task": (
        lambda m, _: m["spec"]["tasks"][1].update(adaptation="dora"),
        r"tasks\.1.*adaptation 'dora': reserved in format version 2",
    ),
    "task ranks where tasks have no pair": (
        lambda m, _: m["spec"]["tasks"][1].update(linear_ranks={"layers.0.blocks.0.attn.qkv": 1}),
        r"no pair belongs at 'layers\.0\.blocks\.0\.attn\.qkv' \(pairs are at layers\.0\..*\.attn\.proj",
    ),
}


def test_what_later_sets_may_have_can_be_said_as_it_is_today(tmp_path: Path) -> None:
    """So that a file of a later release that uses none of it is read."""
    path = tmp_path / "a.safetensors"
    write(path, POLICIES["pooled"])
    path.write_bytes(_edited(path.read_bytes(), lambda m, _: m["spec"].update(RESERVED_FIELDS)))
    assert load_adapter(path).manifest.spec == SPEC


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_words(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "a.safetensors"
    write(path, POLICIES["pooled"])
    change, message = LIES[lie]
    path.write_bytes(_edited(path.read_bytes(), change))
    with pytest.raises(AdapterFileError, match=message):
        load_adapter(path)


def test_a_policy_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = random_tensors(SPEC) | policy_tensors(POLICIES["pooled"])
    tensors["policy.blocks.out.bias"][2] = 1e6
    with pytest.raises(AdapterFileError, match=r"policy\.blocks\.out\.bias: 1 of 5 values are not finite"):
        write_adapter(tmp_path / "a.safetensors", manifest(POLICIES["pooled"]), tensors)


def test_a_set_without_its_policy_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"policy\.windows\.out\.weight: missing"):
        write_adapter(tmp_path / "a.safetensors", manifest(POLICIES["pooled"]), random_tensors(SPEC))


@pytest.mark.parametrize(("compute", "threshold"), [(0.3, 1.5), (0.45, 1.0), (0.6, 0.5)])
def test_thresholds_are_interpolated(compute: float, threshold: float) -> None:
    assert POLICIES["pooled"].threshold(compute) == pytest.approx((threshold, threshold))


@pytest.mark.parametrize(("policy", "compute", "message"), [
    ("pooled", 0.7, r"calibrated for compute 0\.3 to 0\.6, got 0\.7"),
    ("per task", 0.5, "no calibration; `mtlora calibrate` makes one"),
])  # fmt: skip
def test_thresholds_beyond_the_calibration_are_refused(policy: str, compute: float, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        POLICIES[policy].threshold(compute)


@pytest.mark.parametrize("twice", ['"format_version":1,', '"policy":null,'])
def test_a_key_that_occurs_twice_is_refused(tmp_path: Path, twice: str) -> None:
    path = tmp_path / "a.safetensors"
    write(path, POLICIES["pooled"])
    header, data = split(path.read_bytes())
    header["__metadata__"][METADATA_KEY] = "{" + twice + header["__metadata__"][METADATA_KEY][1:]
    path.write_bytes(join(json.dumps(header).encode(), data))
    with pytest.raises(AdapterFileError, match="occurs twice"):
        load_adapter(path)


def test_a_default_is_written_only_where_there_is_one(tmp_path: Path) -> None:
    pooled = POLICIES["pooled"]
    assert "default_compute" not in manifest(pooled).to_json()
    write(tmp_path / "a.safetensors", pooled.usually(0.5))
    assert load_adapter(tmp_path / "a.safetensors").manifest.policy == pooled.usually(0.5)
    with pytest.raises(SpecError, match=r"default_compute must be 0\.3 to 1, as calibrated, got 0\.2"):
        pooled.usually(0.2)
    with pytest.raises(SpecError, match="default_compute is of pooled policies, which servers run"):
        POLICIES["published"].usually(0.5)
