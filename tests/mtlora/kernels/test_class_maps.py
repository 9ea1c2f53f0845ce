"""Class maps of the bundled weights: the fast way against the long one."""

import pytest
import torch

from mtlora.images.opening import open_photo
from mtlora.inference import Query, make_backend
from mtlora.kernels import kernels, library, status
from mtlora.maps.postprocessing import at_model_size, decode_coarse
from mtlora.ops.preprocess import preprocess
from mtlora.vocabulary.options import FormKind
from mtlora.vocabulary.tasks import TRAITS, Decode
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone
from mtlora.weights.bundled import bundled_backbone, find_adapter
from testing.paths import SAMPLES

SAME = 0.9999  # share of pixels; the others have two best classes but for rounding


@pytest.mark.parametrize("kind", [FormKind.MERGED, FormKind.LOWRANK])
def test_native_class_maps_are_those_of_the_long_way(kind: FormKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long way: the training model in plain torch, every score enlarged to the model's size, argmax over them."""
    monkeypatch.delenv(library.VARIABLE, raising=False)
    if kernels() is None:
        pytest.skip(f"no native code: {status().reason}")
    backbone, adapter = load_backbone(bundled_backbone()), load_adapter(find_adapter("default"))
    spec = adapter.manifest.spec
    tasks = tuple(task for task in spec.task_names if TRAITS[task].decode is Decode.ARGMAX)
    fast, long = (make_backend(backbone, which) for which in (kind, FormKind.PLAIN))
    same = torch.zeros(0, dtype=torch.bool)
    for photo in sorted(SAMPLES.glob("*.jpg")):
        pixels = preprocess(open_photo(photo), spec)
        ours, theirs = (
            backend.forward([Query(backend.prepare(adapter), pixels, tasks)])[0] for backend in (fast, long)
        )
        for task in tasks:
            expected = at_model_size(theirs[task], spec.image_size).argmax(0)
            same = torch.cat([same, (decode_coarse(task, ours[task], spec.image_size) == expected).flatten()])
    assert len(same) >= 10 * spec.image_size**2
    assert same.float().mean() >= SAME
