"""Rare sets beside a flood, over HTTP with arrivals that do not wait for answers.

The engine takes a fixed time for each image, asleep, so that what is measured is the order of turns and not the
machine. In the order of arrival the rare sets would wait for the whole queue of the busy one, 6 s.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from app.engine.engine import Engine, Outcome
from app.engine.work_item import Item
from mtlora.bench.load import Plan, Report, Stream, Target, quantile, run
from testing.serving import Live, Weights, encoded, live_app, picture, settings_for

IMAGE_S = 0.1  # so 10 images a second
RARE_RATE = 0.6  # of each rare set
RARE = ("rare0", "rare1", "rare2", "rare3")
BUSIER = 20
SLACK_MS = 500  # for a machine that is busy with other things; far less than a queue's length


def load(live: Live, photo: Path, *, flood: bool) -> Report:
    """Ten seconds of the rare sets, alone or beside one at twenty times the rate of each."""
    targets = tuple(Target(live.url, f"/predict?adapter={name}&tasks=semseg&masks=none") for name in RARE)
    streams = [Stream("rare", targets, rate=RARE_RATE * len(RARE))]
    if flood:
        busy = Target(live.url, "/predict?adapter=default&tasks=semseg&masks=none")
        streams.append(Stream("busy", (busy,), rate=RARE_RATE * BUSIER, clients=200))
    return asyncio.run(run(Plan(str(photo), tuple(streams), seconds=11.0, warmup_s=1.0)))


def test_a_flood_leaves_the_others_their_p95(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    plain = Engine.run

    def slow(engine: Engine, items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        ran.extend(item.flow.adapter for item in items)
        time.sleep(IMAGE_S * len(items))
        return plain(engine, items)

    monkeypatch.setattr(Engine, "run", slow)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encoded(picture(), "JPEG"))
    with live_app(settings_for(weights, tmp_path / "store")) as live:
        for name in RARE:
            files = {"file": weights.upload("cats")}
            assert live.client.post("/adapters", files=files, data={"name": name}).status_code == 201
            assert live.client.post(f"/adapters/{name}/load").status_code == 200
        alone = load(live, photo, flood=False)["rare"]
        ran.clear()
        crowded = load(live, photo, flood=True)
    rare, busy = crowded["rare"], crowded["busy"]
    assert not alone.failures and not rare.failures  # nobody but the flood is ever refused
    assert len(rare.latency_ms) > 15
    assert set(busy.failures) <= {"429"}
    assert ran.count("default") > len(ran) / 3  # what the others leave is the flood's: no machine time is lost
    before, beside = quantile(alone.latency_ms, 0.95), quantile(rare.latency_ms, 0.95)
    assert beside < 2 * before + SLACK_MS
    assert quantile(busy.latency_ms, 0.5) > 2 * beside  # it was a flood: who makes it waits
