"""An answer is put together by whoever draws its last share: one trip through the codec threads, in any order."""

import io
import itertools
import json

import pytest
import torch
from PIL import Image

from app.answers.negotiation import AnswerFormat
from app.answers.plan import Extent, RenderPlan
from app.answers.render import Made, separate
from app.core.decoded_photo import Decoded
from app.core.errors import NonFiniteOutputError
from app.core.names import AdapterRef
from app.prediction.drawing import Drawing
from app.prediction.job import PredictionJob
from app.scheduling.fair_executor import FairExecutor
from mtlora.vocabulary.stopping import never
from mtlora.vocabulary.tasks import Task
from testing.factories import PASCAL_TASKS, adapter_spec
from testing.serving import Live

SPEC = adapter_spec(tasks=PASCAL_TASKS, image_size=64)
WIDTH, HEIGHT = 640, 513  # large enough for normals in two halves
JPEG = {"Content-Type": "image/jpeg"}


def drawing(plan: RenderPlan, tasks: tuple[Task, ...], *, scale: float = 1.0) -> tuple[Drawing, int]:
    source = torch.Generator().manual_seed(0)
    logits = {task: torch.randn(SPEC.task(task).outputs, 8, 8, generator=source) * scale for task in tasks}
    job = PredictionJob(AdapterRef("set", 1, "0" * 64), SPEC, tasks, plan)
    shares = separate(plan, tasks, Extent(WIDTH, HEIGHT, SPEC.image_size))
    return Drawing(job, Decoded(torch.zeros(1), WIDTH, HEIGHT), logits, shares, never, None), len(shares)


def drawn(order: tuple[int, ...], plan: RenderPlan, tasks: tuple[Task, ...]) -> list[Made | None]:
    one, _ = drawing(plan, tasks)
    shares = separate(plan, tasks, Extent(WIDTH, HEIGHT, SPEC.image_size))
    return [one.draw(shares[number]) for number in order]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_last_share_gives_the_answer_whichever_it_is(order: tuple[int, ...]) -> None:
    plan, tasks = RenderPlan(AnswerFormat.JSON), (Task.SALIENCY, Task.NORMALS)
    *before, made = drawn(order, plan, tasks)
    assert before == [None, None] and made is not None
    document = json.loads(b"".join(made.end(lambda: {"id": 1})))
    assert list(document["tasks"]) == ["saliency", "normals"] and document["id"] == 1
    (_, _, expected) = drawn((0, 1, 2), plan, tasks)
    assert expected is not None
    assert document == json.loads(b"".join(expected.end(lambda: {"id": 1})))


def test_a_picture_of_halves_is_one_picture() -> None:
    upper_last = drawn((1, 0), RenderPlan(AnswerFormat.PNG), (Task.NORMALS,))[-1]
    assert upper_last is not None
    picture = Image.open(io.BytesIO(b"".join(upper_last.end(dict))))
    assert picture.size == (WIDTH, HEIGHT) and picture.mode == "RGB"
    picture.load()


def test_a_model_gone_wild_gives_no_answer() -> None:
    one, _ = drawing(RenderPlan(AnswerFormat.PNG), (Task.SALIENCY,), scale=float("inf"))
    with pytest.raises(NonFiniteOutputError, match="saliency"):
        one.draw(separate(RenderPlan(AnswerFormat.PNG), (Task.SALIENCY,), Extent(WIDTH, HEIGHT, 64))[0])


@pytest.mark.parametrize("form", ["png", "json", "zip", "npz", "hf", "coco"])
def test_an_answer_of_one_map_is_one_trip(live: Live, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    trips: list[object] = []
    plain = FairExecutor._start

    def counted(executor: FairExecutor, work: object) -> object:
        trips.append(work)
        return plain(executor, work)  # type: ignore[arg-type]

    monkeypatch.setattr(FairExecutor, "_start", counted)
    photo = io.BytesIO()
    Image.new("RGB", (60, 40)).save(photo, "JPEG")
    answer = live.client.post(f"/predict?tasks=semseg&format={form}", content=photo.getvalue(), headers=JPEG)
    assert answer.status_code == 200, answer.text
    assert len(trips) == 1  # photos are decoded by processes of their own
