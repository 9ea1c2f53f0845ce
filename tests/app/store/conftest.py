"""A store of its own for each test."""

from pathlib import Path

import pytest

from app.store.adapter_store import AdapterStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> AdapterStore:
    return AdapterStore.open(root)
