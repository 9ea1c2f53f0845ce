"""Users: predictions whose answers must be right, photos that must be refused, clients that leave."""

import asyncio
import json
import random
from typing import Any

from benchmarks.churn.expected import Photo
from benchmarks.churn.ledger import Ledger, SetNow
from benchmarks.churn.world import OutageError, World
from testing.hostile_images import HARMLESS, REFUSED

JPEG = {"Content-Type": "image/jpeg"}
HOSTILE = [*REFUSED.items(), *HARMLESS.items()]
DEADLINE_PASSED = 504


class User:
    """Asks for predictions of any set that anyone owns."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._chance = random.Random(f"user {number}")

    async def run(self) -> None:
        """Ask until told to stop."""
        actions = {self._ask: 12, self._ask_revision: 4, self._leave: 2, self._bad_photo: 2, self._hurry: 1}
        actions[self._hostile_photo] = 2
        while not self._world.stopping:
            action = self._chance.choices(list(actions), list(actions.values()))[0]
            try:
                await action()
            except OutageError:
                self._world.counts["predictions lost to a restart"] += 1
            await self._world.pause(self._chance)

    async def _ask(self) -> None:
        ledger, photo = self._pick()
        path = f"/predict?adapter={ledger.name}"
        reply, sent, answered = await self._world.ask("POST", path, photo.content, JPEG)
        possible = ledger.possible(sent, answered)
        if reply.status == 404:
            self._require(any(s.current is None for s in possible), f"{path}: 404, though {possible} must be there")
        elif reply.status == 200:
            document = json.loads(reply.body)
            named = document["adapter"]
            right = any(s.current == named["revision"] and s.digest_of(s.current) == named["digest"] for s in possible)
            self._require(right, f"{path}: answered by {named}, possible were {possible}")
            self._judge(photo, document)
        else:
            self._world.violated(f"{path}: {reply.status} {reply.body[:200]!r}")

    async def _ask_revision(self) -> None:
        ledger, photo = self._pick()
        if not ledger.certain.revisions:
            return
        number, digest = self._chance.choice(ledger.certain.revisions)
        path = f"/predict?adapter={ledger.name}@{number}"
        reply, sent, answered = await self._world.ask("POST", path, photo.content, JPEG)
        there = [s.digest_of(number) for s in ledger.possible(sent, answered)]
        if reply.status == 404:
            self._require(None in there, f"{path}: 404, though it must be there")
        elif reply.status == 200:
            document = json.loads(reply.body)
            named = document["adapter"]
            self._require(named["digest"] == digest and digest in there, f"{path}: answered by {named}")
            self._judge(photo, document)
        else:
            self._world.violated(f"{path}: {reply.status} {reply.body[:200]!r}")

    async def _leave(self) -> None:
        """A client that closes its connection while it waits."""
        ledger, photo = self._pick()
        work = self._world.ask("POST", f"/predict?adapter={ledger.name}", photo.content, JPEG)
        try:
            await asyncio.wait_for(work, self._chance.random() * 0.05)
        except TimeoutError:
            self._world.counts["clients that left"] += 1

    async def _bad_photo(self) -> None:
        whole = self._chance.choice(self._world.photos).content
        kind, body, expected = self._chance.choice(
            [("truncated", whole[: len(whole) // 2], 422), ("no image", b"GIF or not? " * 40, 415), ("empty", b"", 422)]
        )
        reply, _, _ = await self._world.ask("POST", "/predict", body, JPEG)
        self._require(reply.status == expected, f"a photo that is {kind}: {reply.status}, expected {expected}")
        self._world.counts["bad photos"] += 1

    async def _hostile_photo(self) -> None:
        """A file that is built to cost: refused, or read without its tricks; nobody else may notice."""
        name, data = self._chance.choice(HOSTILE)
        reply, _, _ = await self._world.ask("POST", "/predict?masks=none", data, JPEG)
        self._require(reply.status in {200, 413, 415, 422, 429}, f"the hostile photo {name!r}: {reply.status}")
        self._world.counts["hostile photos"] += 1

    async def _hurry(self) -> None:
        """A deadline that cannot be met: 504, or 429 where that is seen beforehand."""
        ledger, photo = self._pick()
        path = f"/predict?adapter={ledger.name}&deadline_ms=1"
        reply, _, _ = await self._world.ask("POST", path, photo.content, JPEG, allowed={DEADLINE_PASSED})
        self._world.counts["hopeless deadlines"] += 1
        self._require(reply.status in {200, 404, 429, DEADLINE_PASSED}, f"{path}: {reply.status}")

    def _pick(self) -> tuple[Ledger, Photo]:
        name = self._chance.choice(list(self._world.ledgers))
        return self._world.ledgers[name], self._chance.choice(self._world.photos)

    def _judge(self, photo: Photo, document: dict[str, Any]) -> None:
        content = self._world.contents[document["adapter"]["digest"]]
        verdict = content.judge(photo.name, document["tasks"])
        if verdict not in {"same", "rounded"}:
            self._world.violated(f"{document['adapter']['name']}: {verdict}")
            verdict = "wrong"
        self._world.counts[f"answers {verdict}"] += 1

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self._world.violated(otherwise)


def fixed(name: str, digest: str) -> Ledger:
    """The ledger of a bundled set, which never changes."""
    ledger = Ledger(name)
    ledger.acknowledge(ledger.begin(SetNow(((1, digest),), 1, 2), 0.0), 0.0)
    return ledger
