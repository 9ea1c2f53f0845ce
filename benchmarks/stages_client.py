"""One client, one request after the other: answer times beside the server's own timings. JSON in, JSON out.

in:  {"url", "path", "photo", "seconds"}
out: {"answer_ms": [...], "timings_ms": [{stage: ms}, ...]}
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.lab import answer
from mtlora.bench.http_client import Client

JPEG = {"Content-Type": "image/jpeg"}


async def measure(plan: dict[str, Any]) -> dict[str, list[Any]]:
    """The first answer does not count."""
    client, photo = Client(plan["url"], connections=1), Path(plan["photo"]).read_bytes()
    await client.request("POST", plan["path"], photo, JPEG)
    found: dict[str, list[Any]] = {"answer_ms": [], "timings_ms": []}
    end = time.perf_counter() + plan["seconds"]
    while (begin := time.perf_counter()) < end:
        reply = await client.request("POST", plan["path"], photo, JPEG)
        found["answer_ms"].append(1e3 * (time.perf_counter() - begin))
        if reply.status != 200:
            raise RuntimeError(f"{plan['path']}: {reply.status} {reply.body[:300]!r}")
        found["timings_ms"].append(json.loads(reply.body)["timings_ms"])
    return found


if __name__ == "__main__":
    answer(lambda plan: asyncio.run(measure(plan)))
