"""POST /predict against a real server: forms of body, forms of answer, photos of every kind, refusals."""

import base64
import io
import json
import zipfile
from collections.abc import Mapping

import httpx
import numpy as np
import pytest
from PIL import Image

from mtlora.vocabulary.tasks import Task, voc_color
from testing.run_lengths import decode_rle
from testing.serving import encoded, picture

JPEG = {"Content-Type": "image/jpeg"}
NO_HEADERS: Mapping[str, str] = {}
PNG = {"Content-Type": "image/png"}
PHOTO = encoded(picture(), "JPEG")


def post(
    client: httpx.Client, query: str = "", content: bytes = PHOTO, headers: Mapping[str, str] = NO_HEADERS
) -> httpx.Response:
    return client.post(f"/predict?{query}", content=content, headers={**JPEG, **headers})


def image_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_json_answer_has_the_contract_s_shape(client: httpx.Client) -> None:
    response = post(client)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"adapter", "image", "tasks", "timings_ms", "batch"}
    assert body["adapter"].keys() == {"name", "revision", "digest"}
    assert body["image"] == {"width": 60, "height": 40}
    assert body["timings_ms"].keys() == {"decode", "queue", "load", "forward", "encode", "total"}
    assert body["batch"] == {"size": 1, "adapters": 1}
    tasks = body["tasks"]
    assert tasks.keys() == {"semseg", "normals", "saliency", "human_parts"}
    assert {name: t["encoding"] for name, t in tasks.items()} == {
        "semseg": "png-palette",
        "normals": "png-rgb",
        "saliency": "png-gray",
        "human_parts": "png-palette",
    }
    assert 0 <= tasks["saliency"]["mean"] <= 1
    assert "z forward" in tasks["normals"]["axes"]
    for task in tasks.values():
        assert image_of(base64.b64decode(task["png"])).size == (60, 40)


def test_listed_classes_are_those_of_the_map(client: httpx.Client) -> None:
    semseg = post(client, "tasks=semseg").json()["tasks"]["semseg"]
    image = image_of(base64.b64decode(semseg["png"]))
    ids, counts = np.unique(np.asarray(image), return_counts=True)
    assert {c["id"]: c["pixels"] for c in semseg["classes"]} == dict(zip(ids.tolist(), counts.tolist(), strict=True))
    assert sum(c["fraction"] for c in semseg["classes"]) == pytest.approx(1, abs=1e-4)
    assert all(tuple(c["color"]) == voc_color(c["id"]) for c in semseg["classes"])
    assert image.mode == "P"
    assert (image.getpalette() or [])[:63] == [part for i in range(21) for part in voc_color(i)]


def test_only_the_tasks_asked_for_in_the_order_of_asking(client: httpx.Client) -> None:
    assert list(post(client, "tasks=sal,parts").json()["tasks"]) == ["saliency", "human_parts"]


def test_rle_says_the_same_as_the_png(client: httpx.Client) -> None:
    semseg = post(client, "tasks=semseg&masks=rle").json()["tasks"]["semseg"]
    pixels = np.asarray(image_of(base64.b64decode(semseg["png"])))
    for entry in semseg["classes"]:
        np.testing.assert_array_equal(decode_rle(entry["rle"]), pixels == entry["id"])


def test_masks_none_leaves_the_pngs_out(client: httpx.Client) -> None:
    tasks = post(client, "masks=none").json()["tasks"]
    assert all("png" not in task for task in tasks.values())
    assert tasks["semseg"]["classes"]


@pytest.mark.parametrize(
    ("task", "mode"), [("semseg", "P"), ("human_parts", "P"), ("saliency", "L"), ("normals", "RGB")]
)
def test_png_of_one_task(client: httpx.Client, task: str, mode: str) -> None:
    response = post(client, f"tasks={task}", headers={"Accept": "image/png"})
    assert response.headers["content-type"] == "image/png"
    assert (image_of(response.content).mode, image_of(response.content).size) == (mode, (60, 40))


def test_zip_holds_a_png_per_task_and_the_result(client: httpx.Client) -> None:
    response = post(client, "format=zip&tasks=semseg,saliency")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert sorted(archive.namelist()) == ["result.json", "saliency.png", "semseg.png"]
        result = json.loads(archive.read("result.json"))
        assert image_of(archive.read("semseg.png")).size == (60, 40)
    assert result["adapter"]["name"] == "default"
    assert "png" not in result["tasks"]["semseg"]


