"""One answered request, as a trace tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.stages import Stages


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """One request that was answered."""

    method: str
    route: str  # the path's pattern; empty where none fits
    path: str
    status: int
    began_s: float  # on the clock of time.perf_counter, as the times of its stages
    ended_s: float
    images: tuple[Stages, ...]
    facts: Mapping[str, Any]
    headers: Mapping[str, str]
