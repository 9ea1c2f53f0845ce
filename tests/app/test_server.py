"""The serving process's exit status, run in this process because a start of its own takes seconds."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.server
from app.core.errors import AdapterLoadError, DeviceError, KeyFileError, ServiceError, StartupError
from app.startup import listening
from mtlora.vocabulary.errors import AdapterMismatchError, BackboneError
from mtlora.weights.backbone import save_backbone
from testing.factories import make_backbone
from testing.serving import Weights, settings_for


@pytest.fixture(autouse=True)
def _signals_stay_ours() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"default_adapter": "nobody"}, "set 'nobody'; sets found: default, people; --default-adapter says"),
        ({"backbone": "bundled/default.safetensors"}, "does not hold a Swin encoder"),
        ({"backbone": "nothing.safetensors"}, "no backbone file"),
        ({"backbone": "other.safetensors"}, "was trained on backbone"),
        ({"adapters": "nowhere"}, "does not exist"),
        ({"store": "backbone.safetensors/store"}, "cannot use"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_fails(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], words: str
) -> None:
    save_backbone(make_backbone(seed=5), weights.root / "other.safetensors")
    paths = {name: value if name == "default_adapter" else weights.root / value for name, value in change.items()}
    with caplog.at_level(logging.ERROR):
        settings = settings_for(weights, tmp_path / "store").model_copy(update=paths)
        status = app.server.run(settings, listening.bind("127.0.0.1", 0))
    assert status == app.server.WRONG_SETTING
    reasons = " ".join(str(getattr(record, "reason", "")) for record in caplog.records)
    assert words in reasons


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, 0),
        (AdapterMismatchError("another backbone"), 2),
        (BackboneError("cut"), 2),
        (StartupError("no default set"), 2),
        (KeyFileError("gone"), 2),
        (AdapterLoadError("not finite"), 2),
        (DeviceError("busy"), 1),
        (OSError("disk"), 1),
        (MemoryError("none left"), 1),
        (ServiceError("anything"), 1),
    ],
)
def test_only_what_another_start_would_find_again_is_a_wrong_setting(
    failure: BaseException | None, status: int
) -> None:
    assert app.server.status_of(failure) == status


def test_a_port_that_cannot_be_opened_any_more_ends_the_start(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(sockets: listening.Sockets) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(listening, "listen", refuse)
    sockets = listening.bind("127.0.0.1", 0)
    assert app.server.run(settings_for(weights, tmp_path / "store"), sockets) == app.server.FAILED
    assert "Address already in use" in str(caplog.records[-1].__dict__["reason"])
    assert sockets[0].fileno() == -1
