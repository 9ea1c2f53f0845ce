"""Photos decoded in threads of the server's own process: the same answers as from processes, at every door."""

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from testing.serving import Weights, encoded, live_app, picture, settings_for

JPEG = {"Content-Type": "image/jpeg"}
PHOTO = encoded(picture(90, 60), "JPEG")


@pytest.fixture(scope="module")
def threaded(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = settings_for(weights, tmp_path_factory.mktemp("threads") / "store", decoding="threads")
    with live_app(settings) as live:
        yield live.client


@pytest.mark.parametrize("query", ["", "&tiles=2x3", "&tiles=1x1", "&size=50&tiles=auto", "&adapter=people"])
def test_maps_are_those_of_processes(client: httpx.Client, threaded: httpx.Client, query: str) -> None:
    ours, theirs = (one.post(f"/predict?format=npz{query}", content=PHOTO, headers=JPEG) for one in (threaded, client))
    assert ours.status_code == theirs.status_code == 200, ours.text
    assert ours.headers.get("x-tiles") == theirs.headers.get("x-tiles")
    with np.load(io.BytesIO(ours.content)) as one, np.load(io.BytesIO(theirs.content)) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_picture_over_the_photo_is_that_of_processes(client: httpx.Client, threaded: httpx.Client) -> None:
    ours, theirs = (
        one.post("/predict?format=overlay&tasks=semseg&tiles=1x2", content=PHOTO, headers=JPEG)
        for one in (threaded, client)
    )
    assert ours.status_code == 200, ours.text
    assert ours.content == theirs.content


def test_what_is_no_photo_is_told_in_the_same_words(client: httpx.Client, threaded: httpx.Client) -> None:
    for body in (PHOTO[:50], b"GIF89a", encoded(picture(), "PNG")[:60], b"no photo"):
        ours, theirs = (one.post("/predict", content=body, headers=JPEG) for one in (threaded, client))
        assert (ours.status_code, ours.json()["detail"]) == (theirs.status_code, theirs.json()["detail"])
        assert ours.status_code >= 400
