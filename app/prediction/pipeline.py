"""The path of one prediction: admission, decoding beside loading, the engine, encoding. Lives on the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from app.answers.negotiation import AnswerFormat
from app.answers.plan import Extent, encode_bytes, encode_us
from app.answers.reclaim import Reclaimer
from app.answers.render import Rendered, Share, join, render, separate
from app.core.decoded_photo import Decoded
from app.core.errors import NonFiniteOutputError, QueueFullError, ServiceError
from app.core.names import AdapterRef
from app.core.stages import STAGES, Stages
from app.decoding.decoders import Decoders, Turn
from app.engine.work_item import Forwarded, Item
from app.engine.worker import Worker
from app.prediction.job import ImageAnswer, Order, Outcome
from app.residency.device_cache import Lease, Residency
from app.residency.loader import AdaptedSet
from app.scheduling.admission import Admission, Demand, Ticket
from app.scheduling.cost_model import Costs, Workload
from app.scheduling.fair_executor import FairThreads
from app.scheduling.fair_queue import Flow
from app.scheduling.stop import Stop
from app.telemetry.metrics import Metrics
from mtlora.inference import forward_bytes
from mtlora.maps.postprocessing import is_usable
from mtlora.vocabulary.tasks import Task

T = TypeVar("T")

ASSEMBLY_US = 1000


@dataclass(slots=True)
class _Run:
    """What the images of one request share."""

    order: Order
    ticket: Ticket
    lease: "asyncio.Task[Lease[AdaptedSet]]"
    started: float
    items: list[Item] = field(default_factory=list)


class Pipeline:
    """Answers images; bounded, fair, and nothing of an abandoned request begins a further stage."""

    def __init__(
        self,
        residency: Residency[AdaptedSet],
        worker: Worker,
        decoders: Decoders,
        threads: FairThreads,
        admission: Admission,
        metrics: Metrics,
        memory: Reclaimer,
        *,
        max_pixels: int,
    ) -> None:
        self._residency = residency
        self._worker = worker
        self._decoders = decoders
        self._threads = threads
        self._admission = admission
        self._metrics = metrics
        self._memory = memory
        self._max_pixels = max_pixels
        self._costs = Costs()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def admitted(self) -> int:
        """Images admitted and not answered."""
        return self._admission.images

    def check_room(self, order: Order) -> None:
        """`BusyError` or `DeadlineError` if one image of this order would not be admitted now."""
        self._admission.check(self._demand(1, order))

    def check_door(self, flow: Flow, deadline: float, ref: AdapterRef | None = None) -> None:
        """As `check_room`, where the body may still name tasks, and without `ref` the set too.

        Refused is what would be refused whatever it names.
        """
        cold = ref is not None and not self._residency.is_resident(ref)
        self._admission.check(Demand(flow, 1, 0, cold, deadline - time.monotonic()))

    async def run(self, images: Sequence[bytes], order: Order) -> list[Outcome]:
        """One outcome per image, in order. Cancelling the call drops what has not begun, in every stage.

        `QueueFullError`, `WaitTooLongError`, `DeadlineError`: not admitted; the first also if it had to give way while
        it waited.
        """
        eviction = _Eviction()
        ticket = self._admission.admit(self._demand(len(images), order), eviction)
        lease = asyncio.create_task(self._residency.acquire(order.ref), name=f"lease {order.ref}")
        lease.add_done_callback(lambda _: setattr(ticket, "loading", False))
        run = _Run(order, ticket, lease, time.perf_counter())
        try:
            with eviction:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._answer(data, run)) for data in images]
            return [task.result() for task in tasks]
        finally:
            self._let_go(run)

    async def assemble(self, work: Callable[[], T], order: Order) -> T:
        """Put an answer into bytes, in a codec thread."""
        return await self._threads.run(order.flow, work, cost_us=ASSEMBLY_US, deadline=order.deadline, ahead=True)

    def sent(self, nbytes: int) -> None:
        """An answer of so many bytes is no longer in memory."""
        self._memory.freed(nbytes)

    async def close(self) -> None:
        """Wait until every lease is given back."""
        self._memory.close()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _demand(self, images: int, order: Order) -> Demand:
        cost_us = self._costs.estimate_us(_workload(order)) if self._costs.known else 0
        cold = not self._residency.is_resident(order.ref)
        return Demand(order.flow, images, cost_us, cold, order.deadline - time.monotonic())

    async def _answer(self, data: bytes, run: _Run) -> Outcome:
        order, stages = run.order, Stages(began=time.perf_counter())
        try:
            turn = Turn(order.flow, order.deadline)
            decoded, stages.decode = await _timed(self._decoders.square(data, order.spec, turn))
            extent = Extent(decoded.width, decoded.height, order.spec.image_size)
            extent.check(self._max_pixels)
            lease = await asyncio.shield(run.lease)
            stages.load = time.perf_counter() - run.started - stages.decode if lease.cold else 0.0
            forwarded = await self._forward(decoded, lease, run)
            stages.queue, stages.forward = forwarded.queue_s, forwarded.forward_s
            rendered, stages.encode = await _timed(self._encode(data, decoded, forwarded, order))
        except ServiceError as error:
            return error
        finally:
            self._admission.leave(run.ticket)
        stages.ended = time.perf_counter()
        for stage in STAGES:
            self._metrics.stage_seconds.labels(stage).observe(getattr(stages, stage))
        self._metrics.image_done(order.ref.name, order.tasks)
        return ImageAnswer(rendered, stages, forwarded.batch_images, forwarded.batch_adapters, lease.cold)

    async def _forward(self, decoded: Decoded, lease: Lease[AdaptedSet], run: _Run) -> Forwarded:
        order = run.order
        future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
        item = Item(
            order.ref,
            lease.adapted,
            order.tasks,
            decoded.pixels,
            future,
            order.flow,
            cost_us=self._costs.estimate_us(_workload(order)),
            forward_bytes=forward_bytes(order.spec, order.tasks),
            deadline=order.deadline,
        )
        # Not where the answer is awaited: what is given up costs the engine as much.
        future.add_done_callback(lambda _: self._learn(item, order))
        self._worker.submit(item)
        run.items.append(item)
        try:
            forwarded = await asyncio.shield(future)  # the engine answers it even if nobody waits any more
        except asyncio.CancelledError:
            self._worker.drop(item)
            raise
        run.ticket.begun = True
        return forwarded

    def _learn(self, item: Item, order: Order) -> None:
        if item.took_s:
            self._costs.measured(_workload(order), item.took_s)

    async def _encode(self, data: bytes, decoded: Decoded, forwarded: Forwarded, order: Order) -> Rendered:
        if order.plan.form is not AnswerFormat.OVERLAY:
            return await self._render(decoded, forwarded, order, None)
        # Decoded once more rather than kept: while it waits, a photo would take a hundred times its bytes.
        turn = Turn(order.flow, order.deadline)
        return await self._decoders.pixels(data, turn, partial(self._render, decoded, forwarded, order))

    async def _render(
        self, decoded: Decoded, forwarded: Forwarded, order: Order, photo: NDArray[np.uint8] | None
    ) -> Rendered:
        extent = Extent(decoded.width, decoded.height, order.spec.image_size)
        shares = separate(order.plan, order.tasks, extent)
        nbytes = encode_bytes(order.plan, order.tasks, extent, side_by_side=len(shares) > 1)
        try:
            with Stop(order.deadline) as stop:
                parts = await self._threads.run_all(
                    order.flow,
                    [partial(self._draw, decoded, forwarded.logits, share, order, stop, photo) for share in shares],
                    cost_us=encode_us(order.tasks, extent) // len(shares),
                    deadline=order.deadline,
                    nbytes=nbytes,
                    ahead=True,
                )
        finally:
            self._memory.freed(nbytes)
        return join(parts, order.tasks)

    @staticmethod
    def _draw(
        decoded: Decoded,
        logits: Mapping[Task, torch.Tensor],
        share: Share,
        order: Order,
        stop: Stop,
        photo: NDArray[np.uint8] | None,
    ) -> Rendered:
        stop.check()
        if not all(is_usable(logits[task]) for task in share.tasks):
            broken = [task.value for task, scores in logits.items() if not is_usable(scores)]
            raise NonFiniteOutputError(
                f"adapter set {order.ref} gives outputs that are not finite on this image: {', '.join(broken)}"
            )
        pixels = None if photo is None else lambda: photo
        return render(logits, decoded, order.spec, order.plan, share, photo=pixels, check=stop.check)

    def _let_go(self, run: _Run) -> None:
        """Give the lease back, but not before the engine is done with every item that uses it."""
        task = asyncio.create_task(_release(run))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class _Eviction:
    """Cancels the task that made it, where that is within the `with`, and turns the cancellation into its reason."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._reason: QueueFullError | None = None

    def __call__(self, reason: QueueFullError) -> None:
        self._reason = reason
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Cancelled from elsewhere too (deadline, client gone)? Then that counts.
        if self._reason is None or self._task is None or self._task.uncancel():
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._reason from None


def _workload(order: Order) -> Workload:
    return Workload(order.ref, order.spec, order.tasks)


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = await work
    return result, time.perf_counter() - start


async def _release(run: _Run) -> None:
    if not run.lease.done():
        run.lease.cancel()
    await asyncio.gather(*(item.future for item in run.items), return_exceptions=True)
    try:
        (await run.lease).release()
    except (asyncio.CancelledError, ServiceError):
        return  # there never was a lease
