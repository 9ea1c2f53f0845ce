"""Parameters of a prediction in every place where they may stand: honoured or refused, never dropped."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.engine.engine import Engine
from app.engine.work_item import Item
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
TEXT = base64.b64encode(PHOTO).decode()
JPEG = {"Content-Type": "image/jpeg"}
IMAGE = ("image", ("photo.jpg", PHOTO, "image/jpeg"))


def field(name: str, value: str) -> tuple[str, tuple[None, str]]:
    return name, (None, value)


def form(client: httpx.Client, *parts: Any, query: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/predict?{query}", files=list(parts), headers=headers)


def as_json(client: httpx.Client, query: str = "", /, **document: Any) -> httpx.Response:
    return client.post(f"/predict?{query}", json={"image": TEXT, **document})


def raw(client: httpx.Client, query: str = "", headers: list[tuple[str, str]] | None = None) -> httpx.Response:
    return client.post(f"/predict?{query}", content=PHOTO, headers=[*JPEG.items(), *(headers or [])])


def refused(response: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    for one in words:
        assert one in body["detail"]
    return body


@pytest.mark.parametrize("first", [True, False], ids=["before the image", "behind the image"])
def test_form_fields_are_honoured(client: httpx.Client, first: bool) -> None:
    fields = [field("adapter", "people"), field("tasks", "saliency"), field("masks", "none")]
    response = form(client, *(([*fields, IMAGE]) if first else [IMAGE, *fields]))
    assert response.headers["x-adapter-revision"] == "people@1", response.text
    assert list(response.json()["tasks"]) == ["saliency"]
    assert "png" not in response.json()["tasks"]["saliency"]


@pytest.mark.parametrize("tasks", ["sal,parts", ["saliency", "human_parts"], ["sal", "parts,sal"]])
def test_json_keys_are_honoured(client: httpx.Client, tasks: Any) -> None:
    response = as_json(client, adapter="people@1", tasks=tasks, masks="rle", deadline_ms=20_000)
    assert response.headers["x-adapter-revision"] == "people@1", response.text
    assert list(response.json()["tasks"]) == ["saliency", "human_parts"]
    assert all("rle" in c for c in response.json()["tasks"]["human_parts"]["classes"])


def test_every_parameter_works_in_every_place(client: httpx.Client) -> None:
    asked = {"adapter": "people", "tasks": "saliency", "format": "npz", "logits": "true", "deadline_ms": "20000"}
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    answers = [
        raw(client, query),
        form(client, IMAGE, *(field(*item) for item in asked.items())),
        as_json(client, **asked),
        as_json(client, **{**asked, "logits": True, "deadline_ms": 20_000}),
        form(client, IMAGE, *(field(*item) for item in asked.items()), query=query),
        form(client, IMAGE, field("adapter", "people"), field("format", "npz"), query="tasks=sal&logits=1"),
    ]
    assert [(a.status_code, a.headers["content-type"]) for a in answers] == [(200, "application/x-npz")] * 6
    assert all(b"logits_saliency" in a.content and b"semseg" not in a.content for a in answers)


@pytest.mark.parametrize("name", ["nobody", "people@7", "../default"])
def test_a_set_that_is_not_there_is_404_wherever_it_is_named(client: httpx.Client, name: str) -> None:
    answers = [
        form(client, IMAGE, field("adapter", name)),
        as_json(client, adapter=name),
        raw(client, f"adapter={name}"),
        raw(client, headers=[("X-Adapter", name)]),
    ]
    assert [a.status_code for a in answers] == [404] * 4


def test_a_task_that_the_set_lacks_is_422_wherever_it_is_named(client: httpx.Client) -> None:
    for answer in (
        form(client, IMAGE, field("tasks", "semseg"), query="adapter=people"),
        form(client, IMAGE, field("adapter", "people"), query="tasks=semseg"),
        as_json(client, adapter="people", tasks=["semseg"]),
    ):
        refused(answer, 422, "people@1 has human_parts, saliency")


def test_two_values_are_400_and_name_both_places(client: httpx.Client) -> None:
    in_form, in_query = field("adapter", "default"), "adapter=people"
    both = [
        (form(client, IMAGE, in_form, query=in_query), "in the query", "as a form field"),
        (as_json(client, in_query, adapter="default"), "in the query", "in the JSON body"),
        (form(client, IMAGE, in_form, **{"X-Adapter": "people"}), "in a header", "as a form field"),
        (raw(client, in_query, [("X-Adapter", "default")]), "in the query", "in a header"),
        (raw(client, "", [("X-Adapter", "people"), ("X-Adapter", "default")]), "in a header", "in a header"),
        (raw(client, "adapter=people&adapter=default"), "in the query", "in the query"),
        (form(client, IMAGE, in_form, field("adapter", "people")), "as a form field", "as a form field"),
    ]
    for response, first, second in both:
        body = refused(response, 400, "adapter is ", first, second, "give it once")
        assert body["type"] == "urn:mtlora:problem:parameter-conflict"
    for response in (
        raw(client, "deadline_ms=5000", [("X-Deadline-Ms", "6000")]),
        raw(client, "", [("X-Deadline-Ms", "5000"), ("X-Deadline-Ms", "6000")]),
        as_json(client, "deadline_ms=5000", deadline_ms=6000),
    ):
        refused(response, 400, "deadline_ms is '5000'", "'6000'")


def test_the_same_value_twice_is_fine(client: httpx.Client) -> None:
    answers = [
        form(client, IMAGE, field("adapter", "people"), query="adapter=people", **{"X-Adapter": "people"}),
        raw(client, "adapter=people&adapter=people", [("X-Adapter", "people"), ("X-Adapter", "people")]),
        as_json(client, "adapter=people&deadline_ms=20000&tasks=sal", deadline_ms=20_000, tasks=["saliency"]),
    ]
    assert [a.headers["x-adapter-revision"] for a in answers] == ["people@1"] * 3


def test_tasks_given_twice_in_one_place_are_both_meant(client: httpx.Client) -> None:
    for answer in (
        raw(client, "tasks=saliency&tasks=semseg,sal"),
        form(client, IMAGE, field("tasks", "saliency"), field("tasks", "semseg")),
    ):
        assert list(answer.json()["tasks"]) == ["saliency", "semseg"]
    refused(form(client, IMAGE, field("tasks", "semseg"), query="tasks=saliency"), 400, "tasks is ")


def test_what_nobody_knows_is_422_and_says_what_is_meant(client: httpx.Client) -> None:
    shapes, more = "format, masks, size, edges, style, logits, threshold", "compute, tiles, explain, deadline_ms"
    known = f"known: image, tasks, adapter, {shapes}, {more}"
    for response, place, words in (
        (raw(client, "task=semseg"), "query.task", "'task'; did you mean 'tasks'? known: tasks, adapter"),
        (raw(client, "adaptor=people"), "query.adaptor", "did you mean 'adapter'?"),
        (form(client, IMAGE, field("adaptor", "people")), "form.adaptor", f"did you mean 'adapter'? {known}"),
        (as_json(client, adaptor="people"), "body.adaptor", "did you mean 'adapter'? known: image, images, tasks"),
        (as_json(client, parameters={"threshold": 0.5}), "body.parameters", "unknown key 'parameters'; known: image"),
    ):
        body = refused(response, 422, words)
        assert [item["where"] for item in body["errors"]] == [place]


@pytest.mark.parametrize("name", ["file", "images", "photo", "upload"])
def test_a_file_under_another_name_is_told_the_right_one(client: httpx.Client, name: str) -> None:
    refused(
        form(client, (name, ("photo.jpg", PHOTO, "image/jpeg"))), 422, f"'{name}'", "images are parts named 'image'"
    )


def test_nothing_stands_for_nothing(client: httpx.Client) -> None:
    """An unset variable of a shell must not mean the default set."""
    for response in (
        raw(client, "adapter="),
        raw(client, headers=[("X-Adapter", "")]),
        form(client, IMAGE, field("adapter", "")),
        as_json(client, adapter=""),
    ):
        refused(response, 422, "adapter")
    assert as_json(client, adapter=None, tasks=None).json()["adapter"]["name"] == "default"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ('{"image": "%s", "adapter": "people", "adapter": "default"}', 400, "the key 'adapter' twice"),
        ('{"image": "%s", "adapter": ["people"]}', 422, "adapter is text"),
        ('{"image": "%s", "tasks": [1]}', 422, "tasks is a list of texts"),
        ('{"image": "%s", "deadline_ms": true}', 422, "deadline_ms"),
        ('{"image": "%s", "logits": 3}', 422, "logits"),
        (
            '{"image": "%s", "masks": "some"}',
            422,
            "body.masks: Input should be 'png', 'rle', 'polygons' or 'none', got 'some'",
        ),
    ],
)
def test_json_that_makes_no_sense(client: httpx.Client, content: str, status: int, words: str) -> None:
    headers = {"Content-Type": "application/json"}
    refused(client.post("/predict", content=content % TEXT, headers=headers), status, words)


def test_form_fields_are_small_texts(client: httpx.Client) -> None:
    refused(form(client, IMAGE, field("adapter", "x" * 2000)), 400, "'adapter' may have 1024 bytes")
    refused(form(client, IMAGE, ("adapter", (None, b"\xff"))), 400, "not UTF-8")


def test_a_file_name_may_look_like_a_parameter(client: httpx.Client) -> None:
    content = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a; name=b.jpg"\r\n\r\n'
        + PHOTO
        + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/predict", content=content, headers=headers).status_code == 200
    twice = content.replace(b'name="image";', b'name="image"; name="file";')
    refused(client.post("/predict", content=twice, headers=headers), 400, "a part has one name")


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/adapters", "none"), ("GET", "/tasks", "none"), ("GET", "/adapters/people", "none"),
        ("GET", "/adapters/people/file", "revision"), ("DELETE", "/adapters/nobody", "revision"),
        ("PUT", "/adapters/nobody/pin", "none"), ("DELETE", "/adapters/nobody/pin", "none"),
        ("POST", "/adapters/nobody/load", "none"), ("POST", "/adapters/nobody/unload", "none"),
        ("PUT", "/adapters/nobody/current", "revision"), ("POST", "/adapters", "name, activate"),
    ],
)  # fmt: skip
def test_every_path_refuses_what_it_does_not_know(client: httpx.Client, method: str, path: str, known: str) -> None:
    body = refused(client.request(method, f"{path}?revison=1"), 422, "'revison'", f"known: {known}")
    assert body["errors"][0]["where"] == "query.revison"


@pytest.mark.parametrize("path", ["/v2/models/people", "/v2/models/people/ready", "/v2/models/people/versions/1"])
def test_the_protocol_s_paths_too(client: httpx.Client, path: str) -> None:
    response = client.get(f"{path}?verbose=1")
    assert response.status_code == 422
    assert "unknown query parameter 'verbose'" in response.json()["error"]
    response = client.post("/v2/models/people/infer?adapter=default", json={})
    assert (response.status_code, "'adapter'" in response.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/", "/docs", "/static/js/api.js", "/v2/health/live"]
)
def test_probes_and_pages_take_any_query(client: httpx.Client, path: str) -> None:
    assert client.get(f"{path}?_=1700000000").status_code == 200


def infer(client: httpx.Client, path: str, *headers: tuple[str, str], **more: Any) -> httpx.Response:
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    return client.post(f"/v2/models/{path}/infer", json={"inputs": [one], **more}, headers=list(headers))


def test_the_protocol_s_body_and_path_mean_one_model(client: httpx.Client) -> None:
    wanted = {"outputs": [{"name": "saliency"}]}
    for path, more in (
        ("people", {"model_name": "people"}),
        ("people@1", {"model_name": "people", "model_version": "1"}),
        ("people/versions/1", {"model_name": "people@1"}),
    ):
        assert infer(client, path, **wanted, **more).status_code == 200
    assert infer(client, "people/versions/1", ("X-Adapter", "people"), **wanted).status_code == 200
    for answer in (
        infer(client, "people", model_name="default"),
        infer(client, "people", model_version="2"),
        infer(client, "people", ("X-Adapter", "default")),
    ):
        assert (answer.status_code, "people" in answer.json()["error"]) == (400, True)
    twice = infer(client, "people", ("X-Deadline-Ms", "5000"), ("X-Deadline-Ms", "6000"))
    assert (twice.status_code, "'5000'" in twice.json()["error"]) == (400, True)


def test_a_set_that_is_not_there_is_taken_for_one_that_is(client: httpx.Client) -> None:
    for response in (
        raw(client, "adapter=peopl"),
        raw(client, "adapter=peopel@1"),
        form(client, IMAGE, field("adapter", "People")),
        client.get("/adapters/poeple"),
        client.delete("/adapters/peple"),
    ):
        refused(response, 404, "no adapter set '", "did you mean 'people'?")
    assert "did you mean" not in raw(client, "adapter=qqqqqq").json()["detail"]
    answer = client.get("/v2/models/peopl")
    assert answer.json() == {"error": "Adapter not found: no adapter set 'peopl'; did you mean 'people'?"}


class Stopped:
    """An engine that waits, and what was asked of the server meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, plain = threading.Event(), Engine.run

        def run(engine: Engine, items: list[Item]) -> Any:
            self.open.wait(20)
            return plain(engine, items)

        monkeypatch.setattr(Engine, "run", run)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopped]:
    engine = Stopped(monkeypatch)
    yield engine
    engine.open.set()


