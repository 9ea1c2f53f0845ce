"""Laws that hold for every AdaMTL model."""

import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import assume, given, settings
from torch import Tensor

from mtlora.adamtl.conversion import convert_adamtl
from mtlora.adamtl.cost import multiply_adds, static_multiply_adds
from mtlora.adamtl.file import AdaManifest, load_ada_file, save_ada_file
from mtlora.adamtl.model import AdaModel, AdaOutput, build_ada_model
from mtlora.adamtl.noise import ImageNoise, NoNoise
from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.shapes import adamtl_shapes
from mtlora.adamtl.spec import AdaSpec
from mtlora.vocabulary.tasks import Task
from testing.ada_models import ada_specs, opened, publish_ada, published_ada_config, random_ada_tensors, random_images
from testing.examples import examples

IMAGES = 3
ROUNDING = 1e-4
few = settings(max_examples=examples(15), deadline=None)


def run(spec: AdaSpec, tensors: dict[str, Tensor], x: Tensor) -> AdaOutput:
    with torch.inference_mode():
        output: AdaOutput = build_ada_model(spec, tensors)(x, noise=NoNoise())
    return output


def assert_logits(found: dict[Task, Tensor], expected: dict[Task, Tensor]) -> None:
    for task, logits in expected.items():
        torch.testing.assert_close(found[task], logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


@given(ada_specs())
@few
def test_shapes_are_those_of_the_model(spec: AdaSpec) -> None:
    model = AdaModel(spec)
    assert {name: tuple(tensor.shape) for name, tensor in model.stored_tensors().items()} == adamtl_shapes(spec)


@given(ada_specs())
@few
def test_open_gates_change_nothing(spec: AdaSpec) -> None:
    """With every gate open a model is the one that runs in full."""
    spec = spec.switched(adaptive=True)
    tensors = opened(spec, random_ada_tensors(spec))
    x = random_images(spec, 2)
    output, dense = run(spec, tensors, x), run(spec.switched(adaptive=False), tensors, x)
    assert_logits(output.logits, dense.logits)
    without = spec.switched(quirks=Quirks.published(), ada_tokens=False, ada_blocks=False)
    plain = run(without.switched(quirks=spec.quirks), {n: tensors[n] for n in adamtl_shapes(without)}, x)
    assert_logits(output.logits, plain.logits)
    assert multiply_adds(without, plain.decisions).tolist() == [static_multiply_adds(spec)] * 2


@given(ada_specs())
@few
def test_open_gates_change_nothing_in_training(spec: AdaSpec) -> None:
    spec = spec.switched(adaptive=True)
    skips = spec.ada_tokens and not spec.ada_blocks and spec.quirks.token_training_skips_blocks
    assume(not skips)
    tensors = opened(spec, random_ada_tensors(spec))
    x = random_images(spec, 2)
    outputs = []
    for adaptive in (True, False):
        model = build_ada_model(spec.switched(adaptive=adaptive), {n: t.clone() for n, t in tensors.items()}).train()
        outputs.append(model(x, noise=NoNoise()).features)
    for found, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@given(ada_specs())
@few
def test_closed_blocks_pass_everything(spec: AdaSpec) -> None:
    """With every block closed the blocks' weights do not matter."""
    spec = spec.switched(adaptive=True, ada_blocks=True)
    tensors = opened(spec, random_ada_tensors(spec), -100.0)
    x = random_images(spec, 1)
    changed = {n: t + 1 if ".blocks." in n and n.startswith("backbone") else t for n, t in tensors.items()}
    assert_logits(run(spec, changed, x).logits, run(spec, tensors, x).logits)


@given(ada_specs())
@few
def test_a_batch_is_its_images(spec: AdaSpec) -> None:
    tensors, x = random_ada_tensors(spec), random_images(spec, IMAGES)
    together = run(spec, tensors, x)
    logits = [
        values
        for decided in together.decisions
        for by_owner in (decided.block_logits, decided.token_logits)
        for values in by_owner.values()
    ]
    assume(all(not bool((each.abs() < ROUNDING).any()) for each in logits))  # rounding could flip those
    for i in range(IMAGES):
        alone = run(spec, tensors, x[i : i + 1])
        assert_logits({task: each[i : i + 1] for task, each in together.logits.items()}, alone.logits)
        for all_of_them, one in zip(together.decisions, alone.decisions, strict=True):
            assert torch.equal(all_of_them.blocks[i], one.blocks[0])
            assert torch.equal(all_of_them.tokens[i], one.tokens[0])


@given(ada_specs())
@few
def test_drawn_noise_of_an_image_is_its_own(spec: AdaSpec) -> None:
    tensors, x = random_ada_tensors(spec), random_images(spec, IMAGES)
    model = build_ada_model(spec, tensors)
    with torch.inference_mode():
        together = model(x, noise=ImageNoise.seeded(7, range(IMAGES))).decisions
        alone = model(x[1:2], noise=ImageNoise.seeded(7, range(1, 2))).decisions
    for both, one in zip(together, alone, strict=True):
        for owner, gates in both.block_gates.items():
            torch.testing.assert_close(gates[1], one.block_gates[owner][0])


@given(ada_specs())
@few
def test_a_file_keeps_everything(spec: AdaSpec) -> None:
    tensors = random_ada_tensors(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_ada_file(path, AdaManifest(name="mine", spec=spec, provenance={"epoch": 3}), tensors)
        loaded = load_ada_file(path)
        first = path.read_bytes()
        save_ada_file(path, loaded.manifest, loaded.tensors)
        assert path.read_bytes() == first
    assert loaded.manifest == AdaManifest(name="mine", spec=spec, provenance={"epoch": 3})
    assert loaded.tensors.keys() == tensors.keys()
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in tensors.items())


@given(ada_specs())
@few
@pytest.mark.parametrize("model_only", [False, True])
def test_conversion_undoes_publication(model_only: bool, spec: AdaSpec) -> None:
    """Of a checkpoint with its configuration, and of one whose configuration is a file."""
    spec = spec.switched(quirks=Quirks.published())
    if not spec.ada_blocks and not spec.ada_tokens:
        spec = spec.switched(adaptive=False)
    tensors = random_ada_tensors(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = publish_ada(Path(folder) / "c.pth", spec, tensors, model_only=model_only)
        config = None
        if model_only:
            config = Path(folder) / "c.yaml"
            config.write_text(yaml.safe_dump(published_ada_config(spec)))
        converted = convert_adamtl(path, config=config)
    found = converted.manifest.spec
    backbone = spec.backbone.model_copy(update={"name": found.backbone.name})
    hidden = {"block_hidden": spec.block_hidden, "token_hidden": spec.token_hidden}
    assert found == spec.switched(backbone=backbone, **hidden)
    assert converted.tensors.keys() == tensors.keys()
    assert all(torch.equal(converted.tensors[name], tensor) for name, tensor in tensors.items())
