"""All metrics of the service, each defined once. docs/metrics.md explains them (tested)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.core.stages import STAGES
from app.core.tiers import Tier
from app.telemetry.labels import BoundedCounter
from mtlora.vocabulary.tasks import Task

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
SHARE_BUCKETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COUNT_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
REJECTIONS = (
    "queue_full",
    "queue_age",
    "quota",
    "body_memory",
    "device_memory",
    "not_ready",
    "deadline",
    "client_gone",
    "too_large",
)
STAGES_OF_ENCODER = 4
DECODER_LOSSES = ("costly", "late", "died", "grown")


@dataclass(frozen=True, slots=True)
class Levels:
    """What is read at the moment of a scrape."""

    queue_images: int = 0
    ready: bool = False
    store_usable: bool = False
    adapters: tuple[int, int, int] = (0, 0, 0)  # as in `Tier`: disk, host, device
    adapter_bytes: tuple[int, int, int] = (0, 0, 0)


class Metrics(Collector):
    """The registry of one server and the methods that move it."""

    def __init__(self, *, adapter_labels: int) -> None:
        # A creation time per series would double the text, and nobody reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._levels = Levels()
        self._images = BoundedCounter(adapter_labels)
        self._computed = BoundedCounter(adapter_labels)
        reg = self.registry
        self.requests = Counter(
            "mtlora_requests", "HTTP requests answered, by status code and format", ["code", "format"], registry=reg
        )
        self.request_seconds = Histogram(
            "mtlora_request_seconds", "Time to the answer, predictions only", buckets=LATENCY_BUCKETS,
            registry=reg,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "mtlora_stage_seconds", "Time one image spent in a stage", ["stage"], buckets=LATENCY_BUCKETS, registry=reg
        )
        self.task_outputs = Counter("mtlora_task_outputs", "Maps computed, by task", ["task"], registry=reg)
        self.batch_images = Histogram(
            "mtlora_batch_images", "Images in a micro-batch", buckets=COUNT_BUCKETS, registry=reg
        )
        self.batch_adapters = Histogram(
            "mtlora_batch_adapters", "Adapter sets in a micro-batch", buckets=COUNT_BUCKETS, registry=reg
        )
        self.tiles = Histogram(
            "mtlora_tiles", "Tiles of an image, images that tiles were asked for", buckets=COUNT_BUCKETS, registry=reg
        )
        self._count_compute()
        self.inflight = Gauge("mtlora_inflight_requests", "Requests being answered", registry=reg)
        self.rejected = Counter("mtlora_rejected", "Requests refused or given up, by reason", ["reason"], registry=reg)
        self.decoders_lost = Counter(
            "mtlora_decoders_lost", "Processes that decode photos and had to be replaced, by reason", ["reason"],
            registry=reg,
        )  # fmt: skip
        self.loads = Counter(
            "mtlora_adapter_loads", "Adapter sets loaded, by tier and result", ["tier", "result"], registry=reg
        )
        self.load_seconds = Histogram(
            "mtlora_adapter_load_seconds",
            "Time to load an adapter set",
            ["tier"],
            buckets=LATENCY_BUCKETS,
            registry=reg,
        )
        self.evictions = Counter(
            "mtlora_adapter_evictions", "Adapter sets removed from a tier, by reason", ["tier", "reason"], registry=reg
        )
        self.hits = Counter("mtlora_adapter_cache_hits", "Requests whose set was on the device", registry=reg)
        self.misses = Counter("mtlora_adapter_cache_misses", "Requests that waited for a load", registry=reg)
        self.queue_limit = Gauge("mtlora_queue_limit_images", "Images admitted at most; above that 429", registry=reg)
        self.adapter_budget = Gauge(
            "mtlora_adapter_budget_bytes", "Bytes that adapter sets may take in a tier", ["tier"], registry=reg
        )
        self.build_info = Gauge(
            "mtlora_build_info", "1; the labels say what runs", ["version", "torch", "backbone"], registry=reg
        )
        self._show_zeros()
        ProcessCollector(registry=reg)
        GCCollector(registry=reg)
        reg.register(self)

    def collect(self) -> Iterator[Metric]:
        """Metrics that are read rather than counted."""
        images = CounterMetricFamily("mtlora_images", "Images answered, by adapter set", labels=["adapter"])
        for name, count in self._images.samples().items():
            images.add_metric([name], count)
        yield images
        whole = CounterMetricFamily(
            "mtlora_images_computed", "Images answered, each as the share of compute that it took", labels=["adapter"]
        )
        for name, share in self._computed.samples().items():
            whole.add_metric([name], share)
        yield whole
        levels = self._levels
        yield GaugeMetricFamily(
            "mtlora_queue_images", "Images admitted and not answered yet", value=levels.queue_images
        )
        yield GaugeMetricFamily("mtlora_ready", "1 when /readyz answers 200", value=int(levels.ready))
        yield GaugeMetricFamily(
            "mtlora_store_usable", "1 when adapter sets can be changed and changes seen", value=int(levels.store_usable)
        )
        adapters = GaugeMetricFamily("mtlora_adapters", "Adapter set revisions in a tier", labels=["tier"])
        size = GaugeMetricFamily("mtlora_adapter_bytes", "Bytes of adapter sets in a tier", labels=["tier"])
        for tier, count, total in zip(Tier, levels.adapters, levels.adapter_bytes, strict=True):
            adapters.add_metric([tier.value], count)
            size.add_metric([tier.value], total)
        yield adapters
        yield size

    def image_done(self, name: str, tasks: tuple[Task, ...], share: float = 1.0) -> None:
        """An image was answered by the set of that registered name, with this share of compute."""
        self._images.add(name)
        self._computed.add(name, share)
        for task in tasks:
            self.task_outputs.labels(task.value).inc()

    def image_gated(self, share: float, opened: Sequence[tuple[float, int]]) -> None:
        """An image with a budget was computed.

        opened: of the stages, blocks that were computed, and blocks
        """
        self.compute_share.observe(share)
        for stage, (computed, blocks) in enumerate(opened):
            self.blocks.labels(str(stage), "computed").inc(computed)
            self.blocks.labels(str(stage), "skipped").inc(blocks - computed)

    def forget_adapter(self, name: str) -> None:
        """A set was deleted: its label goes."""
        self._images.forget(name)
        self._computed.forget(name)

    def budgets(self, *, device_bytes: int, host_bytes: int) -> None:
        """What adapter sets may take was decided."""
        self.adapter_budget.labels(Tier.HOST.value).set(host_bytes)
        self.adapter_budget.labels(Tier.DEVICE.value).set(device_bytes)

    def batch(self, images: int, adapters: int) -> None:
        """A micro-batch is about to run."""
        self.batch_images.observe(images)
        self.batch_adapters.observe(adapters)

    def loaded(self, tier: Tier, seconds: float, ok: bool) -> None:
        """A load into a tier ended."""
        self.loads.labels(tier.value, "ok" if ok else "error").inc()
        if ok:
            self.load_seconds.labels(tier.value).observe(seconds)

    def evicted(self, tier: Tier, reason: str) -> None:
        """A set left a tier."""
        self.evictions.labels(tier.value, reason).inc()

    def looked_up(self, hit: bool) -> None:
        """A request asked for a set."""
        (self.hits if hit else self.misses).inc()

    def expose(self, levels: Levels) -> bytes:
        """The text that Prometheus scrapes. For any thread: levels are given, because others may change under it."""
        self._levels = levels
        return generate_latest(self.registry)

    def _count_compute(self) -> None:
        """Of images that a budget was set for."""
        reg = self.registry
        self.compute_share = Histogram(
            "mtlora_compute_share", "Share of the encoder's blocks computed, images that a budget was set for",
            buckets=SHARE_BUCKETS, registry=reg,
        )  # fmt: skip
        self.compute_open = Counter(
            "mtlora_compute_open", "Images whose share of compute the server chose, by whether it was the highest",
            ["lowered"], registry=reg,
        )  # fmt: skip
        self.compute_saved = Counter(
            "mtlora_compute_saved_seconds", "Time of the engine that whole passes would have taken more, estimated",
            registry=reg,
        )  # fmt: skip
        self.blocks = Counter(
            "mtlora_gated_blocks", "Blocks of images that a budget was set for, windows as parts", ["stage", "state"],
            registry=reg,
        )  # fmt: skip

    def _show_zeros_of_gates(self) -> None:
        for lowered in ("yes", "no"):
            self.compute_open.labels(lowered)
        for number in range(STAGES_OF_ENCODER):
            for state in ("computed", "skipped"):
                self.blocks.labels(str(number), state)

    def _show_zeros(self) -> None:
        """Series that are known beforehand start at zero, so that a first increase is seen as one."""
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for reason in REJECTIONS:
            self.rejected.labels(reason)
        for reason in DECODER_LOSSES:
            self.decoders_lost.labels(reason)
        self._show_zeros_of_gates()
        for task in Task:
            self.task_outputs.labels(task.value)
        for tier in (Tier.HOST, Tier.DEVICE):
            for result in ("ok", "error"):
                self.loads.labels(tier.value, result)
            self.load_seconds.labels(tier.value)
            for reason in ("room", "unload", "delete"):
                self.evictions.labels(tier.value, reason)
