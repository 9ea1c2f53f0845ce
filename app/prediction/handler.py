"""The handler of predictions for every API: resolve, read, run, assemble. Knows HTTP requests, not routes."""

import asyncio
import math
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from app.access.keys import Caller
from app.answers.render import Pieces
from app.core.errors import AdapterLoadError, ClientGoneError, DeadlineError, QueueFullError, ServiceError
from app.core.names import AdapterRef
from app.core.request_context import REQUEST_ID, RequestContext
from app.http.body_budget import BodyBudget, Hold
from app.http.pieces import PiecesResponse
from app.prediction.job import ImageAnswer, Outcome, PredictionJob
from app.prediction.pipeline import Pipeline
from app.prediction.read_images import Bounds
from app.registry.lookup import Lookup
from app.residency.device_cache import DeviceCache
from app.residency.loader import AdaptedSet
from app.scheduling.background_throttle import BackgroundThrottle
from app.scheduling.fair_queue import Flow
from app.startup.settings import Settings
from mtlora.vocabulary.spec import AdapterSpec

T = TypeVar("T")
NO_SET_YET = ""  # no set has this name, so its flow has nothing in the queue


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which adapter set a client asks for, and how long they wait. None: the server's default, if this is final."""

    adapter: str | None
    deadline_ms: int | None
    final: bool  # the body has been read, or can say no more of it


@dataclass(frozen=True, slots=True)
class Body:
    """An answer in pieces of its bytes."""

    content: Pieces
    media: str
    headers: dict[str, str]
    status: int = 200


class RequestCodec(Protocol):
    """How an API asks and answers; made for one request."""

    partial: bool
    """Whether some images may fail and the others be answered."""

    def wanted(self) -> Wanted:
        """What is known of it by now."""

    def begin(self, job: PredictionJob) -> PredictionJob:
        """What is known before the images are looked at; what can be refused is refused here."""

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> tuple[bytes, ...]:
        """The images of the body."""

    def finish(self, job: PredictionJob) -> PredictionJob:
        """The order, now that the body has been read."""

    def assemble(self, outcomes: Sequence[Outcome], job: PredictionJob, total_ms: float, request_id: str, /) -> Body:
        """The answer; called in a codec thread."""


