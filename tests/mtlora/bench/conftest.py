from collections.abc import Iterator

import pytest

from tests.mtlora.client.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running
