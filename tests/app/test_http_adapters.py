"""/adapters against a real server: upload, list, activate, pin, load, unload, delete, fetch."""

import hashlib
import io
import json
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.core.names import AdapterRef
from app.engine.engine import Outcome
from app.engine.work_item import Item
from mtlora.weights.adapter_file import AdapterManifest
from testing.requests import PHOTO, predict
from testing.serving import Live, Weights, live_app, settings_for, wait_until

JPEG = {"Content-Type": "image/jpeg"}


def upload(client: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    return client.post("/adapters", files={"file": ("../../evil.safetensors", content)}, data=fields)


def with_header(content: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """The file with a changed safetensors header; the tensors' bytes stay."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def first_tensor(header: dict[str, object]) -> str:
    return next(name for name in header if name != "__metadata__")


def test_the_life_of_a_set(client: httpx.Client, weights: Weights) -> None:
    first = upload(client, weights.upload("cats"), name="life")
    assert first.status_code == 201, first.text
    assert first.headers["location"] == "/adapters/life"
    body = first.json()
    assert (body["current"], body["tier"], body["pinned"], body["bundled"]) == (1, "host", False, False)
    assert body["digest"] == hashlib.sha256(weights.upload("cats")).hexdigest()
    assert body["tasks"]["semseg"]["ranks"] == [2, 2, 2, 2]

    same = upload(client, weights.upload("cats"), name="life")
    assert (same.status_code, len(same.json()["revisions"])) == (200, 1)

    second = upload(client, weights.upload("dogs"), name="life", activate="false")
    assert (second.status_code, second.json()["current"]) == (201, 1)
    assert [r["revision"] for r in second.json()["revisions"]] == [1, 2]
    assert [r["tasks"] for r in second.json()["revisions"]] == [["semseg"], ["semseg"]]

    one, two = predict(client, "life"), predict(client, "life@2")
    assert (one.json()["adapter"]["revision"], two.json()["adapter"]["revision"]) == (1, 2)
    assert one.json()["tasks"] != two.json()["tasks"]
    assert client.put("/adapters/life/current", json={"revision": 2}).json()["current"] == 2
    assert predict(client, "life").json()["tasks"] == two.json()["tasks"]
    assert client.put("/adapters/life/current", json={"revision": 1}).json()["current"] == 1

    assert client.delete("/adapters/life?revision=1").status_code == 409
    assert client.delete("/adapters/life?revision=2").status_code == 204
    assert predict(client, "life@2").status_code == 404
    assert client.delete("/adapters/life").status_code == 204
    assert predict(client, "life").status_code == 404
    assert client.get("/adapters/life").status_code == 404

    again = upload(client, weights.upload("cats"), name="life")
    assert again.json()["current"] == 3  # numbers are never given twice: life@1 cannot come to mean something else
    client.delete("/adapters/life")


def test_first_use_loads_and_says_so(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("birds"), name="cold")
    assert client.get("/adapters/cold").json()["tier"] == "host"
    first, second = predict(client, "cold"), predict(client, "cold")
    assert (first.headers["x-adapter-cold"], second.headers["x-adapter-cold"]) == ("1", "0")
    assert first.json()["timings_ms"]["load"] > 0 == second.json()["timings_ms"]["load"]
    shown = client.get("/adapters/cold").json()
    assert (shown["tier"], shown["uses"]) == ("device", 2)
    assert shown["last_used"] is not None
    unloaded = client.post("/adapters/cold/unload").json()
    assert (unloaded["tier"], unloaded["revisions"][0]["tier"]) == ("disk", "disk")
    assert client.post("/adapters/cold/load").json()["tier"] == "device"
    assert predict(client, "cold").headers["x-adapter-cold"] == "0"
    client.delete("/adapters/cold")


def test_pins(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("birds"), name="pinned")
    shown = client.put("/adapters/pinned/pin").json()
    assert (shown["pinned"], shown["tier"]) == (True, "device")
    assert client.post("/adapters/pinned/unload").status_code == 409
    assert client.delete("/adapters/pinned/pin").json()["pinned"] is False
    assert client.post("/adapters/pinned/unload").json()["tier"] == "disk"
    assert client.put("/adapters/people/pin").json()["pinned"] is True  # bundled sets can be pinned too
    assert client.delete("/adapters/people/pin").json()["pinned"] is False
    assert client.delete("/adapters/default/pin").status_code == 409
    client.delete("/adapters/pinned")


def test_list_has_bundled_and_uploaded_sets(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("cats"))
    listed = client.get("/adapters").json()
    sets = {s["name"]: s for s in listed["adapters"]}
    assert listed["default"] == "default"
    assert sets["default"]["default"] and sets["default"]["bundled"] and sets["default"]["tier"] == "device"
    assert sets["people"]["bundled"] and not sets["people"]["default"]
    assert not sets["cats"]["bundled"]  # it named itself
    client.delete("/adapters/cats")


def test_files_come_back_as_they_were_sent(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("cats"), name="file")
    upload(client, weights.upload("dogs"), name="file")
    assert client.get("/adapters/file/file").content == weights.upload("dogs")
    assert client.get("/adapters/file/file?revision=1").content == weights.upload("cats")
    assert client.get("/adapters/file/file?revision=9").status_code == 404
    assert client.get("/adapters/default/file").content == (weights.bundled / "default.safetensors").read_bytes()
    client.delete("/adapters/file")


def test_roles_forbid_changes(client: httpx.Client, weights: Weights) -> None:
    assert client.delete("/adapters/default").status_code == 409
    assert client.delete("/adapters/people").status_code == 409
    assert upload(client, weights.upload("cats"), name="default").status_code == 409
    assert upload(client, weights.upload("unnamed"), name="people").status_code == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", "/pin"),
        ("DELETE", "/pin"),
        ("POST", "/load"),
        ("POST", "/unload"),
        ("GET", "/file"),
    ],
)
@pytest.mark.parametrize("name", ["nobody", "No-Name!", "..", "default@1"])
def test_sets_that_are_not_there(client: httpx.Client, name: str, method: str, path: str) -> None:
    response = client.request(method, f"/adapters/{name}{path}".replace("..", "%2e%2e"))
    assert response.status_code == 404, response.text


def test_activating_what_is_not_there(client: httpx.Client) -> None:
    assert client.put("/adapters/default/current", json={"revision": 2}).status_code == 404
    assert client.put("/adapters/nobody/current", json={"revision": 1}).status_code == 404
    assert client.put("/adapters/default/current", json={"revision": "1.0"}).status_code == 422
    assert client.put("/adapters/default/current", json={"revision": True}).status_code == 422
    assert client.put("/adapters/default/current", content=b"{").status_code in {400, 422}
    assert client.put("/adapters/default/current", json={"revision": 1}).json()["current"] == 1


def _drop(header: dict[str, object]) -> None:
    del header[first_tensor(header)]


def _misshape(header: dict[str, object]) -> None:
    entry = header[first_tensor(header)]
    assert isinstance(entry, dict)
    entry["shape"] = [*entry["shape"], 1]


def _rename(header: dict[str, object]) -> None:
    header["backbone.somewhere.else"] = header.pop(first_tensor(header))


def _no_manifest(header: dict[str, object]) -> None:
    header.pop("__metadata__")


def nan_file(content: bytes) -> bytes:
    return content[:-2] + struct.pack("<e", float("nan"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: with_header(w.upload("cats"), _misshape), "expected"),
        (lambda w: with_header(w.upload("cats"), _rename), "missing"),
        (lambda w: with_header(w.upload("cats"), _rename), "unexpected"),
        (lambda w: with_header(w.upload("cats"), _drop), ""),
        (lambda w: with_header(w.upload("cats"), _no_manifest), "metadata"),
        (lambda w: nan_file(w.upload("cats")), "finite"),
        (lambda w: w.upload("cats")[:-100], ""),
        (lambda w: w.upload("cats") + b"more", ""),
        (lambda w: w.upload("foreign"), "backbone"),
        (lambda w: w.upload("wider"), "embed_dim"),
        (lambda w: b"\x80\x04K\x01.", ""),
        (lambda w: PHOTO, ""),
    ],
)
def test_refused_files_list_their_faults_and_change_nothing(
    live: Live, client: httpx.Client, weights: Weights, make: Callable[[Weights], bytes], words: str
) -> None:
    before = client.get("/adapters").json()["adapters"]
    response = upload(client, make(weights), name="refused")
    assert response.status_code == 422, response.text
    body = response.json()
    assert words in body["detail"] + json.dumps(body.get("errors", []))
    assert ".part" not in response.text
    assert client.get("/adapters/refused").status_code == 404
    assert [s["name"] for s in client.get("/adapters").json()["adapters"]] == [s["name"] for s in before]
    assert list((live.service.settings.store_folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "data", "status"),
    [
        ({}, {"name": "x"}, 422),
        ({"file": b""}, {"name": "x"}, 422),
        ({"other": b"abc"}, {}, 422),
        ({"file": b"abc"}, {"name": "Bad Name"}, 422),
        ({"file": b"abc"}, {"name": "a/../../b"}, 422),
        ({"file": b"abc"}, {"name": "a" * 65}, 422),
        ({"file": b"abc"}, {"name": "x" * 2000}, 400),
        ({"file": b"abc"}, {"name": "x", "activate": "perhaps"}, 422),
    ],
)
def test_odd_forms(client: httpx.Client, files: dict[str, bytes], data: dict[str, str], status: int) -> None:
    parts: list[tuple[str, tuple[str | None, str | bytes]]] = [
        *((k, (None, v)) for k, v in data.items()),
        *((k, ("f", v)) for k, v in files.items()),
    ]
    assert client.post("/adapters", files=parts).status_code == status


def test_two_files_in_one_form(client: httpx.Client) -> None:
    assert client.post("/adapters", files=[("file", b"a"), ("file", b"b")]).status_code == 400


def test_uploads_are_multipart(client: httpx.Client) -> None:
    assert client.post("/adapters", content=b"abc", headers=JPEG).status_code == 415


def test_a_set_without_a_name_needs_one(client: httpx.Client, weights: Weights) -> None:
    response = upload(client, weights.upload("unnamed"))
    assert response.status_code == 422
    assert "name" in response.json()["detail"]


def test_two_uploads_of_one_name_at_once_both_count(client: httpx.Client, weights: Weights) -> None:
    names = ["cats", "dogs", "birds"]
    threads = [
        threading.Thread(target=upload, args=(client, weights.upload(n)), kwargs={"name": "race"}) for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    revisions = client.get("/adapters/race").json()["revisions"]
    assert [r["revision"] for r in revisions] == [1, 2, 3]
    assert {r["digest"] for r in revisions} == {hashlib.sha256(weights.upload(n)).hexdigest() for n in names}
    client.delete("/adapters/race")


def test_sets_survive_a_restart(weights: Weights, tmp_path: Path) -> None:
    settings = settings_for(weights, tmp_path / "store")
    with live_app(settings) as live:
        upload(live.client, weights.upload("cats"), name="kept")
        upload(live.client, weights.upload("dogs"), name="kept")
        live.client.put("/adapters/kept/current", json={"revision": 1})
        live.client.put("/adapters/kept/pin")
        answer = predict(live.client, "kept").json()["tasks"]
    with live_app(settings) as live:
        shown = live.client.get("/adapters/kept").json()
        assert (shown["current"], shown["pinned"], shown["tier"]) == (1, True, "device")
        assert predict(live.client, "kept").json()["tasks"] == answer


def test_deleted_bytes_are_freed_on_disk_and_in_memory(live: Live, client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("cats"), name="freed")
    predict(client, "freed")
    used = live.service.parts.device_cache.used_bytes
    client.delete("/adapters/freed")
    home = live.service.settings.store_folder / "sets" / "freed"
    wait_until(lambda: not list(home.glob("*.safetensors")))
    assert live.service.parts.device_cache.used_bytes < used


def test_a_set_deleted_between_resolving_and_reading_still_answers(
    live: Live, client: httpx.Client, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(client, weights.upload("cats"), name="hasty")
    client.post("/adapters/hasty/unload")
    home = live.service.settings.store_folder / "sets" / "hasty"
    catalog = live.service.parts.catalog
    manifest = catalog.manifest

    def slow_manifest(ref: AdapterRef) -> AdapterManifest:
        if ref.name == "hasty":
            client.delete("/adapters/hasty")
            with suppress(TimeoutError):
                wait_until(lambda: not list(home.glob("*.safetensors")), 0.5)
        return manifest(ref)

    monkeypatch.setattr(catalog, "manifest", slow_manifest)
    monkeypatch.setattr(catalog, "known_manifest", lambda ref: None)  # as if it had never been read
    with httpx.Client(base_url=live.url, timeout=30) as other:
        assert predict(other, "hasty").status_code == 200
    wait_until(lambda: not list(home.glob("*.safetensors")))


def test_a_request_that_outlives_its_set_leaves_no_label(
    live: Live, client: httpx.Client, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(client, weights.upload("cats"), name="outlived")
    engine = live.service.parts.worker.engine
    run = engine.run

    def slow_run(items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        client.delete("/adapters/outlived")
        return run(items)

    monkeypatch.setattr(engine, "run", slow_run)
    with httpx.Client(base_url=live.url, timeout=30) as other:
        assert predict(other, "outlived").status_code == 200
    wait_until(lambda: 'adapter="outlived"' not in client.get("/metrics").text)


def test_revisions_tell_their_own_tasks(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("cats"), name="grown")
    upload(client, weights.upload("unnamed"), name="grown")
    shown = client.get("/adapters/grown").json()
    assert [r["tasks"] for r in shown["revisions"]] == [["semseg"], ["human_parts", "saliency"]]
    assert list(shown["tasks"]) == ["human_parts", "saliency"]
    client.delete("/adapters/grown")


def test_a_damaged_file_hides_neither_the_list_nor_the_other_revisions(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store", host_bytes=0)) as live:
        for name in ("cats", "dogs"):
            upload(live.client, weights.upload(name), name="hurt")
        digests = {r["revision"]: r["digest"] for r in live.client.get("/adapters/hurt").json()["revisions"]}
        live.service.parts.catalog._manifests.clear()  # as after a restart
        home = tmp_path / "store" / "sets" / "hurt"
        (home / f"1-{digests[1]}.safetensors").write_bytes(b"damaged")
        assert [r["tasks"] for r in live.client.get("/adapters/hurt").json()["revisions"]] == [[], ["semseg"]]
        live.service.parts.catalog._manifests.clear()  # as after a restart
        (home / f"2-{digests[2]}.safetensors").write_bytes(b"damaged")
        listed = {s["name"]: s for s in live.client.get("/adapters").json()["adapters"]}
        assert {name: s["status"] for name, s in listed.items()} == {
            "default": "ready",
            "people": "ready",
            "hurt": "failed",
        }
        hurt = live.client.get("/adapters/hurt").json()
        assert hurt == listed["hurt"]
        assert (hurt["tasks"], hurt["ranks"], hurt["image_size"]) == ({}, None, None)
        assert "adapter set hurt@2 cannot be read" in hurt["reason"]
        assert "hurt" not in live.client.get("/tasks").text
        assert predict(live.client, "hurt").status_code == 503


@pytest.mark.parametrize("form", ["json", "npz", "zip"])
def test_numbers_that_overflow_are_the_sets_fault(client: httpx.Client, weights: Weights, form: str) -> None:
    assert upload(client, weights.upload("overflow")).status_code == 201
    answer = client.post(f"/predict?adapter=overflow&format={form}", content=PHOTO, headers=JPEG)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:mtlora:problem:non-finite-output")
    assert "gives outputs that are not finite on this image: normals" in answer.json()["detail"]
    assert predict(client, "default").status_code == 200
    client.delete("/adapters/overflow")


def test_npz_of_an_uploaded_set_has_its_classes_only(client: httpx.Client, weights: Weights) -> None:
    upload(client, weights.upload("cats"), name="npz")
    response = client.post("/predict?adapter=npz&format=npz", content=PHOTO, headers=JPEG)
    assert [*np.load(io.BytesIO(response.content))] == ["semseg"]
    client.delete("/adapters/npz")
