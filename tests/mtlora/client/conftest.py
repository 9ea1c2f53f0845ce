"""One server process with tiny weights for all tests of the client; a stub that answers what it is told to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.serving import ServerProcess, Weights, encoded, make_weights, picture
from testing.stub_server import Stub


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def url(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server; tests use adapter sets with names of their own."""
    server = ServerProcess(weights, tmp_path_factory.mktemp("store") / "s", engine_threads=1, codec_threads=1)
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder: two photos at the top, one below, one that is none, and a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "more/a.jpg")):
        form = "PNG" if name.endswith("png") else "JPEG"
        (folder / name).write_bytes(encoded(picture(60 + number, 40, seed=number), form))
    (folder / "torn.jpg").write_bytes(encoded(picture(), "JPEG")[:400])
    (folder / "notes.txt").write_text("no photo")
    return folder
