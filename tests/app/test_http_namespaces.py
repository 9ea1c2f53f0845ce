"""Name spaces and quotas over HTTP: what is another's answers as what is not there; nobody gets more than theirs."""

import base64
import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access.keys import Quota, Scope
from testing.key_files import add, key
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
INFER = {
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PHOTO).decode()]}],
    "outputs": [{"name": "semseg"}],
}
ALL = (Scope.PREDICT, Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE)


class Tenant:
    """A client with a key."""

    def __init__(self, url: str, secret: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"X-API-Key": secret}, timeout=30)

    def upload(self, content: bytes, name: str, **fields: str) -> httpx.Response:
        return self.client.post("/adapters", files={"file": content}, data={"name": name, **fields})

    def predict(self, adapter: str = "") -> httpx.Response:
        query = f"?adapter={adapter}" if adapter else ""
        return self.client.post(f"/predict{query}", content=PHOTO, headers={"Content-Type": "image/jpeg"})

    def names(self) -> set[str]:
        return {s["name"] for s in self.client.get("/adapters").json()["adapters"]}


def keys_of(path: Path) -> Path:
    add(
        path,
        key("acme", *ALL, namespace="acme"),
        key("zeta", *ALL, namespace="zeta"),
        key("root", *ALL, Scope.METRICS),
        key("two", *ALL, namespace="two", quota=Quota(max_sets=2)),
        key("small", *ALL, namespace="small", quota=Quota(max_bytes=1_000_000)),
    )
    return path


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("spaces")
    with live_app(settings_for(weights, folder / "store", keys_file=keys_of(folder / "keys.json"))) as live:
        yield live


@pytest.fixture(scope="module")
def acme(server: Live) -> Tenant:
    return Tenant(server.url, "acme")


@pytest.fixture(scope="module")
def zeta(server: Live) -> Tenant:
    return Tenant(server.url, "zeta")


@pytest.fixture(scope="module")
def root(server: Live) -> Tenant:
    return Tenant(server.url, "root")


@pytest.fixture
def both(acme: Tenant, zeta: Tenant, weights: Weights) -> Iterator[None]:
    """Each has a set of one name, with other bytes; zeta has one more."""
    assert acme.upload(weights.upload("cats"), "pets").status_code == 201
    assert zeta.upload(weights.upload("dogs"), "pets").status_code == 201
    assert zeta.upload(weights.upload("birds"), "secret").status_code == 201
    yield
    acme.client.delete("/adapters/pets")
    for name in ("pets", "secret"):
        zeta.client.delete(f"/adapters/{name}")


def test_one_name_in_two_name_spaces_is_two_sets(both: None, acme: Tenant, zeta: Tenant, root: Tenant) -> None:
    ours, theirs = acme.predict("pets"), zeta.predict("pets")
    assert ours.json()["adapter"]["name"] == theirs.json()["adapter"]["name"] == "pets"
    assert ours.headers["x-adapter-revision"] == theirs.headers["x-adapter-revision"] == "pets@1"
    assert ours.json()["adapter"]["digest"] != theirs.json()["adapter"]["digest"]
    assert ours.json()["tasks"] != theirs.json()["tasks"]
    assert acme.names() == {"default", "people", "pets"}
    assert zeta.names() == {"default", "people", "pets", "secret"}
    assert root.names() == {"default", "people"}
    shown = acme.client.get("/adapters/pets").json()
    assert (shown["name"], shown["tier"]) == ("pets", "device")
    fetched = acme.client.get("/adapters/pets/file")
    assert 'filename="pets-1.safetensors"' in fetched.headers["content-disposition"]
    semseg = next(t for t in acme.client.get("/tasks").json()["tasks"] if t["name"] == "semseg")
    assert semseg["adapters"] == ["default", "pets"]
    inferred = [t.client.post("/v2/models/pets/infer", json=INFER).json() for t in (acme, zeta)]
    assert [i["model_name"] for i in inferred] == ["pets", "pets"]
    assert inferred[0]["outputs"] != inferred[1]["outputs"]
    acme.client.delete("/adapters/pets")
    assert (acme.predict("pets").status_code, zeta.predict("pets").status_code) == (404, 200)


