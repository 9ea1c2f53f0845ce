"""The request codec of the Open Inference Protocol: adapter sets are models, tasks are outputs, maps are tensors.

A tensor has one shape, so the photos of one request have one size, and a request fails if one of its images does.
"""

import math
from collections.abc import Sequence
from functools import partial

from starlette.requests import Request

from app.answers.form import AnswerFormat, Document, Pieces, to_json
from app.answers.oip_tensors import channels, datatype
from app.answers.plan import RenderPlan
from app.answers.render import Made
from app.api.open_inference.parse import TensorRequest, parse_request
from app.api.open_inference.schemas import LENGTH_HEADER, OutputIn
from app.core.compute import parse_budget
from app.core.errors import BadParameterError, ParameterConflictError
from app.core.names import AdapterRef, plain_name
from app.http.body_budget import Hold
from app.http.body_stream import read_all
from app.prediction.handler import Body
from app.prediction.job import Asked, Choice, ImageAnswer, Outcome, PredictionJob
from app.prediction.read_images import Bounds, open_body
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

MOST_TEXT_VALUES = 4_000_000  # of one output as JSON: some 80 MB; binary tensors have no such bound


class OpenInferenceCodec:
    """One request for inference."""

    partial = False

    def __init__(self, model: str, deadline_ms: int | None, compute: str | None = None) -> None:
        """model: the set that the path names; deadline_ms, compute: as headers say"""
        self.announced = Asked(model, deadline_ms, False, _choose_later)
        self._id = ""
        self._compute = compute

    async def read(self, request: Request, hold: Hold, bounds: Bounds) -> Asked:
        """The images, as base64 in JSON or as bytes behind it, the outputs, and by when."""
        body = await read_all(open_body(request, hold, bounds))
        asked = parse_request(body, request.headers.get(LENGTH_HEADER), bounds.images)
        self._id = asked.id
        before = self.announced
        deadline_ms = _deadline_ms(before.deadline_ms, asked.timeout_us)
        compute = _compute(self._compute, asked.compute)
        return Asked(before.adapter, deadline_ms, True, partial(_choose, asked, compute), asked.images)

    def write(self, outcomes: Sequence[Outcome], job: PredictionJob, *_: object) -> Body:
        """JSON, and behind it the tensors that are wanted as bytes."""
        made = [outcome.made for outcome in outcomes if isinstance(outcome, ImageAnswer)]
        size = _common_size(made)
        model = {"model_name": plain_name(job.ref.name), "model_version": str(job.ref.revision)}
        if self._id:
            model["id"] = self._id
        head: Pieces = [to_json(model)[:-1], b',"outputs":[']
        behind: Pieces = []
        for number, task in enumerate(job.tasks):
            parts = [one.tensors[task] for one in made]
            described: Document = {
                "name": task,
                "datatype": datatype(task),
                "shape": [len(parts), *size, *channels(task)],
            }
            head += [b","] if number else []
            if task in job.plan.as_text:
                head += [to_json(described)[:-1], b',"data":[', *_between_commas(parts), b"]}"]
                continue
            tensor = [piece for pieces in parts for piece in pieces]
            described["parameters"] = {"binary_data_size": sum(map(len, tensor))}
            head.append(to_json(described))
            behind += tensor
        head.append(b"]}")
        if not behind:
            return Body(head, "application/json", {})
        return Body([*head, *behind], "application/octet-stream", {LENGTH_HEADER: str(sum(map(len, head)))})


def _choose_later(_: AdapterRef, spec: AdapterSpec) -> Choice:
    """Tasks are in the body."""
    return Choice(spec.task_names, RenderPlan(AnswerFormat.V2))


def _choose(asked: TensorRequest, compute: str | None, ref: AdapterRef, spec: AdapterSpec) -> Choice:
    _check_model(asked, ref)
    outputs = asked.outputs or [OutputIn(name=task) for task in spec.task_names]
    tasks = tuple(_task(output.name, ref, spec) for output in outputs)
    binary = [asked.binary if o.parameters.binary_data is None else o.parameters.binary_data for o in outputs]
    as_text = frozenset(task for task, is_binary in zip(tasks, binary, strict=True) if not is_binary)
    plan = RenderPlan(AnswerFormat.V2, as_text=as_text, most_values=MOST_TEXT_VALUES // len(asked.images))
    return Choice(tasks, plan, compute, tiles=asked.tiles)


def _deadline_ms(in_header: int | None, asked_us: int | None) -> int | None:
    """The deadline of header or body, of which there is one."""
    if asked_us is None:
        return in_header
    asked_ms = max(1, math.ceil(asked_us / 1000))
    if in_header not in {None, asked_ms}:
        raise ParameterConflictError(
            f"the header X-Deadline-Ms says {in_header} ms, the parameter timeout {asked_us} us; give the deadline once"
        )
    return asked_ms


def _compute(in_header: str | None, asked: str | None) -> str | None:
    """The budget of header or body, of which there is one."""
    if asked is None or in_header is None:
        return in_header if asked is None else asked
    if parse_budget(in_header) != parse_budget(asked):
        raise ParameterConflictError(
            f"the header X-Compute says {in_header}, the parameter compute {asked}; give the budget once"
        )
    return asked


def _between_commas(parts: Sequence[Pieces]) -> Pieces:
    return [piece for number, pieces in enumerate(parts) for piece in ([b",", *pieces] if number else pieces)]


def _check_model(asked: TensorRequest, ref: AdapterRef) -> None:
    """KServe's client names the model in the body too."""
    if asked.model not in {None, plain_name(ref.name), str(ref)} or asked.version not in {None, str(ref.revision)}:
        raise ParameterConflictError(f"the path means model {ref}, the body {asked.model}, version {asked.version}")


def _task(name: str, ref: AdapterRef, spec: AdapterSpec) -> Task:
    found = next((task for task in spec.task_names if task == name), None)
    if found is None:
        known = ", ".join(spec.task_names)
        raise BadParameterError(f"there is no output {name!r}; adapter set {ref} has {known}")
    return found


def _common_size(made: Sequence[Made]) -> tuple[int, int]:
    """Height and width that all images have."""
    sizes = list(dict.fromkeys((one.height, one.width) for one in made))
    if len(sizes) > 1:
        told = ", ".join(f"{width}x{height}" for height, width in sizes)
        raise BadParameterError(f"a tensor has one shape, so the photos of a request have one size; got {told}")
    return sizes[0]
