"""The metrics page and the metrics are the same list."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.metrics import Levels, Metrics

PAGE = Path("docs/metrics.md").read_text()
CONTRACT = [
    "mtlora_requests_total",
    "mtlora_request_seconds",
    "mtlora_stage_seconds",
    "mtlora_images_total",
    "mtlora_images_computed_total",
    "mtlora_compute_share",
    "mtlora_compute_open_total",
    "mtlora_compute_saved_seconds_total",
    "mtlora_gated_blocks_total",
    "mtlora_task_outputs_total",
    "mtlora_batch_images",
    "mtlora_batch_adapters",
    "mtlora_queue_images",
    "mtlora_queue_limit_images",
    "mtlora_inflight_requests",
    "mtlora_rejected_total",
    "mtlora_decoders_lost_total",
    "mtlora_adapters",
    "mtlora_adapter_bytes",
    "mtlora_adapter_budget_bytes",
    "mtlora_adapter_loads_total",
    "mtlora_adapter_load_seconds",
    "mtlora_adapter_evictions_total",
    "mtlora_adapter_cache_hits_total",
    "mtlora_adapter_cache_misses_total",
    "mtlora_build_info",
    "mtlora_ready",
    "mtlora_store_usable",
]


def exposed() -> dict[str, str]:
    families = text_string_to_metric_families(Metrics(adapter_labels=3).expose(Levels()).decode())
    mine = (f for f in families if f.name.startswith("mtlora_"))
    return {f"{f.name}_total" if f.type == "counter" else f.name: f.documentation for f in mine}


def test_exactly_the_contract_s_metrics_are_exposed() -> None:
    assert sorted(exposed()) == sorted(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metric_is_documented(name: str) -> None:
    assert f"`{name}" in PAGE


def test_no_metric_is_documented_that_is_not_there() -> None:
    assert set(re.findall(r"^\| `(mtlora_\w+)", PAGE, re.MULTILINE)) == set(CONTRACT)
