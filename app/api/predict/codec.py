"""The request codec of POST /predict: query parameters, three forms of body, many forms of answer."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from starlette.requests import Request

from app.answers.form import AnswerFormat, Document, Pieces, to_json
from app.answers.forms import FORMS
from app.answers.negotiation import OF_MASKS, WITH_MASKS, choose_format, overlay_media
from app.answers.plan import RenderPlan
from app.api.errors import problem_of
from app.api.predict.schemas import LISTS, PARAMETERS, PredictQuery
from app.core.errors import BadParameterError, ServiceError
from app.core.names import AdapterRef, plain_name
from app.core.nearest import did_you_mean
from app.http.body_budget import Hold
from app.http.gzip_answers import accepts_gzip, gzipped
from app.http.parameters import Found, merged
from app.prediction.handler import Body
from app.prediction.job import JSON_PLAN, Asked, Choice, ImageAnswer, Outcome, PredictionJob
from app.prediction.read_images import Bounds, Knows, read_images
from mtlora.images.tiles import UNTILED
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import TRAITS, Task, parse_tasks

MULTI_STATUS, JSON = 207, "application/json"
Accepts = tuple[str, str]
FIRST = "first task with masks"  # stands for it where no task is named
KNOWS = Knows(PARAMETERS, LISTS)


class PredictCodec:
    """One request of POST /predict.

    found:        its parameters as far as they stand before its body
    accepts:      the headers `Accept` and `Accept-Encoding`
    open_to_more: its body may have more of them
    of_masks:     what is not asked for otherwise is a list of the masks of one task, as Hugging Face's clients take it
    """

    partial = True

    def __init__(self, found: Sequence[Found], accepts: Accepts, *, open_to_more: bool, of_masks: bool = False) -> None:
        self._found = tuple(found)
        self._of_masks = of_masks
        accept, self._encodings = accepts
        self._accept = accept
        self._several = False
        query = self._query(self._found)
        choose = partial(_choose, query, accept, 0 if open_to_more else 1)
        self.announced = Asked(query.adapter, query.deadline_ms, not open_to_more, choose)

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> Asked:
        """The images, whatever the form of the body, and the parameters in it."""
        intake = await read_images(request, hold, bounds, KNOWS)
        self._several = intake.several
        if self.announced.final:
            return replace(self.announced, images=intake.images)
        query = self._query((*self._found, *intake.found))
        choose = partial(_choose, query, self._accept, len(intake.images))
        return Asked(query.adapter, query.deadline_ms, True, choose, intake.images)

    def _query(self, found: Sequence[Found]) -> PredictQuery:
        query = merged(PredictQuery, found, LISTS)
        if not self._of_masks:
            return query
        return query.model_copy(update={"format": query.format or AnswerFormat.HF.value, "tasks": query.tasks or FIRST})

    def write(self, outcomes: Sequence[Outcome], job: PredictionJob, total_ms: float, request_id: str) -> Body:
        """The answer in the form chosen."""
        failed = sum(isinstance(outcome, ServiceError) for outcome in outcomes)
        bodies = [_body(outcome, job, total_ms, request_id) for outcome in outcomes]
        content = bodies[0]
        if self._several and job.plan.form is AnswerFormat.JSON:
            between = ([b",", *body] for body in bodies[1:])
            content = [b'{"results":[', *bodies[0], *chain.from_iterable(between), b"]}"]
        media = job.plan.media or FORMS[job.plan.form].media
        headers = {"Vary": "Accept, Accept-Encoding"}
        if media == JSON and not job.plan.has_pngs and accepts_gzip(self._encodings):
            content, packed = gzipped(content)
            headers |= {"Content-Encoding": "gzip"} if packed else {}
        return Body(content, media, headers, MULTI_STATUS if failed else 200)


def _choose(query: PredictQuery, accept: str, images: int, ref: AdapterRef, spec: AdapterSpec) -> Choice:
    """images: 0 if the body may still say what is asked for, so that nothing is known of the form"""
    tasks = _tasks(query.tasks, ref, spec)
    if not images:
        return Choice(tasks, JSON_PLAN, query.compute, tiles=query.tiles)
    form = choose_format(query.format, accept, tasks=tasks, images=images)
    if query.logits and form is not AnswerFormat.NPZ:
        raise BadParameterError(f"logits are given with format npz only, this answer is {form.value}")
    if query.masks == "none" and form is not AnswerFormat.JSON:
        raise BadParameterError(f"masks=none is given with format json only, this answer is {form.value}")
    if query.masks in {"rle", "polygons"} and form not in {AnswerFormat.JSON, AnswerFormat.ZIP}:
        raise BadParameterError(
            f"masks={query.masks} is given with formats json and zip only, this answer is {form.value}"
        )
    if query.style != "blend" and form is not AnswerFormat.OVERLAY:
        raise BadParameterError(f"style is given with format overlay only, this answer is {form.value}")
    if query.threshold is not None and form not in OF_MASKS:
        raise BadParameterError(f"threshold is of formats hf and coco only, this answer is {form.value}")
    if query.explain and form is not AnswerFormat.JSON:
        raise BadParameterError(f"explain is given with format json only, this answer is {form.value}")
    plan = RenderPlan(
        form,
        least_score=query.threshold or 0.0,
        pngs=query.masks != "none",
        rle=query.masks == "rle",
        logits=query.logits,
        polygons=query.masks == "polygons",
        nearest_edges=query.edges == "nearest",
        size=query.size,
        style=query.style,
        media=overlay_media(accept) if form is AnswerFormat.OVERLAY else "",
    )
    return Choice(tasks, plan, query.compute, query.explain is not None, query.tiles)


def _tasks(names: str | None, ref: AdapterRef, spec: AdapterSpec) -> tuple[Task, ...]:
    known = spec.task_names
    if names is None:
        return known
    if names == FIRST:
        return next(((task,) for task in known if TRAITS[task].decode in WITH_MASKS), known)
    try:
        tasks = parse_tasks(names)
        lacking = [task.value for task in tasks if task not in known]
        if not tasks or lacking:
            raise TaskError(f"there is no task {', '.join(lacking)}" if lacking else f"{names!r} names no task")
    except TaskError as error:
        strange = next((name for name in names.split(",") if not _is_task(name)), "")
        meant = did_you_mean(strange.strip(), known) if strange else ""
        raise BadParameterError(f"{str(error)[:300]}{meant or ';'} adapter set {ref} has {', '.join(known)}") from error
    return tasks


def _is_task(name: str) -> bool:
    try:
        return bool(parse_tasks(name)) or not name.strip()
    except TaskError:
        return False


def _body(outcome: Outcome, job: PredictionJob, total_ms: float, request_id: str) -> Pieces:
    if isinstance(outcome, ServiceError):
        return [to_json(problem_of(outcome, request_id).document())]
    return outcome.made.end(partial(_about, outcome, job, total_ms))


def _about(answer: ImageAnswer, job: PredictionJob, total_ms: float) -> Document:
    ref = job.ref
    about: Document = {
        "adapter": {"name": plain_name(ref.name), "revision": ref.revision, "digest": ref.digest},
        "timings_ms": {**answer.stages.milliseconds(), "total": total_ms},
        "batch": {"size": answer.batch_images, "adapters": answer.batch_adapters},
    }
    if job.tiling != UNTILED:
        about["tiles"] = {"rows": answer.grid.rows, "columns": answer.grid.columns}
    if job.tells_share:
        about["compute"] = {"share": round(answer.share, 4)}
    if job.explain:
        about["compute"]["png"] = base64.b64encode(answer.computed_png).decode()
    return about
