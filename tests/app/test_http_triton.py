"""Triton's own HTTP client: every question it can ask, against a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from app.access.keys import Scope
from testing.key_files import add, key
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for

PHOTO = encoded(picture(60, 40), "JPEG")


def image_of(*photos: bytes) -> triton.InferInput:
    one = triton.InferInput("image", [len(photos)], "BYTES")
    return one.set_data_from_numpy(np.array(photos, dtype=object))


@pytest.fixture
def server(live: Live) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(live.url.removeprefix("http://")) as client:
        yield client


def refused(question: Any) -> tuple[int, str]:
    with pytest.raises(InferenceServerException) as caught:
        question()
    return int(caught.value.status() or 0), caught.value.message()


def test_the_index_lists_revisions_that_can_be_used(live: Live, server: triton.InferenceServerClient) -> None:
    index = server.get_model_repository_index()
    names = {one["name"] for one in live.client.get("/adapters").json()["adapters"]}
    assert {one["name"] for one in index} == names
    assert {(one["version"], one["state"], one["reason"]) for one in index if one["name"] == "default"} == {
        ("1", "READY", "")
    }
    assert live.client.post("/v2/repository/index", json={"ready": True}).json() == index
    assert live.client.post("/v2/repository/index", json={"redy": True}).status_code == 422


def test_a_set_that_cannot_be_used_is_unavailable(live: Live, weights: Weights) -> None:
    live.client.post("/adapters", files={"file": weights.upload("cats")}, data={"name": "broken"})
    file = next(live.service.settings.store_folder.rglob("broken/**/*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    live.service.parts.catalog._manifests.clear()  # what the file said before
    listed = live.client.post("/v2/repository/index").json()
    (broken,) = [one for one in listed if one["name"] == "broken"]
    assert broken["state"] == "UNAVAILABLE" and broken["reason"]
    ready = live.client.post("/v2/repository/index", json={"ready": True}).json()
    assert "broken" not in {one["name"] for one in ready}
    live.client.delete("/adapters/broken")


def test_configuration(server: triton.InferenceServerClient) -> None:
    config = server.get_model_config("default")
    assert config == server.get_model_config("default", "1")
    metadata = server.get_model_metadata("default")
    assert config["name"] == "default" and config["max_batch_size"] == 0
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert [(one["name"], one["dims"]) for one in config["output"]] == [
        (one["name"], one["shape"]) for one in metadata["outputs"]
    ]
    assert refused(lambda: server.get_model_config("nobody"))[0] == 404


def test_statistics_count_what_was_answered(live: Live, server: triton.InferenceServerClient) -> None:
    def of(name: str) -> dict[str, Any]:
        (one,) = server.get_inference_statistics(name)["model_stats"]
        return dict(one)

    before = of("people")
    server.infer("people", [image_of(PHOTO, PHOTO)])
    refused(lambda: server.infer("people", [image_of(b"no photo")]))
    after = of("people")
    assert after["inference_count"] - before["inference_count"] == 2
    assert 1 <= after["execution_count"] - before["execution_count"] <= 2
    assert after["last_inference"] > before["last_inference"]
    for part, count in {"success": 1, "fail": 1, "queue": 2, "compute_infer": 2}.items():
        grown = {k: after["inference_stats"][part][k] - before["inference_stats"][part][k] for k in ("count", "ns")}
        assert grown["count"] == count and (grown["ns"] > 0 or part == "queue"), part
    everyone = {one["name"]: one for one in server.get_inference_statistics()["model_stats"]}
    assert everyone["people"] == after and "default" in everyone
    assert server.get_inference_statistics("people", "1")["model_stats"] == [after]
    assert refused(lambda: server.get_inference_statistics("people", "7"))[0] == 404
    assert refused(lambda: server.get_inference_statistics("nobody"))[0] == 404


def test_load_and_unload_mean_ours(live: Live, server: triton.InferenceServerClient) -> None:
    def tier() -> str:
        return str(live.client.get("/adapters/people").json()["tier"])

    server.load_model("people")
    assert tier() == "device"
    server.unload_model("people")
    assert tier() != "device"
    server.unload_model("people", unload_dependents=True)
    assert server.is_model_ready("people")
    status, words = refused(lambda: server.load_model("people", config='{"backend": "onnx"}'))
    assert status == 422 and "config" in words
    assert refused(lambda: server.load_model("nobody"))[0] == 404


def test_priority_and_sequences_change_nothing(server: triton.InferenceServerClient) -> None:
    plain = server.infer("default", [image_of(PHOTO)]).as_numpy("semseg")
    more: list[dict[str, Any]] = [
        {"priority": 3},
        {"sequence_id": 7, "sequence_start": True},
        {"sequence_id": "a", "sequence_end": True},
    ]
    for one in more:
        np.testing.assert_array_equal(server.infer("default", [image_of(PHOTO)], **one).as_numpy("semseg"), plain)


def test_classes_of_a_map_are_refused_with_the_reason(server: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("semseg", class_count=3)]
    status, words = refused(lambda: server.infer("default", [image_of(PHOTO)], outputs=wanted))
    assert status == 422 and "outputs are maps" in words


def test_extensions_that_are_not_there_are_said_not_to_be(server: triton.InferenceServerClient) -> None:
    for question in (server.get_trace_settings, server.get_log_settings, server.get_system_shared_memory_status):
        status, words = refused(question)
        assert status == 404 and "extensions this server has binary_tensor_data" in words


def test_what_a_key_may(weights: Weights, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    add(
        keys,
        key("reads", Scope.PREDICT),
        key("writes", Scope.PREDICT, Scope.ADAPTERS_WRITE, label="own", namespace="acme"),
    )
    with live_app(settings_for(weights, tmp_path / "s", keys_file=keys)) as live:

        def ask(secret: str, path: str, method: str = "POST") -> httpx.Response:
            return live.client.request(method, f"/v2/{path}", headers={"X-API-Key": secret})

        form = {"files": {"file": weights.upload("cats")}, "data": {"name": "mine"}}
        made = live.client.post("/adapters", headers={"X-API-Key": "writes"}, **form)  # type: ignore[arg-type]
        assert made.status_code == 201
        assert ask("reads", "repository/models/people/load").status_code == 403
        assert ask("", "repository/index").status_code == 401
        assert "mine" in {one["name"] for one in ask("writes", "repository/index").json()}
        assert "mine" not in {one["name"] for one in ask("reads", "repository/index").json()}
        assert "mine" not in ask("reads", "models/stats", "GET").text
        assert ask("reads", "models/mine/stats", "GET").status_code == 404
        assert ask("writes", "repository/models/mine/load").status_code == 200
        assert ask("writes", "repository/models/mine/unload").status_code == 200
