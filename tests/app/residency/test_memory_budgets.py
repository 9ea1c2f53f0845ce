"""Budgets: what is set stands; else shares of the memory that there is."""

from pathlib import Path

import pytest
import torch

from app.residency import memory_budgets
from app.residency.memory_budgets import Budgets, choose_budgets, memory_bytes

CPU = torch.device("cpu")


def test_what_is_set_stands() -> None:
    assert choose_budgets(5, 0, CPU) == Budgets(device_bytes=5, host_bytes=0)


def test_shares_of_the_memory_leave_room_for_the_rest() -> None:
    chosen = choose_budgets(None, None, CPU)
    assert 0 < chosen.host_bytes < chosen.device_bytes
    assert chosen.device_bytes + chosen.host_bytes <= memory_bytes() / 2


@pytest.mark.parametrize(("limit", "counts"), [("1000000", True), ("max", False), ("99999999999999999", False)])
def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, counts: bool) -> None:
    monkeypatch.setattr(memory_budgets, "_CGROUP_LIMITS", ())
    machine = memory_bytes()
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(memory_budgets, "_CGROUP_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    assert memory_bytes() == (1_000_000 if counts else machine)
