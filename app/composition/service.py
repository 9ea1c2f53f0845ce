"""The service behind the handlers: built in the background at start, taken down in order at the end."""

import asyncio
import enum
import gc
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

import torch

from app.access.gatekeeper import Gatekeeper, KeyRing
from app.access.keys import parse_keys
from app.composition.parts import Parts, assemble
from app.composition.pools import Pools
from app.core.errors import DeviceError, NotReadyError, ServiceError, StartupError
from app.core.names import namespace_of
from app.registry.catalog import Catalog, find_bundled
from app.startup.paths import adapters_folder, backbone_file
from app.startup.preflight import one_line
from app.startup.settings import Settings
from app.store.adapter_store import AdapterStore
from app.store.open_store import StoreOptions, open_store
from app.telemetry import audit
from app.telemetry.metrics import Levels, Metrics
from app.telemetry.traces import open_tracer
from mtlora.version import __version__
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.weights.adapter_file import check_backbone
from mtlora.weights.backbone import Backbone, load_backbone
from mtlora.weights.bundled import find_backbone

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


class Service:
    """One server's parts and phase."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.audit_log is not None:
            audit.add_audit_file(settings.audit_log)
        self.metrics = Metrics(adapter_labels=settings.metric_adapters)
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
        return self._parts.watcher.fault if self._parts else ""

    def drain(self) -> None:
        """Admit nothing more; what runs goes on."""
        if self.phase is not Phase.FAILED:
            self.phase = Phase.DRAINING

    async def start(self) -> None:
        """Build the parts and warm them up; a failure is remembered and ends the server."""
        try:
            await self._start()
        except (MTLoRAError, ServiceError, OSError) as error:
            self.fail(error)
            log.error("cannot start", extra={"reason": str(error), "plain": f"cannot start: {one_line(error)}"})
        except Exception as error:  # a bug must end the process too, not leave a server that never gets ready
            self.fail(error)
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
        parts = self._parts = assemble(settings, self._pools, self.metrics, backbone, store, catalog)
        parts.worker.start()
        await asyncio.gather(parts.decoders.start(), self._warm(parts))
        _spare_the_collector()
        self._following = asyncio.create_task(parts.watcher.run(), name="follow the store")
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self._say_ready(parts, backbone)

    def _say_ready(self, parts: Parts, backbone: Backbone) -> None:
        name, device, sets = backbone.spec.name, backbone.device, len(parts.catalog.names())
        facts = {"backbone": name, "device": str(device), "form": parts.worker.engine.backend, "adapters": sets}
        where = "the CPU" if device.type == "cpu" else str(device)
        what = f"{sets} adapter set{'' if sets == 1 else 's'}, {name}, on {where}"
        banner = f"ready: open {self.url} — {what}" if self.url else f"ready: {what}"
        log.info("ready", extra={**facts, "url": self.url, "plain": banner})

    async def _warm(self, parts: Parts) -> None:
        await parts.pins.refresh()
        lease = await parts.device_cache.acquire(parts.catalog.resolve(None, ""))
        try:
            await parts.worker.call(lambda: parts.worker.warm(lease.adapted))
        finally:
            lease.release()
        await parts.pins.bring_in()

    def fail(self, error: BaseException) -> None:
        """The server cannot start, or go on: it ends."""
        self.phase = Phase.FAILED
        self.failure = error
        self.on_failure()

    async def expose_metrics(self) -> bytes:
        """The text that Prometheus scrapes.

        What the event loop changes is read here, on it; what takes long, sets on disk and text, is done by a thread.
        """
        parts, levels = self._parts, Levels()
        if parts is not None:
            device, host = parts.device_cache, parts.adapters.host
            levels = Levels(
                queue_images=parts.pipeline.admitted,
                ready=self.phase is Phase.READY,
                store_usable=not self.store_fault(),
                adapters=(0, len(host), len(device)),
                adapter_bytes=(0, host.used_bytes, device.used_bytes),
            )

        def text() -> bytes:
            count, size = (0, 0) if parts is None else parts.catalog.bytes_on_disk()
            adapters, adapter_bytes = (count, *levels.adapters[1:]), (size, *levels.adapter_bytes[1:])
            return self.metrics.expose(replace(levels, adapters=adapters, adapter_bytes=adapter_bytes))

        return await asyncio.get_running_loop().run_in_executor(self.files, text)


def _open_backbone(settings: Settings) -> Backbone:
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return load_backbone(find_backbone(backbone_file(settings))).to(device)
    except (RuntimeError, AssertionError) as error:  # what torch raises where there is no such device
        raise DeviceError(f"cannot use device {device!r}: {str(error).splitlines()[0]}") from error


def _open_sets(settings: Settings, backbone: Backbone) -> tuple[AdapterStore, Catalog]:
    options = StoreOptions(
        settings.store_max_bytes, settings.store_timeout_s, settings.store_cache, settings.store_cache_bytes
    )
    store = open_store(settings.store, options)
    folder = adapters_folder(settings)
    if not folder.is_dir():
        raise StartupError(f"the folder of adapter sets does not exist: {folder}")
    catalog = Catalog(store, find_bundled(folder, partial(check_backbone, backbone=backbone)), settings.default_adapter)
    catalog.check()
    return store, catalog


def _spare_the_collector() -> None:
    """Take modules and the backbone out of the garbage collector's sight: a full collection is then a tenth as long.

    Once, before there are requests: of what is frozen no cycle is ever freed, and requests that fail or are given up
    leave cycles.
    """
    gc.collect()
    gc.freeze()
