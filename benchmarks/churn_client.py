"""A client that changes adapter sets without pause: uploads, activates, loads, rolls back, deletes. Runs until ended.

python -m benchmarks.churn_client http://127.0.0.1:8000 one.safetensors two.safetensors
"""

import asyncio
import json
import sys
from pathlib import Path

from mtlora.bench.http_client import Client, multipart

NAME = "churned"


async def churn(url: str, files: list[bytes]) -> None:
    """Two revisions, up and down, in and out of memory, gone; again."""
    client = Client(url, connections=1)
    json_type = {"Content-Type": "application/json"}
    await client.request("DELETE", f"/adapters/{NAME}")  # what a churn that was ended has left
    while True:
        for file in files:
            body, headers = multipart({"name": NAME}, file)
            await _expect(client, 201, "POST", "/adapters", body, headers)
            await _expect(client, 200, "POST", f"/adapters/{NAME}/load")
        shown = await _expect(client, 200, "GET", f"/adapters/{NAME}")
        for revision in json.loads(shown)["revisions"]:
            body = json.dumps({"revision": revision["revision"]}).encode()
            await _expect(client, 200, "PUT", f"/adapters/{NAME}/current", body, json_type)
            await _expect(client, 200, "POST", f"/adapters/{NAME}/load")
        await _expect(client, 204, "DELETE", f"/adapters/{NAME}")


async def _expect(
    client: Client, status: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    reply = await client.request(method, path, body, headers)
    if reply.status != status:
        raise RuntimeError(f"{method} {path}: {reply.status}, expected {status}: {reply.body[:300]!r}")
    return reply.body


if __name__ == "__main__":
    asyncio.run(churn(sys.argv[1], [Path(path).read_bytes() for path in sys.argv[2:]]))