def test_a_deadline_in_the_body_counts(weights: Weights, tmp_path: Path, stopped: Stopped) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        for response in (form(live.client, IMAGE, field("deadline_ms", "150")), as_json(live.client, deadline_ms=150)):
            refused(response, 504, "the deadline of 150 ms passed")
        refused(as_json(live.client, "adapter=people", deadline_ms=150), 504, "the deadline of 150 ms passed")
        stopped.open.set()


def test_a_deadline_in_the_body_may_be_longer_than_the_server_s(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store", deadline_ms=1)) as live:
        assert raw(live.client).status_code == 504
        assert form(live.client, IMAGE).status_code == 504
        assert form(live.client, IMAGE, field("deadline_ms", "20000")).status_code == 200


class Body:
    """A multipart body whose image is sent only when it is asked for."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PHOTO[:100]
        self.begun.set()
        self.go_on.wait(20)
        yield PHOTO[100:] + b'\r\n--b\r\nContent-Disposition: form-data; name="masks"\r\n\r\nnone\r\n--b--\r\n'

    def post(self, live: Live, query: str = "") -> httpx.Response:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        return httpx.post(f"{live.url}/predict?{query}", content=self, headers=headers, timeout=30)


def begun(live: Live, query: str) -> int:
    """Status of the answer to a request of whose body only the beginning is ever sent."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /predict?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
        answer = connection.recv(65536).decode()
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("query", "status"), [("adapter=nobody", 404), ("adapter=people&tasks=semseg", 422), ("adapter=people&x=1", 422)]
)
def test_what_the_query_says_is_refused_before_the_body_comes(live: Live, query: str, status: int) -> None:
    assert begun(live, query) == status


