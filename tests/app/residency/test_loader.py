"""Loading: files become sets that answer as the library does; those that do not fit say why."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from app.errors import AdapterLoadError
from app.residency.loader import AdapterLoader
from app.residency.names import AdapterRef
from mtlora.adapted import build_adapted
from mtlora.adapter_file import load_adapter
from mtlora.backbone import load_backbone
from mtlora.inference import PlainForm, Query
from mtlora.outputs import at_model_size
from tests.serving import Weights


def reference(path: Path) -> AdapterRef:
    return AdapterRef(path.stem, 1, load_adapter(path).digest)


def test_a_loaded_set_answers_as_the_library_does(weights: Weights) -> None:
    backbone = load_backbone(weights.backbone)
    form = PlainForm(backbone)
    loader = AdapterLoader(form, lambda ref: weights.uploads / f"{ref.name}.safetensors")
    for name in ("cats", "dogs", "cats"):
        path = weights.uploads / f"{name}.safetensors"
        adapted = loader(reference(path))
        x = torch.randn(3, 64, 64)
        expected = build_adapted(backbone, load_adapter(path))
        (answer,) = form.forward([Query(adapted.resident, x, adapted.spec.task_names)])
        with torch.inference_mode():
            for task, logits in expected(x[None]).items():
                torch.testing.assert_close(at_model_size(answer[task], 64), logits[0], rtol=0, atol=0)
        assert adapted.cost_bytes == sum(4 * t.numel() for t in expected.adapter_tensors().values())


def test_a_file_that_is_not_the_one_promised(weights: Weights) -> None:
    loader = AdapterLoader(PlainForm(load_backbone(weights.backbone)), lambda ref: weights.uploads / "cats.safetensors")
    with pytest.raises(AdapterLoadError, match=f"has digest [0-9a-f]+, expected {'0' * 64}"):
        loader(AdapterRef("cats", 1, "0" * 64))


def test_a_set_is_freed_the_moment_it_is_let_go(weights: Weights) -> None:
    """No cycles: memory comes back without the garbage collector, which does not look at loaded sets any more."""
    form = PlainForm(load_backbone(weights.backbone))
    loader = AdapterLoader(form, lambda ref: weights.uploads / "cats.safetensors")
    adapted = loader(reference(weights.uploads / "cats.safetensors"))
    form.forward([Query(adapted.resident, torch.zeros(3, 64, 64), adapted.spec.task_names)])
    resident = weakref.ref(adapted.resident)
    objects = gc.get_freeze_count()
    del adapted
    assert resident() is None
    assert gc.get_freeze_count() < objects


@pytest.mark.parametrize(("name", "words"), [("foreign", "trained on backbone"), ("nothing", "cannot open")])
def test_files_that_do_not_fit(weights: Weights, name: str, words: str) -> None:
    path = weights.uploads / f"{name}.safetensors"
    digest = load_adapter(path).digest if path.exists() else ""
    loader = AdapterLoader(PlainForm(load_backbone(weights.backbone)), lambda ref: path)
    with pytest.raises(AdapterLoadError, match=words):
        loader(AdapterRef(name, 1, digest))
