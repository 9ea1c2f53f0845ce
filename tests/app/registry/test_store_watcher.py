"""What other processes delete leaves the memory of this one, whatever was going on with it there."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.errors import AdapterLoadError, ServiceError, StoreUnavailableError
from app.core.names import AdapterRef
from app.registry.store_watcher import SLOW_S, Question
from app.residency.loader import AdaptedSet, AdapterLoader
from app.store.adapter_store import AdapterStore
from testing.clocks import Clock
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
        live.client.post("/adapters/cats/unload")
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


def told_s(question: Question, state: str) -> float:
    found = re.fullmatch(rf"{state} for ([0-9.e-]+) s", question.fault)
    assert found, question.fault
    return float(found[1])


def failing(error: ServiceError) -> None:
    raise error


def ask(question: Question, error: ServiceError) -> None:
    with pytest.raises(type(error)):
        asyncio.run(question.ask(lambda: failing(error)))


def test_a_fault_is_told_with_how_long_it_has_been_so() -> None:
    """Not with how long one question waited: it is asked again and again."""
    question = Question("checking", 10)
    assert question.fault == ""
    ask(question, StoreUnavailableError("the lock is held", 100.0, "; sets cannot be changed meanwhile"))
    assert told_s(question, "the lock is held") >= 100
    ask(question, StoreUnavailableError("the lock is held", 1.0))
    assert told_s(question, "the lock is held") >= 100
    ask(question, StoreUnavailableError("the store has not answered", 20.0))
    assert 20 <= told_s(question, "the store has not answered") < 100
    ask(question, AdapterLoadError("the store is gone"))
    assert question.fault == "the store is gone"
    asyncio.run(question.ask(lambda: None))
    assert question.fault == ""
    ask(question, StoreUnavailableError("the store has not answered", 20.0))
    assert told_s(question, "the store has not answered") < 100


def test_a_question_without_an_answer_yet_is_told_too() -> None:
    clock, go = Clock(), threading.Event()
    question = Question("checking", 30, clock)

    async def main() -> None:
        asked = asyncio.create_task(question.ask(lambda: go.wait(60)))
        await asyncio.sleep(0)
        clock.now += SLOW_S
        assert question.fault == ""
        clock.now += 0.5
        assert told_s(question, "the adapter store has not answered") == SLOW_S + 0.5
        go.set()
        await asked

    asyncio.run(main())
    assert question.fault == ""
