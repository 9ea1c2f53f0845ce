"""Folders of photos: what is written, what is skipped, what stops a run."""

import asyncio
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from mtlora.client import AsyncClient, Retry
from mtlora.client.folder import FolderReport, Wanted, find_photos, predict_folder
from mtlora.vocabulary.errors import ImageError, MTLoRAError, RefusedError, UnreachableError
from testing.serving import free_port
from testing.stub_server import Say, Stub, problem, raw

PNG = b"\x89PNG\r\n\x1a\n"
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


def maps(adapter: str = "cats@1", **record: object) -> Say:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("semseg.png", PNG)
        file.writestr("parts.png", PNG)
        file.writestr("result.json", json.dumps({"tasks": {"semseg": {}}, **record}))
    return Say(200, buffer.getvalue(), {"X-Adapter-Revision": adapter})


BAD_ANSWERS = [
    Say(200, b"<html>", {"Content-Type": "text/html"}),
    Say(200, maps().body[:-9]),
    Say(204),
    Say(502, b"bad gateway"),
    problem(500, "internal-server-error"),
    maps(tasks=[["x"]]),
    maps("\x1b[2J"),
    raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"),
]


@pytest.mark.parametrize("number", range(len(BAD_ANSWERS)))
def test_a_bad_answer_costs_one_photo_and_the_run_can_go_on(
    number: int, stub: Stub, photos: Path, tmp_path: Path
) -> None:
    wanted = Wanted.make(tmp_path / "maps", "semseg")
    stub.script = [maps(), *[BAD_ANSWERS[number]] * QUICK.attempts, maps()]
    stub.script[2:-1] = [] if number < len(BAD_ANSWERS) - 1 else stub.script[2:-1]  # only what is lost is asked again
    report = run(stub.url, photos, wanted, concurrency=1)
    assert counts(report) == (3, 0, 1)
    (reason,) = report.failed.values()
    assert reason.isprintable()
    assert counts(run(stub.url, photos, wanted)) == (1, 3, 0)
    assert counts(run(stub.url, photos, wanted)) == (0, 4, 0)


def test_a_server_s_words_write_nothing_else(stub: Stub, photos: Path, tmp_path: Path) -> None:
    """Neither a task that nobody asked for, nor another photo's record, nor what was asked."""
    stub.script = [maps(photo="../x", asked={"adapter": "dogs", "tasks": ["../../x"]}, tasks=["semseg", "parts"])]
    wanted = Wanted.make(tmp_path / "maps", "semseg", "cats")
    assert counts(run(stub.url, photos, wanted)) == (4, 0, 0)
    names = {path.name for path in wanted.out.rglob("*") if path.is_file()}
    assert names == {f"{stem}.{end}" for stem in ("a", "b", "torn") for end in ("json", "semseg.png")}
    record = json.loads((wanted.out / "b.json").read_text())
    assert (record["photo"], record["asked"]) == ("b.png", {"adapter": "cats", "tasks": ["semseg"]})
    assert counts(run(stub.url, photos, wanted)) == (0, 4, 0)


@pytest.mark.parametrize("tasks", [["../../x"], ["x" * 5000], ["a\0b"], [[1]], 5, None, "semseg"])
def test_a_record_that_is_odd_is_none(tasks: object, stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.script = [maps()]
    wanted = Wanted.make(tmp_path / "maps")
    for stem in ("a", "b", "more/a", "torn"):
        (wanted.out / stem).parent.mkdir(parents=True, exist_ok=True)
        document = {"asked": {"adapter": "", "tasks": []}, "tasks": tasks}
        (wanted.out / f"{stem}.json").write_text(json.dumps(document))
    (wanted.out / "b.json").write_text("[" * 100_000)
    assert counts(run(stub.url, photos, wanted)) == (4, 0, 0)
    assert counts(run(stub.url, photos, wanted)) == (0, 4, 0)


def test_names_of_photos_that_are_no_text_or_too_long(stub: Stub, tmp_path: Path) -> None:
    stub.script = [maps()]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / f"{'x' * 250}.jpg").write_bytes(b"x")
    odd = os.fsencode(tmp_path / "photos") + b"/odd\xff\x1b.jpg"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    wanted = Wanted.make(tmp_path / "maps", "semseg")
    report = run(stub.url, tmp_path / "photos", wanted)
    assert counts(report) == (1, 0, 1)
    assert list(report.failed.values()) == ["its maps cannot be named: File name too long"]
    assert counts(run(stub.url, tmp_path / "photos", wanted)) == (0, 1, 1)


def test_no_more_at_once_than_allowed(stub: Stub, photos: Path, tmp_path: Path) -> None:
    stub.script = [Say(422, b"", after_s=0.05)]
    with pytest.raises(RefusedError):
        run(stub.url, photos, Wanted.make(tmp_path / "maps"), concurrency=2)
    assert 1 <= len(stub.asked) <= 3  # the others were never begun


def test_other_options_are_another_answer(url: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    run(url, photos, Wanted.make(out, "semseg"))
    sized = Wanted.make(out, "semseg", size="30", masks="rle", deadline_ms=30_000)
    assert counts(run(url, photos, sized)) == (3, 0, 1)
    assert counts(run(url, photos, sized)) == (0, 3, 1)
    assert counts(run(url, photos, Wanted.make(out, "semseg", size="30", masks="rle"))) == (0, 3, 1)
    record = json.loads((out / "a.json").read_text())
    assert record["asked"]["options"] == {"masks": "rle", "size": "30"}
    assert record["maps"] == {"width": 30, "height": 20}
    explained = Wanted.make(out, "semseg", explain=True)
    assert counts(run(url, photos, explained)) == (3, 0, 1)
    assert (out / "a.computed.png").read_bytes().startswith(PNG)
    assert counts(run(url, photos, Wanted.make(out, "semseg"))) == (3, 0, 1)
