"""The ML backend as Label Studio calls it: requests as its connector sends them, and a small Label Studio."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.requests import PHOTO
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for

TOKEN = "0123456789abcdef"


class _Files(BaseHTTPRequestHandler):
    """What of Label Studio gives files: with the token only; one leads elsewhere, one never ends."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.headers["Authorization"] != f"Token {TOKEN}":
            self.send_error(401)
        elif self.path == "/data/upload/1/away.jpg":
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
        elif self.path == "/data/upload/1/huge.jpg":
            self.send_response(200)
            self.end_headers()
            while True:
                try:
                    self.wfile.write(b"\0" * 65536)
                except OSError:
                    return
        elif self.path in {"/data/upload/1/a%20photo.jpg", "/data/local-files/?d=b.jpg"}:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PHOTO)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def studio() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for."""
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Files", (_Files,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def backend(
    weights: Weights, studio: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("backend")
    (folder / "token").write_text(f"{TOKEN}\n")
    settings = settings_for(
        weights,
        folder / "s",
        label_studio=True,
        label_studio_url=studio[0],
        label_studio_token_file=folder / "token",
        max_body_bytes=200_000,
    )
    with live_app(settings) as server:
        yield server


def interface(names: "tuple[str, ...] | list[str]", tag: str = "brush", image: str = "pic", key: str = "photo") -> str:
    labels = "".join(f'<Label value="{name}"/>' for name in names)
    return (
        f'<View><Image name="{image}" value="${key}" zoom="true"/>'
        f'<BrushLabels name="{tag}" toName="{image}">{labels}</BrushLabels></View>'
    )


def body(*photos: str, config: str) -> dict[str, Any]:
    """As Label Studio's connector sends it."""
    return {
        "tasks": [
            {"id": n, "data": {"photo": photo}, "annotations": [], "predictions": []} for n, photo in enumerate(photos)
        ],
        "model_version": "default@1",
        "project": "1.1700000000",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


def data_url(photo: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo).decode()


def names_of(client: httpx.Client) -> list[str]:
    """Labels that the default set finds on the photo."""
    found = client.post(
        "/predict?format=labelstudio&tasks=semseg", content=PHOTO, headers={"Content-Type": "image/jpeg"}
    )
    return [result["value"]["brushlabels"][0] for result in found.json()["result"]]


def test_it_is_not_there_unless_a_setting_says_so(client: httpx.Client) -> None:
    assert client.get("/label-studio/default/health").status_code == 404
    assert client.post("/label-studio/default/predict", json={}).status_code == 404


def test_health_and_setup(backend: Live) -> None:
    for path in ("/label-studio/default", "/label-studio/default/health"):
        assert backend.client.get(path).json() == {"status": "UP", "model_class": "mtlora"}
    sent = {"project": "1.1", "schema": "<View/>", "hostname": "http://169.254.169.254", "access_token": "stolen"}
    assert backend.client.post("/label-studio/default/setup", json=sent).json() == {"model_version": "default@1"}
    assert backend.client.get("/label-studio/nobody/health").status_code == 404


def test_masks_are_those_of_predict_under_the_interface_s_names(backend: Live) -> None:
    names = names_of(backend.client)
    assert names
    config = interface(names[:1])
    answer = backend.client.post("/label-studio/default/predict", json=body(data_url(PHOTO), config=config))
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["results"]
    assert answer.json()["model_version"] == "default@1"
    assert [(one["from_name"], one["to_name"], one["type"]) for one in prediction["result"]] == [
        ("brush", "pic", "brushlabels")
    ]
    plain = backend.client.post(
        "/predict?format=labelstudio&tasks=semseg", content=PHOTO, headers={"Content-Type": "image/jpeg"}
    ).json()
    assert prediction["result"][0]["value"] == plain["result"][0]["value"]
    other = body(data_url(PHOTO), config=interface(["no such label"]))
    assert backend.client.post("/label-studio/default/predict", json=other).json()["results"][0]["result"] == []


def test_photos_are_fetched_from_the_operator_s_site_with_the_operator_s_token(
    backend: Live, studio: tuple[str, list[str]]
) -> None:
    config = interface(names_of(backend.client))
    sent = body(
        "/data/upload/1/a%20photo.jpg", f"{studio[0]}/data/local-files/?d=b.jpg", data_url(PHOTO), config=config
    )
    results = backend.client.post("/label-studio/default/predict", json=sent).json()["results"]
    assert len(results) == 3
    assert all(one["result"] == results[0]["result"] for one in results)
    assert results[0]["result"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://169.254.169.254/data/meta", "photos are fetched from http://127.0.0.1"),
        ("https://127.0.0.1:1/data/upload/1/a.jpg", "photos are fetched from http://127.0.0.1"),
        ("//evil.example/data/a.jpg", "photos are fetched from http://127.0.0.1"),
        ("file:///etc/passwd", "photos are fetched from http://127.0.0.1"),
        ("/etc/passwd", "below /data/ only"),
        ("/data/../secret", "below /data/ only"),
        ("/data/%2e%2e/secret", "below /data/ only"),
        ("/data/upload/1/away.jpg", "answers 302"),
        ("/data/upload/1/none.jpg", "answers 404"),
        ("/data/upload/1/huge.jpg", "more than 200000 bytes"),
        ("data:image/jpeg;base64,?", "is not base64"),
    ],
)
def test_no_other_place_is_asked_and_the_other_task_is_answered(
    backend: Live, studio: tuple[str, list[str]], address: str, why: str
) -> None:
    config = interface(names_of(backend.client))
    sent = body(address, "/data/upload/1/a%20photo.jpg", config=config)
    first, second = backend.client.post("/label-studio/default/predict", json=sent).json()["results"]
    assert first["result"] == []
    assert why in first["error"]
    assert second["result"]
    assert "/secret" not in studio[1]


