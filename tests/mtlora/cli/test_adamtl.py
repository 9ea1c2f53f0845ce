"""`mtlora convert`, `forward` and `info` of AdaMTL models, as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from mtlora.adamtl.cost import static_multiply_adds
from mtlora.adamtl.file import load_ada_file
from mtlora.adamtl.model import build_ada_model
from mtlora.adamtl.noise import GivenNoise, NoNoise
from mtlora.cli import convert, files
from mtlora.vocabulary.errors import ConversionError, MTLoRAError, TaskError
from mtlora.vocabulary.tasks import Task
from testing.ada_models import SPEC, publish_ada, random_ada_tensors, random_images
from testing.published_checkpoints import publish, whole
from testing.small_models import SPEC as SET_SPEC

cli = typer.Typer()
for command in (convert.convert, files.forward, files.info):
    cli.command()(command)

GATES = [f"{kind}/s{stage}" for stage in range(4) for kind in ("block_gate", "token_gate", "features")]


def run(*arguments: object) -> Result:
    """The command's result; errors raised on purpose come out as they are."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, MTLoRAError):
        raise result.exception
    return result


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file of a converted checkpoint."""
    checkpoint = publish_ada(tmp_path / "c.pth", SPEC, random_ada_tensors(SPEC))
    result = run("convert", checkpoint, "--model-out", tmp_path / "m.safetensors", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "semseg, saliency" in result.output
    assert "gates: blocks and tokens, policy per_task" in result.output
    return tmp_path / "m.safetensors"


def forward(
    model: Path, *arguments: object, images: int = 2, arrays: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Arrays that `mtlora forward` writes for random images."""
    given, written = model.with_name("x.npz"), model.with_name("y.npz")
    np.savez(given, **({"input": random_images(SPEC, images).numpy()} | (arrays or {})))  # type: ignore[arg-type]
    result = run("forward", "--model", model, "--input", given, "--output", written, *arguments)
    assert result.exit_code == 0, result.output
    with np.load(written) as found:
        return dict(found)


def test_forward_is_the_library_without_noise(model: Path) -> None:
    found = forward(model, "--gates")
    assert set(found) == {"logits_semseg", "logits_saliency", *GATES, "multiply_adds"}
    loaded = build_ada_model(SPEC, load_ada_file(model).tensors)
    with torch.inference_mode():
        expected = loaded(random_images(SPEC, 2), noise=NoNoise())
    np.testing.assert_allclose(found["logits_semseg"], expected.logits[Task.SEMSEG], atol=1e-4)
    for stage, decided in enumerate(expected.decisions):
        np.testing.assert_array_equal(found[f"block_gate/s{stage}"], decided.blocks)
        np.testing.assert_array_equal(found[f"token_gate/s{stage}"], decided.tokens)
        np.testing.assert_allclose(found[f"features/s{stage}"], expected.features[stage], atol=1e-4)
    assert 0 < found["multiply_adds"].min() < static_multiply_adds(SPEC) * 1.2


def test_neighbours_do_not_matter(model: Path) -> None:
    """Not by a bit, drawn noise included."""
    for arguments in ((), ("--gating", "sampled", "--seed", 3)):
        together = forward(model, "--gates", *arguments, images=2)
        alone = forward(model, "--gates", *arguments, images=1)
        assert all(np.array_equal(together[name][:1], alone[name]) for name in alone)


def test_sampled_gates_depend_on_the_seed(model: Path) -> None:
    first, again, other = (forward(model, "--gating", "sampled", "--seed", seed) for seed in (1, 1, 2))
    assert np.array_equal(first["logits_semseg"], again["logits_semseg"])
    assert not np.array_equal(first["logits_semseg"], other["logits_semseg"])


def noise_arrays(scale: float, task: str = "sal") -> dict[str, np.ndarray]:
    generator, arrays = np.random.default_rng(0), {}
    for stage, (depth, tokens) in enumerate(zip(SPEC.backbone.depths, SPEC.stage_tokens, strict=True)):
        for owner in ("semseg", task):
            arrays[f"noise/block_noise/{owner}/s{stage}"] = scale * generator.standard_normal((2, depth))
            arrays[f"noise/token_noise/{owner}/s{stage}"] = scale * generator.standard_normal((2, depth, tokens))
    return arrays


@pytest.mark.parametrize("task", ["sal", "saliency"])
def test_given_noise_is_used(model: Path, task: str) -> None:
    arrays = noise_arrays(5.0, task)
    found = forward(model, "--gates", arrays=arrays)
    tensors: dict[str, dict[tuple[str, int], torch.Tensor]] = {"block": {}, "token": {}}
    for name, array in arrays.items():
        _, kind, owner, stage = name.split("/")
        place = ("saliency" if owner == task else owner, int(stage[1]))
        tensors[kind.partition("_")[0]][place] = torch.from_numpy(array.astype(np.float32))
    with torch.inference_mode():
        expected = build_ada_model(SPEC, load_ada_file(model).tensors)(
            random_images(SPEC, 2), noise=GivenNoise(tensors["block"], tensors["token"])
        )
    np.testing.assert_array_equal(found["block_gate/s2"], expected.decisions[2].blocks)
    np.testing.assert_allclose(found["logits_semseg"], expected.logits[Task.SEMSEG], atol=1e-4)
    quiet = forward(model, "--gating", "deterministic", arrays=arrays)
    assert np.array_equal(quiet["logits_semseg"], forward(model)["logits_semseg"])
    assert not np.array_equal(quiet["logits_semseg"], found["logits_semseg"])


