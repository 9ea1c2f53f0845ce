"""Folders of photos: what is written, what is skipped, what stops a run."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from mtlora.client import AsyncClient, Retry
from mtlora.client.folder import FolderReport, Wanted, find_photos, predict_folder
from mtlora.errors import ImageError, MTLoRAError, RefusedError, UnreachableError
from tests.mtlora.client.stub import Say, Stub, problem
from tests.serving import free_port

QUICK = Retry(first_s=0.01, longest_s=0.02, budget_s=5)


def run(url: str, photos: Path, wanted: Wanted, concurrency: int = 3) -> FolderReport:
    async def work() -> FolderReport:
        async with AsyncClient(url, retry=QUICK) as client:
            return await predict_folder(client, find_photos([photos], wanted.out), wanted, concurrency=concurrency)

    return asyncio.run(work())


def counts(report: FolderReport) -> tuple[int, int, int]:
    return report.predicted, report.already_there, len(report.failed)


def test_a_folder_and_then_what_is_new_of_it(url: str, photos: Path, tmp_path: Path) -> None:
    wanted = Wanted.make(tmp_path / "maps", "semseg,parts")
    report = run(url, photos, wanted)
    assert counts(report) == (3, 0, 1)
    assert report.answered_by == {"default@1": 3}
    assert list(report.failed) == [photos / "torn.jpg"]
    assert "(422" in report.failed[photos / "torn.jpg"]
    written = sorted(str(path.relative_to(wanted.out)) for path in wanted.out.rglob("*.*"))
    ends = ("human_parts.png", "json", "semseg.png")
    assert written == [f"{base}.{end}" for base in ("a", "b", "more/a") for end in ends]
    record = json.loads((wanted.out / "b.json").read_text())
    assert record["photo"] == "b.png"
    assert record["asked"] == {"adapter": "", "tasks": ["semseg", "human_parts"]}
    assert record["image"] == {"width": 61, "height": 40}

    assert counts(run(url, photos, wanted)) == (0, 3, 1)
    (wanted.out / "a.semseg.png").unlink()
    (wanted.out / "b.json").write_text("{")
    assert counts(run(url, photos, wanted)) == (2, 1, 1)
    later = (wanted.out / "more/a.json").stat().st_mtime + 5
    os.utime(photos / "more/a.jpg", (later, later))
    assert counts(run(url, photos, wanted)) == (1, 2, 1)


def test_there_means_what_is_asked_now(url: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    run(url, photos, Wanted.make(out, "semseg"))
    assert counts(run(url, photos, Wanted.make(out, "semseg,saliency"))) == (3, 0, 1)
    assert counts(run(url, photos, Wanted.make(out, "saliency"))) == (0, 3, 1)
    assert counts(run(url, photos, Wanted.make(out))) == (3, 0, 1)  # all of the set is more than those two
    assert counts(run(url, photos, Wanted.make(out))) == (0, 3, 1)
    assert counts(run(url, photos, Wanted.make(out, "saliency", "people"))) == (3, 0, 1)
    assert counts(run(url, photos, Wanted.make(out, "saliency", "people", overwrite=True))) == (3, 0, 1)


def test_results_inside_the_folder_are_no_photos(url: str, photos: Path) -> None:
    wanted = Wanted.make(photos / "maps", "semseg")
    assert counts(run(url, photos, wanted)) == (3, 0, 1)
    assert counts(run(url, photos, wanted)) == (0, 3, 1)


def test_photos_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "x/a.png", "x/b.JPG", "y/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [s.base for s in find_photos([tmp_path / "x"], tmp_path / "out")] == ["a.jpg", "a.png", "b"]
    assert [s.base for s in find_photos([tmp_path], tmp_path / "out")] == ["x/a.jpg", "x/a.png", "x/b", "y/b"]
    (tmp_path / "y/b.JPG").write_bytes(b"")
    with pytest.raises(ImageError, match=r"several photos would be written as b\.JPG"):
        find_photos([tmp_path / "x/b.JPG", tmp_path / "y/b.JPG"], tmp_path / "out")
    with pytest.raises(ImageError, match=r"no photos in .*out"):
        (tmp_path / "out").mkdir()
        find_photos([tmp_path / "out"], tmp_path / "out")
    with pytest.raises(ImageError, match="there is no photo or folder"):
        find_photos([tmp_path / "nowhere"], tmp_path / "out")


def test_what_would_befall_every_photo_ends_the_run(url: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no adapter set 'nobody'"):
        run(url, photos, Wanted.make(tmp_path / "maps", adapter="nobody"))
    with pytest.raises(RefusedError, match="there is no task depth; adapter set default@1 has"):
        run(url, photos, Wanted.make(tmp_path / "maps", "depth"))
    with pytest.raises(UnreachableError, match="cannot reach"):
        run(f"http://127.0.0.1:{free_port()}", photos, Wanted.make(tmp_path / "maps"))
    (tmp_path / "file").write_text("")
    with pytest.raises(MTLoRAError, match=r"cannot write into .*file"):
        run(url, photos, Wanted.make(tmp_path / "file", "semseg"))


def test_a_queue_that_stays_full_costs_one_photo_not_the_run(stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.script = [problem(429)]
    report = run(stub.url, photos, Wanted.make(tmp_path / "maps"))
    assert counts(report) == (0, 0, 4)
    assert len(stub.asked) == 4 * QUICK.attempts


def test_no_more_at_once_than_allowed(stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.script = [Say(422, b"", after_s=0.05)]
    with pytest.raises(RefusedError):
        run(stub.url, photos, Wanted.make(tmp_path / "maps"), concurrency=2)
    assert 1 <= len(stub.asked) <= 3  # the others were never begun
