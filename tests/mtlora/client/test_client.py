"""Both clients against a real server."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mtlora.client import AsyncClient
from mtlora.vocabulary.errors import ImageError, RefusedError, RemoteError, TaskError
from testing.asking import KINDS, ask
from testing.serving import Weights, encoded, picture

PHOTO = encoded(picture(61, 40), "PNG")
both = pytest.mark.parametrize("kind", KINDS)


def served(url: str, task: str, form: str = "png") -> Any:
    """The server's own PNG of a task, as an array."""
    headers = {"Content-Type": "image/png"}
    answer = httpx.post(f"{url}/predict?tasks={task}&format={form}", content=PHOTO, headers=headers, timeout=30)
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@both
def test_maps_are_arrays_of_the_photo_s_size(kind: str, url: str) -> None:
    found = ask(kind, url, lambda c: c.predict(PHOTO))
    assert found.adapter == "default@1"
    assert list(found.maps) == ["semseg", "normals", "saliency", "human_parts"]
    assert (found.semseg.dtype, found.semseg.shape) == (np.uint8, (40, 61))
    assert (found.human_parts.dtype, found.human_parts.shape) == (np.uint8, (40, 61))
    assert (found.saliency.dtype, found.saliency.shape) == (np.float32, (40, 61))
    assert (found.normals.dtype, found.normals.shape) == (np.float32, (40, 61, 3))
    np.testing.assert_allclose(np.linalg.norm(found.normals, axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(found.semseg, served(url, "semseg"))
    np.testing.assert_array_equal(np.rint(found.saliency * 255), served(url, "saliency"))
    assert found.logits == {}
    with pytest.raises(TaskError, match="has no depth; it has semseg, normals"):
        _ = found.depth


@both
def test_only_what_is_asked_for(kind: str, url: str) -> None:
    found = ask(kind, url, lambda c: c.predict(PHOTO, tasks=["parts"], adapter="people@1", logits=True))
    assert (found.adapter, list(found.maps)) == ("people@1", ["human_parts"])
    assert found.logits["human_parts"].shape == (7, 64, 64)


@both
def test_every_kind_of_photo(kind: str, url: str, tmp_path: Path) -> None:
    pixels = np.asarray(picture(61, 40))
    (tmp_path / "p.png").write_bytes(PHOTO)
    expected = ask(kind, url, lambda c: c.predict(PHOTO, tasks="semseg")).semseg
    for photo in (tmp_path / "p.png", str(tmp_path / "p.png"), pixels, picture(61, 40)):
        np.testing.assert_array_equal(ask(kind, url, lambda c, p=photo: c.predict(p, tasks="semseg")).semseg, expected)
    with pytest.raises(ImageError, match=r"uint8 \[H, W, 3\] or \[H, W\], got float32 \[2, 2\]"):
        ask(kind, url, lambda c: c.predict(np.zeros((2, 2), np.float32)))
    with pytest.raises(ImageError, match=r"cannot read .*none\.jpg: No such file"):
        ask(kind, url, lambda c: c.predict(tmp_path / "none.jpg"))


def test_orientation_of_a_pil_image_is_kept(url: str) -> None:
    turned = Image.open(io.BytesIO(encoded(picture(60, 40), "JPEG", exif=_exif(6))))
    assert ask("Client", url, lambda c: c.predict(turned, tasks="semseg")).semseg.shape == (60, 40)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@both
def test_pictures_and_overlay(kind: str, url: str) -> None:
    found = ask(kind, url, lambda c: c.pictures(PHOTO, tasks="semseg,sal"))
    assert sorted(found.pngs) == ["saliency", "semseg"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found.pngs["semseg"]))), served(url, "semseg"))
    assert found.record["image"] == {"width": 61, "height": 40}
    seen = ask(kind, url, lambda c: c.overlay(PHOTO, "semseg"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(seen))), served(url, "semseg", "overlay"))


@both
def test_the_life_of_a_set(kind: str, url: str, weights: Weights) -> None:
    name = f"life-{kind.lower()}"
    cats, dogs = weights.uploads / "cats.safetensors", weights.uploads / "dogs.safetensors"

    first = ask(kind, url, lambda c: c.push(cats, name))
    assert (first.created, first.revision, first.adapter.name) == (True, 1, name)
    assert not ask(kind, url, lambda c: c.push(cats, name)).created
    second = ask(kind, url, lambda c: c.push(dogs, name, activate=False))
    assert (second.revision, second.adapter.current) == (2, 1)
    assert ask(kind, url, lambda c: c.activate(name, 2)).current == 2
    found = ask(kind, url, lambda c: c.adapter(name))
    assert (found.before(), [r.revision for r in found.revisions]) == (1, [1, 2])
    assert found.tasks["semseg"].classes[0].name == "background"
    assert found.tasks["semseg"].ranks == (2, 2, 2, 2)

    assert ask(kind, url, lambda c: c.pin(name)).pinned
    assert not ask(kind, url, lambda c: c.unpin(name)).pinned
    assert ask(kind, url, lambda c: c.load(name)).tier == "device"
    assert ask(kind, url, lambda c: c.unload(name)).tier == "disk"
    listed = ask(kind, url, lambda c: c.adapters())
    assert listed.default == "default"
    assert name in [each.name for each in listed.adapters]

    ask(kind, url, lambda c: c.delete(name, 1))
    ask(kind, url, lambda c: c.delete(name))
    with pytest.raises(RefusedError, match=f"no adapter set '{name}'") as caught:
        ask(kind, url, lambda c: c.adapter(name))
    assert (caught.value.status, caught.value.kind) == (404, "adapter-not-found")


