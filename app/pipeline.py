"""The path of one prediction: admission, decoding beside loading, the engine, encoding. Lives on the event loop."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import torch

from app.batching.costs import Costs, forward_bytes
from app.batching.policy import Flow
from app.batching.request import Forwarded, Item
from app.batching.worker import Worker
from app.errors import NonFiniteOutputError, QueueFullError, ServiceError
from app.imaging.decode import Decoded, decode
from app.imaging.render import Rendered, RenderPlan, render
from app.intake.formats import AnswerFormat
from app.residency.loader import AdaptedSet
from app.residency.manager import Lease, Residency
from app.residency.names import AdapterRef
from app.telemetry.metrics import Metrics
from mtlora.outputs import is_usable
from mtlora.spec import AdapterSpec
from mtlora.tasks import Task

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asked for, resolved: nothing in it changes while the request runs."""

    ref: AdapterRef
    spec: AdapterSpec
    tasks: tuple[Task, ...]
    plan: RenderPlan
    caller: str = ""  # label of the key; empty where no keys are set
    deadline: float = math.inf  # on the clock of time.monotonic

    @property
    def flow(self) -> Flow:
        """Whose turn its images take."""
        return Flow(self.caller, self.ref.name)


@dataclass(slots=True)
class Stages:
    """Seconds one image spent in each stage."""

    decode: float = 0.0
    queue: float = 0.0
    load: float = 0.0
    forward: float = 0.0
    encode: float = 0.0

    def milliseconds(self) -> dict[str, float]:
        """By stage, in ms."""
        return {name: round(getattr(self, name) * 1000, 2) for name in ("decode", "queue", "load", "forward", "encode")}


@dataclass(slots=True)
class ImageAnswer:
    """One image's answer before it is put into bytes."""

    rendered: Rendered
    stages: Stages
    batch_images: int
    batch_adapters: int
    cold: bool


Outcome = ImageAnswer | ServiceError


@dataclass(slots=True)
class _Run:
    """What the images of one request share."""

    order: Order
    lease: "asyncio.Task[Lease[AdaptedSet]]"
    started: float
    items: list[Item] = field(default_factory=list)


class Pipeline:
    """Answers images; bounded, and nothing of an abandoned request reaches the engine."""

    def __init__(
        self,
        residency: Residency[AdaptedSet],
        worker: Worker,
        codec: Executor,
        metrics: Metrics,
        *,
        max_images: int,
        max_pixels: int,
    ) -> None:
        self._residency = residency
        self._worker = worker
        self._codec = codec
        self._metrics = metrics
        self._max_images = max_images
        self._max_pixels = max_pixels
        self._costs = Costs()
        self._background: set[asyncio.Task[None]] = set()
        self.admitted = 0  # images that are not through the model yet

    def check_room(self, images: int = 1) -> None:
        """`QueueFullError` unless so many more images may wait."""
        if self.admitted + images > self._max_images:
            raise QueueFullError(
                f"{self.admitted} of at most {self._max_images} images are waiting, {images} more came"
            )

    async def run(self, images: Sequence[bytes], order: Order) -> list[Outcome]:
        """One outcome per image, in order; cancelling the call drops what has not reached the engine."""
        self.check_room(len(images))
        lease = asyncio.create_task(self._residency.acquire(order.ref), name=f"lease {order.ref}")
        run = _Run(order, lease, time.perf_counter())
        self.admitted += len(images)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(data, run)) for data in images]
            return [task.result() for task in tasks]
        finally:
            self._let_go(run)

    async def encode(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run codec work in its threads."""
        return await asyncio.get_running_loop().run_in_executor(self._codec, lambda: work(*args, **kwargs))

    async def close(self) -> None:
        """Wait until every lease is given back."""
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _answer(self, data: bytes, run: _Run) -> Outcome:
        try:
            decoded, forwarded, stages, cold = await self._through_model(data, run)
            rendered, stages.encode = await self._timed(self.encode(_draw, forwarded.logits, decoded, run.order))
        except ServiceError as error:
            return error
        for stage in ("decode", "queue", "load", "forward", "encode"):
            self._metrics.stage_seconds.labels(stage).observe(getattr(stages, stage))
        self._metrics.image_done(run.order.ref.name, run.order.tasks)
        return ImageAnswer(rendered, stages, forwarded.batch_images, forwarded.batch_adapters, cold)

    async def _through_model(self, data: bytes, run: _Run) -> tuple[Decoded, Forwarded, Stages, bool]:
        """Decode while the set loads, then the engine; the place in the queue is free again afterwards."""
        order, stages = run.order, Stages()
        try:
            keep = order.plan.form is AnswerFormat.OVERLAY
            decoded, stages.decode = await self._timed(
                self.encode(decode, data, order.spec, max_pixels=self._max_pixels, keep_photo=keep)
            )
            lease = await asyncio.shield(run.lease)
            stages.load = time.perf_counter() - run.started - stages.decode if lease.cold else 0.0
            forwarded = await self._forward(decoded, lease, run)
        finally:
            self.admitted -= 1
        stages.queue, stages.forward = forwarded.queue_s, forwarded.forward_s
        self._costs.measured(order.spec, order.tasks, forwarded.forward_s / forwarded.group_images)
        return decoded, forwarded, stages, lease.cold

    async def _forward(self, decoded: Decoded, lease: Lease[AdaptedSet], run: _Run) -> Forwarded:
        future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
        order = run.order
        item = Item(
            order.ref,
            lease.adapted,
            order.tasks,
            decoded.pixels,
            future,
            order.flow,
            cost_us=self._costs.estimate_us(order.spec, order.tasks),
            forward_bytes=forward_bytes(order.spec, order.tasks),
            deadline=order.deadline,
        )
        self._worker.submit(item)
        run.items.append(item)
        try:
            return await asyncio.shield(future)  # the engine answers it even if nobody waits any more
        except asyncio.CancelledError:
            self._worker.drop(item)
            raise

    def _let_go(self, run: _Run) -> None:
        """Give the lease back, but not before the engine is done with every item that uses it."""
        task = asyncio.create_task(_release(run))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _timed(self, work: Awaitable[T]) -> tuple[T, float]:
        start = time.perf_counter()
        result = await work
        return result, time.perf_counter() - start


def _draw(logits: Mapping[Task, torch.Tensor], decoded: Decoded, order: Order) -> Rendered:
    broken = [task.value for task, scores in logits.items() if not is_usable(scores)]
    if broken:
        raise NonFiniteOutputError(
            f"adapter set {order.ref} gives outputs that are not finite on this image: {', '.join(broken)}"
        )
    return render(logits, decoded, order.spec, order.plan)


async def _release(run: _Run) -> None:
    if not run.lease.done():
        run.lease.cancel()
    await asyncio.gather(*(item.future for item in run.items), return_exceptions=True)
    try:
        (await run.lease).release()
    except (asyncio.CancelledError, ServiceError):
        return  # there never was a lease
