"""What every test shares: one torch thread (the cores belong to the runner), repeatable randomness, sound parsing."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, is_hypothesis_test, settings

from testing.examples import examples
from testing.parsing import guard_parsing

guard_parsing()
torch.set_num_threads(1)
settings.register_profile(
    "default", deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of properties can be asked for by a marker: `make test-slow` runs them again, with all examples."""
    for item in items:
        if is_hypothesis_test(getattr(item, "function", None)):
            item.add_marker("properties")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
