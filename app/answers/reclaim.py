"""The return of large answers' memory to the system.

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
MOST_PAUSES = 10

Trim = Callable[[int], object]


class Reclaimer:
    """Gives free memory back once there was no large work for a while, or ten times as long. Lives on the event loop.

    Not after each: the next work of that size, and the engine's next pass, would have to get their pages again.
    """

    def __init__(self, executor: Executor, trim: Trim | None = None, pause_s: float = PAUSE_S) -> None:
        """trim: gives memory back, but for so many bytes at the end of the heap; default: glibc's, if it is there"""
        self._executor = executor
        self._trim = trim or _glibc_trim()
        self._pause_s = pause_s
        self._waiting: asyncio.TimerHandle | None = None
        self._latest = 0.0

    def freed(self, nbytes: int) -> None:
        """So much was used and is free now, or will be soon."""
        if self._trim is None or nbytes < LEAST_BYTES:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting is None:
            self._latest = now + MOST_PAUSES * self._pause_s
        elif now < self._latest:
            self._waiting.cancel()
        else:
            return  # it is about to begin
        self._waiting = loop.call_at(min(now + self._pause_s, self._latest), self._begin)

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
