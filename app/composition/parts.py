"""The parts of a server and how they depend on each other."""

import logging
from dataclasses import asdict, dataclass
from functools import partial

import torch

from app.answers.reclaim import Reclaimer
from app.composition.pools import Pools, adapter_threads
from app.core.tiers import Tier
from app.decoding.decoders import SMALL_BYTES, Decoders, FairSlots, IsolatedDecoders, ThreadedDecoders
from app.decoding.messages import Limits
from app.decoding.pool import DecoderPool
from app.decoding.process import Plan
from app.engine.engine import Engine
from app.engine.micro_batch import BatchLimits
from app.engine.worker import Worker
from app.http.body_budget import BodyBudget
from app.prediction.handler import Predictions
from app.prediction.pipeline import Pipeline
from app.registry.catalog import Catalog
from app.registry.lifecycle import AdapterLifecycle
from app.registry.lookup import Lookup
from app.registry.pins import Pins
from app.registry.store_watcher import StoreWatcher
from app.registry.upload import Uploader, UploadLimits
from app.residency.device_cache import DeviceCache
from app.residency.host_cache import HostCache
from app.residency.loader import AdaptedSet, AdapterLoader
from app.residency.memory_budgets import choose_budgets
from app.scheduling.admission import Admission, AdmissionLimits
from app.scheduling.background_throttle import BackgroundThrottle
from app.scheduling.fair_executor import FairExecutor
from app.startup.settings import Settings
from app.store.adapter_store import AdapterStore
from app.telemetry.metrics import Metrics
from app.telemetry.model_statistics import ModelStatistics
from mtlora.inference import make_backend
from mtlora.kernels import kernels
from mtlora.weights.adapter_file import CheckedFiles
from mtlora.weights.backbone import Backbone

log = logging.getLogger(__name__)

GPU_BATCH_IMAGES = 16  # twice as many take twice as long (docs/performance.md)
MOST_DECODE_TIMES = 2  # of the memory for large photos: what needs more than that is refused
FREE_ENCODE_BYTES = 64 << 20  # answers that take no more never wait for the memory of large ones


@dataclass(frozen=True, slots=True)
class Parts:
    """What handlers work with once it is there."""

    catalog: Catalog
    lookup: Lookup
    adapters: AdapterLifecycle
    device_cache: DeviceCache[AdaptedSet]
    pins: Pins
    watcher: StoreWatcher
    decoders: Decoders
    pipeline: Pipeline
    worker: Worker
    bodies: BodyBudget
    throttle: BackgroundThrottle
    predictions: Predictions
    statistics: ModelStatistics
    compute_default: str | None  # of requests of which nobody else says it


def assemble(
    s: Settings, pools: Pools, metrics: Metrics, backbone: Backbone, store: AdapterStore, catalog: Catalog
) -> Parts:
    """All parts, made of each other; nothing runs yet."""
    budgets = choose_budgets(s.device_bytes, s.host_bytes, backbone.device)
    backend = make_backend(backbone, s.form, precision=s.precision, budget_bytes=budgets.device_bytes)
    log.info("memory of adapter sets", extra=asdict(budgets))
    metrics.budgets(**asdict(budgets))
    host = HostCache(budgets.host_bytes, partial(metrics.evicted, Tier.HOST))
    checked, throttle = CheckedFiles(), BackgroundThrottle()
    device_cache: DeviceCache[AdaptedSet] = DeviceCache(
        AdapterLoader(backend, catalog.path, host, metrics, checked),
        pools.loader,
        metrics,
        budget_bytes=budgets.device_bytes,
        parallel_loads=s.loader_threads,
        failure_ttl_s=s.load_failure_ttl_s,
        throttle=throttle,
    )
    bounds = UploadLimits(s.max_adapter_bytes, s.max_model_px, budgets.device_bytes, s.max_uploads)
    threads = adapter_threads(s, pools)
    uploader = Uploader(catalog, store, backbone, backend.device_bytes, threads, bounds, checked, throttle)
    pins = Pins(catalog, device_cache, backend.device_bytes, threads.reads)
    lookup = Lookup(catalog, device_cache, host, threads)
    device_cache.reach = lookup.reach
    statistics = ModelStatistics()

    def forget(name: str) -> None:
        metrics.forget_adapter(name)
        statistics.forget(name)

    adapters = AdapterLifecycle(store, lookup, pins, uploader, forget)
    watcher = StoreWatcher(store, catalog, adapters, pins, s.store_timeout_s)
    limits = BatchLimits(
        batch_images(s, backbone.device), s.max_batch_bytes, s.batch_wait_ms / 1000, s.calm_wait_ms / 1000
    )
    worker = Worker(Engine(backend), metrics, limits, threads=s.engine_threads)
    codec = FairExecutor(pools.codec, s.codec_threads, memory_bytes=s.max_encode_bytes, free_bytes=FREE_ENCODE_BYTES)
    admission = Admission(AdmissionLimits(s.max_queue_images, s.max_queue_age_ms / 1000))
    memory = Reclaimer(pools.codec)
    decoders = _decoders(s, codec, metrics)
    most = s.max_image_pixels
    pipeline = Pipeline(device_cache, worker, decoders, codec, admission, metrics, memory, max_pixels=most)
    bodies = BodyBudget(s.max_inflight_body_bytes)
    predictions = Predictions(s, lookup, device_cache, pipeline, bodies, throttle, statistics)
    return Parts(
        catalog, lookup, adapters, device_cache, pins, watcher, decoders, pipeline, worker, bodies, throttle,
        predictions, statistics, s.compute_default,
    )  # fmt: skip


def batch_images(settings: Settings, device: torch.device) -> int:
    """Most images in one micro-batch: what was set, or what suits the device."""
    return settings.max_batch_images or (GPU_BATCH_IMAGES if device.type == "cuda" else 1)


def _decoders(settings: Settings, threads: FairExecutor, metrics: Metrics) -> Decoders:
    """Where the settings want photos to be decoded."""
    limits = Limits(settings.max_image_pixels, settings.decode_seconds, SMALL_BYTES)
    if settings.decoding == "threads":
        return ThreadedDecoders(threads, limits)
    native = kernels()
    plan = Plan(
        limits, settings.max_body_bytes, settings.max_model_px, native.path if native else None, settings.max_tiles
    )
    pool = DecoderPool(plan, settings.decoders, lambda reason: metrics.decoders_lost.labels(reason).inc())
    slots = FairSlots(settings.decoders, memory_bytes=settings.max_decode_bytes)
    return IsolatedDecoders(pool, slots, most_bytes=MOST_DECODE_TIMES * settings.max_decode_bytes)
