"""format=hf and format=coco over HTTP, read as their users read them, against the PNG of the same map."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mtlora.vocabulary.tasks import HUMAN_PARTS_CLASSES, VOC_CLASSES
from testing.serving import Live, encoded, metric, picture

PHOTO = encoded(picture(90, 70), "JPEG")
CLASSES = {"semseg": VOC_CLASSES, "human_parts": HUMAN_PARTS_CLASSES}


def post(client: httpx.Client, query: str, **options: Any) -> httpx.Response:
    return client.post(f"/predict?{query}", content=PHOTO, headers={"Content-Type": "image/jpeg"}, **options)


def png(client: httpx.Client, task: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(post(client, f"tasks={task}&format=png").content)))


def dataset(document: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = document
    coco.createIndex()
    return coco


@pytest.mark.parametrize("task", CLASSES)
def test_hf_lists_the_classes_of_the_png(client: httpx.Client, task: str) -> None:
    response = post(client, f"tasks={task}&format=hf")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-adapter-revision"] == "default@1"
    expected, segments = png(client, task), response.json()
    assert [s["label"] for s in segments] == [CLASSES[task][i] for i in np.unique(expected)]
    for segment in segments:
        assert segment.keys() == {"label", "score", "mask"}
        assert 0 < segment["score"] <= 1
        mask = Image.open(io.BytesIO(base64.b64decode(segment["mask"])))
        assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (90, 70))
        inside = expected == CLASSES[task].index(segment["label"])
        np.testing.assert_array_equal(np.asarray(mask), inside * 255)


@pytest.mark.parametrize("task", CLASSES)
def test_pycocotools_reads_the_classes_of_the_png(client: httpx.Client, task: str) -> None:
    response = post(client, f"tasks={task}&format=coco")
    assert response.status_code == 200, response.text
    coco, expected = dataset(response.json()), png(client, task)
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(enumerate(CLASSES[task]))
    assert {c["supercategory"] for c in coco.dataset["categories"]} == {task}
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [a["category_id"] for a in annotations] == np.unique(expected).tolist()
    for annotation in annotations:
        inside = expected == annotation["category_id"]
        np.testing.assert_array_equal(coco.annToMask(annotation), inside)
        rows, columns = np.nonzero(inside)
        size = [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["area"] == inside.sum()
        assert annotation["bbox"] == [columns.min(), rows.min(), *size]
        assert 0 < annotation["score"] <= 1


def test_saliency_is_one_mask(client: httpx.Client) -> None:
    (segment,) = post(client, "tasks=saliency&format=hf").json()
    document = post(client, "tasks=sal&format=coco").json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(segment["mask"]))))
    grey = png(client, "saliency").astype(int)
    assert segment["label"] == "salient"
    assert ((mask == 255) == (grey >= 128)).all()
    coco = dataset(document)
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    assert document["categories"] == [{"id": 1, "name": "salient", "supercategory": "saliency"}]
    np.testing.assert_array_equal(coco.annToMask(annotation) * 255, mask)
    assert annotation["score"] == segment["score"]
    if (mask == 255).any():
        assert segment["score"] == pytest.approx(grey[mask == 255].mean() / 255, abs=0.01)


@pytest.mark.parametrize("form", ["hf", "coco"])
def test_what_has_no_masks_is_refused(client: httpx.Client, form: str) -> None:
    normals, several = post(client, f"tasks=normals&format={form}"), post(client, f"format={form}")
    assert (normals.status_code, several.status_code) == (422, 406)
    assert "json, png, zip, npz, overlay carry it" in normals.json()["detail"]
    assert "one task" in several.json()["detail"]
    two = client.post(f"/predict?tasks=semseg&format={form}", files=[("image", PHOTO), ("image", PHOTO)])
    assert two.status_code == 406


def test_they_are_counted_by_their_names(live: Live) -> None:
    series = 'mtlora_requests_total{code="200",format="coco"}'
    post(live.client, "tasks=semseg&format=coco")
    before = metric(live, series)
    post(live.client, "tasks=semseg&format=COCO")
    assert metric(live, series) == before + 1
