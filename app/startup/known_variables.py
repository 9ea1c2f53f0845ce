"""Warnings about environment variables that look like ours and are not: slips that would go unnoticed."""

import logging
from collections.abc import Iterable

from app.core.nearest import nearest
from app.startup.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "MTLORA_"
ELSEWHERE = frozenset(
    {
        "MTLORA_NATIVE",  # kernels on or off
        "MTLORA_KEY",  # of the client
        "MTLORA_URL",
        "MTLORA_BENCH_PREFIX",  # of the benchmarks
        "MTLORA_CONTRACT_EXAMPLES",  # of the tests
    }
)
"""Read by other parts than the settings."""


def known_variables() -> frozenset[str]:
    """Every variable with our prefix that something reads."""
    return ELSEWHERE | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Of these variables' names those with our prefix that nothing reads, each with the one that may be meant."""
    known = known_variables()
    rests = {name.removeprefix(PREFIX): name for name in sorted(known)}
    told = []
    for name in sorted(environment):
        prefix, rest = name.upper()[: len(PREFIX)], name.upper()[len(PREFIX) :]
        if prefix == PREFIX and rest not in rests:
            meant = nearest(rest, rests)
            told.append(f"{name} ({rests[meant]}?)" if meant else name)
    return told


def warn_of_unknown_variables(environment: Iterable[str]) -> None:
    """One warning that names them all, if there are any."""
    found = unknown_variables(environment)
    if found:
        log.warning("environment variables that nothing reads", extra={"variables": found})
