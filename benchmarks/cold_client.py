"""First answers of sets that are on disk only, beside second ones: unload, ask, ask again. JSON in, JSON out.

in:  {"url", "photo", "names", "path"}; path: of a prediction, the set's name is added
out: {"cold_ms": [...], "hot_ms": [...]}
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks.lab import answer
from mtlora.bench.http_client import Client

JPEG = {"Content-Type": "image/jpeg"}


async def measure(plan: dict[str, Any]) -> dict[str, list[float]]:
    """One cold and one hot answer of every set, one after the other."""
    client, photo = Client(plan["url"], connections=1), Path(plan["photo"]).read_bytes()
    times: dict[str, list[float]] = {"cold_ms": [], "hot_ms": []}
    for name in plan["names"]:
        reply = await client.request("POST", f"/adapters/{name}/unload")
        if reply.status != 200:
            raise RuntimeError(f"cannot unload {name}: {reply.status} {reply.body[:300]!r}")
        for kind, flag in (("cold_ms", "1"), ("hot_ms", "0")):
            begin = time.perf_counter()
            reply = await client.request("POST", f"{plan['path']}adapter={name}", photo, JPEG)
            times[kind].append(1e3 * (time.perf_counter() - begin))
            if reply.status != 200 or reply.headers["x-adapter-cold"] != flag:
                raise RuntimeError(f"{name}: {reply.status}, cold {reply.headers.get('x-adapter-cold')}, not {flag}")
    return times


if __name__ == "__main__":
    answer(lambda plan: asyncio.run(measure(plan)))
