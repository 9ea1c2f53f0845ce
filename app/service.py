"""Everything that runs behind the handlers: built in the background at start, taken down in order at the end."""

import asyncio
import contextlib
import enum
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

import torch

from app.access.gatekeeper import Gatekeeper, KeyRing
from app.access.keys import parse_keys
from app.batching.admission import Admission, AdmissionLimits
from app.batching.batch import BatchLimits
from app.batching.threads import FairThreads
from app.batching.worker import Worker
from app.courtesy import Courtesy
from app.decoding.decoders import SMALL_BYTES, Decoders, FairProcesses, IsolatedDecoders, ThreadedDecoders
from app.decoding.messages import Limits
from app.decoding.pool import DecoderPool
from app.decoding.process import Plan
from app.engine import Engine
from app.errors import DeviceError, NotReadyError, ServiceError, StartupError
from app.intake.budget import BodyBudget
from app.pipeline import Pipeline
from app.places import adapters_folder, backbone_file
from app.preflight import one_line
from app.reclaim import Reclaimer
from app.residency.budgets import choose_budgets
from app.residency.catalog import Catalog, find_bundled
from app.residency.following import Follower
from app.residency.host import HostCache
from app.residency.loader import AdaptedSet, AdapterLoader
from app.residency.lookup import Lookup
from app.residency.manager import Residency
from app.residency.names import namespace_of
from app.residency.pins import Pins
from app.residency.service import AdapterService
from app.residency.store import AdapterStore
from app.residency.threads import AdapterThreads, StoreThreads
from app.residency.tiers import Tier
from app.residency.uploads import Uploader, UploadLimits
from app.settings import Settings
from app.telemetry import audit
from app.telemetry.metrics import Levels, Metrics
from app.telemetry.traces import open_tracer
from app.torch_threads import use_threads
from mtlora.adapter_file import CheckedFiles, check_backbone
from mtlora.backbone import Backbone, load_backbone
from mtlora.errors import MTLoRAError
from mtlora.inference import make_form
from mtlora.native import kernels
from mtlora.store import find_backbone
from mtlora.version import __version__

log = logging.getLogger(__name__)

GPU_BATCH_IMAGES = 16  # twice as many take twice as long (docs/performance.md)
MOST_DECODE_TIMES = 2  # of the memory for large photos: what needs more than that is refused
FREE_ENCODE_BYTES = 64 << 20  # answers that take no more never wait for the memory of large ones
UPLOAD_THREADS = 2
FILE_THREADS = 2
READ_THREADS, WAITING_READS = 4, 1000  # of the store; reads are short, and few are needed
CHANGE_THREADS, WAITING_CHANGES = 8, 64  # of the store; they take its lock, so one at a time gets on
UPLOADS_NICE, LOADS_NICE = 19, 10  # predictions go first; a load that somebody waits for still gets on


