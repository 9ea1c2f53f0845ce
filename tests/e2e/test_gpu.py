"""`mtlora serve` on a GPU with the bundled sets: its maps are those that the library makes on the CPU."""

import asyncio
import json
from pathlib import Path

import pytest
import torch

from benchmarks.churn.expected import Photo, content_of
from benchmarks.servers import serve
from benchmarks.sets import Weights, write_photo
from mtlora.bench.http_client import Client
from mtlora.weights.backbone import load_backbone
from mtlora.weights.bundled import bundled_adapters, bundled_backbone, bundled_folder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")
JPEG = {"Content-Type": "image/jpeg"}
TOGETHER = 6


def test_answers_are_the_cpus(tmp_path: Path) -> None:
    weights = Weights(bundled_backbone(), bundled_folder(), tuple(bundled_adapters()))
    photo = Photo("astronaut", write_photo(tmp_path / "photo.jpg", (640, 480)).read_bytes())
    backbone = load_backbone(weights.backbone)
    expected = {n: content_of(weights.folder / f"{n}.safetensors", backbone, [photo]) for n in weights.names}
    with serve(weights, tmp_path / "store", device="auto", max_batch_images=8, log_level="info") as server:
        answers = asyncio.run(_ask(server.url, photo.content, weights.names * TOGETHER))
        log = server.log.read_text()
    assert '"device": "cuda' in log and '"form": "lowrank"' in log
    for name, tasks in answers:
        assert expected[name].judge(photo.name, tasks) in {"same", "rounded"}, name


async def _ask(url: str, photo: bytes, names: tuple[str, ...]) -> list[tuple[str, dict[str, object]]]:
    """All at once, so that they share batches."""
    async with Client(url, connections=len(names)) as client:
        replies = await asyncio.gather(
            *(client.request("POST", f"/predict?adapter={name}", photo, JPEG) for name in names)
        )
    for reply in replies:
        assert reply.status == 200, reply.body[:300]
    return [(name, json.loads(reply.body)["tasks"]) for name, reply in zip(names, replies, strict=True)]
