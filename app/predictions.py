"""From a parsed request to its answer: resolve, negotiate, read, run, assemble. Knows HTTP requests, not routes."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from app.access.keys import Caller
from app.context import REQUEST_ID, RequestContext
from app.error_handlers import problem_of
from app.errors import AdapterLoadError, BadParameterError, ClientGoneError, DeadlineError, QueueFullError, ServiceError
from app.imaging.render import Document, RenderPlan, to_json, to_zip
from app.intake.formats import MEDIA_TYPE, AnswerFormat, choose_format
from app.intake.images import Intake, read_images
from app.order import ImageAnswer, Order, Outcome
from app.residency.names import AdapterRef, plain_name
from app.schemas.predict import PredictQuery
from app.service import Parts, Service
from mtlora.errors import TaskError
from mtlora.spec import AdapterSpec
from mtlora.tasks import Task, parse_tasks

T = TypeVar("T")

MULTI_STATUS = 207


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of a prediction, from wherever they came, and who asks."""

    caller: Caller
    query: PredictQuery
    adapter: str | None
    deadline_ms: int | None
    accept: str


class Predictions:
    """Answers POST /predict."""

    def __init__(self, service: Service, parts: Parts) -> None:
        self._settings = service.settings
        self._parts = parts
        self._files = service.files

    async def answer(self, request: Request, wanted: Wanted, context: RequestContext) -> Response:
        """The response, within the deadline, unless the client leaves first."""
        asked = wanted.deadline_ms or self._settings.deadline_ms
        allowed_s = min(asked, self._settings.max_deadline_ms) / 1000
        start = time.monotonic()  # the clock of the event loop too
        try:
            async with asyncio.timeout_at(start + allowed_s):
                return await self._answer(request, wanted, context, start, start + allowed_s)
        except TimeoutError:
            raise DeadlineError(f"the deadline of {allowed_s * 1000:g} ms passed") from None

    async def _answer(
        self, request: Request, wanted: Wanted, context: RequestContext, start: float, deadline: float
    ) -> Response:
        ref = self._parts.catalog.resolve(wanted.adapter, wanted.caller.namespace)
        # Before anything is awaited: a deletion from now on waits for this request.
        with self._parts.residency.using(ref), self._parts.bodies.hold() as hold:
            spec = await self._spec(ref)
            context.facts |= {"adapter": ref.name, "revision": ref.revision}
            tasks = _tasks(wanted.query.tasks, spec, ref)
            context.facts["tasks"] = ",".join(tasks)
            # What can be refused is refused before the body comes.
            form = choose_format(wanted.query.format, wanted.accept, tasks=tasks, images=1)
            order = Order(ref, spec, tasks, _plan(form, wanted.query), wanted.caller.label, deadline)
            self._parts.pipeline.check_room(order)
            intake = await read_images(
                request,
                hold,
                limit=self._settings.max_body_bytes,
                max_images=self._settings.max_images,
                timeout_s=self._settings.body_timeout_s,
            )
            form = choose_format(wanted.query.format, wanted.accept, tasks=tasks, images=len(intake.images))
            order = replace(order, plan=_plan(form, wanted.query))
            context.format = form.value
            context.facts |= {"images": len(intake.images)}
            return await _unless_gone(request, self._run(request, intake, order, context, start))

    async def _run(
        self, request: Request, intake: Intake, order: Order, context: RequestContext, start: float
    ) -> Response:
        outcomes = await self._parts.pipeline.run(intake.images, order)
        answers = _answers_or_raise(outcomes)
        context.stages_ms = _slowest(answers)
        context.facts["cold"] = cold = any(answer.cold for answer in answers)
        context.facts["batch"] = max(answer.batch_images for answer in answers)
        context.facts["batch_adapters"] = max(answer.batch_adapters for answer in answers)
        total_ms = round((time.monotonic() - start) * 1000, 2)
        work = partial(_assemble, outcomes, intake, order, total_ms, str(request.scope[REQUEST_ID]))
        body = await self._parts.pipeline.assemble(work, order)
        headers = {"X-Adapter-Revision": str(order.ref), "X-Adapter-Cold": str(int(cold)), "Vary": "Accept"}
        status = MULTI_STATUS if len(answers) < len(outcomes) else 200
        return Response(body, status, headers, MEDIA_TYPE[order.plan.form])

    async def _spec(self, ref: AdapterRef) -> AdapterSpec:
        work = asyncio.get_running_loop().run_in_executor(self._files, self._parts.catalog.manifest, ref)
        try:
            return (await work).spec
        except AdapterLoadError:
            # Deleted by another server on this store? Then it is not found; else the damage is worth a 503.
            self._parts.catalog.entry(ref.name).ref(ref.revision)
            raise


def _tasks(names: str | None, spec: AdapterSpec, ref: AdapterRef) -> tuple[Task, ...]:
    if names is None:
        return spec.task_names
    try:
        tasks = parse_tasks(names)
        lacking = [task.value for task in tasks if task not in spec.task_names]
        if not tasks or lacking:
            raise TaskError(f"there is no task {', '.join(lacking)}" if lacking else f"{names!r} names no task")
    except TaskError as error:
        raise BadParameterError(f"{error}; adapter set {ref} has {', '.join(spec.task_names)}") from error
    return tasks


def _plan(form: AnswerFormat, query: PredictQuery) -> RenderPlan:
    return RenderPlan(form, pngs=query.masks != "none", rle=query.masks == "rle", logits=query.logits)


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


def _answers_or_raise(outcomes: Sequence[Outcome]) -> list[ImageAnswer]:
    """The images that were answered; if there are none, the error that explains the most."""
    answers = [outcome for outcome in outcomes if isinstance(outcome, ImageAnswer)]
    if answers:
        return answers
    errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
    first = errors[0]
    if len(errors) > 1 and not isinstance(first, AdapterLoadError | QueueFullError):
        first.problems = tuple(f"image {position}: {error.detail}" for position, error in enumerate(errors))
    raise first


def _slowest(answers: Sequence[ImageAnswer]) -> dict[str, float]:
    """Per stage the longest of the images, which ran side by side."""
    rows = [answer.stages.milliseconds() for answer in answers]
    return {stage: max(row[stage] for row in rows) for stage in rows[0]}


def _assemble(outcomes: Sequence[Outcome], intake: Intake, order: Order, total_ms: float, request_id: str) -> bytes:
    documents = [_document(outcome, order, total_ms, request_id) for outcome in outcomes]
    first = outcomes[0]
    if order.plan.form is AnswerFormat.JSON or not isinstance(first, ImageAnswer):
        return to_json({"results": documents} if intake.several else documents[0])
    if order.plan.form is AnswerFormat.ZIP:
        return to_zip(first.rendered)
    if order.plan.form is AnswerFormat.PNG:
        return first.rendered.pngs[order.tasks[0]]
    return first.rendered.body


def _document(outcome: Outcome, order: Order, total_ms: float, request_id: str) -> Document:
    if isinstance(outcome, ServiceError):
        return problem_of(outcome, request_id).document()
    ref = order.ref
    document = outcome.rendered.document
    document["adapter"] = {"name": plain_name(ref.name), "revision": ref.revision, "digest": ref.digest}
    document["timings_ms"] = {**outcome.stages.milliseconds(), "total": total_ms}
    document["batch"] = {"size": outcome.batch_images, "adapters": outcome.batch_adapters}
    return document
