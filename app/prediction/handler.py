"""The handler of predictions for every API: parse, run, write. Knows HTTP requests, not routes."""

import asyncio
import math
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.access.keys import Caller
from app.answers.form import Pieces
from app.core.compute import Budget, granted, offered, usual
from app.core.errors import AdapterLoadError, ClientGoneError, DeadlineError, QueueFullError, ServiceError
from app.core.names import AdapterRef
from app.core.request_context import REQUEST_ID, RequestContext
from app.core.tiling import allowed_tiling
from app.http.body_budget import BodyBudget, Hold
from app.http.pieces import PiecesResponse
from app.prediction.job import Asked, ImageAnswer, Outcome, PredictionJob
from app.prediction.pipeline import Pipeline
from app.prediction.read_images import Bounds
from app.registry.lookup import Lookup
from app.residency.device_cache import DeviceCache
from app.residency.loader import AdaptedSet
from app.scheduling.background_throttle import BackgroundThrottle
from app.scheduling.fair_queue import Flow
from app.startup.settings import Settings
from app.telemetry.model_statistics import ModelStatistics, Ran
from mtlora.images.tiles import UNTILED, Tiling
from mtlora.vocabulary.policy import Policy
from mtlora.vocabulary.spec import AdapterSpec

T = TypeVar("T")
NO_SET_YET = ""  # no set has this name, so its flow has nothing in the queue


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

    announced: Asked
    """What is known before the body is read."""

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> Asked:
        """What is asked for, now that the body is read."""

    def write(self, outcomes: Sequence[Outcome], job: PredictionJob, total_ms: float, request_id: str, /) -> Body:
        """The answer, of maps that are in bytes already; quick, for it keeps the event loop."""


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    request: Request
    caller: Caller
    codec: RequestCodec
    context: RequestContext
    clock: asyncio.Timeout
    start: float  # on the clock of the event loop, which is that of time.monotonic too
    ref: AdapterRef | None = None  # once it is known

    @property
    def deadline(self) -> float:
        """As far as it is known by now."""
        return self.clock.when() or math.inf


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
        statistics: ModelStatistics,
    ) -> None:
        self._settings = settings
        self._lookup = lookup
        self._device_cache = device_cache
        self._pipeline = pipeline
        self._bodies = bodies
        self._throttle = throttle
        self._statistics = statistics

    async def answer(self, request: Request, caller: Caller, codec: RequestCodec, context: RequestContext) -> Response:
        """The response, within the deadline, unless the client leaves first."""
        start = time.monotonic()
        clock = asyncio.timeout_at(start + self._patience_s(codec.announced))
        call = _Call(request, caller, codec, context, clock, start)
        try:
            async with clock:
                return await self._answer(call)
        except TimeoutError:
            self._failed(call)
            allowed_ms = round(((clock.when() or start) - start) * 1000, 1)
            raise DeadlineError(f"the deadline of {allowed_ms:g} ms passed") from None
        except (ServiceError, RequestValidationError):
            self._failed(call)
            raise

    def _failed(self, call: _Call) -> None:
        if call.ref is not None:
            self._statistics.failed(call.ref, time.monotonic() - call.start)

    def _patience_s(self, asked: Asked) -> float:
        """How long a request may take; as long as any where its body may still say so."""
        s = self._settings
        unsaid = s.deadline_ms if asked.final else s.max_deadline_ms
        return min(asked.deadline_ms or unsaid, s.max_deadline_ms) / 1000

    async def _answer(self, call: _Call) -> Response:
        """Parse, run, write. The body's memory and the set's file stay until the answer is written."""
        with self._bodies.hold() as hold, ExitStack() as using:
            job = await self._parse(call, hold, using)
            call.clock.reschedule(job.deadline)
            call.context.format = job.plan.form.value
            call.context.facts |= {"images": len(job.images), "tasks": ",".join(job.tasks)}
            with self._throttle.prediction():
                outcomes = await _unless_gone(call.request, self._pipeline.run(job))
                return self._write(call, job, outcomes)

    async def _parse(self, call: _Call, hold: Hold, using: ExitStack) -> PredictionJob:
        """What the request asks for. What can be refused before its body is read, is."""
        asked = call.codec.announced
        if asked.adapter is None and not asked.final:
            self._pipeline.refuse_early(Flow(call.caller.label, NO_SET_YET), call.deadline, None, None)
            asked = await self._read(call, hold)
        ref = call.ref = await self._lookup.resolve(asked.adapter, call.caller.namespace)
        # Before anything else is awaited: a deletion from now on waits for this request.
        using.enter_context(self._device_cache.using(ref))
        spec, policy = await self._spec(ref), await self._lookup.policy(ref)
        call.context.facts |= {"adapter": ref.name, "revision": ref.revision}
        job = self._job(asked, ref, spec, policy, call)
        if job.images:
            return job
        call.context.facts["tasks"] = ",".join(job.tasks)
        work = job.workload if asked.final else None
        self._pipeline.refuse_early(job.flow, job.deadline, ref, work, job.tiling.least)
        read = await self._read(call, hold)
        return replace(job, images=read.images) if asked.final else self._job(read, ref, spec, policy, call)

    async def _read(self, call: _Call, hold: Hold) -> Asked:
        s = self._settings
        return await call.codec.read(call.request, hold, Bounds(s.max_body_bytes, s.max_images, s.body_timeout_s))

    def _job(
        self, asked: Asked, ref: AdapterRef, spec: AdapterSpec, policy: Policy | None, call: _Call
    ) -> PredictionJob:
        deadline = call.start + self._patience_s(asked)
        choice = asked.choose(ref, spec)
        return PredictionJob(
            ref,
            spec,
            choice.tasks,
            choice.plan,
            asked.images,
            call.caller.label,
            deadline,
            self._budget(choice.compute, ref, policy, call.caller),
            choice.explain,
            choice.compute is not None or choice.explain or offered(policy).is_open,
            self._tiling(choice.tiles, len(asked.images) or 1),
        )

    def _tiling(self, asked: str | None, images: int) -> Tiling:
        """How the photos are cut. No more tiles than fit the queue, or such a photo would never be admitted."""
        s = self._settings
        most = min(s.max_tiles, s.max_queue_images)
        return allowed_tiling(asked, images, most, max(most, s.max_images))

    def _budget(self, asked: str | None, ref: AdapterRef, policy: Policy | None, caller: Caller) -> Budget:
        if asked is not None:
            return granted(asked, policy, ref)
        return usual(policy, caller.compute, self._settings.compute_default)

    def _write(self, call: _Call, job: PredictionJob, outcomes: Sequence[Outcome]) -> Response:
        answers = _answers_or_raise(outcomes, all_of_them=not call.codec.partial)
        context = call.context
        context.stages_ms = _slowest(answers)
        context.images = tuple(answer.stages for answer in answers)
        context.facts["cold"] = cold = any(answer.cold for answer in answers)
        context.facts["batch"] = max(answer.batch_images for answer in answers)
        context.facts["batch_adapters"] = max(answer.batch_adapters for answer in answers)
        total_s = time.monotonic() - call.start
        total_ms = round(total_s * 1000, 2)
        body = call.codec.write(outcomes, job, total_ms, str(call.request.scope[REQUEST_ID]))
        headers = {"X-Adapter-Revision": str(job.ref), "X-Adapter-Cold": str(int(cold)), **body.headers}
        self._statistics.succeeded(job.ref, total_s, [Ran(one.stages, one.batch_images) for one in answers])
        if job.tells_share:
            context.facts["compute"] = share = round(sum(answer.share for answer in answers) / len(answers), 3)
            headers["X-Compute-Share"] = f"{share:g}"
        if job.tiling != UNTILED:
            context.facts["tiles"] = sum(answer.grid.count for answer in answers)
            headers["X-Tiles"] = ", ".join(
                str(one.grid) if isinstance(one, ImageAnswer) else "none" for one in outcomes
            )
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