def test_npz_holds_the_maps_and_on_request_the_logits(client: httpx.Client) -> None:
    response = post(client, "format=npz&logits=true")
    assert response.headers["content-type"] == "application/x-npz"
    with np.load(io.BytesIO(response.content), allow_pickle=False) as arrays:
        shapes = {name: (arrays[name].dtype.name, arrays[name].shape) for name in arrays.files}
        normals, saliency, semseg = arrays["normals"], arrays["saliency"], arrays["semseg"]
        logits = arrays["logits_semseg"]
    assert shapes["semseg"] == ("uint8", (40, 60))
    assert shapes["human_parts"] == ("uint8", (40, 60))
    assert shapes["saliency"] == ("float32", (40, 60))
    assert shapes["normals"] == ("float32", (40, 60, 3))
    assert shapes["logits_semseg"] == ("float32", (21, 64, 64))
    assert shapes["logits_saliency"] == ("float32", (1, 64, 64))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    assert saliency.min() >= 0 and saliency.max() <= 1
    assert set(np.unique(semseg)) <= set(np.unique(logits.argmax(0)))


def test_pngs_and_npz_agree(client: httpx.Client) -> None:
    with np.load(io.BytesIO(post(client, "format=npz").content)) as arrays:
        semseg, saliency, normals = arrays["semseg"], arrays["saliency"], arrays["normals"]
    tasks = post(client).json()["tasks"]
    images = {name: np.asarray(image_of(base64.b64decode(t["png"]))).astype(float) for name, t in tasks.items()}
    np.testing.assert_array_equal(images["semseg"], semseg)
    np.testing.assert_allclose(images["saliency"], saliency * 255, atol=0.51)
    np.testing.assert_allclose(images["normals"], (normals + 1) * 127.5, atol=0.51)


@pytest.mark.parametrize("task", ["semseg", "human_parts", "saliency", "normals"])
def test_overlay_has_the_photo_s_size(client: httpx.Client, task: str) -> None:
    response = post(client, f"format=overlay&tasks={task}")
    assert response.headers["content-type"] == "image/png"
    assert (image_of(response.content).mode, image_of(response.content).size) == ("RGB", (60, 40))


def test_three_forms_of_body_give_the_same_answer(client: httpx.Client) -> None:
    raw = post(client).json()
    multipart = client.post("/predict", files={"image": ("../../etc/passwd", PHOTO)}).json()
    text = base64.b64encode(PHOTO).decode()
    plain = client.post("/predict", json={"image": text}).json()
    data_url = client.post("/predict", json={"image": f"data:image/jpeg;base64,{text}"}).json()
    assert raw["tasks"] == multipart["tasks"] == plain["tasks"] == data_url["tasks"]


@pytest.mark.parametrize("media", [None, "", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_photo_without_an_image_type_is_known_by_its_first_bytes(client: httpx.Client, media: str | None) -> None:
    headers = {} if media is None else {"Content-Type": media}
    for photo in (PHOTO, encoded(Image.new("RGB", (20, 10)), "WEBP"), encoded(Image.new("L", (20, 10)), "TIFF")):
        answer = client.post("/predict?tasks=semseg", content=photo, headers=headers)
        assert answer.status_code == 200, answer.text


def test_a_web_address_is_not_fetched(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"image": "https://example.org/photo.jpg"})
    assert answer.status_code == 400
    assert "the server fetches nothing" in answer.json()["detail"]


def test_a_photo_that_is_put_is_told_how_to_send_it(client: httpx.Client) -> None:
    answer = client.put("/predict", content=PHOTO)
    assert answer.status_code == 405
    assert "curl -F image=@photo.jpg" in answer.json()["detail"]


def test_several_images_are_answered_in_order(client: httpx.Client) -> None:
    photos = [encoded(picture(50, 30)), encoded(picture(20, 70))]
    response = client.post("/predict?tasks=saliency", files=[("image", p) for p in photos])
    assert response.status_code == 200
    assert [r["image"] for r in response.json()["results"]] == [
        {"width": 50, "height": 30},
        {"width": 20, "height": 70},
    ]


def test_a_list_of_one_is_answered_with_a_list(client: httpx.Client) -> None:
    body = client.post("/predict", json={"images": [base64.b64encode(PHOTO).decode()]}).json()
    assert len(body["results"]) == 1


def test_a_bad_image_leaves_its_neighbours_alone(client: httpx.Client) -> None:
    good = encoded(picture())
    response = client.post("/predict?tasks=semseg", files=[("image", p) for p in (good, good[:200], b"no image", good)])
    assert response.status_code == 207
    results = response.json()["results"]
    assert results[0]["tasks"] == results[3]["tasks"]
    assert [r.get("status") for r in results] == [None, 422, 415, None]
    assert results[1]["type"] == "urn:mtlora:problem:bad-image"


def test_if_every_image_is_bad_the_request_is(client: httpx.Client) -> None:
    response = client.post("/predict", files=[("image", b"one"), ("image", b"two")])
    assert response.status_code == 415
    assert len(response.json()["errors"]) == 2


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"),
        ("1", "PNG"), ("I;16", "PNG"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("RGB", "BMP"), ("RGB", "TIFF"),
        ("CMYK", "TIFF"), ("P", "GIF"),
    ],
)  # fmt: skip
def test_photos_of_every_kind(client: httpx.Client, mode: str, form: str) -> None:
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)
    else:
        photo = picture().convert(mode)
    response = client.post(
        "/predict?tasks=semseg", content=encoded(photo, form), headers={"Content-Type": "image/x-any"}
    )
    assert response.status_code == 200, response.text
    assert response.json()["image"] == {"width": 60, "height": 40}


