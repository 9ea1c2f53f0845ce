"""The request codec of Label Studio's ML backend: tasks with addresses of photos in, brush labels out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.requests import Request

from app.answers.form import AnswerFormat, Pieces, to_json
from app.answers.negotiation import WITH_MASKS
from app.answers.plan import RenderPlan
from app.api.label_studio.tasks import Interface, parse_tasks
from app.core.errors import BadParameterError, RequestError, ServiceError
from app.core.names import AdapterRef
from app.http import fetching
from app.http.base64_text import decode_base64
from app.http.body_budget import Hold
from app.http.body_stream import read_all
from app.prediction.handler import Body
from app.prediction.job import Asked, Choice, ImageAnswer, Outcome, PredictionJob
from app.prediction.read_images import Bounds, open_body
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import TRAITS

DATA_URL = "data:"
NOTHING_FETCHED = (
    "this server fetches no photos: MTLORA_LABEL_STUDIO_URL names the Label Studio that it may fetch them from; "
    "photos within tasks, as data: URLs, need no fetching"
)
_MOST_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """Where photos may come from beside the request itself: one site, or none."""

    site: str = ""
    token_file: Path | None = None


class LabelStudioCodec:
    """One request for predictions. What fails of one task does not keep the others from being answered."""

    partial = True

    def __init__(self, model: str, sources: Sources) -> None:
        """model: the set that the path names"""
        self._model = model
        self._sources = sources
        self._failed: dict[int, str] = {}
        self.announced = Asked(model, None, False, partial(_choose, Interface()))

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> Asked:
        """The photos of all tasks."""
        body = await read_all(open_body(request, hold, bounds))
        asked = await asyncio.to_thread(parse_tasks, body, bounds.images)
        images = await self._photos(asked.photos, hold, bounds)
        return Asked(self._model, None, True, partial(_choose, asked.interface), images)

    async def _photos(self, addresses: Sequence[str], hold: Hold, bounds: Bounds) -> tuple[bytes, ...]:
        """Those that are there; why the others are not is kept for the answer."""
        found: dict[int, bytes] = {}
        remote = []
        for number, address in enumerate(addresses):
            if not address.startswith(DATA_URL):
                remote.append(number)
                continue
            try:
                found[number] = decode_base64(address, f"the photo of task {number}")
            except RequestError as error:
                self._failed[number] = error.detail
        if remote:
            found |= await self._fetched([(number, addresses[number]) for number in remote], hold, bounds)
        if not found:
            raise BadParameterError(
                "no task has a photo that can be read",
                tuple(f"task {number}: {why}" for number, why in sorted(self._failed.items())),
            )
        return tuple(found[number] for number in sorted(found))

    async def _fetched(self, wanted: Sequence[tuple[int, str]], hold: Hold, bounds: Bounds) -> dict[int, bytes]:
        if not self._sources.site:
            self._failed |= {number: NOTHING_FETCHED for number, _ in wanted}
            return {}
        found = {}
        limits = fetching.Bounds(bounds.bytes, bounds.timeout_s, hold.grow)
        async with fetching.opened(fetching.parse_site(self._sources.site), limits) as site:
            if self._sources.token_file is not None:
                await site.authorize(await asyncio.to_thread(_token, self._sources.token_file))
            for number, address in wanted:
                try:
                    found[number] = await site.get(address)
                except RequestError as error:
                    self._failed[number] = error.detail
        return found

    def write(self, outcomes: Sequence[Outcome], job: PredictionJob, *_: object) -> Body:
        """A prediction for each task, in the order of the tasks; one that failed has no masks, and says why."""
        version = str(job.ref)
        left = iter(outcomes)
        parts: list[Pieces] = []
        for number in range(len(outcomes) + len(self._failed)):
            outcome = self._failed[number] if number in self._failed else next(left)
            if isinstance(outcome, ImageAnswer):
                parts.append(outcome.made.end(dict))
            else:
                why = outcome.detail if isinstance(outcome, ServiceError) else str(outcome)
                parts.append([to_json({"model_version": version, "score": 0.0, "result": [], "error": why})])
        content: Pieces = [b'{"results":[', *parts[0]]
        for part in parts[1:]:
            content += [b",", *part]
        return Body([*content, b'],"model_version":', to_json(version), b"}"], "application/json", {})


def _token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadParameterError(f"the token of MTLORA_LABEL_STUDIO_TOKEN_FILE cannot be read: {error}") from None


def _choose(interface: Interface, ref: AdapterRef, spec: AdapterSpec) -> Choice:
    """The set's first task with masks, whose classes are the labels."""
    task = next((task for task in spec.task_names if TRAITS[task].decode in WITH_MASKS), None)
    if task is None:
        raise BadParameterError(f"adapter set {ref} has no task with masks, only {', '.join(spec.task_names)}")
    plan = RenderPlan(AnswerFormat.LABEL_STUDIO, tags=interface.tags, labels=interface.labels)
    return Choice((task,), plan)
