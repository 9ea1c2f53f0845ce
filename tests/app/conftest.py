"""One set of tiny weights and one shared server for every test of the service."""

from collections.abc import Iterator

import httpx
import pytest

from testing.serving import Live, Weights, live_app, make_weights, settings_for


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def live(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with default limits; tests leave its store as they found it, or use names of their own."""
    with live_app(settings_for(weights, tmp_path_factory.mktemp("store") / "s")) as server:
        yield server


@pytest.fixture
def client(live: Live) -> httpx.Client:
    return live.client