def test_shared_sets_are_for_predicting(acme: Tenant, root: Tenant, weights: Weights) -> None:
    assert acme.predict().json()["adapter"]["name"] == "default"
    assert acme.predict("people").status_code == 200
    assert acme.client.post("/adapters/people/load").status_code == 200
    for method, path in (("PUT", "/pin"), ("DELETE", "/pin"), ("POST", "/unload"), ("DELETE", "")):
        refused = acme.client.request(method, f"/adapters/people{path}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:mtlora:problem:adapter-conflict")
    assert acme.client.put("/adapters/default/current", json={"revision": 1}).status_code == 409
    assert acme.upload(weights.upload("unnamed"), "people").status_code == 409
    assert root.client.put("/adapters/people/pin").status_code == 200
    assert root.client.delete("/adapters/people/pin").status_code == 200


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/adapters/{}", {}),
    ("DELETE", "/adapters/{}", {}),
    ("DELETE", "/adapters/{}?revision=1", {}),
    ("PUT", "/adapters/{}/current", {"json": {"revision": 1}}),
    ("PUT", "/adapters/{}/pin", {}),
    ("DELETE", "/adapters/{}/pin", {}),
    ("POST", "/adapters/{}/load", {}),
    ("POST", "/adapters/{}/unload", {}),
    ("GET", "/adapters/{}/file", {}),
    ("GET", "/adapters/{}/file?revision=1", {"headers": {"Range": "bytes=0-9"}}),
    ("HEAD", "/adapters/{}/file", {}),
    ("POST", "/predict?adapter={}", {"content": PHOTO, "headers": {"Content-Type": "image/jpeg"}}),
    ("POST", "/predict?adapter={}@1", {"content": PHOTO, "headers": {"Content-Type": "image/jpeg"}}),
    ("GET", "/v2/models/{}", {}),
    ("GET", "/v2/models/{}/versions/1", {}),
    ("GET", "/v2/models/{}/ready", {}),
    ("POST", "/v2/models/{}/infer", {"json": INFER}),
    ("POST", "/v2/models/{}@1/infer", {"json": INFER}),
    ("POST", "/v2/models/{}/infer", {"content": b"{"}),
    ("POST", "/predict?adapter={}&tasks=nonsense", {"content": b"", "headers": {"Content-Type": "image/jpeg"}}),
]


@pytest.mark.parametrize(("method", "path", "options"), REQUESTS)
def test_what_is_anothers_answers_as_what_is_not_there(
    both: None, acme: Tenant, root: Tenant, weights: Weights, method: str, path: str, options: dict[str, Any]
) -> None:
    """`secret` is zeta's, `ours` the global space's, `absent` nobody's: acme cannot tell one from the other."""
    assert root.upload(weights.upload("birds"), "ours").status_code in {200, 201}

    def seen(name: str) -> tuple[int, list[str], str]:
        answer = acme.client.request(method, path.format(name), **options)
        body = answer.text.replace(name, "NAME").replace(answer.headers["x-request-id"], "ID")
        return answer.status_code, sorted(answer.headers), body

    absent = seen("absent")
    assert absent[0] in {404, 405}
    assert seen("secret") == seen("ours") == absent
    root.client.delete("/adapters/ours")


@pytest.mark.parametrize(
    "name", ["zeta/secret", "zeta%2Fsecret", "zeta+secret", "zeta%2Bsecret", "../zeta+secret", "zeta"]
)
def test_full_names_and_folders_are_no_names(both: None, acme: Tenant, root: Tenant, name: str) -> None:
    for tenant in (acme, root):
        assert tenant.predict(name).status_code == 404
        assert tenant.client.get(f"/adapters/{name}").status_code == 404
        assert tenant.client.get(f"/adapters/{name}/file").status_code == 404


def test_uploading_what_another_has_tells_nothing(both: None, acme: Tenant, weights: Weights) -> None:
    """The same bytes under the same name are new here, though zeta has both."""
    answer = acme.upload(weights.upload("birds"), "secret")
    assert (answer.status_code, answer.json()["revisions"][0]["revision"]) == (201, 1)
    acme.client.delete("/adapters/secret")


