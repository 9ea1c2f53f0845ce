"""The serving process's exit status, run in this process because a start of its own takes seconds."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.server
from tests.serving import Weights, settings_for


@pytest.fixture(autouse=True)
def _signals_and_logs_stay_ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(app.server, "set_up_logs", lambda level: None)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"default_adapter": "nobody"}, "set 'nobody'; sets found: default, people; --default-adapter says"),
        ({"backbone": "bundled/default.safetensors"}, "does not hold a Swin encoder"),
        ({"backbone": "nothing.safetensors"}, "no backbone file"),
        ({"adapters": "nowhere"}, "does not exist"),
        ({"store": "backbone.safetensors/store"}, "cannot use"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_fails(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], words: str
) -> None:
    paths = {name: value if name == "default_adapter" else weights.root / value for name, value in change.items()}
    with caplog.at_level(logging.ERROR):
        status = app.server.run(settings_for(weights, tmp_path / "store").model_copy(update=paths))
    assert status == app.server.FAILED
    reasons = " ".join(str(getattr(record, "reason", "")) for record in caplog.records)
    assert words in reasons
