"""The Open Inference Protocol over HTTP, with Triton's own client, against what /predict answers."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from app.api.open_inference.schemas import EXTENSIONS, LENGTH_HEADER
from testing.serving import Live, encoded, metric, picture

PHOTOS = [encoded(picture(60, 40, seed=seed), "JPEG") for seed in range(2)]
TASKS = {"semseg": ("UINT8", np.uint8), "saliency": ("FP32", np.float32), "normals": ("FP32", np.float32)}


@pytest.fixture
def triton(live: Live) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(live.url.removeprefix("http://"), connection_timeout=30, network_timeout=30)
    yield client
    client.close()


def images(*photos: bytes, binary: bool = True) -> list[InferInput]:
    values = np.array([p if binary else base64.b64encode(p) for p in photos], dtype=np.object_)
    return [InferInput("image", [len(photos)], "BYTES").set_data_from_numpy(values, binary_data=binary)]


def wanted(*names: str, binary: bool = True) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(name, binary_data=binary) for name in names]


def arrays(live: Live, photo: bytes, query: str = "") -> dict[str, np.ndarray]:
    """The same maps by /predict."""
    answer = live.client.post(f"/predict?format=npz&{query}", content=photo, headers={"Content-Type": "image/jpeg"})
    with np.load(io.BytesIO(answer.content)) as archive:
        return dict(archive)


def infer(client: httpx.Client, document: Any = None, model: str = "default", **options: Any) -> httpx.Response:
    return client.post(f"/v2/models/{model}/infer", json=document, **options)


def test_the_server_and_its_models_are_described(triton: InferenceServerClient) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.get_server_metadata()["extensions"] == EXTENSIONS
    assert (
        triton.is_model_ready("default") and triton.is_model_ready("people", "1") and triton.is_model_ready("people@1")
    )
    assert not triton.is_model_ready("nobody") and not triton.is_model_ready("people", "9")
    described = triton.get_model_metadata("default")
    assert (described["name"], described["versions"], described["platform"]) == ("default", ["1"], "mtlora")
    assert described["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    outputs = {o["name"]: (o["datatype"], o["shape"]) for o in described["outputs"]}
    assert outputs == {
        "semseg": ("UINT8", [-1, -1, -1]),
        "normals": ("FP32", [-1, -1, -1, 3]),
        "saliency": ("FP32", [-1, -1, -1]),
        "human_parts": ("UINT8", [-1, -1, -1]),
    }
    assert triton.get_model_metadata("people", "1") == triton.get_model_metadata("people@1")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_are_the_maps_of_predict(
    live: Live, triton: InferenceServerClient, binary_in: bool, binary_out: bool
) -> None:
    result = triton.infer(
        "default", images(*PHOTOS, binary=binary_in), outputs=wanted(*TASKS, binary=binary_out), request_id="mine"
    )
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("default", "1", "mine")
    assert [o["name"] for o in answer["outputs"]] == list(TASKS)
    expected = [arrays(live, photo) for photo in PHOTOS]
    for name, (datatype, dtype) in TASKS.items():
        assert result.get_output(name)["datatype"] == datatype
        assert ("data" in result.get_output(name)) is not binary_out
        tensor = result.as_numpy(name)
        assert (tensor.dtype, tensor.shape[:3]) == (dtype, (2, 40, 60))
        # alone or in a batch: some processors' products differ in the last digit
        np.testing.assert_allclose(tensor, np.stack([maps[name] for maps in expected]), rtol=0, atol=1e-6)


def test_without_outputs_all_tasks_come_as_bytes(live: Live, triton: InferenceServerClient) -> None:
    result = triton.infer("people", images(PHOTOS[0]), model_version="1", timeout=30_000_000)
    assert {o["name"] for o in result.get_response()["outputs"]} == {"human_parts", "saliency"}
    expected = arrays(live, PHOTOS[0], "adapter=people")
    for name, values in expected.items():
        np.testing.assert_array_equal(result.as_numpy(name)[0], values)


def test_forms_of_output_may_be_mixed(triton: InferenceServerClient) -> None:
    both = [*wanted("semseg"), *wanted("human_parts", binary=False)]
    result = triton.infer("default", images(PHOTOS[0]), outputs=both)
    assert "data" in result.get_output("human_parts")
    assert result.as_numpy("semseg").shape == result.as_numpy("human_parts").shape == (1, 40, 60)


def test_curl_needs_no_header(client: httpx.Client) -> None:
    data = [base64.b64encode(PHOTOS[0]).decode()]
    answer = infer(client, {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": data}]}, "people")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH_HEADER not in answer.headers
    assert answer.headers["x-adapter-revision"] == "people@1"
    assert "forward;dur=" in answer.headers["server-timing"]
    assert {o["name"]: o["shape"] for o in answer.json()["outputs"]} == {
        "human_parts": [1, 40, 60],
        "saliency": [1, 40, 60],
    }
    assert "id" not in answer.json()


@pytest.mark.parametrize(
    ("model", "version", "status", "words"),
    [
        ("nobody", "", "404", "no adapter set 'nobody'"),
        ("people@9", "", "404", "no revision 9"),
        ("people", "9", "404", "no revision 9"),
        ("people@1", "1", "404", "no adapter set"),
        ("people", "latest", "404", "NAME@REVISION"),
        ("../people", "", "404", ""),
    ],
)
def test_what_is_not_there(triton: InferenceServerClient, model: str, version: str, status: str, words: str) -> None:
    asks: tuple[Callable[[], object], ...] = (
        lambda: triton.infer(model, images(PHOTOS[0]), version),
        lambda: triton.get_model_metadata(model, version),
    )
    for ask in asks:
        with pytest.raises(InferenceServerException, match=words or None) as refused:
            ask()
        assert refused.value.status() == status


def test_triton_s_client_is_told_why(live: Live, triton: InferenceServerClient) -> None:
    small = encoded(picture(30, 20), "PNG")
    for photos, outputs, status, words in (
        ([b"no image"], None, "415", "not an image"),
        ([PHOTOS[0][:300]], None, "422", "image"),
        ([b""], None, "422", "0 bytes"),
        ([PHOTOS[0], b"bad"], None, "415", r"image 1: "),
        ([PHOTOS[0], small], wanted("semseg"), "422", "one size; got 60x40, 30x20"),
        ([PHOTOS[0]], wanted("cats"), "422", "default@1 has semseg"),
        ([PHOTOS[0]], wanted("parts"), "422", "no output 'parts'"),
        ([PHOTOS[0]], wanted("semseg", "semseg"), "422", "once"),
        ([PHOTOS[0]] * 17, None, "422", "16 images"),
    ):
        with pytest.raises(InferenceServerException, match=words or None) as refused:
            triton.infer("default", images(*photos), outputs=outputs)
        assert refused.value.status() == status
    with pytest.raises(InferenceServerException, match="deadline") as late:
        triton.infer("default", images(PHOTOS[0]), timeout=1)
    assert late.value.status() == "504"
    with pytest.raises(InferenceServerException, match="shared memory") as shared:
        triton.infer("default", [InferInput("image", [1], "BYTES").set_shared_memory("region", 100)])
    assert shared.value.status() == "422"
    with pytest.raises(InferenceServerException, match="Content-Encoding") as packed:
        triton.infer("default", images(PHOTOS[0]), request_compression_algorithm="gzip")
    assert packed.value.status() == "415"


def test_json_is_for_small_tensors(live: Live, triton: InferenceServerClient) -> None:
    large = encoded(picture(1500, 1000), "JPEG")
    with pytest.raises(InferenceServerException, match="ask for binary_data") as refused:
        triton.infer("default", images(large), outputs=wanted("normals", binary=False))
    assert refused.value.status() == "406"
    tensor = triton.infer("default", images(large), outputs=wanted("normals")).as_numpy("normals")
    np.testing.assert_array_equal(tensor[0], arrays(live, large, "tasks=normals")["normals"])


def test_refusals_outside_of_inference_have_the_shape_too(client: httpx.Client) -> None:
    for answer, status in (
        (client.get("/v2/nothing"), 404),
        (client.put("/v2"), 405),
        (client.get("/v2/models/default/infer"), 405),
        (client.get("/v2/models/nobody"), 404),
        (client.get("/v2/health/live", headers=[(LENGTH_HEADER, "1"), (LENGTH_HEADER, "2")]), 400),
        (infer(client, {}, headers={"X-Deadline-Ms": "0"}), 422),
    ):
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert answer.headers["content-type"] == "application/json"
    assert client.get("/v2x").headers["content-type"] == "application/problem+json"


def test_it_is_counted_as_v2(live: Live) -> None:
    series = 'mtlora_requests_total{code="200",format="v2"}'
    data = [base64.b64encode(PHOTOS[0]).decode()]
    document = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": data}]}
    infer(live.client, document)
    before = metric(live, series)
    assert infer(live.client, document).status_code == 200
    assert metric(live, series) == before + 1


@pytest.mark.parametrize("twice", ['"id": "a", "id": "b"', '"model_name": "people", "model_name": "default"'])
def test_a_key_that_comes_twice_is_refused(client: httpx.Client, twice: str) -> None:
    data = base64.b64encode(PHOTOS[0]).decode()
    image = f'{{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["{data}"]}}'
    body = f'{{{twice}, "inputs": [{image}]}}'
    refused = client.post("/v2/models/default/infer", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert "twice" in refused.json()["error"]


def test_the_deadline_stands_in_header_or_body_but_not_in_both_with_two_values(client: httpx.Client) -> None:
    data = base64.b64encode(PHOTOS[0]).decode()
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [data]}]

    def asked(timeout_us: int, **headers: str) -> httpx.Response:
        document = {"inputs": inputs, "parameters": {"timeout": timeout_us}}
        return client.post("/v2/models/default/infer", json=document, headers=headers)

    assert asked(30_000_000).status_code == 200
    assert asked(30_000_000, **{"X-Deadline-Ms": "30000"}).status_code == 200
    refused = asked(30_000_000, **{"X-Deadline-Ms": "20000"})
    assert (refused.status_code, "give the deadline once" in refused.json()["error"]) == (400, True)
    assert asked(1).status_code in {429, 504}