def test_transparency_is_seen_over_white(client: httpx.Client) -> None:
    seen = picture().convert("RGBA")
    seen.putalpha(0)
    white = Image.new("RGB", seen.size, "white")
    answers = [client.post("/predict", content=encoded(p), headers=PNG).json()["tasks"] for p in (seen, white)]
    assert answers[0] == answers[1]


def test_exif_orientation_is_applied(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn it a quarter clockwise
    stored = picture(60, 40)
    turned = encoded(stored, "PNG", exif=exif)
    upright = encoded(stored.transpose(Image.Transpose.ROTATE_270))
    answers = [client.post("/predict", content=p, headers=PNG).json() for p in (turned, upright)]
    assert answers[0]["image"] == {"width": 40, "height": 60, "orientation": 6}
    assert answers[1]["image"] == {"width": 40, "height": 60}
    assert answers[0]["tasks"] == answers[1]["tasks"]


def test_gif_gives_its_first_frame(client: httpx.Client) -> None:
    first, second = picture(seed=1).convert("P"), picture(30, 30, seed=2).resize((60, 40)).convert("P")
    moving = encoded(first, "GIF", save_all=True, append_images=[second])
    answers = [
        client.post("/predict", content=p, headers=JPEG).json()["tasks"] for p in (moving, encoded(first, "GIF"))
    ]
    assert answers[0] == answers[1]


def test_adapter_by_query_header_and_revision(client: httpx.Client) -> None:
    assert post(client).json()["adapter"]["name"] == "default"
    people = post(client, "adapter=people")
    assert people.json()["adapter"]["name"] == "people"
    assert people.headers["x-adapter-revision"] == "people@1"
    assert set(people.json()["tasks"]) == {"human_parts", "saliency"}
    assert post(client, "adapter=people@1").status_code == 200
    assert post(client, headers={"X-Adapter": "people"}).json()["adapter"]["name"] == "people"
    assert post(client, "adapter=people", headers={"X-Adapter": "people"}).json()["adapter"]["name"] == "people"


def test_every_response_names_the_request_and_its_timings(client: httpx.Client) -> None:
    response = post(client, headers={"X-Request-ID": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert "forward;dur=" in response.headers["server-timing"]
    refused = post(client, "adapter=nobody")
    assert len(refused.headers["x-request-id"]) == 32
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert "total;dur=" in refused.headers["server-timing"]
    assert len(post(client, headers={"X-Request-ID": "x" * 200}).headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("query", "headers", "content", "status", "words"),
    [
        ("adapter=nobody", {}, PHOTO, 404, "no adapter set 'nobody'"),
        ("adapter=people@7", {}, PHOTO, 404, "no revision 7"),
        ("adapter=../default", {}, PHOTO, 404, "no adapter set"),
        ("adapter=people@latest", {}, PHOTO, 404, "NAME@REVISION"),
        ("tasks=cats", {}, PHOTO, 422, "human_parts"),
        ("tasks=edge", {}, PHOTO, 422, "default@1 has semseg, normals"),
        ("tasks=,", {}, PHOTO, 422, "names no task"),
        ("adapter=people&tasks=semseg", {}, PHOTO, 422, "people@1 has human_parts, saliency"),
        ("format=png", {}, PHOTO, 406, "carries one task"),
        ("format=overlay", {}, PHOTO, 406, "carries one task"),
        ("format=jpeg", {}, PHOTO, 406, "unknown format"),
        ("", {"Accept": "text/html"}, PHOTO, 406, "text/html"),
        ("", {"Accept": "image/png"}, PHOTO, 406, "image/png"),
        ("tasks=semseg&format=png&masks=rle", {}, PHOTO, 422, "formats json and zip only"),
        ("tasks=semseg&logits=true", {}, PHOTO, 422, "format npz only"),
        ("masks=yes", {}, PHOTO, 422, "masks"),
        ("deadline_ms=0", {}, PHOTO, 422, "deadline_ms"),
        ("", {}, b"", 422, "no image"),
        ("", {}, b"hello", 415, "not an image"),
        ("", {}, PHOTO[:300], 422, "the image"),
        ("", {"Content-Type": "text/plain"}, PHOTO, 415, "not understood"),
        ("", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415, "curl -F image=@photo.jpg"),
        ("", {"Content-Type": "application/octet-stream"}, b"\0" * 99, 415, "no photo that is known"),
        ("", {"Content-Type": "application/json"}, b"{", 400, "cannot be parsed"),
        ("", {"Content-Type": "application/json"}, b"[]", 400, "object"),
        ("", {"Content-Type": "application/json"}, b'{"image": "%%"}', 400, "not base64"),
        ("", {"Content-Type": "application/json"}, b'{"image": 3}', 400, "base64 string"),
        ("", {"Content-Type": "application/json"}, b'{"images": []}', 422, "no image"),
        ("", {"Content-Type": "application/json"}, b'{"images": {}}', 400, "list"),
        ("", {"Content-Type": "application/json"}, b'{"image": ""}', 422, "no image"),
        ("", {"Content-Type": "multipart/form-data"}, b"--x--", 400, "boundary"),
        ("", {"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n", 400, "boundary"),
    ],
)
def test_refusals(
    client: httpx.Client, query: str, headers: dict[str, str], content: bytes, status: int, words: str
) -> None:
    response = post(client, query, content, headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert words in body["detail"]
    assert body.keys() >= {"type", "title", "detail", "request_id"}


def test_multipart_without_an_image(client: httpx.Client) -> None:
    response = client.post("/predict", files={"photo": PHOTO})
    assert response.status_code == 422
    assert "photo" in response.json()["detail"]


def test_no_body_at_all(client: httpx.Client) -> None:
    response = client.post("/predict")
    assert response.status_code == 422
    assert "no body" in response.json()["detail"]


def test_png_of_two_images_is_not_acceptable(client: httpx.Client) -> None:
    response = client.post("/predict?tasks=semseg&format=png", files=[("image", PHOTO), ("image", PHOTO)])
    assert response.status_code == 406


def test_too_many_images(client: httpx.Client) -> None:
    response = client.post("/predict", json={"images": [base64.b64encode(PHOTO).decode()] * 17})
    assert response.status_code == 422
    assert "16 images" in response.json()["detail"]


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    missing, wrong = client.get("/nothing"), client.get("/predict")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    for response in (missing, wrong):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["request_id"] == response.headers["x-request-id"]


def test_tasks_are_listed(client: httpx.Client) -> None:
    tasks = {t["name"]: t for t in client.get("/tasks").json()["tasks"]}
    assert tasks.keys() == {t.value for t in Task}
    assert tasks["saliency"]["aliases"] == ["sal"]
    assert "people" in tasks["human_parts"]["adapters"]
    assert "people" not in tasks["normals"]["adapters"]


def test_pages_for_people(client: httpx.Client) -> None:
    home = client.get("/")
    assert "MTLoRA" in home.text
    assert "default-src 'none'" in home.headers["content-security-policy"]
    assert client.get("/favicon.ico").headers["content-type"].startswith("image/svg")
    assert client.get("/docs").status_code == 200
    assert client.get("/livez").json() == {"status": "alive"}
