"""The request codec of POST /predict: query parameters, three forms of body, many forms of answer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from starlette.requests import Request

from app.answers.negotiation import MEDIA_TYPE, AnswerFormat, choose_format
from app.answers.plan import RenderPlan
from app.answers.render import Document, Pieces, to_document, to_json, to_zip
from app.api.errors import problem_of
from app.api.predict.schemas import LISTS, PARAMETERS, PredictQuery
from app.core.errors import BadParameterError, ServiceError
from app.core.names import plain_name
from app.http.body_budget import Hold
from app.http.parameters import Found, merged
from app.prediction.handler import Body, Wanted
from app.prediction.job import ImageAnswer, Outcome, PredictionJob
from app.prediction.read_images import Bounds, Intake, Knows, read_images
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import Task, parse_tasks

MULTI_STATUS = 207
KNOWS = Knows(PARAMETERS, LISTS)


class PredictCodec:
    """One request of POST /predict.

    found:        its parameters as far as they stand before its body
    open_to_more: its body may have more of them
    """

    partial = True

    def __init__(self, found: Sequence[Found], accept: str, *, open_to_more: bool) -> None:
        self._found = tuple(found)
        self._query = merged(PredictQuery, self._found, LISTS)
        self._open = open_to_more
        self._accept = accept
        self._intake = Intake((), several=False)

    def wanted(self) -> Wanted:
        """The set and the deadline, as far as they are known by now."""
        return Wanted(self._query.adapter, self._query.deadline_ms, final=not self._open)

    def begin(self, job: PredictionJob) -> PredictionJob:
        """The tasks asked for, and a form in which one image could be answered, unless the body may say which."""
        job = replace(job, tasks=_tasks(self._query.tasks, job))
        return job if self._open else self._planned(job, images=1)

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> tuple[bytes, ...]:
        """The images, whatever the form of the body, and the parameters in it."""
        self._intake = await read_images(request, hold, bounds, KNOWS)
        self._query = merged(PredictQuery, (*self._found, *self._intake.found), LISTS)
        self._open = False
        return self._intake.images

    def finish(self, job: PredictionJob) -> PredictionJob:
        """The tasks that the body may have named, and a form for so many images."""
        job = replace(job, tasks=_tasks(self._query.tasks, job))
        return self._planned(job, images=len(self._intake.images))

    def assemble(self, outcomes: Sequence[Outcome], job: PredictionJob, total_ms: float, request_id: str) -> Body:
        """The answer in the form chosen."""
        failed = sum(isinstance(outcome, ServiceError) for outcome in outcomes)
        content = self._content(outcomes, job, total_ms, request_id)
        form = job.plan.form
        return Body(content, MEDIA_TYPE[form], {"Vary": "Accept"}, MULTI_STATUS if failed else 200)

    def _planned(self, job: PredictionJob, *, images: int) -> PredictionJob:
        query = self._query
        form = choose_format(query.format, self._accept, tasks=job.tasks, images=images)
        if query.logits and form is not AnswerFormat.NPZ:
            raise BadParameterError(f"logits are given with format npz only, this answer is {form.value}")
        if query.masks == "rle" and form not in {AnswerFormat.JSON, AnswerFormat.ZIP}:
            raise BadParameterError(f"masks=rle is given with formats json and zip only, this answer is {form.value}")
        plan = RenderPlan(form, pngs=query.masks != "none", rle=query.masks == "rle", logits=query.logits)
        return replace(job, plan=plan)

    def _content(self, outcomes: Sequence[Outcome], job: PredictionJob, total_ms: float, request_id: str) -> Pieces:
        first, form = outcomes[0], job.plan.form
        if form is AnswerFormat.JSON or not isinstance(first, ImageAnswer):
            pieces = [_document(outcome, job, total_ms, request_id) for outcome in outcomes]
            if not self._intake.several:
                return [*pieces[0]]
            for document in pieces[1:]:
                document.insert(0, b",")
            return [b'{"results":[', *chain.from_iterable(pieces), b"]}"]
        if form is AnswerFormat.ZIP:
            return [to_zip(first.rendered, _about(first, job, total_ms))]
        if form is AnswerFormat.PNG:
            return [*first.rendered.maps[job.tasks[0]].picture.pieces()]
        return first.rendered.body


def _tasks(names: str | None, job: PredictionJob) -> tuple[Task, ...]:
    known = job.spec.task_names
    if names is None:
        return known
    try:
        tasks = parse_tasks(names)
        lacking = [task.value for task in tasks if task not in known]
        if not tasks or lacking:
            raise TaskError(f"there is no task {', '.join(lacking)}" if lacking else f"{names!r} names no task")
    except TaskError as error:
        raise BadParameterError(f"{error}; adapter set {job.ref} has {', '.join(known)}") from error
    return tasks


def _document(outcome: Outcome, job: PredictionJob, total_ms: float, request_id: str) -> list[bytes]:
    """Pieces of JSON."""
    if isinstance(outcome, ServiceError):
        return [to_json(problem_of(outcome, request_id).document())]
    return to_document(outcome.rendered, _about(outcome, job, total_ms))


def _about(answer: ImageAnswer, job: PredictionJob, total_ms: float) -> Document:
    ref = job.ref
    return {
        "adapter": {"name": plain_name(ref.name), "revision": ref.revision, "digest": ref.digest},
        "timings_ms": {**answer.stages.milliseconds(), "total": total_ms},
        "batch": {"size": answer.batch_images, "adapters": answer.batch_adapters},
    }
