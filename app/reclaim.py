"""Memory of large answers goes back to the system.

The allocator is told to keep what is freed (see `cli`), which the engine's passes need: so after large work it is asked
once to give back what is free.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import Executor

LEAST_BYTES = 64 << 20
"""Less than this is worth keeping."""
PAUSE_S = 1.0

Trim = Callable[[int], object]


class Reclaimer:
    """Gives free memory back after large work, at most once in a second. Lives on the event loop."""

    def __init__(self, executor: Executor, trim: Trim | None = None, pause_s: float = PAUSE_S) -> None:
        """trim: gives memory back, but for so many bytes at the end of the heap; default: glibc's, if it is there"""
        self._executor = executor
        self._trim = trim or _glibc_trim()
        self._pause_s = pause_s
        self._waiting: asyncio.TimerHandle | None = None

    def freed(self, nbytes: int) -> None:
        """So much was used and is free now, or will be soon."""
        if self._trim is not None and nbytes >= LEAST_BYTES and self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(self._pause_s, self._begin)

    def close(self) -> None:
        """Give nothing back any more."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._trim = None

    def _begin(self) -> None:
        self._waiting = None
        if self._trim is not None:
            asyncio.get_running_loop().run_in_executor(self._executor, self._trim, 0)


def _glibc_trim() -> Trim | None:
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return trim
