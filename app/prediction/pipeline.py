"""The pipeline of a prediction: admission, decoding beside loading, the engine, encoding. Lives on the event loop."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from app.answers.computed_map import computed_map, computed_map_of_tiles
from app.answers.costs import encode_bytes, encode_us
from app.answers.forms import FORMS
from app.answers.plan import Extent
from app.answers.reclaim import Reclaimer
from app.answers.render import Made, separate
from app.core.compute import WHOLE
from app.core.decoded_photo import Decoded
from app.core.errors import QueueFullError, ServiceError, TooManyPixelsError
from app.core.names import AdapterRef
from app.core.stages import STAGES, Stages
from app.decoding.decoders import Decoders, Turn
from app.engine.work_item import Forwarded, Item
from app.engine.worker import Worker
from app.prediction.drawing import Drawing
from app.prediction.job import ImageAnswer, Outcome, PredictionJob
from app.prediction.tiles import put_together
from app.residency.device_cache import DeviceCache, Lease
from app.residency.loader import AdaptedSet
from app.scheduling.admission import Admission, Demand, Ticket
from app.scheduling.cost_model import Costs, Workload, relative_cost
from app.scheduling.fair_executor import FairExecutor
from app.scheduling.fair_queue import Flow
from app.scheduling.stop import Stop
from app.telemetry.metrics import Metrics
from mtlora.images.tiles import UNTILED, Grid
from mtlora.inference import forward_bytes
from mtlora.model.policy.plan import open_shares

T = TypeVar("T")
BLEND_US = 500  # of a thread, for the scores of one tile and task: a guess, for a flow pays what it takes
MOST_LOGITS_PIXELS = 4 << 20  # of a photo in tiles, for each of some thirty float32 values
LOWERED = 0.98  # of the highest share: a plan spends its budget up to what one more window costs


@dataclass(slots=True)
class _Run:
    """What the images of one request share."""

    job: PredictionJob
    ticket: Ticket
    lease: "asyncio.Task[Lease[AdaptedSet]]"
    started: float
    items: list[Item] = field(default_factory=list)


class Pipeline:
    """Answers images; bounded, fair, and nothing of an abandoned request begins a further stage."""

    def __init__(
        self,
        device_cache: DeviceCache[AdaptedSet],
        worker: Worker,
        decoders: Decoders,
        threads: FairExecutor,
        admission: Admission,
        metrics: Metrics,
        memory: Reclaimer,
        *,
        max_pixels: int,
    ) -> None:
        self._device_cache = device_cache
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

    def refuse_early(
        self, flow: Flow, deadline: float, ref: AdapterRef | None, work: Workload | None, passes: int = 1
    ) -> None:
        """`BusyError` or `DeadlineError` if one image would not be admitted now, whatever its body says.

        passes: that it takes at least
        ref: None if the body may name another set; work: None if it may name other tasks
        """
        cold = ref is not None and not self._device_cache.is_resident(ref)
        self._admission.check(Demand(flow, passes, self._cost_us(work), cold, deadline - time.monotonic()))

    async def run(self, job: PredictionJob) -> list[Outcome]:
        """One outcome per image, in order. Cancelling the call drops what has not begun, in every stage.

        `QueueFullError`, `WaitTooLongError`, `DeadlineError`: not admitted; the first also if it had to give way while
        it waited.
        """
        eviction = _Eviction()
        ticket = self._admission.admit(self._demand(job), eviction)
        lease = asyncio.create_task(self._device_cache.acquire(job.ref), name=f"lease {job.ref}")
        lease.add_done_callback(lambda _: setattr(ticket, "loading", False))
        run = _Run(job, ticket, lease, time.perf_counter())
        try:
            with eviction:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._answer(data, run)) for data in job.images]
            return [task.result() for task in tasks]
        finally:
            self._let_go(run)

    def sent(self, nbytes: int) -> None:
        """An answer of so many bytes is no longer in memory."""
        self._memory.freed(nbytes)

    async def close(self) -> None:
        """Wait until every lease is given back."""
        self._memory.close()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _demand(self, job: PredictionJob) -> Demand:
        cold = not self._device_cache.is_resident(job.ref)
        cost_us = self._cost_us(job.workload)
        return Demand(job.flow, len(job.images) * job.tiling.least, cost_us, cold, job.deadline - time.monotonic())

    def _cost_us(self, work: Workload | None) -> int:
        """Of one image; 0: nobody knows."""
        return self._costs.estimate_us(work) if work is not None and self._costs.known else 0

    async def _answer(self, data: bytes, run: _Run) -> Outcome:
        job, stages = run.job, Stages(began=time.perf_counter())
        places = job.tiling.least
        try:
            turn = Turn(job.flow, job.deadline)
            decoded, stages.decode = await _timed(self._decoders.square(data, job.spec, turn, job.tiling))
            decoded = decoded.with_maps_of(
                *job.plan.map_size(decoded.width, decoded.height, decoded.model_size(job.spec.image_size))
            )
            _check_tiles(decoded, job, self._max_pixels)
            _extent(decoded, job).check(self._max_pixels, job.plan.size)
            if decoded.grid.count > places:
                self._admission.grow(run.ticket, decoded.grid.count - places, job.deadline - time.monotonic())
                places = decoded.grid.count
            lease = await asyncio.shield(run.lease)
            stages.load = time.perf_counter() - run.started - stages.decode if lease.cold else 0.0
            forwarded = await self._forward(decoded, lease, run)
            stages.queue, stages.forward = forwarded.queue_s, forwarded.forward_s
            made, stages.encode = await _timed(self._encode(data, decoded, forwarded, job))
            computed_png = await asyncio.to_thread(_computed, forwarded, decoded.grid, job) if job.explain else b""
        except ServiceError as error:
            return error
        finally:
            self._admission.leave(run.ticket, places)
        stages.ended = time.perf_counter()
        for stage in STAGES:
            self._metrics.stage_seconds.labels(stage).observe(getattr(stages, stage))
        share, batch = forwarded.share, (forwarded.batch_images, forwarded.batch_adapters)
        self._metrics.image_done(job.ref.name, job.tasks, share)
        if job.tiling != UNTILED:
            self._metrics.tiles.observe(decoded.grid.count)
        if job.budget != WHOLE:
            for one in forwarded.tiles or (forwarded,):
                self._count_gates(one, job)
        return ImageAnswer(made, stages, *batch, lease.cold, share, computed_png, decoded.grid)

    async def _forward(self, decoded: Decoded, lease: Lease[AdaptedSet], run: _Run) -> Forwarded:
        """What the model makes of a photo. Tiles wait for their turns as photos do, and share passes with any."""
        job, squares = run.job, decoded.squares
        if len(squares) == 1:
            return await self._forward_one(squares[0], lease, run)
        passes = [asyncio.create_task(self._forward_one(square, lease, run)) for square in squares]
        try:
            done = await asyncio.gather(*passes)
        finally:  # where one has failed, or nobody waits any more, the others need not begin
            for one in passes:
                one.cancel()
            await asyncio.gather(*passes, return_exceptions=True)
        work = partial(put_together, done, decoded.grid)
        cost_us = BLEND_US * len(squares) * len(job.tasks)
        return await self._threads.run(job.flow, work, cost_us=cost_us, deadline=job.deadline, ahead=True)

    async def _forward_one(self, pixels: torch.Tensor, lease: Lease[AdaptedSet], run: _Run) -> Forwarded:
        """One pass: of a photo, or of a tile; pixels float32 [3, S, S]."""
        job = run.job
        future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
        item = Item(
            job.ref,
            lease.adapted,
            job.tasks,
            pixels,
            future,
            job.flow,
            whole_us=self._costs.estimate_us(job.workload._replace(compute=1.0)),
            budget=job.budget,
            compute=job.budget.highest,
            forward_bytes=forward_bytes(job.spec, job.tasks),
            deadline=job.deadline,
        )
        # Not where the answer is awaited: what is given up costs the engine as much.
        future.add_done_callback(lambda _: self._learn(item, job))
        self._worker.submit(item)
        run.items.append(item)
        try:
            forwarded = await asyncio.shield(future)  # the engine answers it even if nobody waits any more
        except asyncio.CancelledError:
            self._worker.drop(item)
            raise
        run.ticket.begun = True
        return forwarded

    def _count_gates(self, forwarded: Forwarded, job: PredictionJob) -> None:
        depths = job.spec.backbone.depths
        opened = [(float(depth), depth) for depth in depths]
        if forwarded.gates is not None:
            parts = (float(open_shares(stage).sum()) for stage in forwarded.gates)
            opened = [*zip(parts, depths, strict=True)]
        self._metrics.image_gated(forwarded.share, opened)
        if job.budget.is_open:
            lowered = forwarded.share < LOWERED * job.budget.highest
            self._metrics.compute_open.labels("yes" if lowered else "no").inc()

    def _learn(self, item: Item, job: PredictionJob) -> None:
        if item.took_s:
            self._costs.measured(job.workload._replace(compute=item.compute), item.took_s)
            self._metrics.compute_saved.inc(item.took_s / relative_cost(item.compute) - item.took_s)

    async def _encode(self, data: bytes, decoded: Decoded, forwarded: Forwarded, job: PredictionJob) -> Made:
        if not FORMS[job.plan.form].needs_photo:
            return await self._make(decoded, forwarded, job, None)
        # Decoded once more rather than kept: while it waits, a photo would take a hundred times its bytes.
        turn = Turn(job.flow, job.deadline)
        return await self._decoders.pixels(data, turn, partial(self._make, decoded, forwarded, job))

    async def _make(
        self, decoded: Decoded, forwarded: Forwarded, job: PredictionJob, photo: NDArray[np.uint8] | None
    ) -> Made:
        """The one trip through the codec threads, where shares of it may be drawn side by side."""
        extent = _extent(decoded, job)
        shares = separate(job.plan, job.tasks, extent)
        nbytes = encode_bytes(job.plan, job.tasks, extent, side_by_side=len(shares) > 1)
        try:
            with Stop(job.deadline) as stop:
                drawing = Drawing(job, decoded, forwarded.logits, shares, stop.check, photo)
                drawn = await self._threads.run_all(
                    job.flow,
                    [partial(drawing.draw, share) for share in shares],
                    cost_us=encode_us(job.tasks, extent) // len(shares),
                    deadline=job.deadline,
                    nbytes=nbytes,
                    ahead=True,
                )
        finally:
            self._memory.freed(nbytes)
        return next(made for made in drawn if made is not None)

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


def _extent(decoded: Decoded, job: PredictionJob) -> Extent:
    return Extent(decoded.width, decoded.height, max(decoded.model_size(job.spec.image_size)))


def _check_tiles(decoded: Decoded, job: PredictionJob, max_pixels: int) -> None:
    """`TooManyPixelsError` where tiles together cover more than a photo may have, or logits of them take too much."""
    rows, columns = decoded.model_size(job.spec.image_size)
    most = min(max_pixels, MOST_LOGITS_PIXELS) if job.plan.logits else max_pixels
    if decoded.grid.count > 1 and rows * columns > most:
        what = "their logits have" if job.plan.logits else "together they cover"
        raise TooManyPixelsError(
            f"tiles {decoded.grid} of {job.spec.image_size} px are too many: {what} {columns} x {rows} px, at most "
            f"{most} are allowed: ask for fewer tiles"
        )


def _computed(forwarded: Forwarded, grid: Grid, job: PredictionJob) -> bytes:
    if not forwarded.tiles:
        return computed_map(forwarded.gates, job.spec)
    return computed_map_of_tiles([one.gates for one in forwarded.tiles], grid, job.spec)


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
