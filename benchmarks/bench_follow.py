"""How soon one server process shows what another one on the same store has changed.

    python -m benchmarks.bench_follow [--changes 40]

Two servers, one store. A set's current revision is switched on one; the other is asked every few milliseconds until it
answers predictions with the new revision. Times count from the acknowledgement of the change.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path

from benchmarks.harness import OtherLoad, save
from benchmarks.servers import Server, serve
from benchmarks.sets import Weights, make_weights, variation, write_photo
from mtlora.bench.http_client import Client, multipart
from mtlora.bench.load import quantile

NAME = "followed"
JSON_TYPE = {"Content-Type": "application/json"}
MOST_PAUSE_S = 0.5  # so that changes fall anywhere between two looks of the store's watcher
QUESTION = f"/predict?adapter={NAME}&tasks=saliency&masks=none"


async def measure(one: Server, two: Server, weights: Weights, root: Path, changes: int) -> list[float]:
    """Seconds from each acknowledged change to the first answer of the other process that shows it."""
    photo, chance = write_photo(root / "photo.jpg", (224, 224)).read_bytes(), random.Random(0)
    async with Client(one.url) as changing, Client(two.url) as asking:
        for seed in (1, 2):
            body, headers = multipart({"name": NAME}, variation(weights.folder / "default.safetensors", seed, root))
            await _expect(changing, 201, "POST", "/adapters", body, headers)
        delays = []
        for change in range(changes):
            revision = 1 + change % 2
            await asyncio.sleep(chance.random() * MOST_PAUSE_S)
            body = json.dumps({"revision": revision}).encode()
            await _expect(changing, 200, "PUT", f"/adapters/{NAME}/current", body, JSON_TYPE)
            begin = time.perf_counter()
            while True:
                answer = await _expect(asking, 200, "POST", QUESTION, photo, {"Content-Type": "image/jpeg"})
                if json.loads(answer)["adapter"]["revision"] == revision:
                    break
            delays.append(time.perf_counter() - begin)
    return delays


async def _expect(client: Client, status: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    reply = await client.request(method, path, body, headers)
    if reply.status != status:
        raise RuntimeError(f"{method} {path}: {reply.status}, expected {status}: {reply.body[:300]!r}")
    return reply.body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtlora-follow-") as folder, OtherLoad() as load:
        root = Path(folder)
        weights = make_weights(root, 1)
        with serve(weights, root / "store") as one, serve(weights, root / "store") as two:
            delays = asyncio.run(measure(one, two, weights, root, options.changes))
    median, longest = quantile(delays, 0.5), max(delays)
    figures = {"follow.median_s": median, "follow.longest_s": longest}
    save("follow", figures, changes=len(delays), other_load=round(load.share, 3))


if __name__ == "__main__":
    main()
