"""Owners: each changes names that are its alone, and knows exactly what must be there afterwards."""

import asyncio
import json
import random
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from benchmarks.churn.expected import Content
from benchmarks.churn.ledger import Ledger, SetNow
from benchmarks.churn.world import OutageError, World
from mtlora.bench.http_client import TransportError, multipart

MOST_REVISIONS = 5
LIVE_NAMES = 3
WEIGHTS = {
    "upload": 8, "reupload": 2, "roll": 6, "drop_revision": 3, "drop_current": 1, "delete": 2, "load": 3, "unload": 3,
    "pin": 1, "look": 3, "fetch": 1, "refused": 3, "abandoned": 2, "fleeting": 3,
}  # fmt: skip


class Owner:
    """Owns a few lasting names and ever new fleeting ones."""

    def __init__(self, world: World, number: int, offered: list[Content], bad_files: dict[str, bytes]) -> None:
        self._world = world
        self._offered = offered
        self._chance = random.Random(f"owner {number}")
        self._bad_files = bad_files
        self._names = [f"lasting-{number}-{i}" for i in range(LIVE_NAMES)]
        self._prefix, self._made = f"fleeting-{number}", 0
        self.own: dict[str, Ledger] = {}

    async def run(self) -> None:
        """Change things until told to stop; after every crash, look at everything first."""
        for name in self._names:
            self._ledger(name)
        while not self._world.stopping:
            action = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            try:
                await getattr(self, f"_{action}")(self.own[self._chance.choice(self._names)])
                self._world.counts[action] += 1
            except OutageError:
                await self._settle()
            await self._world.pause(self._chance)

    async def check_all(self) -> None:
        """Every acknowledged word about every name, looked up."""
        for ledger in list(self.own.values()):
            await self._look(ledger)
            if ledger.certain.current is not None:
                await self._fetch(ledger)

    # one method per action; each is given one of the lasting names

    async def _upload(self, ledger: Ledger) -> None:
        fresh = [c for c in self._offered if ledger.certain.number_of(c.digest) is None]
        if not fresh or len(ledger.certain.revisions) >= MOST_REVISIONS:
            await self._delete(ledger)
            return
        await self._send_file(ledger, self._chance.choice(fresh), activate=self._chance.random() < 0.7)

    async def _reupload(self, ledger: Ledger) -> None:
        if ledger.certain.revisions:
            digest = self._chance.choice(ledger.certain.revisions)[1]
            activate = self._chance.random() < 0.5
            await self._send_file(ledger, self._world.contents[digest], activate=activate)

    async def _roll(self, ledger: Ledger) -> None:
        if ledger.certain.revisions:
            number = self._chance.choice(ledger.certain.revisions)[0]
            body = json.dumps({"revision": number}).encode()
            await self._change(ledger, ledger.certain.activated(number), "PUT", "/current", body, {200})

    async def _drop_revision(self, ledger: Ledger) -> None:
        others = [n for n, _ in ledger.certain.revisions if n != ledger.certain.current]
        if others:
            number = self._chance.choice(others)
            await self._change(ledger, ledger.certain.without(number), "DELETE", f"?revision={number}", b"", {204})

    async def _drop_current(self, ledger: Ledger) -> None:
        current = ledger.certain.current
        if current is not None:
            await self._unchanged("DELETE", f"/adapters/{ledger.name}?revision={current}", {409})

    async def _delete(self, ledger: Ledger) -> None:
        if ledger.certain.current is not None:
            await self._change(ledger, ledger.certain.deleted(), "DELETE", "", b"", {204})
            await self._look(ledger)

    async def _load(self, ledger: Ledger) -> None:
        await self._move(ledger, "load")

    async def _unload(self, ledger: Ledger) -> None:
        await self._move(ledger, "unload")

    async def _pin(self, ledger: Ledger) -> None:
        """Pinned and released again, so that pins never fill the memory."""
        if ledger.certain.current is None:
            return
        pinned = replace(ledger.certain, pinned=True)
        if await self._change(ledger, pinned, "PUT", "/pin", b"", {200}, may_refuse={409}):
            await self._release(ledger)

    async def _release(self, ledger: Ledger) -> None:
        await self._change(ledger, replace(ledger.certain, pinned=False), "DELETE", "/pin", b"", {200})

    async def _look(self, ledger: Ledger) -> None:
        reply, _, _ = await self._world.ask("GET", f"/adapters/{ledger.name}")
        expected = {200, 404} - {404 if ledger.certain.current is not None else 200}
        if reply.status not in expected:
            self._world.violated(f"{ledger.name} must be {ledger.certain}, looking gave {reply.status}")
        elif reply.status == 200 and not state_of(json.loads(reply.body)).seen_as(ledger.certain):
            self._world.violated(f"{ledger.name} must be {ledger.certain}, is {state_of(json.loads(reply.body))}")

    async def _fetch(self, ledger: Ledger) -> None:
        if not ledger.certain.revisions:
            return
        number, digest = self._chance.choice(ledger.certain.revisions)
        reply, _, _ = await self._world.ask("GET", f"/adapters/{ledger.name}/file?revision={number}")
        if reply.status != 200 or reply.body != self._world.contents[digest].file:
            self._world.violated(f"the file of {ledger.name}@{number} is not what was sent (status {reply.status})")

    async def _refused(self, ledger: Ledger) -> None:
        """Files that must be refused and change nothing."""
        kind = self._chance.choice(list(self._bad_files))
        body, headers = multipart({"name": ledger.name}, self._bad_files[kind])
        reply, _, _ = await self._world.ask("POST", "/adapters", body, headers)
        if not 400 <= reply.status < 500:
            self._world.violated(f"a file that is {kind} was answered with {reply.status}")
        await self._look(ledger)

    async def _abandoned(self, ledger: Ledger) -> None:
        """An upload whose client leaves half way."""
        content = self._chance.choice(self._offered)
        body, headers = multipart({"name": ledger.name}, content.file)
        part = self._chance.randrange(len(body) - 1)
        try:
            await self._world.client.send_part("POST", "/adapters", body, part, self._chance.random() * 0.05, headers)
        except TransportError as error:
            raise OutageError("the connection broke while an upload was being abandoned") from error
        await self._look(ledger)

    async def _fleeting(self, _ledger: Ledger) -> None:
        """A set of a new name, used by whoever picks it, deleted soon."""
        self._made += 1
        ledger = self._ledger(f"{self._prefix}-{self._made}")
        try:
            await self._send_file(ledger, self._chance.choice(self._offered), activate=True)
            await asyncio.sleep(self._chance.random() * 4 * self._world.pace_s)
            await self._delete(ledger)
        except OutageError:
            await self._settle()
            await self._delete(ledger)
        self._world.ledgers.pop(ledger.name, None)
        self.own.pop(ledger.name, None)

    # how a change is made and checked

    async def _send_file(self, ledger: Ledger, content: Content, *, activate: bool) -> None:
        known = ledger.certain.number_of(content.digest) is not None
        body, headers = multipart({"name": ledger.name, "activate": str(activate).lower()}, content.file)
        after = ledger.certain.uploaded(content.digest, activate=activate)
        await self._change(ledger, after, "POST", None, body, {200 if known else 201}, headers=headers)

    async def _change(
        self,
        ledger: Ledger,
        after: SetNow,
        method: str,
        path: str | None,
        body: bytes,
        expected: set[int],
        *,
        may_refuse: Collection[int] = (),
        headers: dict[str, str] | None = None,
    ) -> bool:
        """Ask for a change; whether it was made. path: what follows the set's own path; None: that of all sets."""
        where = "/adapters" if path is None else f"/adapters/{ledger.name}{path}"
        headers = headers or ({"Content-Type": "application/json"} if body else {})
        version = ledger.begin(after, time.monotonic())
        reply, _, answered = await self._world.ask(method, where, body, headers)
        if reply.status not in expected:
            ledger.refused(version)
            if reply.status not in may_refuse:
                self._world.violated(f"{method} {where}: {reply.status} {reply.body[:200]!r}, expected {expected}")
            return False
        ledger.acknowledge(version, answered)
        if reply.body and not state_of(json.loads(reply.body)).seen_as(after):
            self._world.violated(f"{method} {where}: answered {state_of(json.loads(reply.body))}, expected {after}")
        return True

    async def _unchanged(self, method: str, path: str, expected: set[int]) -> None:
        reply, _, _ = await self._world.ask(method, path)
        if reply.status not in expected:
            self._world.violated(f"{method} {path}: {reply.status}, expected {expected}")

    async def _move(self, ledger: Ledger, how: str) -> None:
        there = ledger.certain.current is not None
        await self._unchanged("POST", f"/adapters/{ledger.name}/{how}", {200} if there else {404})

    def _ledger(self, name: str) -> Ledger:
        self.own[name] = self._world.ledgers[name] = Ledger(name)
        return self.own[name]

    async def _settle(self) -> None:
        """After a crash: what was acknowledged is there, what was under way is there or not, nothing else."""
        while True:
            await self._world.up.wait()
            try:
                for ledger in list(self.own.values()):
                    await self._settle_one(ledger)
                return
            except OutageError:
                await asyncio.sleep(0.1)

    async def _settle_one(self, ledger: Ledger) -> None:
        reply, _, answered = await self._world.ask("GET", f"/adapters/{ledger.name}")
        actual = state_of(json.loads(reply.body)) if reply.status == 200 else SetNow()
        if not ledger.settle(actual, answered):
            self._world.violated(f"after a crash {ledger.name} is {actual}, but {ledger.certain} was acknowledged")
            ledger.acknowledge(ledger.begin(actual, answered), answered)
        self._world.counts["settled after a crash"] += 1
        if ledger.certain.pinned:  # killed between pinning and releasing it
            await self._release(ledger)


def state_of(document: dict[str, Any]) -> SetNow:
    """What the document of a set says. The next number is not shown: one more than the largest is assumed."""
    revisions = tuple((r["revision"], r["digest"]) for r in document["revisions"])
    following = max((number for number, _ in revisions), default=0) + 1
    return SetNow(revisions, document["current"], following, document["pinned"])