@both
def test_a_refused_upload_says_why(kind: str, url: str, weights: Weights) -> None:
    with pytest.raises(RefusedError, match="backbone") as caught:
        ask(kind, url, lambda c: c.push(weights.uploads / "foreign.safetensors"))
    assert (caught.value.status, caught.value.kind) == (422, "adapter-refused")


@both
def test_status(kind: str, url: str) -> None:
    found = ask(kind, url, lambda c: c.status())
    assert (found.status, found.ready, found.missing) == ("ready", True, ())


def test_more_requests_at_once_than_connections(url: str) -> None:
    async def work() -> list[Any]:
        async with AsyncClient(url, connections=3) as client:
            return await asyncio.gather(*(client.predict(PHOTO, tasks="semseg") for _ in range(20)))

    answers = asyncio.run(work())
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.semseg, answers[0].semseg)


@pytest.fixture(scope="module")
def gated(url: str, weights: Weights) -> str:
    """A set with a policy."""
    ask("Client", url, lambda c: c.push(weights.uploads / "gated.safetensors", "client-gated"))
    return "client-gated"


@both
def test_less_compute_other_sizes_and_edges(kind: str, url: str, gated: str) -> None:
    found = ask(kind, url, lambda c: c.predict(PHOTO, tasks="semseg", adapter=gated, compute=0.5, size=122))
    assert found.semseg.shape == (80, 122)
    assert found.share is not None and 0 < found.share <= 0.5
    assert ask(kind, url, lambda c: c.predict(PHOTO, tasks="semseg")).share is None
    smooth, stairs = (
        ask(kind, url, lambda c, e=edges: c.predict(PHOTO, tasks="semseg", size=300, edges=e)).semseg
        for edges in ("scores", "nearest")
    )
    assert (smooth != stairs).any()
    with pytest.raises(RefusedError, match=r"compute 0\.1: adapter set client-gated@1 offers compute 0\.3 to 1"):
        ask(kind, url, lambda c: c.predict(PHOTO, adapter=gated, compute="0.1"))
    described = ask(kind, url, lambda c: c.adapter(gated))
    assert (described.compute, described.default_compute) == (0.3, "1")


@both
def test_what_was_computed_is_explained_and_masks_are_outlined(kind: str, url: str, gated: str) -> None:
    asked = {"tasks": "semseg,sal", "adapter": gated, "compute": 0.5}
    told = ask(kind, url, lambda c: c.pictures(PHOTO, explain=True, masks="polygons", **asked))
    plain = ask(kind, url, lambda c: c.pictures(PHOTO, **asked))
    assert dict(told.pngs) == dict(plain.pngs)
    assert Image.open(io.BytesIO(told.computed)).size == (16, 16)
    assert plain.computed == b""
    assert told.record["compute"] == plain.record["compute"]
    assert all(one["polygons"] for one in told.record["tasks"]["semseg"]["classes"])
    runs = ask(kind, url, lambda c: c.pictures(PHOTO, tasks="semseg", masks="rle"))
    assert all(one["rle"]["counts"] for one in runs.record["tasks"]["semseg"]["classes"])


@both
def test_annotations_of_other_tools(kind: str, url: str) -> None:
    coco = ask(kind, url, lambda c: c.annotations(PHOTO, "semseg"))
    masks = ask(kind, url, lambda c: c.annotations(PHOTO, "semseg", "hf", threshold=0.0))
    assert len(coco["annotations"]) == len(masks) > 0
    assert ask(kind, url, lambda c: c.annotations(PHOTO, "semseg", "hf", threshold=1)) == []
    with pytest.raises(RemoteError, match="form must be one of coco, hf, labelstudio, cvat, got 'png'"):
        ask(kind, url, lambda c: c.annotations(PHOTO, "semseg", "png"))
    outlined = ask(kind, url, lambda c: c.overlay(PHOTO, "semseg", style="contour"))
    assert outlined != ask(kind, url, lambda c: c.overlay(PHOTO, "semseg"))
