"""Loading: twins share what is frozen and nothing else; files that do not fit say why."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from app.errors import AdapterLoadError
from app.residency.loader import AdapterLoader, twin
from app.residency.names import AdapterRef
from mtlora.adapted import build_adapted
from mtlora.adapter_file import load_adapter
from mtlora.backbone import load_backbone
from tests.factories import adapter_spec, make_backbone, make_model
from tests.serving import Weights


def reference(path: Path) -> AdapterRef:
    return AdapterRef(path.stem, 1, load_adapter(path).digest)


def test_a_loaded_set_answers_as_the_library_does(weights: Weights) -> None:
    backbone = load_backbone(weights.backbone)
    loader = AdapterLoader(backbone, lambda ref: weights.uploads / f"{ref.name}.safetensors")
    for name in ("cats", "dogs", "cats"):
        path = weights.uploads / f"{name}.safetensors"
        adapted = loader(reference(path))
        x = torch.randn(1, 3, 64, 64)
        expected = build_adapted(backbone, load_adapter(path))
        with torch.inference_mode():
            for task, logits in expected(x).items():
                torch.testing.assert_close(adapted.model(x)[task], logits, rtol=0, atol=0)
        assert adapted.cost_bytes == sum(4 * t.numel() for t in expected.adapter_tensors().values())


def test_twins_share_frozen_tensors_only() -> None:
    model = make_model(make_backbone(), adapter_spec())
    other = twin(model)
    own = model.adapter_tensors().keys()
    here, there = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, other))
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        assert (tensor.data_ptr() == there[name].data_ptr()) == (name not in own), name


def test_a_file_that_is_not_the_one_promised(weights: Weights) -> None:
    loader = AdapterLoader(load_backbone(weights.backbone), lambda ref: weights.uploads / "cats.safetensors")
    with pytest.raises(AdapterLoadError, match=f"has digest [0-9a-f]+, expected {'0' * 64}"):
        loader(AdapterRef("cats", 1, "0" * 64))


def test_a_set_is_freed_the_moment_it_is_let_go(weights: Weights) -> None:
    """No cycles: memory comes back without the garbage collector, which does not look at loaded sets any more."""
    loader = AdapterLoader(load_backbone(weights.backbone), lambda ref: weights.uploads / "cats.safetensors")
    adapted = loader(reference(weights.uploads / "cats.safetensors"))
    with torch.inference_mode():
        adapted.model(torch.zeros(1, 3, 64, 64))
    model = weakref.ref(adapted.model)
    objects = gc.get_freeze_count()
    del adapted
    assert model() is None
    assert gc.get_freeze_count() < objects


@pytest.mark.parametrize(("name", "words"), [("foreign", "trained on backbone"), ("nothing", "cannot open")])
def test_files_that_do_not_fit(weights: Weights, name: str, words: str) -> None:
    path = weights.uploads / f"{name}.safetensors"
    digest = load_adapter(path).digest if path.exists() else ""
    loader = AdapterLoader(load_backbone(weights.backbone), lambda ref: path)
    with pytest.raises(AdapterLoadError, match=words):
        loader(AdapterRef(name, 1, digest))
