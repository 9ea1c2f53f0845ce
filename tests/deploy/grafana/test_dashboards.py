"""Dashboards are what the code makes; each query is valid PromQL, and answers when a server under load is scraped."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import promql_parser
import pytest

from deploy.grafana.generate import BOARDS, FOLDER, build
from testing.serving import Weights, encoded, live_app, picture, settings_for, wait_until
from tests.deploy.monitoring import Prometheus, prometheus
from tests.deploy.tools import needs

WINDOW_S = 60
PANELS = [
    pytest.param(expr, id=f"{name}: {panel.title}: {legend}")
    for name, board in BOARDS.items()
    for panels in board.rows.values()
    for panel in panels
    for legend, expr in panel.queries.items()
]


def filled_in(expr: str) -> str:
    """The query as Grafana sends it."""
    return expr.replace("$job", "mtlora").replace("$instance", ".+").replace("$__rate_interval", f"{WINDOW_S}s")


@pytest.mark.parametrize("name", BOARDS)
def test_the_committed_dashboard_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == build(BOARDS[name]), "run: make generated"


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap_and_have_names_of_their_own(name: str) -> None:
    panels = [p for p in json.loads((FOLDER / f"{name}.json").read_text())["panels"] if p["type"] != "row"]
    taken = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({p["title"] for p in panels}) == len(panels)
    assert all(p["description"] for p in panels)


@pytest.mark.parametrize("expr", PANELS)
def test_queries_parse(expr: str) -> None:
    promql_parser.parse(filled_in(expr))


@needs("prometheus")
def test_every_query_answers_for_a_server_under_load(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "a")) as live:
        default = live.service.parts.device_cache.used_bytes
    # Room for the default set and about one more, so that sets push each other out; a queue that a burst overflows.
    tight = settings_for(weights, tmp_path / "b", device_bytes=2 * default, max_queue_images=2, max_images=2)
    with live_app(tight) as live, prometheus(live.url.removeprefix("http://"), tmp_path / "p") as watching:
        wait_until(lambda: watching.value("mtlora_ready") == 1, 60)
        for name in ("cats", "dogs", "birds", "gated"):
            assert live.client.post("/adapters", files={"file": weights.upload(name)}).status_code == 201
        empty, end = PANELS, time.monotonic() + 60
        while empty and time.monotonic() < end:
            small_load(live.client)  # again and again: what rises between two scrapes only has a rate
            time.sleep(1)
            empty = [panel for panel in empty if not shown(watching, str(panel.values[0]))]
        assert [panel.id for panel in empty] == []
        assert watching.value('sum(mtlora_adapter_evictions_total{reason="room"})')
        assert watching.value('sum(mtlora_rejected_total{reason="queue_full"})')


def small_load(client: httpx.Client) -> None:
    """A few dozen requests: several sets and formats, mistakes, a burst."""
    photo, jpeg = encoded(picture(120, 90), "JPEG"), {"Content-Type": "image/jpeg"}

    def predict(query: str) -> int:
        return client.post(f"/predict?{query}", content=photo, headers=jpeg).status_code

    for _ in range(3):
        for name in ("cats", "dogs", "birds", "people", "default"):
            assert predict(f"adapter={name}") == 200
    for compute in ("0.5", "auto"):
        assert predict(f"adapter=gated&compute={compute}") == 200
    assert predict("tasks=saliency&format=png") == 200
    assert predict("format=npz") == 200
    assert predict("adapter=nobody") == 404
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(predict, ["adapter=default"] * 24))
    assert set(statuses) == {200, 429}


def shown(watching: Prometheus, expr: str) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in watching.query(filled_in(expr)))
