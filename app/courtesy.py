"""Work that nobody waits for with a photo begins between predictions, or when it has waited long enough.

On a machine with few cores a check or a load of tens of milliseconds is felt by every prediction beside it, whatever
its priority: operators wait for their slowest thread, and Python runs one thread at a time.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE_S = 0.25
"""Uploads and loads must get on beside traffic that never ends."""


class Courtesy:
    """Knows whether predictions are under way. Lives on the event loop."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._predictions = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def prediction(self) -> Iterator[None]:
        """One is under way."""
        self._predictions += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._predictions -= 1
            if not self._predictions:
                self._quiet.set()

    async def turn(self) -> None:
        """Return when no prediction is under way, at the latest after `patience_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._quiet.wait()
