"""Tiny weights for server processes that are watched."""

import pytest

from testing.serving import Weights, make_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("weights"))
