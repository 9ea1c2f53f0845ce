"""Every metric of the registry moves when what it counts happens: an action over HTTP, and the change expected."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.api.errors import REJECTION_OF
from app.core import errors
from app.decoding.decoders import IsolatedDecoders
from app.engine.engine import Engine, Outcome
from app.engine.work_item import Item
from app.prediction.pipeline import Pipeline
from app.telemetry.metrics import DECODER_LOSSES, REJECTIONS, Levels, Metrics
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for, wait_until

PHOTO = encoded(picture(), "JPEG")
PASCAL = ("semseg", "normals", "saliency", "human_parts")
STAGES = ("decode", "queue", "load", "forward", "encode")
LOSSES = {reason: f'mtlora_decoders_lost_total{{reason="{reason}"}}' for reason in DECODER_LOSSES}
Act = Callable[[Live, Weights], None]


@dataclass(frozen=True)
class Row:
    """What happens, and by how much which samples change; None: by anything above zero."""

    happens: Act
    moves: dict[str, float | None]
    before: Act = lambda live, weights: None


def predict(live: Live, query: str = "") -> httpx.Response:
    return httpx.post(f"{live.url}/predict?{query}", content=PHOTO, headers={"Content-Type": "image/jpeg"}, timeout=60)


def answered(query: str = "") -> Act:
    def act(live: Live, _weights: Weights) -> None:
        assert predict(live, query).status_code == 200

    return act


def uploaded(name: str) -> Act:
    def act(live: Live, weights: Weights) -> None:
        files = {"file": weights.upload("cats")}
        assert live.client.post("/adapters", files=files, data={"name": name}).status_code == 201

    return act


def sent(method: str, path: str) -> Act:
    def act(live: Live, _weights: Weights) -> None:
        assert live.client.request(method, path).is_success

    return act


def damaged_used(name: str) -> Act:
    def act(live: Live, _weights: Weights) -> None:
        for path in (live.service.settings.store_folder / "sets" / name).rglob("*.safetensors"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        assert predict(live, f"adapter={name}").status_code == 503

    return act


def both(*acts: Act) -> Act:
    def act(live: Live, weights: Weights) -> None:
        for one in acts:
            one(live, weights)

    return act


ROWS = {
    "a prediction": Row(
        answered(),
        {
            'mtlora_requests_total{code="200",format="json"}': 1,
            "mtlora_request_seconds_count": 1,
            "mtlora_request_seconds_sum": None,
            **{f'mtlora_stage_seconds_count{{stage="{stage}"}}': 1 for stage in STAGES},
            'mtlora_stage_seconds_sum{stage="forward"}': None,
            'mtlora_images_total{adapter="default"}': 1,
            **{f'mtlora_task_outputs_total{{task="{task}"}}': 1 for task in PASCAL},
            "mtlora_batch_images_count": 1,
            "mtlora_batch_images_sum": 1,
            "mtlora_batch_adapters_count": 1,
            "mtlora_batch_adapters_sum": 1,
            "mtlora_adapter_cache_hits_total": 1,
        },
    ),
    "one task asked for": Row(answered("tasks=semseg"), {'mtlora_task_outputs_total{task="semseg"}': 1}),
    "an upload": Row(
        uploaded("new"),
        {
            'mtlora_adapters{tier="disk"}': 1,
            'mtlora_adapter_bytes{tier="disk"}': None,
            'mtlora_adapters{tier="host"}': 1,
            'mtlora_adapter_bytes{tier="host"}': None,
        },
    ),
    "first use of a set": Row(
        answered("adapter=cold"),
        {
            "mtlora_adapter_cache_misses_total": 1,
            'mtlora_adapter_loads_total{result="ok",tier="device"}': 1,
            'mtlora_adapter_load_seconds_count{tier="device"}': 1,
            'mtlora_adapters{tier="device"}': 1,
            'mtlora_adapter_bytes{tier="device"}': None,
            'mtlora_images_total{adapter="cold"}': 1,
        },
        before=uploaded("cold"),
    ),
    "a load that fails": Row(
        damaged_used("damaged"),
        {'mtlora_adapter_loads_total{result="error",tier="host"}': 1},
        before=both(uploaded("damaged"), sent("POST", "/adapters/damaged/unload")),
    ),
    "unloading": Row(
        sent("POST", "/adapters/unloaded/unload"),
        {'mtlora_adapter_evictions_total{reason="unload",tier="device"}': 1, 'mtlora_adapters{tier="device"}': -1},
        before=both(uploaded("unloaded"), sent("POST", "/adapters/unloaded/load")),
    ),
    "deleting": Row(
        sent("DELETE", "/adapters/deleted"),
        {'mtlora_adapter_evictions_total{reason="delete",tier="device"}': 1, 'mtlora_adapters{tier="disk"}': -1},
        before=both(uploaded("deleted"), sent("POST", "/adapters/deleted/load")),
    ),
}
ELSEWHERE = {
    "mtlora_rejected_total": "test_every_reason_of_a_refusal_is_counted",
    "mtlora_decoders_lost_total": "test_a_lost_decoder_is_counted",
    "mtlora_queue_images": "test_what_is_under_way_shows",
    "mtlora_inflight_requests": "test_what_is_under_way_shows",
    "mtlora_queue_limit_images": "test_what_was_set_shows",
    "mtlora_adapter_budget_bytes": "test_what_was_set_shows",
    "mtlora_build_info": "test_what_was_set_shows",
    "mtlora_ready": "test_ready_falls_when_draining",
    "mtlora_store_usable": "test_a_store_that_is_gone_shows",
    "mtlora_compute_share": "test_budgets_of_compute_are_counted",
    "mtlora_compute_open_total": "test_budgets_of_compute_are_counted",
    "mtlora_compute_saved_seconds_total": "test_budgets_of_compute_are_counted",
    "mtlora_gated_blocks_total": "test_budgets_of_compute_are_counted",
    "mtlora_images_computed_total": "test_budgets_of_compute_are_counted",
}


def samples(live: Live) -> dict[str, float]:
    """Every sample by its name and labels, labels in order."""
    found = {}
    for family in text_string_to_metric_families(live.client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def moved(live: Live, before: dict[str, float], expected: dict[str, float | None]) -> bool:
    now = samples(live)
    changes = {name: now.get(name, 0) - before.get(name, 0) for name in expected}
    return all(changes[name] > 0 if by is None else changes[name] == by for name, by in expected.items())


@pytest.fixture(scope="module")
def server(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_app(settings_for(weights, tmp_path_factory.mktemp("moves") / "s")) as live:
        yield live


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_metrics_move(server: Live, weights: Weights, row: Row) -> None:
    row.before(server, weights)
    before = samples(server)
    row.happens(server, weights)
    wait_until(lambda: moved(server, before, row.moves))  # counted after the answer is sent


@pytest.mark.parametrize(("kind", "reason"), REJECTION_OF.items(), ids=lambda value: getattr(value, "__name__", value))
def test_every_reason_of_a_refusal_is_counted(
    server: Live, monkeypatch: pytest.MonkeyPatch, kind: type[errors.ServiceError], reason: str
) -> None:
    """That each arises where it should has tests of its own; here: whatever raises it, its reason is counted."""

    def refuse(*_: Any) -> None:
        raise kind("made to happen")

    monkeypatch.setattr(Pipeline, "refuse_early", refuse)
    before = samples(server)
    assert predict(server).status_code >= 400
    wait_until(lambda: moved(server, before, {f'mtlora_rejected_total{{reason="{reason}"}}': 1}))


def test_every_documented_reason_has_an_error() -> None:
    assert set(REJECTIONS) == set(REJECTION_OF.values())


def test_what_is_under_way_shows(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, plain = threading.Event(), Engine.run

    def held(engine: Engine, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        gate.wait(20)
        return plain(engine, items)

    monkeypatch.setattr(Engine, "run", held)
    before = samples(server)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(predict, server) for _ in range(2)]
        wait_until(lambda: moved(server, before, {"mtlora_queue_images": 2, "mtlora_inflight_requests": 2}))
        gate.set()
        assert [one.result().status_code for one in running] == [200, 200]
    wait_until(lambda: moved(server, before, {"mtlora_queue_images": 0, "mtlora_inflight_requests": 0}))


def test_room_is_made_and_counted(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "a")) as live:
        device_cache = live.service.parts.device_cache
        budget = device_cache.used_bytes
    with live_app(settings_for(weights, tmp_path / "b", device_bytes=2 * budget)) as live:
        for name in ("one", "two", "three", "four", "five"):
            uploaded(name)(live, weights)
        before = samples(live)
        for name in ("one", "two", "three", "four", "five"):
            assert predict(live, f"adapter={name}").status_code == 200
        now = samples(live)
        name = 'mtlora_adapter_evictions_total{reason="room",tier="device"}'
        assert now[name] > before[name]
        assert now['mtlora_adapter_bytes{tier="device"}'] <= 2 * budget


def test_a_lost_decoder_is_counted(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        before, decoders = samples(live), live.service.parts.decoders
        assert isinstance(decoders, IsolatedDecoders)
        os.kill(decoders.pids[0], signal.SIGKILL)
        assert predict(live).status_code == 200
        now = samples(live)
        moved_by = {reason: now[name] - before[name] for reason, name in LOSSES.items()}
        assert moved_by == {"died": 1, "costly": 0, "late": 0, "grown": 0}


def test_budgets_of_compute_are_counted(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        files = {"file": weights.upload("gated")}
        assert live.client.post("/adapters", files=files, data={"name": "gated"}).status_code == 201
        assert predict(live, "adapter=gated").status_code == 200
        before = samples(live)
        assert before["mtlora_compute_share_count"] == 0
        assert before['mtlora_images_computed_total{adapter="gated"}'] == 1
        shares = [
            predict(live, f"adapter=gated&compute={compute}").json()["compute"]["share"] for compute in ("0.5", "auto")
        ]
        now = samples(live)
        assert shares[1] == 1
        assert now["mtlora_compute_share_count"] == 2
        assert now['mtlora_images_computed_total{adapter="gated"}'] == pytest.approx(1 + sum(shares), abs=1e-3)
        assert now['mtlora_compute_open_total{lowered="no"}'] == 1
        assert now['mtlora_compute_open_total{lowered="yes"}'] == 0
        assert now["mtlora_compute_saved_seconds_total"] > 0
        blocks = {name: value for name, value in now.items() if name.startswith("mtlora_gated_blocks_total")}
        assert sum(blocks.values()) == pytest.approx(12)  # of two images with six blocks each
        skipped = sum(value for name, value in blocks.items() if "skipped" in name)
        assert 2 < skipped < 5


def test_what_was_set_shows(weights: Weights, tmp_path: Path) -> None:
    settings = settings_for(
        weights, tmp_path / "store", max_queue_images=17, device_bytes=123_456_789, host_bytes=98_765_432
    )
    with live_app(settings) as live:
        now = samples(live)
        assert now["mtlora_queue_limit_images"] == 17
        assert now['mtlora_adapter_budget_bytes{tier="device"}'] == 123_456_789
        assert now['mtlora_adapter_budget_bytes{tier="host"}'] == 98_765_432
        (info,) = (name for name in now if name.startswith("mtlora_build_info{"))
        assert all(f'{label}="' in info for label in ("version", "torch", "backbone"))
        assert now[info] == 1


def test_ready_falls_when_draining(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        assert samples(live)["mtlora_ready"] == 1
        live.service.drain()
        assert samples(live)["mtlora_ready"] == 0


def test_a_store_that_is_gone_shows(weights: Weights, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with live_app(settings_for(weights, store)) as live:
        assert samples(live)["mtlora_store_usable"] == 1
        store.rename(tmp_path / "away")
        wait_until(lambda: samples(live)["mtlora_store_usable"] == 0)
        (tmp_path / "away").rename(store)
        wait_until(lambda: samples(live)["mtlora_store_usable"] == 1)


def test_no_metric_is_left_out() -> None:
    families = text_string_to_metric_families(Metrics(adapter_labels=3).expose(Levels()).decode())
    exposed = {f"{f.name}_total" if f.type == "counter" else f.name for f in families if f.name.startswith("mtlora_")}
    named = {sample.partition("{")[0] for row in ROWS.values() for sample in row.moves}
    tested = {name.removesuffix("_count").removesuffix("_sum") for name in named} | set(ELSEWHERE)
    assert tested == exposed
    assert all(name in globals() for name in ELSEWHERE.values())