def test_selectors_left_out(model: Path) -> None:
    dense = forward(model, "--dense", "--gates")
    assert dense["multiply_adds"].tolist() == [static_multiply_adds(SPEC)] * 2
    neither = forward(model, "--without", "blocks,tokens", "--gates")
    np.testing.assert_allclose(neither["logits_semseg"], dense["logits_semseg"], atol=1e-4)
    for kind, gate in (("blocks", "block_gate"), ("tokens", "token_gate")):
        found = forward(model, "--without", kind, "--gates")
        if kind == "blocks":
            assert found[f"{gate}/s2"].min() == 1
        else:
            assert np.array_equal(found[f"{gate}/s2"].min(axis=2), found["block_gate/s2"])


def test_only_some_tasks(model: Path) -> None:
    assert set(forward(model, "--tasks", "sal")) == {"logits_saliency"}
    with pytest.raises(TaskError, match="no task 'depth'"):
        forward(model, "--tasks", "depth")


def test_info(model: Path) -> None:
    described = json.loads(run("info", model, "--json").output)
    assert described["kind"] == "adamtl"
    assert described["name"] == "mine"
    assert described["counts"]["total"] == sum(
        p.numel() for p in build_ada_model(SPEC, random_ada_tensors(SPEC)).parameters()
    )
    assert described["multiply_adds"]["all"] == static_multiply_adds(SPEC)
    assert "noise_in_evaluation" in described["quirks"]
    assert "gates: blocks and tokens, policy per_task" in run("info", model).output


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("input", np.zeros((1, 3, 32, 32), np.float32), r"float \[N, 3, 64, 64\], got float32 \[1, 3, 32, 32\]"),
        ("noise/other/semseg/s0", np.zeros(3), "noise is called noise/block_noise"),
        ("noise/block_noise/depth/s0", np.zeros((2, 1)), "belong to semseg, saliency, not to 'depth'"),
        ("noise/block_noise/shared/s0", np.zeros((2, 1)), "not to 'shared'"),
        ("noise/block_noise/semseg/s0", np.zeros((2, 9)), r"must be float \[2, 1\], got float64 \[2, 9\]"),
        ("noise/block_noise/semseg/s0", np.zeros((2, 1)), "none for block_noise/saliency/s0"),
        ("noise/token_noise/semseg/s0", np.zeros((2, 1, 256), np.int64), "got int64"),
    ],
)
def test_arrays_that_do_not_fit(model: Path, name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(MTLoRAError, match=message):
        forward(model, arrays={name: array})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--without", "heads"), "--without takes blocks and tokens"),
        (("--gating", "given"), "needs arrays such as noise/block_noise/OWNER/s0"),
        (("--adapter", "a.safetensors"), "or --model alone"),
    ],
)
def test_options_that_do_not_fit(model: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(MTLoRAError, match=message):
        forward(model, *arguments)


def test_sets_have_no_gates(tmp_path: Path) -> None:
    with pytest.raises(MTLoRAError, match="an adapter set has no gates"):
        run("forward", "--backbone", "b", "--adapter", "a", "--gates", "--input", "x", "--output", tmp_path / "y")


def test_each_kind_of_checkpoint_has_its_files(tmp_path: Path) -> None:
    ada = publish_ada(tmp_path / "a.pth", SPEC, random_ada_tensors(SPEC))
    mtlora = publish(tmp_path / "b.pth", SET_SPEC, whole(SET_SPEC))
    out = tmp_path / "out.safetensors"
    with pytest.raises(ConversionError, match="has none of AdaMTL's decoders"):
        run("convert", mtlora, "--model-out", out)
    with pytest.raises(ConversionError, match="is an AdaMTL checkpoint: give --model-out"):
        run("convert", ada, "--adapter-out", out, "--backbone-out", out)
    with pytest.raises(ConversionError, match="or --model-out alone"):
        run("convert", ada)
    with pytest.raises(ConversionError, match="or --model-out alone"):
        run("convert", ada, "--model-out", out, "--adapter-out", out)
    assert not out.exists()


def test_info_of_a_broken_model(model: Path, tmp_path: Path) -> None:
    """What is wrong is said of the model that it is, not of an adapter set that it is not."""
    content = model.read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(content.replace(b"policy.blocks.semseg.0.out.bias", b"policy.blocks.semseg.0.out.sail"))
    with pytest.raises(MTLoRAError, match=r"policy\.blocks\.semseg\.0\.out\.bias: missing"):
        run("info", broken)


def test_archives_that_cannot_be_read_or_written(model: Path, tmp_path: Path) -> None:
    whole_file, cut = tmp_path / "x.npz", tmp_path / "cut.npz"
    np.savez_compressed(whole_file, input=random_images(SPEC, 1).numpy())
    cut.write_bytes(whole_file.read_bytes()[:5000])
    with pytest.raises(MTLoRAError, match=r"cut\.npz is not a \.npz file with an array `input`"):
        run("forward", "--model", model, "--input", cut, "--output", tmp_path / "y.npz")
    changed = bytearray(whole_file.read_bytes())
    changed[2000:2100] = bytes(100)
    cut.write_bytes(changed)
    with pytest.raises(MTLoRAError, match=r"cut\.npz is not a \.npz file"):
        run("forward", "--model", model, "--input", cut, "--output", tmp_path / "y.npz")
    with pytest.raises(MTLoRAError, match=r"cannot write .*y\.npz: "):
        run("forward", "--model", model, "--input", whole_file, "--output", whole_file / "y.npz")
