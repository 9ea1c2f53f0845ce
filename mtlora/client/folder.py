"""Prediction of many photos into a folder: bounded concurrency, resumable, one bad photo does not stop the others.

Of each photo there are `STEM.TASK.png` and, written last, the record `STEM.json`: what was asked, what the server said.
A photo whose record fits what is asked now, and whose maps are there, is not sent again.
"""

import asyncio
import errno
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Unpack

from mtlora.client.asynchronous import AsyncClient
from mtlora.client.maps import TASK_NAME, Pictures
from mtlora.client.wishes import Options, Wishes, said
from mtlora.vocabulary.errors import BadAnswerError, ImageError, LostAnswerError, MTLoRAError, RefusedError, RemoteError
from mtlora.vocabulary.tasks import parse_tasks
from mtlora.weights.atomic import write_atomically

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
COMPUTED = "computed.png"
ABOUT_THE_PHOTO = frozenset({"bad-image", "unsupported-media", "too-many-pixels", "image-too-costly", "body-too-large",
                             "empty-body",
                             "non-finite-output", "inference", "device-memory", "deadline", "queue-full",
                             "wait-too-long", "body-memory", "body-too-slow"})  # fmt: skip
"""Refusals that say nothing about the next photo; all others (no key, no such set, …) end the run."""
ABOUT_THE_SERVER = frozenset({"not-ready", "adapter-load"})
"""Failures of a server that befall every photo."""


@dataclass(frozen=True, slots=True)
class Source:
    """A photo, and where its maps go: `base` with `.TASK.png` behind it, inside the folder of the results."""

    photo: Path
    base: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of every photo; all but `out` and `overwrite` as in `Client.pictures`."""

    out: Path
    tasks: tuple[str, ...] = ()
    adapter: str = ""
    overwrite: bool = False
    masks: str = ""
    explain: bool = False
    options: Wishes = field(default_factory=Wishes)

    @classmethod
    def make(
        cls,
        out: Path,
        tasks: str = "",
        adapter: str = "",
        *,
        overwrite: bool = False,
        masks: str = "",
        explain: bool = False,
        **options: Unpack[Wishes],
    ) -> "Wanted":
        """From a comma list of tasks or aliases."""
        names = tuple(task.value for task in parse_tasks(tasks))
        return cls(out, names, adapter, overwrite, masks, explain, options)

    @property
    def asked(self) -> dict[str, str]:
        """What makes another answer of the same photo, beside adapter and tasks; empty: the server's defaults."""
        own = {"masks": self.masks, "explain": "compute" if self.explain else ""}
        parameters = {name: text for name, text in said(self.options).items() if name != "deadline_ms"}
        return {name: text for name, text in {**own, **parameters}.items() if text}


@dataclass(slots=True)
class FolderReport:
    """What became of the photos."""

    predicted: int = 0
    already_there: int = 0
    failed: dict[Path, str] = field(default_factory=dict)
    answered_by: Counter[str] = field(default_factory=Counter)  # NAME@REVISION


def find_photos(paths: Sequence[Path], out: Path) -> list[Source]:
    """Photos among files and folders (with all below them, but not `out`), sorted; folders keep their structure."""
    found: list[tuple[Path, Path]] = []  # the photo, and its place in the results
    for path in paths:
        if path.is_dir():
            found += [(photo, photo.relative_to(path)) for photo in _below(path, out)]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise ImageError(f"there is no photo or folder {path}")
    if not found:
        raise ImageError(f"no photos in {', '.join(map(str, paths))}; known are {', '.join(sorted(SUFFIXES))}")
    stems = Counter(place.with_suffix("") for _, place in found)
    # a.jpg beside a.png: both keep their suffix in the name
    sources = [
        Source(photo, str(place if stems[place.with_suffix("")] > 1 else place.with_suffix("")))
        for photo, place in found
    ]
    twice = [base for base, count in Counter(source.base for source in sources).items() if count > 1]
    if twice:
        raise ImageError(f"several photos would be written as {twice[0]}: give them one folder at a time")
    return sources


