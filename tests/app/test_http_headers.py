"""Headers that are parameters somewhere: honoured, or the same as the path, or refused; never dropped."""

import httpx
import pytest

from app.api.dependencies import PARAMETER_HEADERS
from tests.app.test_http_parameters import JPEG, PHOTO, refused

SETS = [
    ("GET", "/adapters/people"),
    ("DELETE", "/adapters/people"),
    ("PUT", "/adapters/people/pin"),
    ("DELETE", "/adapters/people/pin"),
    ("POST", "/adapters/people/load"),
    ("POST", "/adapters/people/unload"),
    ("PUT", "/adapters/people/current"),
    ("GET", "/adapters/people/file"),
    ("GET", "/v2/models/people"),
    ("GET", "/v2/models/people/ready"),
    ("POST", "/v2/models/people/infer"),
    ("GET", "/v2/models/people/versions/1"),
    ("GET", "/v2/models/people/versions/1/ready"),
    ("POST", "/v2/models/people/versions/1/infer"),
]
NO_SET = [("GET", "/adapters"), ("POST", "/adapters"), ("GET", "/tasks")]
OPEN = ["/livez", "/readyz", "/metrics", "/v2", "/v2/health/ready", "/v2/health/live", "/", "/docs"]


def says(response: httpx.Response) -> str:
    body = response.json()
    return str(body.get("detail") or body["error"])


@pytest.mark.parametrize(("method", "path"), SETS)
def test_another_set_than_the_path_says_is_400(client: httpx.Client, method: str, path: str) -> None:
    for wrong in ("default", "people@2", "People", ""):
        response = client.request(method, path, headers={"X-Adapter": wrong})
        assert response.status_code == 400, (wrong, response.text)
        assert "adapter set 'people" in says(response)
        assert f"the header X-Adapter {wrong!r}" in says(response)
    twice = client.request(method, path, headers=[("X-Adapter", "people"), ("X-Adapter", "default")])
    assert twice.status_code == 400


@pytest.mark.parametrize(
    "path", ["/adapters/people", "/adapters/people/file", "/v2/models/people", "/v2/models/people@1"]
)
def test_the_set_that_the_path_says_may_be_said_again(client: httpx.Client, path: str) -> None:
    for headers in ([("X-Adapter", "people")], [("X-Adapter", "people"), ("X-Adapter", "people")]):
        assert client.get(path, headers=headers).status_code == 200


def test_with_the_revision_that_is_asked_for(client: httpx.Client) -> None:
    for path in (
        "/adapters/people/file?revision=1",
        "/v2/models/people@1/ready",
        "/v2/models/people/versions/1",
        "/v2/models/people/versions/1/ready",
    ):
        assert client.get(path, headers={"X-Adapter": "people@1"}).status_code == 200
        assert client.get(path, headers={"X-Adapter": "people@2"}).status_code == 400


@pytest.mark.parametrize(("method", "path"), NO_SET)
@pytest.mark.parametrize("header", sorted(PARAMETER_HEADERS))
def test_where_no_header_is_a_parameter_it_is_422(client: httpx.Client, method: str, path: str, header: str) -> None:
    body = refused(client.request(method, path, headers={header.title(): "1"}), 422, "unknown header parameter", header)
    assert body["errors"][0]["where"] == f"header.{header}"


def test_headers_of_other_paths_are_422(client: httpx.Client) -> None:
    for header in ("X-Tasks", "X-Format", "X-Masks", "X-Logits", "Inference-Header-Content-Length"):
        response = client.post("/predict", content=PHOTO, headers={**JPEG, header: "1"})
        refused(
            response, 422, f"unknown header parameter '{header.lower()}'", "known: x-adapter, x-compute, x-deadline-ms"
        )
    response = client.post("/v2/models/people/infer", json={}, headers={"X-Tasks": "saliency"})
    assert response.status_code == 422
    assert "known: inference-header-content-length, x-deadline-ms" in says(response)
    response = client.get("/adapters/people", headers={"X-Adapter": "people", "X-Deadline-Ms": "5000"})
    refused(response, 422, "unknown header parameter 'x-deadline-ms'")


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_pages_take_any_header(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"X-Adapter": "nobody", "X-Deadline-Ms": "0"}).status_code == 200


def test_headers_that_are_no_business_of_ours_are_let_be(client: httpx.Client) -> None:
    headers = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Request-ID": "7",
        "X-Adapter-Revision": "people@1",
        "X-Api-Version": "1",
    }
    assert client.get("/adapters/people", headers=headers).status_code == 200
