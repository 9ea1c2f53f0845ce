"""Pins and readiness through HTTP: what is pinned is on the device, or it is said why not, and nothing else suffers."""

import threading
from pathlib import Path

import httpx
import pytest

from app.composition.service import Service
from app.core.names import AdapterRef
from app.registry.store_watcher import POLL_S, PRELOAD_S
from app.residency.loader import AdaptedSet, AdapterLoader
from app.store.adapter_store import AdapterStore
from testing.requests import predict, upload
from testing.serving import ServerProcess, Weights, live_app, metric, settings_for, wait_until


def damage(path: Path) -> None:
    """Other values in a tensor: the header is as it was, the digest is not."""
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")


def file_of(store: Path, name: str, revision: int) -> Path:
    (path,) = (store / "sets" / name).glob(f"{revision}-*.safetensors")
    return path


def state(client: httpx.Client, name: str) -> tuple[int, str, bool]:
    shown = client.get(f"/adapters/{name}").json()
    return shown["current"], shown["tier"], shown["pinned"]


def test_a_pinned_set_s_new_revision_is_on_the_device_before_the_switch(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        upload(live.client, weights.upload("cats"), name="kept")
        live.client.put("/adapters/kept/pin")
        assert upload(live.client, weights.upload("dogs"), name="kept").status_code == 201
        assert state(live.client, "kept") == (2, "device", True)
        assert predict(live.client, "kept").headers["x-adapter-cold"] == "0"
        upload(live.client, weights.upload("birds"), name="kept", activate="false")
        assert live.client.put("/adapters/kept/current", json={"revision": 3}).status_code == 200
        assert predict(live.client, "kept").headers["x-adapter-cold"] == "0"
        assert live.client.put("/adapters/kept/current", json={"revision": 1}).status_code == 200
        again = upload(live.client, weights.upload("birds"), name="kept")  # known bytes: their revision again
        assert (again.status_code, again.json()["current"]) == (200, 3)


def test_a_revision_that_cannot_be_loaded_does_not_become_current_where_it_is_pinned(
    weights: Weights, tmp_path: Path
) -> None:
    settings = settings_for(weights, tmp_path / "store", default_adapter="main", host_bytes=0)
    with live_app(settings, ready=False, prepare=main) as live:
        wait_until(lambda: live.client.get("/readyz").status_code == 200)
        upload(live.client, weights.upload("dogs"), name="main", activate="false")
        damage(file_of(tmp_path / "store", "main", 2))
        refused = live.client.put("/adapters/main/current", json={"revision": 2})
        assert refused.status_code == 409
        assert "main@2 cannot be kept on the device, nothing was changed" in refused.json()["detail"]
        assert "digest" in refused.json()["detail"]
        assert state(live.client, "main") == (1, "device", True)
        assert predict(live.client, "main").json()["adapter"]["revision"] == 1
        assert live.client.get("/readyz").json() == {"status": "ready", "missing": []}


def main(service: Service) -> None:
    """An uploaded set called main, there before the server starts."""
    store = AdapterStore.open(service.settings.store_folder)
    weights = service.settings.adapters.parent / "uploads" if service.settings.adapters else Path()
    staged = store.stage(10**9)
    staged.write((weights / "cats.safetensors").read_bytes())
    staged.finish()
    store.add("main", staged, activate=True)
    staged.close()


def costs(weights: Weights, tmp_path: Path) -> tuple[int, int]:
    """Bytes on the device of the default set and of cats (dogs and birds are as large), merged."""
    with live_app(settings_for(weights, tmp_path / "costs", form="merged")) as live:
        upload(live.client, weights.upload("cats"))
        live.client.post("/adapters/cats/load")
        device_cache = live.service.parts.device_cache
        default, cats = (device_cache.cost(ref) for ref in device_cache.resident())
    return default, cats


def test_pins_leave_room_for_one_more_set(weights: Weights, tmp_path: Path) -> None:
    default, cats = costs(weights, tmp_path)
    settings = settings_for(weights, tmp_path / "store", device_bytes=2 * default + cats, form="merged")
    with live_app(settings) as live:
        for name in ("cats", "dogs"):
            upload(live.client, weights.upload(name))
        assert live.client.put("/adapters/cats/pin").status_code == 200
        refused = live.client.put("/adapters/dogs/pin")
        assert refused.status_code == 409
        assert "no room for another set" in refused.json()["detail"]
        assert state(live.client, "dogs") == (1, "host", False)
        large = upload(live.client, (weights.bundled / "default.safetensors").read_bytes(), name="cats")
        assert large.status_code == 409  # four tasks instead of one: as large as the room that must be left
        assert [r["revision"] for r in live.client.get("/adapters/cats").json()["revisions"]] == [1]
        assert predict(live.client, "people").status_code == 200
        assert state(live.client, "cats") == (1, "device", True)


def test_pins_that_a_smaller_budget_cannot_keep_are_said_not_hidden(weights: Weights, tmp_path: Path) -> None:
    default, cats = costs(weights, tmp_path)
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        for name in ("cats", "dogs"):
            upload(live.client, weights.upload(name))
            assert live.client.put(f"/adapters/{name}/pin").status_code == 200
    with live_app(settings_for(weights, tmp_path / "store", device_bytes=2 * default + cats, form="merged")) as live:
        ready = live.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        (missing,) = ready.json()["missing"]
        assert (missing["adapter"], "no room" in missing["reason"]) == ("dogs@1", True)
        assert predict(live.client, "dogs").status_code == 200
        assert live.client.delete("/adapters/cats/pin").status_code == 200
        wait_until(lambda: live.client.get("/readyz").json() == {"status": "ready", "missing": []})


def test_a_pinned_set_that_cannot_be_loaded_leaves_the_server_ready_and_says_so(
    weights: Weights, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with live_app(settings_for(weights, store)) as live:
        upload(live.client, weights.upload("cats"), name="hurt")
        live.client.put("/adapters/hurt/pin")
        whole = file_of(store, "hurt", 1).read_bytes()
    damage(file_of(store, "hurt", 1))
    with live_app(settings_for(weights, store, load_failure_ttl_s=0.1)) as live:
        ready = live.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        (missing,) = ready.json()["missing"]
        assert missing["adapter"] == "hurt@1"
        assert "expected" in missing["reason"]
        shown = live.client.get("/adapters/hurt").json()
        assert (shown["status"], shown["pinned"], shown["tier"]) == ("failed", True, "disk")
        assert predict(live.client, "default").status_code == 200
        file_of(store, "hurt", 1).write_bytes(whole)
        wait_until(lambda: live.client.get("/readyz").json()["status"] == "ready")  # tried again by itself
        assert state(live.client, "hurt") == (1, "device", True)


def test_names_of_name_spaces_are_not_told_to_everyone(weights: Weights, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def pinned(service: Service) -> None:
        main(service)
        theirs = AdapterStore.open(store)
        staged = theirs.stage(10**9)
        staged.write(weights.upload("dogs"))
        staged.finish()
        theirs.add("tenant/secret", staged, activate=True)
        staged.close()
        theirs.update("tenant/secret", lambda state: state.replacing(pinned=True))
        damage(file_of(store, "tenant+secret", 1))

    with live_app(settings_for(weights, store), prepare=pinned) as live:
        assert live.client.get("/readyz").json()["missing"] == [{"adapter": "", "reason": "missing"}]


def test_while_starting_it_is_said_what_is_waited_for(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    with live_app(settings_for(weights, store)) as live:
        upload(live.client, weights.upload("cats"))
        live.client.put("/adapters/cats/pin")
    gates = {name: threading.Event() for name in ("default", "cats")}
    plain = AdapterLoader.load

    def slow(loader: AdapterLoader, ref: AdapterRef) -> AdaptedSet:
        gates[ref.name].wait(30)
        return plain(loader, ref)

    monkeypatch.setattr(AdapterLoader, "load", slow)
    with live_app(settings_for(weights, store), ready=False) as live:

        def waits() -> set[str]:
            answer = live.client.get("/readyz")
            return {e["detail"] for e in answer.json().get("errors", ())} if answer.status_code == 503 else set()

        wait_until(lambda: waits() == {"default@1: loading", "cats@1: loading"})
        gates["default"].set()
        wait_until(lambda: waits() == {"cats@1: loading"})
        assert predict(live.client, "default").status_code == 503
        assert metric(live, "mtlora_ready") == 0
        gates["cats"].set()
        wait_until(lambda: live.client.get("/readyz").json() == {"status": "ready", "missing": []})
        assert metric(live, "mtlora_ready") == 1


@pytest.mark.parametrize("how", ["cut", "foreign"])
def test_a_broken_bundled_set_is_listed_as_failed_and_nothing_else_suffers(
    weights: Weights, tmp_path: Path, how: str
) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "default.safetensors").write_bytes((weights.bundled / "default.safetensors").read_bytes())
    (bundled / "notes.safetensors").write_bytes(weights.backbone.read_bytes())  # no adapter set: not ours to list
    content = (weights.bundled / "people.safetensors").read_bytes()[:-8] if how == "cut" else weights.upload("foreign")
    (bundled / "broken.safetensors").write_bytes(content)
    with live_app(settings_for(weights, tmp_path / "store", adapters=bundled)) as live:
        sets = {s["name"]: s for s in live.client.get("/adapters").json()["adapters"]}
        assert sorted(sets) == ["broken", "default"]
        assert (sets["broken"]["status"], sets["default"]["status"]) == ("failed", "ready")
        assert ("tensors take" if how == "cut" else "trained on backbone") in sets["broken"]["reason"]
        assert predict(live.client, "broken").status_code == 503
        assert predict(live.client, "default").status_code == 200


def test_a_broken_default_set_ends_the_start_with_a_clear_message(weights: Weights, tmp_path: Path) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "default.safetensors").write_bytes((weights.bundled / "default.safetensors").read_bytes()[:-8])
    broken = Weights(tmp_path, weights.backbone, bundled, weights.uploads)
    server = ServerProcess(broken, tmp_path / "store")
    try:
        assert server.process.wait(180) == 2
    finally:
        server.kill()
    (line,) = server.log.read_text().splitlines()
    assert line.startswith("mtlora serve: --default-adapter: default cannot be served: default.safetensors: header")


def test_a_change_is_followed_within_a_second() -> None:
    assert POLL_S + PRELOAD_S < 1
