"""An uploaded file on its way to its first prediction: written once, read once, and whatever was checked is kept."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.core.names import AdapterRef
from testing.requests import predict, upload
from testing.serving import Weights, live_app, metric, settings_for, wait_until

BLOB = re.compile(r"[0-9]+-[0-9a-f]{64}\.safetensors")
_watched: list[Counter[tuple[str, bool]]] = []


def _opened(event: str, arguments: tuple[object, ...]) -> None:
    """A hook cannot be taken out again: it looks only while somebody wants to know."""
    if event == "open" and _watched and isinstance(arguments[0], str | Path):
        name = Path(arguments[0]).name
        if name.endswith(".part") or BLOB.fullmatch(name):  # and not what the test itself reads to send it
            flags = arguments[2]
            _watched[-1][Path(name).suffix, isinstance(flags, int) and bool(flags & 0b11)] += 1


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_opened)


@contextmanager
def opened() -> Iterator[Counter[tuple[str, bool]]]:
    """How often files of sets are opened meanwhile: by suffix, and whether to write."""
    _watched.append(Counter())
    try:
        yield _watched[-1]
    finally:
        _watched.clear()


def test_a_file_is_read_once_from_its_upload_to_its_first_prediction(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "s")) as live, opened() as files:
        assert upload(live.client, weights.upload("cats")).status_code == 201
        assert predict(live.client, "cats").headers["x-adapter-cold"] == "1"
        assert live.client.get("/adapters/cats").json()["tier"] == "device"
        assert files == {(".part", True): 1, (".part", False): 1}


def test_without_host_memory_it_is_read_for_the_first_request(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "s", host_bytes=0)) as live, opened() as files:
        assert upload(live.client, weights.upload("cats")).json()["tier"] == "disk"
        assert predict(live.client, "cats").status_code == 200
        assert files[".safetensors", False]


def test_a_pinned_set_is_switched_without_reading_its_file_again(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "s")) as live:
        upload(live.client, weights.upload("cats"), name="mine")
        live.client.put("/adapters/mine/pin")
        with opened() as files:
            shown = upload(live.client, weights.upload("dogs"), name="mine").json()
            assert (shown["current"], shown["tier"]) == (2, "device")
            assert not files[".safetensors", False]


def test_a_revision_that_is_not_made_current_takes_nobodys_place(weights: Weights, tmp_path: Path) -> None:
    cats, dogs = (len(weights.upload(name)) for name in ("cats", "dogs"))
    default = (weights.bundled / "default.safetensors").stat().st_size
    room = default + max(cats, dogs)
    with live_app(settings_for(weights, tmp_path / "s", host_bytes=room)) as live:
        first = AdapterRef("cats", 1, upload(live.client, weights.upload("cats")).json()["digest"])
        host = live.service.parts.adapters.host
        assert first in host
        upload(live.client, weights.upload("dogs"), name="cats", activate="false")
        assert first in host
        assert metric(live, 'mtlora_adapter_evictions_total{reason="room",tier="host"}') == 0
        assert upload(live.client, weights.upload("dogs"), name="dogs").json()["tier"] == "host"
        assert len(host.held()) == 2 and host.used_bytes <= room


def test_what_is_deleted_leaves_memory(weights: Weights, tmp_path: Path) -> None:
    with live_app(settings_for(weights, tmp_path / "s")) as live:
        host = live.service.parts.adapters.host
        before = host.used_bytes
        upload(live.client, weights.upload("cats"))
        assert host.used_bytes == before + len(weights.upload("cats"))
        assert live.client.delete("/adapters/cats").status_code == 204
        wait_until(lambda: host.used_bytes == before)
