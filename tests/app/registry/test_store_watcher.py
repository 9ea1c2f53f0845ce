"""What other processes delete leaves the memory of this one, whatever was going on with it there."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.names import AdapterRef
from app.residency.loader import AdaptedSet, AdapterLoader
from app.store.adapter_store import AdapterStore
from testing.requests import predict, upload
from testing.serving import Weights, live_app, metric, settings_for, wait_until

DEVICE = 'mtlora_adapters{tier="device"}'
DELETED = 'mtlora_adapter_evictions_total{reason="delete",tier="%s"}'
OF_CATS = 'adapter="cats"'


def delete_elsewhere(store: Path, name: str) -> None:
    AdapterStore.open(store).update(name, lambda state: state.without(None))


def test_a_set_deleted_elsewhere_while_it_is_loaded_does_not_stay(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    loading, go = threading.Event(), threading.Event()
    plain = AdapterLoader.load

    def slow(loader: AdapterLoader, ref: AdapterRef) -> AdaptedSet:
        if ref.name == "cats":
            loading.set()
            go.wait(30)
        return plain(loader, ref)

    monkeypatch.setattr(AdapterLoader, "load", slow)
    with live_app(settings_for(weights, store)) as live, ThreadPoolExecutor(1) as pool:
        before = metric(live, DEVICE)
        upload(live.client, weights.upload("cats"))
        answer = pool.submit(predict, live.client, "cats")
        assert loading.wait(30)
        delete_elsewhere(store, "cats")
        wait_until(lambda: live.client.get("/adapters/cats").status_code == 404)
        go.set()
        assert answer.result().status_code == 200  # it was resolved before the deletion
        wait_until(lambda: metric(live, DELETED % "device") == 1)
        wait_until(lambda: metric(live, DELETED % "host") == 1)
        assert metric(live, DEVICE) == before
        wait_until(lambda: OF_CATS not in live.client.get("/metrics").text)
