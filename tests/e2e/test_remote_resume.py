"""A folder of photos, the server killed in the middle, and the same command again."""

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from mtlora.client import AsyncClient, Retry, UnreachableError
from mtlora.client.folder import FolderReport, Wanted, find_photos, predict_folder
from testing.serving import ServerProcess, Weights, encoded, picture

PHOTOS, KILLED_AFTER, AT_A_TIME = 60, 20, 4


def test_a_killed_server_costs_only_what_was_under_way(weights: Weights, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(PHOTOS):
        (photos / f"{number}.jpg").write_bytes(encoded(picture(60, 40, seed=number), "JPEG"))
    wanted = Wanted.make(tmp_path / "maps", "semseg")

    first = ServerProcess(weights, tmp_path / "first")
    try:
        first.wait_ready()
        with pytest.raises(UnreachableError, match="cannot reach"):
            run(first, photos, wanted, kill_after=KILLED_AFTER)
    finally:
        first.stop()
    second = ServerProcess(weights, tmp_path / "second")
    try:
        second.wait_ready()
        report = run(second, photos, wanted)
    finally:
        second.stop()

    assert report.failed == {}
    assert report.predicted + report.already_there == PHOTOS
    assert KILLED_AFTER - AT_A_TIME <= report.already_there < PHOTOS
    for number in range(PHOTOS):
        with Image.open(wanted.out / f"{number}.semseg.png") as image:
            image.load()
            assert image.size == (60, 40)


def run(server: ServerProcess, photos: Path, wanted: Wanted, kill_after: int = 0) -> FolderReport:
    def progress(done: int, _total: int) -> None:
        if done == kill_after:
            server.kill()

    async def work() -> FolderReport:
        async with AsyncClient(server.url, retry=Retry(attempts=3, first_s=0.05)) as client:
            sources = find_photos([photos], wanted.out)
            return await predict_folder(client, sources, wanted, concurrency=AT_A_TIME, progress=progress)

    return asyncio.run(work())
