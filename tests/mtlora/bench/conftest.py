from collections.abc import Iterator

import pytest

from testing.stub_server import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running
