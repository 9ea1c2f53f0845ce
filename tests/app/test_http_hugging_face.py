"""Hugging Face's own client, whatever it sends, and what it speaks."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from testing.serving import Live, encoded, picture

PHOTO = encoded(picture(60, 40), "JPEG")
TEXT = base64.b64encode(PHOTO).decode()


@pytest.fixture(scope="module")
def everything(live: Live) -> list[dict[str, Any]]:
    """All masks of the photo, as asked for by hand."""
    answer = live.client.post("/predict?format=hf&tasks=semseg", content=PHOTO, headers={"Content-Type": "image/jpeg"})
    masks: list[dict[str, Any]] = answer.json()
    assert len({one["score"] for one in masks}) > 1
    return masks


@pytest.mark.parametrize("path", ["/predict?format=hf&tasks=semseg", "/", ""])
@pytest.mark.parametrize("as_file", [True, False])
def test_the_client_gets_masks_of_files_and_of_bytes(
    live: Live, everything: list[dict[str, Any]], tmp_path: Path, path: str, as_file: bool
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    client = InferenceClient(model=f"{live.url}{path}")
    found = client.image_segmentation(str(photo) if as_file else PHOTO)
    assert [(one.label, one.score) for one in found] == [(one["label"], one["score"]) for one in everything]
    assert np.asarray(found[0].mask).shape == (40, 60)


def test_a_threshold_leaves_out_what_is_less_sure(live: Live, everything: list[dict[str, Any]]) -> None:
    scores = sorted(one["score"] for one in everything)
    least = (scores[0] + scores[-1]) / 2
    client = InferenceClient(model=live.url)
    ways: list[dict[str, Any]] = [{}, {"subtask": "semantic"}]
    for more in ways:
        found = client.image_segmentation(PHOTO, threshold=least, **more)
        assert [one.score for one in found] == [one["score"] for one in everything if one["score"] >= least]
    assert 0 < len(found) < len(everything)
    assert client.image_segmentation(PHOTO, threshold=1.0) == []
    assert len(client.image_segmentation(PHOTO, threshold=0.0)) == len(everything)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"subtask": "panoptic"}, "semantic"), ({"mask_threshold": 0.5}, "mask_threshold"),
     ({"overlap_mask_area_threshold": 0.5}, "overlap_mask_area_threshold"), ({"threshold": 1.5}, "threshold")],
)  # fmt: skip
def test_what_makes_no_sense_here_is_named(live: Live, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(HfHubHTTPError, match=says) as caught:
        InferenceClient(model=live.url).image_segmentation(PHOTO, **parameters)
    assert caught.value.response.status_code == 422


def test_parameters_of_ours_are_honoured_in_that_dialect(client: httpx.Client) -> None:
    def ask(path: str = "/", **parameters: Any) -> httpx.Response:
        return client.post(path, json={"inputs": TEXT, "parameters": parameters})

    assert ask(tasks=["saliency"]).json()[0]["label"] == "salient"
    assert ask(adapter="nobody").status_code == 404
    assert ask(adapter="people").headers["x-adapter-revision"].startswith("people@")
    assert ask("/?adapter=people", adapter="default").status_code == 400
    assert ask("/predict").json()["adapter"]["name"] == "default"
    assert ask("/predict", threshold=0.5).status_code == 422  # the answer is no list of masks
    for body in ({"inputs": TEXT, "parameter": {}}, {"inputs": TEXT, "parameters": []}, {"inputs": 3},
                 {"inputs": TEXT, "image": TEXT}):  # fmt: skip
        assert client.post("/", json=body).status_code in {400, 422}
    assert client.post("/", json={"inputs": TEXT, "parameters": None}).status_code == 200


@pytest.mark.parametrize("kind", [None, "application/octet-stream"])
def test_bytes_of_no_kind_are_known_by_themselves(client: httpx.Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/predict?masks=none", content=PHOTO, headers=headers).status_code == 200
    assert client.post("/predict", content=b"no photo", headers=headers).status_code == 415
    assert client.post("/predict", content=b"", headers=headers).status_code == 422


@pytest.mark.parametrize("text", ["0.5", ".5", "1", "0"])
def test_thresholds_in_the_query(client: httpx.Client, text: str) -> None:
    path = f"/predict?tasks=semseg&threshold={text}"
    for form in ("hf", "coco"):
        answer = client.post(f"{path}&format={form}", content=PHOTO)
        body = json.loads(answer.content)
        scores = [one["score"] for one in (body if form == "hf" else body["annotations"])]
        assert all(score >= float(text) for score in scores)
    assert client.post(f"{path}&format=json", content=PHOTO).status_code == 422


@pytest.mark.parametrize("text", ["", "half", "1.1", "-0.1", "nan", "1_0", "%2B0.5", "0,5", "5e-1"])
def test_what_is_no_threshold(client: httpx.Client, text: str) -> None:
    assert client.post(f"/predict?tasks=semseg&format=hf&threshold={text}", content=PHOTO).status_code == 422