class Predictions:
    """Answers predictions, whatever the API."""

    def __init__(
        self,
        settings: Settings,
        lookup: Lookup,
        device_cache: DeviceCache[AdaptedSet],
        pipeline: Pipeline,
        bodies: BodyBudget,
        throttle: BackgroundThrottle,
    ) -> None:
        self._settings = settings
        self._lookup = lookup
        self._device_cache = device_cache
        self._pipeline = pipeline
        self._bodies = bodies
        self._throttle = throttle

    async def answer(self, request: Request, caller: Caller, codec: RequestCodec, context: RequestContext) -> Response:
        """The response, within the deadline, unless the client leaves first."""
        start = time.monotonic()  # the clock of the event loop too
        clock = asyncio.timeout_at(start + self._patience_s(codec.wanted()))
        try:
            async with clock:
                return await self._answer(request, caller, codec, context, clock, start)
        except TimeoutError:
            allowed_ms = round(((clock.when() or start) - start) * 1000, 1)
            raise DeadlineError(f"the deadline of {allowed_ms:g} ms passed") from None

    def _patience_s(self, wanted: Wanted) -> float:
        """How long a request may take; as long as any where its body may still say so."""
        s = self._settings
        unsaid = s.deadline_ms if wanted.final else s.max_deadline_ms
        return min(wanted.deadline_ms or unsaid, s.max_deadline_ms) / 1000

    async def _answer(
        self,
        request: Request,
        caller: Caller,
        codec: RequestCodec,
        context: RequestContext,
        clock: asyncio.Timeout,
        start: float,
    ) -> Response:
        s = self._settings
        with self._bodies.hold() as hold:
            read = partial(codec.read, request, hold, Bounds(s.max_body_bytes, s.max_images, s.body_timeout_s))
            images, wanted = None, codec.wanted()
            if wanted.adapter is None and not wanted.final:
                self._pipeline.check_door(Flow(caller.label, NO_SET_YET), clock.when() or math.inf)
                images = await read()
                wanted = codec.wanted()
            ref = await self._lookup.resolve(wanted.adapter, caller.namespace)
            # Before anything else is awaited: a deletion from now on waits for this request.
            with self._device_cache.using(ref):
                spec = await self._spec(ref)
                context.facts |= {"adapter": ref.name, "revision": ref.revision}
                deadline = start + self._patience_s(wanted)
                job = PredictionJob(ref, spec, spec.task_names, caller=caller.label, deadline=deadline)
                job = codec.begin(job)
                context.facts["tasks"] = ",".join(job.tasks)
                if images is None:
                    self._check_room(job, wanted)
                    images = await read()
                    job = replace(job, deadline=start + self._patience_s(codec.wanted()))
                job = codec.finish(job)
                clock.reschedule(job.deadline)
                context.format = job.plan.form.value
                context.facts |= {"images": len(images), "tasks": ",".join(job.tasks)}
                with self._throttle.prediction():
                    return await _unless_gone(request, self._run(request, images, job, codec, context, start))

    def _check_room(self, job: PredictionJob, wanted: Wanted) -> None:
        """Refuse before the body is read what would be refused afterwards, whatever it says."""
        if wanted.final:
            self._pipeline.check_room(job)
        else:
            self._pipeline.check_door(job.flow, job.deadline, job.ref)

    async def _run(
        self,
        request: Request,
        images: Sequence[bytes],
        job: PredictionJob,
        codec: RequestCodec,
        context: RequestContext,
        start: float,
    ) -> Response:
        outcomes = await self._pipeline.run(images, job)
        answers = _answers_or_raise(outcomes, all_of_them=not codec.partial)
        context.stages_ms = _slowest(answers)
        context.images = tuple(answer.stages for answer in answers)
        context.facts["cold"] = cold = any(answer.cold for answer in answers)
        context.facts["batch"] = max(answer.batch_images for answer in answers)
        context.facts["batch_adapters"] = max(answer.batch_adapters for answer in answers)
        total_ms = round((time.monotonic() - start) * 1000, 2)
        work = partial(codec.assemble, outcomes, job, total_ms, str(request.scope[REQUEST_ID]))
        body = await self._pipeline.assemble(work, job)
        headers = {"X-Adapter-Revision": str(job.ref), "X-Adapter-Cold": str(int(cold)), **body.headers}
        return PiecesResponse(body.content, body.status, headers, body.media, self._pipeline.sent)

    async def _spec(self, ref: AdapterRef) -> AdapterSpec:
        try:
            return await self._lookup.spec(ref)
        except AdapterLoadError:
            # Deleted by another server on this store? Then it is not found; else the damage is worth a 503.
            (await self._lookup.entry(ref.name)).ref(ref.revision)
            raise


def _seen(task: "asyncio.Task[Any]") -> None:
    """A request that was given up may still fail: nobody is left to tell, so it is no unhandled error."""
    if not task.cancelled():
        task.exception()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled as soon as the client closes the connection."""
    task = asyncio.create_task(work)
    task.add_done_callback(_seen)
    watcher = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError("the client closed the connection before the answer was there")
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answers_or_raise(outcomes: Sequence[Outcome], *, all_of_them: bool) -> list[ImageAnswer]:
    """The images that were answered; if there are none, or not all that must be, the error that explains the most."""
    answers = [outcome for outcome in outcomes if isinstance(outcome, ImageAnswer)]
    if len(answers) == len(outcomes) or (answers and not all_of_them):
        return answers
    errors = [(i, outcome) for i, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)]
    first = errors[0][1]
    if len(outcomes) > 1 and not isinstance(first, AdapterLoadError | QueueFullError):
        first.problems = tuple(f"image {position}: {error.detail}" for position, error in errors)
    raise first


def _slowest(answers: Sequence[ImageAnswer]) -> dict[str, float]:
    """Per stage the longest of the images, which ran side by side."""
    rows = [answer.stages.milliseconds() for answer in answers]
    return {stage: max(row[stage] for row in rows) for stage in rows[0]}