def test_a_set_named_in_the_query_is_kept_while_the_body_comes(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live, ThreadPoolExecutor(2) as pool:
        for name in ("cats", "dogs"):
            live.client.post("/adapters", files={"file": weights.upload(name)})
        kept, late = Body(), Body()
        answers = [pool.submit(kept.post, live, "adapter=cats"), pool.submit(late.post, live)]
        wait_until(lambda: kept.begun.is_set() and late.begun.is_set())
        wait_until(lambda: live.service.parts.device_cache.busy() != set())
        assert live.client.delete("/adapters/cats").status_code == 204
        kept.go_on.set()
        late.go_on.set()
        results = [answer.result() for answer in answers]
        assert [r.status_code for r in results] == [200, 200]
        assert [r.headers["x-adapter-revision"] for r in results] == ["cats@1", "default@1"]


def test_a_full_queue_refuses_only_what_the_body_cannot_change(
    weights: Weights, tmp_path: Path, stopped: Stopped
) -> None:
    settings = settings_for(weights, tmp_path / "store", max_queue_images=3, max_images=3)
    with live_app(settings) as live, ThreadPoolExecutor(8) as pool:
        assert live.client.post("/adapters/people/load").status_code == 200
        for count in range(3):
            pool.submit(httpx.post, f"{live.url}/predict", content=PHOTO, headers=JPEG, timeout=30)
            wait_until(lambda count=count: live.service.parts.pipeline.admitted == count + 1)
        assert begun(live, "adapter=default") == 429
        refused(form(live.client, IMAGE), 429)  # the default set after all
        other = pool.submit(form, live.client, IMAGE, field("adapter", "people"))
        wait_until(lambda: any(ref.name == "people" for ref in live.service.parts.device_cache.busy()))
        stopped.open.set()
        assert other.result().headers["x-adapter-revision"] == "people@1"


def test_the_schema_says_where_parameters_may_stand(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    content = operation["requestBody"]["content"]
    in_query = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
    multipart = content["multipart/form-data"]["schema"]
    assert set(multipart["properties"]) == in_query | {"image"}
    assert multipart["additionalProperties"] is False
    *ours, hugging_face = content["application/json"]["schema"]["oneOf"]
    assert set(hugging_face["properties"]["parameters"]["properties"]) == in_query | {"subtask"}
    for schema, image in zip(ours, ("image", "images"), strict=True):
        assert set(schema["properties"]) == in_query | {image}
        assert {"type": "array", "items": {"type": "string"}} in schema["properties"]["tasks"]["anyOf"]
    assert "null" not in json.dumps(multipart)


def test_half_a_surrogate_pair_is_a_name_like_any_other(client: httpx.Client) -> None:
    body = b'{"image": "aGk=", "\\ud800": "x"}'
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert "\\ud800" in response.text