def test_without_a_site_nothing_is_fetched(weights: Weights, tmp_path: Path, studio: tuple[str, list[str]]) -> None:
    before = len(studio[1])
    with live_app(settings_for(weights, tmp_path / "s", label_studio=True)) as server:
        sent = body(f"{studio[0]}/data/upload/1/a%20photo.jpg", config=interface(["x"]))
        answer = server.client.post("/label-studio/default/predict", json=sent)
        assert answer.status_code == 422
        assert "MTLORA_LABEL_STUDIO_URL" in answer.text
        whole = server.client.post("/label-studio/default/predict", json=body(data_url(PHOTO), config=""))
        assert whole.json()["results"][0]["result"][0]["from_name"] == "tag"
    assert len(studio[1]) == before


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        ({"tasks": []}, 400, "one task or more"),
        ({"tasks": [{"id": 1}]}, 400, 'must have an object "data"'),
        ({"tasks": [{"data": {"n": 1}}]}, 400, "no address of a photo"),
        (body("/data/a.jpg", config="<View><RectangleLabels name='a' toName='b'/></View>"), 400, "RectangleLabels"),
        (body("/data/a.jpg", config='<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>'), 400, "document type"),
        (body(*["/data/a.jpg"] * 17, config=""), 400, "MTLORA_MAX_IMAGES"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(backend: Live, sent: dict[str, Any], status: int, why: str) -> None:
    answer = backend.client.post("/label-studio/default/predict", json=sent)
    assert answer.status_code == status
    assert why in answer.json()["detail"]


def test_a_photo_that_is_none_keeps_its_neighbour(backend: Live) -> None:
    sent = body(data_url(b"no photo"), data_url(encoded(picture(30, 20), "JPEG")), config="")
    first, second = backend.client.post("/label-studio/default/predict", json=sent).json()["results"]
    assert "not an image" in first["error"]
    assert {(one["original_width"], one["original_height"]) for one in second["result"]} == {(30, 20)}


def test_the_key_is_the_password(weights: Weights, tmp_path: Path) -> None:
    keys = f"tool:{hashlib.sha256(b'opensesame').hexdigest()}:predict"
    with live_app(settings_for(weights, tmp_path / "s", label_studio=True, api_keys=keys)) as server:
        path = "/label-studio/default/health"
        assert server.client.get(path).status_code == 401
        assert server.client.get(path, auth=("anyone", "wrong")).status_code == 401
        assert server.client.get(path, auth=("anyone", "opensesame")).json()["status"] == "UP"
        assert server.client.get(path, headers={"X-API-Key": "opensesame"}).status_code == 200
        sent = json.dumps(body(data_url(PHOTO), config=""))
        assert (
            server.client.post("/label-studio/default/predict", content=sent, auth=("a", "opensesame")).status_code
            == 200
        )