class Phase(enum.Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pools:
    """Threads by purpose, so that no kind of work waits behind another."""

    files: ThreadPoolExecutor  # what is known of sets, and the start
    uploads: ThreadPoolExecutor  # writing and checking adapter files
    loader: ThreadPoolExecutor  # adapter files to models
    codec: ThreadPoolExecutor  # photos in, answers out

    @classmethod
    def make(cls, settings: Settings) -> "Pools":
        """The pools that the settings ask for."""
        return cls(
            files=ThreadPoolExecutor(FILE_THREADS, "mtlora-files"),
            uploads=ThreadPoolExecutor(UPLOAD_THREADS, "mtlora-uploads", _yielding(UPLOADS_NICE)),
            loader=ThreadPoolExecutor(settings.loader_threads, "mtlora-loader", _yielding(LOADS_NICE)),
            codec=ThreadPoolExecutor(settings.codec_threads, "mtlora-codec", _single_threaded),
        )

    def warm(self, settings: Settings) -> None:
        """Start every thread that uses torch now: limiting one later would also limit the engine's operators."""
        sizes = (
            (self.uploads, UPLOAD_THREADS),
            (self.loader, settings.loader_threads),
            (self.codec, settings.codec_threads),
        )
        for pool, threads in sizes:
            barrier = threading.Barrier(threads + 1)
            for _ in range(threads):
                pool.submit(barrier.wait)
            barrier.wait()

    def close(self) -> None:
        """End the threads; what runs is finished, what waits is not begun."""
        for pool in (self.codec, self.loader, self.uploads, self.files):
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """What handlers work with once it is there."""

    catalog: Catalog
    lookup: Lookup
    adapters: AdapterService
    residency: Residency[AdaptedSet]
    pins: Pins
    follower: Follower
    decoders: Decoders
    pipeline: Pipeline
    worker: Worker
    bodies: BodyBudget
    courtesy: Courtesy


class Service:
    """One server's parts and phase."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.audit_log is not None:
            audit.add_audit_file(settings.audit_log)
        self.metrics = Metrics(adapter_labels=settings.metric_adapters)
        self.metrics.levels = self._levels
        self.metrics.queue_limit.set(settings.max_queue_images)
        self.gatekeeper = Gatekeeper(KeyRing(parse_keys(settings.api_keys), settings.keys_file))
        self.tracer = open_tracer()
        self.url = ""  # of the page, once there is a port
        self.phase = Phase.STARTING
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._parts: Parts | None = None
        self._pools = Pools.make(settings)
        self._following: asyncio.Task[None] | None = None

    @property
    def parts(self) -> Parts:
        """The parts; `NotReadyError` before they are there."""
        if self._parts is None:
            raise NotReadyError(f"the server is {self.phase.value}", retry_after_s=2)
        return self._parts

    @property
    def files(self) -> Executor:
        """Threads for short file work."""
        return self._pools.files

    def require_ready(self) -> Parts:
        """The parts; `NotReadyError` unless new work is admitted."""
        if self.phase is not Phase.READY:
            raise NotReadyError(f"the server is {self.phase.value}", retry_after_s=2)
        return self.parts

    def require_warm(self) -> None:
        """`NotReadyError` that lists what is waited for, unless new work is admitted."""
        if self.phase is Phase.STARTING:
            waits = [f"{name or 'a set of a name space'}: {reason}" for name, reason in self.missing_pins()]
            waits = waits if self._parts else ["backbone and adapter sets: loading"]
            raise NotReadyError("the server is starting", 2, waits or ["engine: warming up"])
        self.require_ready()

    def missing_pins(self) -> list[tuple[str, str]]:
        """Pinned sets that are not on the device, and why. Names in name spaces are nobody's business: empty."""
        missing = self._parts.pins.missing() if self._parts else {}
        return [("", "missing") if namespace_of(ref.name) else (str(ref), why) for ref, why in missing.items()]

    def store_fault(self) -> str:
        """Why sets cannot be changed, or changes of other processes cannot be seen; empty: they can."""
        return self._parts.follower.fault if self._parts else ""

    def drain(self) -> None:
        """Admit nothing more; what runs goes on."""
        if self.phase is not Phase.FAILED:
            self.phase = Phase.DRAINING

    async def start(self) -> None:
        """Build the parts and warm them up; a failure is remembered and ends the server."""
        try:
            await self._start()
        except (MTLoRAError, ServiceError, OSError) as error:
            self._fail(error)
            log.error("cannot start", extra={"reason": str(error), "plain": f"cannot start: {one_line(error)}"})
        except Exception as error:  # a bug must end the process too, not leave a server that never gets ready
            self._fail(error)
            log.exception("cannot start")

    async def stop(self) -> None:
        """Finish what the engine has, give everything back."""
        if self._following is not None:
            self._following.cancel()
        if self._parts is not None:
            await asyncio.to_thread(self._parts.worker.stop)
            await self._parts.pipeline.close()
            await self._parts.adapters.close()
            await self._parts.decoders.close()
        await asyncio.to_thread(self._pools.close)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self.settings
        await loop.run_in_executor(self._pools.files, self._pools.warm, settings)
        backbone = await loop.run_in_executor(self._pools.files, _open_backbone, settings)
        self.metrics.build_info.labels(__version__, str(torch.__version__), backbone.spec.name).set(1)
        store, catalog = await loop.run_in_executor(self._pools.files, _open_sets, settings, backbone)
        parts = self._parts = self._assemble(backbone, store, catalog)
        parts.worker.start()
        await asyncio.gather(parts.decoders.start(), self._warm(parts))
        _spare_the_collector()
        self._following = asyncio.create_task(parts.follower.run(), name="follow the store")
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self._say_ready(parts, backbone)

    def _say_ready(self, parts: Parts, backbone: Backbone) -> None:
        name, device, sets = backbone.spec.name, backbone.device, len(parts.catalog.names())
        facts = {"backbone": name, "device": str(device), "form": parts.worker.engine.form, "adapters": sets}
        where = "the CPU" if device.type == "cpu" else str(device)
        what = f"{sets} adapter set{'' if sets == 1 else 's'}, {name}, on {where}"
        banner = f"ready: open {self.url} — {what}" if self.url else f"ready: {what}"
        log.info("ready", extra={**facts, "url": self.url, "plain": banner})

    def _assemble(self, backbone: Backbone, store: AdapterStore, catalog: Catalog) -> Parts:
        s, pools = self.settings, self._pools
        budgets = choose_budgets(s.device_bytes, s.host_bytes, backbone.device)
        form = make_form(backbone, s.form, precision=s.precision, budget_bytes=budgets.device_bytes)
        log.info("memory of adapter sets", extra=asdict(budgets))
        self.metrics.budgets(budgets)
        host = HostCache(budgets.host_bytes, partial(self.metrics.evicted, Tier.HOST))
        checked, courtesy = CheckedFiles(), Courtesy()
        residency: Residency[AdaptedSet] = Residency(
            AdapterLoader(form, catalog.path, host, self.metrics, checked),
            pools.loader,
            self.metrics,
            budget_bytes=budgets.device_bytes,
            parallel_loads=s.loader_threads,
            failure_ttl_s=s.load_failure_ttl_s,
            courtesy=courtesy,
        )
        bounds = UploadLimits(s.max_adapter_bytes, s.max_model_px, budgets.device_bytes, s.max_uploads)
        threads = _adapter_threads(s, pools)
        uploader = Uploader(catalog, store, backbone, form.device_bytes, threads, bounds, checked, courtesy)
        pins = Pins(catalog, residency, form.device_bytes, threads.reads)
        lookup = Lookup(catalog, residency, host, threads)
        residency.reach = lookup.reach
        forget = self.metrics.forget_adapter
        adapters = AdapterService(store, lookup, pins, uploader, forget)
        follower = Follower(store, catalog, adapters, pins, s.store_timeout_s)
        limits = BatchLimits(batch_images(s, backbone.device), s.max_batch_bytes, s.batch_wait_ms / 1000)
        worker = Worker(Engine(form), self.metrics, limits, threads=s.engine_threads)
        codec = FairThreads(pools.codec, s.codec_threads, memory_bytes=s.max_encode_bytes, free_bytes=FREE_ENCODE_BYTES)
        admission = Admission(AdmissionLimits(s.max_queue_images, s.max_queue_age_ms / 1000))
        memory = Reclaimer(pools.codec)
        decoders = _decoders(s, codec, self.metrics)
        most = s.max_image_pixels
        pipeline = Pipeline(residency, worker, decoders, codec, admission, self.metrics, memory, max_pixels=most)
        bodies = BodyBudget(s.max_inflight_body_bytes)
        return Parts(
            catalog, lookup, adapters, residency, pins, follower, decoders, pipeline, worker, bodies, courtesy
        )  # fmt: skip

    async def _warm(self, parts: Parts) -> None:
        await parts.pins.refresh()
        lease = await parts.residency.acquire(parts.catalog.resolve(None, ""))
        try:
            await parts.worker.call(lambda: parts.worker.warm(lease.adapted))
        finally:
            lease.release()
        await parts.pins.bring_in()

    def _fail(self, error: BaseException) -> None:
        self.phase = Phase.FAILED
        self.failure = error
        self.on_failure()

    def _levels(self) -> Levels:
        if self._parts is None:
            return Levels()
        device, host = self._parts.residency, self._parts.adapters.host
        count, size = self._parts.catalog.bytes_on_disk()
        return Levels(
            queue_images=self._parts.pipeline.admitted,
            ready=self.phase is Phase.READY,
            store_usable=not self.store_fault(),
            adapters=(count, len(host), len(device)),
            adapter_bytes=(size, host.used_bytes, device.used_bytes),
        )


def batch_images(settings: Settings, device: torch.device) -> int:
    """Most images in one micro-batch: what was set, or what suits the device."""
    return settings.max_batch_images or (GPU_BATCH_IMAGES if device.type == "cuda" else 1)


def _decoders(settings: Settings, threads: FairThreads, metrics: Metrics) -> Decoders:
    """Where the settings want photos to be decoded."""
    limits = Limits(settings.max_image_pixels, settings.decode_seconds, SMALL_BYTES)
    if settings.decoding == "threads":
        return ThreadedDecoders(threads, limits)
    native = kernels()
    plan = Plan(limits, settings.max_body_bytes, settings.max_model_px, native.path if native else None)
    pool = DecoderPool(plan, settings.decoders, lambda reason: metrics.decoders_lost.labels(reason).inc())
    slots = FairProcesses(settings.decoders, memory_bytes=settings.max_decode_bytes)
    return IsolatedDecoders(pool, slots, most_bytes=MOST_DECODE_TIMES * settings.max_decode_bytes)


def _open_backbone(settings: Settings) -> Backbone:
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load_backbone(find_backbone(backbone_file(settings))).to(device)
    except (RuntimeError, AssertionError) as error:  # what torch raises where there is no such device
        raise DeviceError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from error


def _open_sets(settings: Settings, backbone: Backbone) -> tuple[AdapterStore, Catalog]:
    store = AdapterStore.open(settings.store, max_bytes=settings.store_max_bytes, timeout_s=settings.store_timeout_s)
    folder = adapters_folder(settings)
    if not folder.is_dir():
        raise StartupError(f"the folder of adapter sets does not exist: {folder}")
    catalog = Catalog(store, find_bundled(folder, partial(check_backbone, backbone=backbone)), settings.default_adapter)
    catalog.check()
    return store, catalog


def _adapter_threads(settings: Settings, pools: Pools) -> AdapterThreads:
    s = settings.store_timeout_s
    return AdapterThreads(
        memory=pools.files,
        uploads=pools.uploads,
        reads=StoreThreads("reads", threads=READ_THREADS, waiting=WAITING_READS, timeout_s=s),
        changes=StoreThreads("changes", threads=CHANGE_THREADS, waiting=WAITING_CHANGES, timeout_s=s),
    )


def _spare_the_collector() -> None:
    """Take modules and the backbone out of the garbage collector's sight: a full collection is then a tenth as long.

    Once, before there are requests: of what is frozen no cycle is ever freed, and requests that fail or are given up
    leave cycles.
    """
    gc.collect()
    gc.freeze()


def _single_threaded() -> None:
    """The engine alone may use several cores for one operator; others would fight it for them."""
    use_threads(1)


def _yielding(nice: int) -> Callable[[], None]:
    """Begin a thread that gives way to the engine's, where threads have priorities of their own (Linux)."""

    def begin() -> None:
        _single_threaded()
        if sys.platform == "linux":
            thread = threading.get_native_id()
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + nice))

    return begin
