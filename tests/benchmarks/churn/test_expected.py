"""Answers are told apart: the same, rounded, another set's."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.churn.expected import Content, Photo, content_of, nearest_others
from mtlora.maps.map_png import encode_map
from mtlora.prediction.adapted import build_adapted
from mtlora.prediction.predict import predict
from mtlora.weights.adapter_file import load_adapter
from mtlora.weights.backbone import load_backbone
from testing.serving import Weights, encoded, make_weights, picture

PHOTO = Photo("disc", encoded(picture(), "JPEG"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("weights"))


def content(weights: Weights, name: str) -> Content:
    return content_of(weights.uploads / f"{name}.safetensors", load_backbone(weights.backbone), [PHOTO])


def answer(path: Path, weights: Weights, nudge: float = 0.0) -> dict[str, Any]:
    """What a server would answer; nudge: how much the largest grey value of saliency is off."""
    model = build_adapted(load_backbone(weights.backbone), load_adapter(path))
    maps = predict(model, PHOTO.content)
    shown = {task: np.clip(values + nudge, 0, None).astype(values.dtype) for task, values in maps.items()}
    return {
        task.value: {"png": base64.b64encode(encode_map(values, model.spec.task(task)).png).decode()}
        for task, values in shown.items()
    }


def test_the_library_s_own_answer_is_the_same_and_another_set_s_is_not(weights: Weights) -> None:
    cats, dogs = content(weights, "cats"), content(weights, "dogs")
    assert nearest_others([cats, dogs]) > 3
    assert cats.judge("disc", answer(weights.uploads / "cats.safetensors", weights)) == "same"
    assert cats.judge("disc", answer(weights.uploads / "cats.safetensors", weights)) == "same"
    assert "times the rounding away" in cats.judge("disc", answer(weights.uploads / "dogs.safetensors", weights))


def test_rounding_is_told_from_a_wrong_answer(weights: Weights) -> None:
    path = weights.bundled / "people.safetensors"
    people = content_of(path, load_backbone(weights.backbone), [PHOTO])
    only = {"saliency": answer(path, weights)["saliency"]}
    assert people.judge("disc", only) == "same"
    assert people.judge("disc", {"saliency": answer(path, weights, 0.3 / 255)["saliency"]}) == "rounded"
    assert "away" in people.judge("disc", {"saliency": answer(path, weights, 3 / 255)["saliency"]})