def test_metrics_are_labelled_with_full_names(both: None, acme: Tenant, zeta: Tenant, root: Tenant) -> None:
    acme.predict("pets"), zeta.predict("pets")
    text = root.client.get("/metrics").text
    assert 'mtlora_images_total{adapter="acme/pets"} 1.0' in text
    assert 'mtlora_images_total{adapter="zeta/pets"} 1.0' in text
    assert acme.client.get("/metrics").status_code == 403


def test_sets_survive_a_restart_where_they_belong(weights: Weights, tmp_path: Path) -> None:
    settings = settings_for(weights, tmp_path / "store", keys_file=keys_of(tmp_path / "keys.json"))
    with live_app(settings) as live:
        acme = Tenant(live.url, "acme")
        acme.upload(weights.upload("cats"), "kept")
        acme.client.put("/adapters/kept/pin")
        assert sorted(p.name for p in (tmp_path / "store" / "sets").iterdir()) == ["acme+kept"]
    with live_app(settings) as live:
        acme, root = Tenant(live.url, "acme"), Tenant(live.url, "root")
        shown = acme.client.get("/adapters/kept").json()
        assert (shown["pinned"], shown["tier"]) == (True, "device")
        assert root.client.get("/adapters/kept").status_code == 404


def test_number_of_sets(server: Live, weights: Weights) -> None:
    two = Tenant(server.url, "two")
    for name in ("a", "b"):
        assert two.upload(weights.upload("cats"), name).status_code == 201
    before = two.client.get("/adapters").json()
    refused = two.upload(weights.upload("dogs"), "c")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["quota"] == {"name": "max_sets", "limit": 2, "usage": 2}
    assert "name space 'two' may hold 2 and holds 2 adapter sets" in refused.json()["detail"]
    assert two.client.get("/adapters").json()["adapters"] == before["adapters"]
    assert two.upload(weights.upload("dogs"), "a").status_code == 201  # a revision is no set
    assert two.upload(weights.upload("cats"), "a").status_code == 200
    two.client.delete("/adapters/b")
    assert two.upload(weights.upload("dogs"), "c").status_code == 201


def test_name_after_the_file_is_held_to_the_quota_too(server: Live, weights: Weights) -> None:
    two = Tenant(server.url, "two")
    for name in ("a", "b", "c"):
        two.client.delete(f"/adapters/{name}")
    for name, status in (("a", 201), ("b", 201), ("c", 429)):
        parts = [("file", ("f", weights.upload("cats"))), ("name", (None, name.encode()))]
        assert two.client.post("/adapters", files=parts).status_code == status
    assert two.client.post("/adapters", files={"file": weights.upload("birds")}).status_code == 429  # names itself


def test_bytes_stored(weights: Weights, tmp_path: Path) -> None:
    size = len(weights.upload("cats"))
    add(tmp_path / "keys.json", key("k", *ALL, quota=Quota(max_bytes=2 * size + 100)), key("m", Scope.METRICS))
    with live_app(settings_for(weights, tmp_path / "store", keys_file=tmp_path / "keys.json")) as live:
        tenant = Tenant(live.url, "k")
        assert [tenant.upload(weights.upload(n), "a").status_code for n in ("cats", "dogs", "birds")] == [201, 201, 429]
        refused = tenant.upload(weights.upload("birds"), "b").json()
        assert refused["quota"] == {"name": "max_bytes", "limit": 2 * size + 100, "usage": 2 * size}
        assert tenant.client.get("/adapters/b").status_code == 404
        assert tenant.upload(weights.upload("cats"), "a").status_code == 200  # sent again, it takes no room
        assert list((tmp_path / "store" / "incoming").iterdir()) == []
        tenant.client.delete("/adapters/a?revision=2")
        assert tenant.upload(weights.upload("birds"), "b").status_code == 201
        text = httpx.get(f"{live.url}/metrics", headers={"X-API-Key": "m"}).text
        assert 'mtlora_rejected_total{reason="quota"} 2.0' in text


def test_an_announced_body_is_refused_before_it_comes(server: Live) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        "POST /adapters HTTP/1.1\r\nHost: x\r\nX-API-Key: small\r\nContent-Length: 2000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 429")


