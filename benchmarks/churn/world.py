"""What all actors of the churn share: the server's address, the clock, who owns which name, and what went wrong."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from benchmarks.churn.expected import Content, Photo
from benchmarks.churn.ledger import Ledger
from mtlora.bench.http_client import Client, Reply, TransportError

SHOWN_VIOLATIONS = 50


class OutageError(Exception):
    """The request fell into a restart: whether it had an effect is unknown."""


@dataclass(slots=True)
class World:
    """One churn."""

    client: Client
    photos: list[Photo]
    contents: dict[str, Content]  # by digest of the file
    pace_s: float  # mean pause between two steps of an actor
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    stopping: bool = False
    up: asyncio.Event = field(default_factory=asyncio.Event)

    def violated(self, what: str) -> None:
        """A promise was broken."""
        self.counts["violations"] += 1
        if len(self.violations) < SHOWN_VIOLATIONS:
            self.violations.append(f"{time.strftime('%H:%M:%S')} {what}")

    def excused(self, sent: float, answered: float) -> bool:
        """Whether the server was being killed or restarted at some moment between."""
        return any(sent <= end and begin <= answered for begin, end in self.outages)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        allowed: Collection[int] = (),
    ) -> tuple[Reply, float, float]:
        """An answer with the times of asking and being answered; `OutageError` if a restart came between.

        Any 5xx not in `allowed` and any broken connection outside of restarts is a violation (and raised as an
        outage, to go on).
        """
        sent = time.monotonic()
        try:
            reply = await self.client.request(method, path, body, headers)
        except TransportError as error:
            if not self.excused(sent, time.monotonic()):
                self.violated(str(error))
            raise OutageError(str(error)) from error
        answered = time.monotonic()
        self.counts[f"status {reply.status}"] += 1
        if reply.status >= 500 and reply.status not in allowed:
            excused = reply.status == 503 and self.excused(sent, answered)
            if not excused:
                self.violated(f"{method} {path}: {reply.status} {reply.body[:300].decode(errors='replace')}")
            raise OutageError(f"{method} {path}: {reply.status}")
        return reply, sent, answered

    async def pause(self, chance: random.Random) -> None:
        """Between two steps; waits for the server while it is down."""
        await asyncio.sleep(chance.expovariate(1 / self.pace_s) if self.pace_s else 0)
        await self.up.wait()
