"""Photos in tiles against a real server: every door, every form of answer, what is refused, what it is charged."""

import base64
import io

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from testing.serving import encoded, picture

JPEG = {"Content-Type": "image/jpeg"}
PHOTO = encoded(picture(), "JPEG")


def post(client: httpx.Client, query: str) -> httpx.Response:
    response = client.post(f"/predict?{query}", content=PHOTO, headers=JPEG)
    assert response.status_code == 200, response.text
    return response


def arrays(response: httpx.Response) -> dict[str, NDArray[np.float64]]:
    with np.load(io.BytesIO(response.content)) as file:
        return dict(file)


def test_the_answer_says_the_tiling_and_the_maps_are_others(client: httpx.Client) -> None:
    whole, tiled = post(client, "format=json"), post(client, "format=json&tiles=2x3")
    assert "tiles" not in whole.json()
    assert "x-tiles" not in whole.headers
    assert tiled.json()["tiles"] == {"rows": 2, "columns": 3}
    assert tiled.headers["x-tiles"] == "2x3"
    assert tiled.json()["image"] == whole.json()["image"]
    assert {n: t["png"] for n, t in whole.json()["tasks"].items()} != {
        n: t["png"] for n, t in tiled.json()["tasks"].items()
    }


def test_one_tile_is_the_photo_as_a_whole_to_the_bit(client: httpx.Client) -> None:
    whole, one = arrays(post(client, "format=npz")), post(client, "format=npz&tiles=1x1")
    assert one.headers["x-tiles"] == "1x1"
    for name, values in arrays(one).items():
        np.testing.assert_array_equal(values, whole[name])


def test_wherever_it_is_said(client: httpx.Client) -> None:
    expected = arrays(post(client, "format=npz&tiles=2x2"))
    form = client.post("/predict", files={"image": PHOTO}, data={"tiles": "2x2", "format": "npz"})
    document = {"image": base64.b64encode(PHOTO).decode(), "tiles": "2x2", "format": "npz"}
    for response in (form, client.post("/predict", json=document)):
        assert response.headers["x-tiles"] == "2x2"
        for name, values in arrays(response).items():
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-5)
    name = client.get("/v2/models").json()[0]["name"] if client.get("/v2/models").status_code == 200 else "default"
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [document["image"]]}
    infer = {"inputs": [tensor], "parameters": {"tiles": "2x2"}}
    response = client.post(f"/v2/models/{name}/infer", json=infer)
    assert response.status_code == 200, response.text
    assert response.headers["x-tiles"] == "2x2"


@pytest.mark.parametrize("form", ["json", "png", "ids", "zip", "npz", "overlay", "hf", "coco", "labelstudio", "cvat"])
def test_every_form_of_answer(client: httpx.Client, form: str) -> None:
    for more in ("", "&edges=nearest", "&size=50"):
        assert post(client, f"format={form}&tasks=semseg&tiles=2x2{more}").headers["x-tiles"] == "2x2"


def test_the_model_s_size_is_that_of_all_tiles_together(client: httpx.Client) -> None:
    one = arrays(post(client, "format=npz&size=model&logits=true&tasks=semseg"))["logits_semseg"].shape
    tiled = arrays(post(client, "format=npz&size=model&logits=true&tasks=semseg&tiles=1x2"))
    assert tiled["logits_semseg"].shape[1:] == tiled["semseg"].shape
    assert tiled["logits_semseg"].shape[1] == one[1]
    assert one[2] < tiled["logits_semseg"].shape[2] < 2 * one[2]


def test_what_is_no_grid_or_too_much_is_422(client: httpx.Client) -> None:
    for tiles, words in (
        ("2by3", "must be auto, or rows x columns such as 2x3, each from 1 to 99"),
        ("5x5", "25 tiles; a photo may have"),
    ):
        response = client.post(f"/predict?tiles={tiles}", content=PHOTO, headers=JPEG)
        assert response.status_code == 422
        assert words in response.json()["detail"]


def test_several_photos_share_the_passes_of_a_request(client: httpx.Client) -> None:
    files = [("image", PHOTO), ("image", b"no photo")]
    response = client.post("/predict?tiles=1x2", files=files)
    assert response.status_code == 207
    assert response.headers["x-tiles"] == "1x2, none"
