"""Options of changes in every place where they may stand; a slip in one changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access.keys import Scope
from testing.key_files import add, key
from testing.serving import Live, Weights, live_app, settings_for


@pytest.fixture(scope="module")
def live(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path_factory.mktemp("options") / "store")) as server:
        yield server


@pytest.fixture(autouse=True)
def first(client: httpx.Client, weights: Weights) -> Iterator[int]:
    """A set `x` with one revision, and its number: those of deleted sets are never given again."""
    response = upload(client, weights.upload("cats"), name="x")
    assert response.status_code == 201, response.text
    yield response.json()["current"]
    client.delete("/adapters/x")


def upload(client: httpx.Client, content: bytes, query: str = "", /, **fields: Any) -> httpx.Response:
    return client.post(f"/adapters?{query}", files={"file": ("x.safetensors", content)}, data=fields)


def state(client: httpx.Client) -> list[tuple[str, int, int]]:
    """Name, current revision, number of revisions of every uploaded set."""
    found = client.get("/adapters").json()["adapters"]
    return [(s["name"], s["current"], len(s["revisions"])) for s in found if not s["bundled"]]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("activate=false", {"name": "x"}),
        ("name=x&activate=0", {}),
        ("name=x", {"activate": "no"}),
        ("name=x&activate=false", {"name": "x", "activate": "off"}),
        ("", {"name": "x", "activate": "FALSE"}),
    ],
)
def test_a_revision_goes_live_only_if_nobody_said_no(
    client: httpx.Client, weights: Weights, first: int, query: str, fields: dict[str, str]
) -> None:
    response = upload(client, weights.upload("dogs"), query, **fields)
    assert (response.status_code, response.headers["x-adapter-revision"]) == (201, f"x@{first + 1}")
    assert state(client) == [("x", first, 2)]


@pytest.mark.parametrize(
    ("query", "fields", "status", "words"),
    [
        ("activ=false", {"name": "x"}, 422, "'activ'; did you mean 'activate'? known: name, activate"),
        ("", {"name": "x", "activ": "false"}, 422, "'activ'; did you mean 'activate'? known: file, name, activate"),
        ("", {"name": "x", "overwrite": "no"}, 422, "unknown form field 'overwrite'; known: file, name, activate"),
        ("activate=perhaps", {"name": "x"}, 422, "activate"),
        ("", {"name": "x", "activate": "perhaps"}, 422, "got 'perhaps'"),
        ("", {"name": "x", "activate": ""}, 422, "activate"),
        ("name=", {}, 422, "name"),
        ("", {"name": ""}, 422, "form.name"),
        ("name=Bad", {}, 422, "adapter names match"),
        ("name=default", {}, 409, "cannot be changed"),
        ("name=y", {"name": "x"}, 400, "name is 'y' in the query and 'x' as a form field"),
        ("activate=true", {"name": "x", "activate": "false"}, 400, "activate is 'true' in the query"),
        ("activate=true&activate=false", {"name": "x"}, 400, "activate is 'true' in the query"),
        ("", {"name": ["x", "y"]}, 400, "name is 'x' as a form field and 'y' as a form field"),
    ],
)
def test_a_slip_changes_nothing(
    live: Live,
    client: httpx.Client,
    weights: Weights,
    first: int,
    query: str,
    fields: dict[str, Any],
    status: int,
    words: str,
) -> None:
    response = upload(client, weights.upload("dogs"), query, **fields)
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]
    assert state(client) == [("x", first, 1)]
    assert list((live.service.settings.store_folder / "incoming").iterdir()) == []


def test_the_same_field_again_is_no_fault_however_often(client: httpx.Client, weights: Weights, first: int) -> None:
    response = upload(client, weights.upload("dogs"), "name=x", name=["x"] * 500, activate=["false", "no"])
    assert response.headers["x-adapter-revision"] == f"x@{first + 1}", response.text


def test_the_revision_to_activate_may_stand_in_the_query(client: httpx.Client, weights: Weights, first: int) -> None:
    second = upload(client, weights.upload("dogs"), name="x").json()["current"]
    put = "/adapters/x/current"
    assert client.put(f"{put}?revision={first}").json()["current"] == first
    assert client.put(f"{put}?revision={second}", json={"revision": second}).json()["current"] == second
    for query, body, status, words in (
        ("revision=1", b'{"revision": 2}', 400, "revision is 1 in the query and 2 in the JSON body"),
        ("revision=1&revision=2", b"", 400, "revision is '1' in the query and '2' in the query"),
        ("", b'{"revision": 1, "revision": 2}', 400, "the key 'revision' twice"),
        ("revison=1", b"", 422, "did you mean 'revision'?"),
        ("", b'{"revison": 1}', 422, "did you mean 'revision'?"),
        ("revision=", b"", 422, "revision"),
        ("revision=0", b"", 422, "revision"),
        ("revision=1", b"{}", 422, "revision"),
    ):
        response = client.put(f"{put}?{query}", content=body)
        assert response.status_code == status, response.text
        assert words in response.json()["detail"]
    assert state(client) == [("x", second, 2)]


def test_a_body_that_would_be_ignored_is_refused(client: httpx.Client, weights: Weights, first: int) -> None:
    """A revision in the body of a deletion must not delete the set."""
    second = upload(client, weights.upload("dogs"), name="x").json()["current"]
    for method, path in (
        ("DELETE", "/adapters/x"),
        ("PUT", "/adapters/x/pin"),
        ("DELETE", "/adapters/x/pin"),
        ("POST", "/adapters/x/load"),
        ("POST", "/adapters/x/unload"),
    ):
        for body in (b'{"revision": 1}', iter([b'{"revision": 1}'])):
            response = client.request(method, path, content=body)
            assert response.status_code == 422, response.text
            assert "takes no body" in response.json()["detail"]
    assert state(client) == [("x", second, 2)]
    assert client.request("POST", "/adapters/x/load", json={}).status_code == 200
    assert client.request("DELETE", "/adapters/x?revision=", content=b"").status_code == 422
    assert client.request("DELETE", f"/adapters/x?revision={first}", content=b"").status_code == 204
    assert state(client) == [("x", second, 1)]


def test_near_names_are_those_that_the_key_may_see(weights: Weights, tmp_path: Path) -> None:
    keys = ("acme", "other", "all")
    path = tmp_path / "keys.json"
    scopes = (Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE)
    add(path, *(key(label, *scopes, namespace="" if label == "all" else label) for label in keys))
    with live_app(settings_for(weights, tmp_path / "store", keys_file=path)) as live:

        def told(label: str, name: str) -> str:
            response = live.client.get(f"/adapters/{name}", headers={"X-API-Key": label})
            assert response.status_code == 404
            detail: str = response.json()["detail"]
            return detail

        for label in ("acme", "all"):
            response = live.client.post(
                "/adapters",
                files={"file": weights.upload("cats")},
                data={"name": f"secret-{label}"},
                headers={"X-API-Key": label},
            )
            assert response.status_code == 201, response.text
        assert told("acme", "secret-acm") == "no adapter set 'secret-acm'; did you mean 'secret-acme'?"
        assert told("all", "secret-al") == "no adapter set 'secret-al'; did you mean 'secret-all'?"
        assert told("other", "secret-acm") == "no adapter set 'secret-acm'"
        assert told("other", "secret-al") == "no adapter set 'secret-al'"
        assert told("all", "secret-acmx").endswith("did you mean 'secret-all'?")  # not the nearer one of a name space
        assert told("other", "peopl") == "no adapter set 'peopl'; did you mean 'people'?"
        gone = live.client.delete("/adapters/secret-acme", headers={"X-API-Key": "acme"})
        assert (gone.status_code, told("acme", "secret-acm")) == (204, "no adapter set 'secret-acm'")