def test_an_unannounced_body_is_refused_while_it_comes(server: Live) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(200):
            sent += 200_000
            yield b"x" * 200_000

    headers = {"X-API-Key": "small", "Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{server.url}/adapters", content=body(), headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["quota"]["name"]) == (429, "max_bytes")
    wait_until(lambda: not list((server.service.settings.store_folder / "incoming").iterdir()))


def test_uploads_at_once_do_not_exceed_a_quota(weights: Weights, tmp_path: Path) -> None:
    size = len(weights.upload("cats"))
    quota = Quota(max_sets=3, max_bytes=4 * size)
    add(tmp_path / "keys.json", key("k", *ALL, namespace="n", quota=quota))
    with live_app(settings_for(weights, tmp_path / "store", keys_file=tmp_path / "keys.json")) as live:
        tenant = Tenant(live.url, "k")
        with ThreadPoolExecutor(8) as pool:
            names = [f"s{i}" for i in range(8)]
            statuses = [a.status_code for a in pool.map(lambda n: tenant.upload(weights.upload("cats"), n), names)]
        assert set(statuses) <= {201, 429}
        assert 1 <= statuses.count(201) <= 3
        assert len(tenant.names() - {"default", "people"}) == statuses.count(201)
        for name in names:  # whatever the race left over may be used up one by one
            tenant.upload(weights.upload("cats"), name)
        assert len(tenant.names() - {"default", "people"}) == 3


def audit_lines(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    return [vars(r) for r in records if r.name == "mtlora.audit"]


def test_every_change_leaves_a_line_even_a_refused_one(
    server: Live, root: Tenant, zeta: Tenant, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    client = zeta.client
    zeta.upload(weights.upload("cats"), "logged")
    zeta.upload(weights.upload("dogs"), "logged")
    client.put("/adapters/logged/current", json={"revision": 1})
    client.put("/adapters/logged/current", json={"revision": 2}, headers={"X-Request-ID": "mine"})
    for method, path in (("PUT", "pin"), ("DELETE", "pin"), ("POST", "unload"), ("POST", "load")):
        client.request(method, f"/adapters/logged/{path}")
    client.delete("/adapters/logged?revision=2")
    client.delete("/adapters/logged")
    client.delete("/adapters/logged")
    zeta.upload(b"rubbish", "logged")
    httpx.delete(f"{server.url}/adapters/logged", headers={"X-API-Key": "wrong"})
    client.get("/adapters")
    wait_until(lambda: len(audit_lines(caplog.records)) >= 13)
    lines = audit_lines(caplog.records)
    assert [(line["action"], line["outcome"], line["status"]) for line in lines] == [
        ("upload", "done", 201),
        ("upload", "done", 201),
        ("rollback", "done", 200),
        ("activate", "done", 200),
        ("pin", "done", 200),
        ("unpin", "done", 200),
        ("unload", "done", 200),
        ("load", "done", 200),
        ("delete", "refused", 409),
        ("delete", "done", 204),
        ("delete", "refused", 404),
        ("upload", "refused", 422),
        ("delete", "refused", 401),
    ]
    first, fourth = lines[0], lines[3]
    assert (first["key"], first["namespace"], first["adapter"], first["revision"]) == ("zeta", "zeta", "zeta/logged", 1)
    assert len(first["digest"]) == 64
    assert first["client"] == "127.0.0.1"
    assert fourth["request_id"] == "mine"
    assert lines[8]["problem"] == "adapter-conflict"
    assert lines[12].keys() >= {"request_id", "client", "adapter"}
    assert "wrong" not in str(lines)


def test_the_audit_file_gets_lines_whatever_is_logged(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    log = logging.getLogger("mtlora.audit")
    before = log.handlers[:]
    try:
        with live_app(settings_for(weights, tmp_path / "store", audit_log=path)) as live:
            live.client.put("/adapters/people/pin")
            wait_until(lambda: bool(path.read_text()))
        (line,) = map(json.loads, path.read_text().splitlines())
        assert (line["action"], line["adapter"], line["logger"]) == ("pin", "people", "mtlora.audit")
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        for handler in set(log.handlers) - set(before):
            log.removeHandler(handler)
            handler.close()