async def predict_folder(
    client: AsyncClient,
    sources: Sequence[Source],
    wanted: Wanted,
    *,
    concurrency: int = 4,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> FolderReport:
    """Maps of all photos as PNG files. Raises what would befall every photo: no such set, no right, no server."""
    if concurrency < 1:
        raise RemoteError(f"concurrency must be at least 1, got {concurrency}")
    run = _Run(client, wanted, len(sources), progress)
    queue = iter(sources)
    workers = [asyncio.create_task(run.work(queue)) for _ in range(min(concurrency, len(sources)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return run.report


@dataclass(slots=True)
class _Run:
    client: AsyncClient
    wanted: Wanted
    total: int
    progress: Callable[[int, int], None]
    report: FolderReport = field(default_factory=FolderReport)
    done: int = 0

    async def work(self, queue: Iterator[Source]) -> None:
        for source in queue:
            await self._photo(source)
            self.done += 1
            self.progress(self.done, self.total)

    async def _photo(self, source: Source) -> None:
        if not self.wanted.overwrite and await asyncio.to_thread(is_there, source, self.wanted):
            self.report.already_there += 1
            return
        try:
            body = await asyncio.to_thread(source.photo.read_bytes)
            wanted = self.wanted
            options: Options = {**wanted.options, "adapter": wanted.adapter}
            answer = await self.client.pictures(
                body, tasks=wanted.tasks, masks=wanted.masks, explain=wanted.explain, **options
            )
            await asyncio.to_thread(_write, source, self.wanted, answer)
        except OSError as error:
            if error.filename is not None and Path(error.filename) == source.photo:
                self.report.failed[source.photo] = f"cannot be read: {error.strerror or error}"
            elif error.errno == errno.ENAMETOOLONG:
                self.report.failed[source.photo] = f"its maps cannot be named: {error.strerror}"
            else:
                raise MTLoRAError(f"cannot write into {self.wanted.out}: {error.strerror or error}") from error
        except (RefusedError, LostAnswerError, BadAnswerError) as error:
            if isinstance(error, RefusedError) and not _is_about_one_photo(error):
                raise
            self.report.failed[source.photo] = str(error)
        else:
            self.report.predicted += 1
            self.report.answered_by[answer.adapter] += 1


def _is_about_one_photo(error: RefusedError) -> bool:
    """Whether the next photo may fare better: failures of a server, or of what is in between, say nothing about it."""
    failed = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.kind not in ABOUT_THE_SERVER
    return failed or error.kind in ABOUT_THE_PHOTO


def is_there(source: Source, wanted: Wanted) -> bool:
    """Whether all maps that are asked for are there, of this photo as it is now, asked with the same options."""
    record_path = _file(source, wanted, "json")
    try:
        record = json.loads(record_path.read_bytes())
        if record["asked"]["adapter"] != wanted.adapter or record["asked"].get("options", {}) != wanted.asked:
            return False
        if record_path.stat().st_mtime < source.photo.stat().st_mtime:
            return False
        had = _task_names(record)
        whole = not record["asked"]["tasks"]  # all that the set had
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    needed = set(wanted.tasks) or (had if whole else None)
    if needed is None or not needed <= had:
        return False
    return all(_file(source, wanted, f"{task}.png").is_file() for task in needed)


def _task_names(record: Mapping[str, Any]) -> set[str]:
    """Tasks that a record lists; they are names of files, so `ValueError` for any other word."""
    names = set(record["tasks"])
    if not all(map(TASK_NAME.fullmatch, names)):
        raise ValueError(f"no names of tasks: {names}")
    return names


def _write(source: Source, wanted: Wanted, answer: Pictures) -> None:
    try:
        told = _task_names(answer.record)
    except (KeyError, TypeError, ValueError):
        told = set()
    written = set(wanted.tasks) or told
    if not written or not written <= told & set(answer.pngs):
        needed = ", ".join(sorted(written)) or "any task"
        raise BadAnswerError(f"the answer has no map of {needed}, or its record does not name it")
    for task in sorted(written):
        png = answer.pngs[task]
        _save(_file(source, wanted, f"{task}.png"), png)
    if answer.computed:
        _save(_file(source, wanted, COMPUTED), answer.computed)
    asked: dict[str, Any] = {"adapter": wanted.adapter, "tasks": list(wanted.tasks)}
    if wanted.asked:
        asked["options"] = wanted.asked
    record: dict[str, Any] = {**answer.record, "photo": source.photo.name, "asked": asked}
    # A file's name may be no Unicode: escaped as JSON escapes it.
    text = json.dumps(record, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
    _save(_file(source, wanted, "json"), text)


def _save(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _file(source: Source, wanted: Wanted, ending: str) -> Path:
    return wanted.out / f"{source.base}.{ending}"


def _below(folder: Path, out: Path) -> list[Path]:
    inside = out.resolve()
    photos = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in photos if not path.resolve().is_relative_to(inside))
