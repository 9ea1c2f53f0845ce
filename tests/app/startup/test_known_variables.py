"""Variables that nothing reads are told of; everything that something reads is known."""

import logging
import re

import pytest

from app.startup.known_variables import known_variables, unknown_variables, warn_of_unknown_variables
from testing.paths import ROOT

READERS = ("app", "mtlora", "benchmarks", "scripts", "tests/e2e")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MTLORA_MAX_IMAGEZ", "MTLORA_MAX_IMAGEZ (MTLORA_MAX_IMAGES?)"),
        ("MTLORA_DEFAULT_ADAPTOR", "MTLORA_DEFAULT_ADAPTOR (MTLORA_DEFAULT_ADAPTER?)"),
        ("MTLORA_APIKEYS", "MTLORA_APIKEYS (MTLORA_API_KEYS?)"),
        ("mtlora_prot", "mtlora_prot (MTLORA_PORT?)"),
        ("MTLORA_QQQQ", "MTLORA_QQQQ"),
    ],
)
def test_slips_are_told(name: str, told: str) -> None:
    assert unknown_variables(["PATH", "MTLORA_PORT", name, "MTLORA_NATIVE"]) == [told]


def test_known_ones_are_not_told_in_either_case() -> None:
    assert unknown_variables([*known_variables(), "mtlora_port", "PATH", "XMTLORA_X", "_MTLORA_COMPLETE"]) == []


def test_whatever_is_read_is_known() -> None:
    """Names as the sources write them in quotes: what is read, and what they tell people to set."""
    named = {
        name
        for folder in READERS
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"(MTLORA_[A-Z_]+)"', path.read_text())
    }
    assert named >= {"MTLORA_NATIVE", "MTLORA_KEY", "MTLORA_URL", "MTLORA_BENCH_PREFIX"}
    assert unknown_variables(named) == []


def test_one_line_names_them_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_unknown_variables(["MTLORA_PORT"])
        assert not caplog.records
        warn_of_unknown_variables(["MTLORA_PROT", "MTLORA_HOSTS"])
    (record,) = caplog.records
    assert vars(record)["variables"] == ["MTLORA_HOSTS (MTLORA_HOST?)", "MTLORA_PROT (MTLORA_PORT?)"]
