"""The background throttle: changes of adapter sets leave most of the time to predictions.

On a machine with few cores a check or a load of tens of milliseconds is felt by every prediction beside it, whatever
its priority: operators wait for their slowest thread, and Python runs one thread at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

PATIENCE_S = 0.25
"""Changes must get on beside traffic that never ends."""
SHARE = 0.1
"""Of the time, for changes beside traffic: one alone never waits for that, many one after the other do."""
MAX_REST_S = 1.0
"""After one change, however long it took: a disk that hangs must not keep the others waiting."""
TRAFFIC_S = 1.0
"""So long after the last prediction, nobody has to be spared."""


class BackgroundThrottle:
    """Knows whether predictions are under way, and how much time changes took. Lives on the event loop."""

    def __init__(
        self, patience_s: float = PATIENCE_S, share: float = SHARE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._rest_per_s = 1 / share - 1
        self._predictions = self._changes = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._door = asyncio.Lock()  # first come, first served
        self._rest_until = self._traffic_until = self._clock()

    @contextmanager
    def prediction(self) -> Iterator[None]:
        """One is under way."""
        self._predictions += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._predictions -= 1
            self._traffic_until = self._clock() + TRAFFIC_S
            self._set_quiet()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        """One is under way, begun when nothing else was, or after `patience_s` seconds.

        Beside traffic, changes one after the other get their share of the time: after each there is a rest.
        """
        async with self._door:
            await self._rest()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._quiet.wait()
            self._changes += 1
            self._quiet.clear()
        begun = self._clock()
        try:
            yield
        finally:
            self._changes -= 1
            self._set_quiet()
            now = self._clock()
            self._rest_until = max(now, self._rest_until) + min((now - begun) * self._rest_per_s, MAX_REST_S)

    async def _rest(self) -> None:
        while (left_s := self._rest_until - (now := self._clock())) > 0:
            if not self._predictions and now >= self._traffic_until:
                return
            await asyncio.sleep(min(left_s, TRAFFIC_S))

    def _set_quiet(self) -> None:
        if not self._predictions + self._changes:
            self._quiet.set()
