"""Triton's gRPC client against a real server: numpy in and out, keys, limits, deadlines, the end."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc._utils import _get_inference_request
from tritonclient.utils import InferenceServerException

from app.access.keys import Scope
from testing.key_files import add, key
from testing.serving import ServerProcess, Weights, encoded, free_port, picture, wait_until

PHOTO = encoded(picture(60, 40), "JPEG")


def image_of(*photos: bytes) -> triton.InferInput:
    return triton.InferInput("image", [len(photos)], "BYTES").set_data_from_numpy(np.array(photos, dtype=object))


def refused(question: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        question()
    return str(caught.value.status()).removeprefix("StatusCode."), caught.value.message()


class Served:
    """A server with both doors."""

    def __init__(self, weights: Weights, store: Path, **flags: object) -> None:
        self.grpc_port = free_port()
        self.process = ServerProcess(weights, store, grpc_port=self.grpc_port, log_format="json", **flags)
        self.process.wait_ready()
        self.url, self.target = self.process.url, f"127.0.0.1:{self.grpc_port}"
        wait_until(lambda: any(line.get("protocol") == "grpc" for line in self.process.logged()))

    def logged(self, **facts: Any) -> list[dict[str, Any]]:
        return [line for line in self.process.logged() if all(line.get(k) == v for k, v in facts.items())]


@pytest.fixture(scope="module")
def served(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(weights, tmp_path_factory.mktemp("grpc") / "store", max_body_bytes=200_000, body_timeout_s=1)
    try:
        yield one
    finally:
        assert one.process.stop() == 0


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(served.target) as one:
        yield one


def test_the_server_tells_of_itself(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    about = client.get_server_metadata(as_json=True)
    assert about["name"] == "mtlora" and "model_repository" in about["extensions"]


def test_models(served: Served, client: Any) -> None:
    by_http = httpx.get(f"{served.url}/v2/models/default").json()
    about = client.get_model_metadata("default", as_json=True)
    assert about["name"] == "default" and about["versions"] == by_http["versions"]
    assert [(one["name"], one["datatype"]) for one in about["outputs"]] == [
        (one["name"], one["datatype"]) for one in by_http["outputs"]
    ]
    assert client.get_model_metadata("default", "1", as_json=True) == about
    assert client.is_model_ready("default") and client.is_model_ready("default", "1")
    assert not client.is_model_ready("nobody")
    config = client.get_model_config("default", as_json=True)["config"]
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": ["-1"]}]
    assert refused(lambda: client.get_model_metadata("nobody"))[0] == "NOT_FOUND"


def test_maps_are_those_of_http(served: Served, client: Any) -> None:
    answer = client.infer("default", [image_of(PHOTO, PHOTO)], request_id="7")

    def by_http(query: str) -> Any:
        return np.load(io.BytesIO(httpx.post(f"{served.url}/predict?format=npz{query}", content=PHOTO).content))

    maps = by_http("")
    assert answer.get_response().id == "7"
    for name in maps.files:
        got = answer.as_numpy(name)
        assert got.dtype == maps[name].dtype and got.shape == (2, *maps[name].shape)
        np.testing.assert_array_equal(got[0], maps[name])
        np.testing.assert_array_equal(got[1], maps[name])
    wanted = [triton.InferRequestedOutput("saliency")]
    one = client.infer("default", [image_of(PHOTO)], model_version="1", outputs=wanted, priority=2, sequence_id=5)
    assert [output.name for output in one.get_response().outputs] == ["saliency"]
    np.testing.assert_array_equal(one.as_numpy("saliency")[0], by_http("&tasks=saliency")["saliency"])
    tiled = client.infer("default", [image_of(PHOTO)], parameters={"tiles": "2x3"})
    whole = by_http("&tiles=2x3")
    for name in whole.files:
        np.testing.assert_array_equal(tiled.as_numpy(name)[0], whole[name])
    line = served.logged(path="/v2/models/default/versions/1/infer")[0]
    assert (line["protocol"], line["client"], line["status"]) == ("grpc", "127.0.0.1", 200)


def test_repository_and_statistics(client: Any) -> None:
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {"default", "people"} <= {one["name"] for one in index} and index[0]["state"] == "READY"
    client.load_model("people")
    client.infer("people", [image_of(PHOTO)])
    (one,) = client.get_inference_statistics("people", as_json=True)["model_stats"]
    assert int(one["inference_count"]) >= 1 and int(one["inference_stats"]["success"]["ns"]) > 0
    assert len(client.get_inference_statistics(as_json=True)["model_stats"]) == len(index)
    client.unload_model("people")
    assert client.is_model_ready("people")
    code, words = refused(lambda: client.load_model("people", config="{}"))
    assert code == "INVALID_ARGUMENT" and "config" in words


def test_refusals_have_codes_and_words(client: Any) -> None:
    def infer(*photos: bytes, model: str = "default", **more: Any) -> Any:
        return lambda: client.infer(model, [image_of(*photos)], **more)

    wrong = triton.InferInput("image", [1], "FP32").set_data_from_numpy(np.zeros(1, np.float32))
    for question, code, says in (
        (infer(b"no photo"), "INVALID_ARGUMENT", "nsupported media"),
        (infer(PHOTO, model="nobody"), "NOT_FOUND", "nobody"),
        (infer(PHOTO, outputs=[triton.InferRequestedOutput("nothing")]), "INVALID_ARGUMENT", "nothing"),
        (infer(PHOTO, outputs=[triton.InferRequestedOutput("semseg", class_count=2)]), "INVALID_ARGUMENT", "maps"),
        (infer(PHOTO, parameters={"colour": "red"}), "INVALID_ARGUMENT", "colour"),
        (infer(PHOTO, parameters={"tiles": "9x9"}), "INVALID_ARGUMENT", "81 tiles; a photo may have"),
        (infer(PHOTO, headers={"x-tasks": "semseg"}), "INVALID_ARGUMENT", "x-tasks"),
        (infer(bytes(220_000)), "INVALID_ARGUMENT", "takes 200000 (MTLORA_MAX_BODY_BYTES)"),
        (infer(bytes(400_000)), "RESOURCE_EXHAUSTED", "larger than max"),
        (infer(PHOTO, client_timeout=1e-3), "DEADLINE_EXCEEDED", "eadline"),
        (infer(PHOTO, timeout=1), "DEADLINE_EXCEEDED", "deadline of 1 ms"),
        (infer(PHOTO, compression_algorithm="gzip"), "UNIMPLEMENTED", "ompress"),
        (lambda: client.infer("default", [wrong]), "INVALID_ARGUMENT", "BYTES"),
        (lambda: client.infer("", [image_of(PHOTO)]), "NOT_FOUND", "no adapter set"),
        (lambda: client.get_model_metadata("default/stats"), "NOT_FOUND", "no adapter set"),
        (lambda: client.load_model("default/unload"), "NOT_FOUND", "no adapter set"),
    ):
        found, words = refused(question)
        assert found == code and says in words, (found, words)
    np.testing.assert_equal(client.infer("default", [image_of(PHOTO)]).as_numpy("semseg").shape, (1, 40, 60))


def test_bytes_that_are_no_message_and_calls_that_are_none(served: Served) -> None:
    with grpc.insecure_channel(served.target) as channel:
        for name, content, code in (
            ("ModelInfer", b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            ("ModelInfer", b"", grpc.StatusCode.NOT_FOUND),
            ("ModelStreamInfer", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("LogSettings", b"", grpc.StatusCode.UNIMPLEMENTED),
        ):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            with pytest.raises(grpc.RpcError) as caught:
                call(content, timeout=20)
            assert caught.value.code() is code, (name, caught.value)


def test_what_is_said_twice_in_two_ways_is_refused(served: Served) -> None:
    metadata = (("x-deadline-ms", "50000"), ("x-deadline-ms", "40000"))
    request = _get_inference_request(
        model_name="default", inputs=[image_of(PHOTO)], model_version="", request_id="", outputs=None, sequence_id=0,
        sequence_start=False, sequence_end=False, priority=0, timeout=None, parameters=None,
    )  # fmt: skip
    with grpc.insecure_channel(served.target) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=20, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "deadline_ms" in caught.value.details()


def test_a_message_that_does_not_come_is_not_waited_for_for_ever(served: Served) -> None:
    with grpc.insecure_channel(served.target) as channel:
        opened = threading.Event()

        def never() -> Iterator[bytes]:
            opened.wait(20)
            yield b""

        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match="must arrive within 1 s"):
            call(never(), timeout=20)
        opened.set()


def test_keys_scopes_name_spaces_and_quotas(weights: Weights, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    add(
        keys,
        key("predicts", Scope.PREDICT, quota={"requests_per_minute": 4}),
        key("changes", Scope.PREDICT, Scope.ADAPTERS_WRITE, namespace="acme"),
    )
    served = Served(weights, tmp_path / "store", keys_file=keys)
    with triton.InferenceServerClient(served.target) as client:
        as_bearer, as_key = {"authorization": "Bearer predicts"}, {"x-api-key": "changes"}
        assert client.is_server_ready()
        assert refused(lambda: client.infer("default", [image_of(PHOTO)]))[0] == "UNAUTHENTICATED"
        assert refused(lambda: client.infer("default", [image_of(PHOTO)], headers={"x-api-key": "x"}))[0] == (
            "UNAUTHENTICATED"
        )
        client.infer("default", [image_of(PHOTO)], headers=as_bearer)
        assert refused(lambda: client.load_model("people", headers=as_bearer))[0] == "PERMISSION_DENIED"
        httpx.post(
            f"{served.url}/adapters", headers=as_key, files={"file": weights.upload("cats")}, data={"name": "mine"}
        ).raise_for_status()
        client.load_model("mine", headers=as_key)
        assert refused(lambda: client.infer("mine", [image_of(PHOTO)], headers=as_bearer))[0] == "NOT_FOUND"
        client.infer("mine", [image_of(PHOTO)], headers=as_key)
        client.get_model_repository_index(headers=as_bearer)
        code, words = refused(lambda: client.get_model_metadata("default", headers=as_bearer))
        assert code == "RESOURCE_EXHAUSTED" and "4 requests a minute" in words
        by_http = httpx.get(f"{served.url}/v2/models/default", headers=as_bearer)
        assert by_http.status_code == 429  # one quota for both doors
    assert served.process.stop() == 0
    assert served.logged(key="predicts", protocol="grpc", status=429)


def test_the_end_answers_what_is_under_way(weights: Weights, tmp_path: Path) -> None:
    served = Served(weights, tmp_path / "store")
    photos = [encoded(picture(900, 700, seed), "PNG") for seed in range(8)]
    with ThreadPoolExecutor(8) as pool, triton.InferenceServerClient(served.target) as client:
        asked = [pool.submit(client.infer, "default", [image_of(photo)]) for photo in photos]
        wait_until(
            lambda: httpx.get(f"{served.url}/metrics").text.count('mtlora_requests_total{code="200",format="v2"}') > 0
        )
        assert served.process.stop() == 0
        ended = [one.exception() for one in asked]
    answered = [one for one in ended if one is None]
    others = {str(one.status()) for one in ended if isinstance(one, InferenceServerException)}
    assert answered and others <= {"StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}
    assert not served.logged(message="unhandled error")


def test_without_the_setting_there_is_no_such_port(weights: Weights, tmp_path: Path) -> None:
    server = ServerProcess(weights, tmp_path / "store", log_format="json")
    server.wait_ready()
    assert not [line for line in server.logged() if line.get("protocol") == "grpc"]
    assert server.stop() == 0
