"""Loading: files become sets that answer as the library does; those that do not fit say why."""

import gc
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.errors import AdapterLoadError
from app.core.names import AdapterRef
from app.core.tiers import Tier
from app.residency.host_cache import HostCache
from app.residency.loader import AdapterLoader
from mtlora.inference import Backend, Query, ReferenceBackend
from mtlora.maps.postprocessing import at_model_size
from mtlora.prediction.adapted import build_adapted
from mtlora.weights.adapter_file import CheckedFiles, load_adapter
from mtlora.weights.backbone import Backbone, load_backbone
from testing.serving import Weights


class Bench:
    """A loader over a folder of files, with what it told."""

    def __init__(self, weights: Weights, folder: Path | None = None, host_bytes: int = 10**9) -> None:
        self.folder = folder or weights.uploads
        self.backbone: Backbone = load_backbone(weights.backbone)
        self.form: Backend[Any] = ReferenceBackend(self.backbone)
        self.loads: Counter[tuple[Tier, bool]] = Counter()
        self.host = HostCache(host_bytes, lambda reason: None)
        self.loader = AdapterLoader(self.form, lambda ref: self.path(ref.name), self.host, self, CheckedFiles())

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def ref(self, name: str) -> AdapterRef:
        return AdapterRef(name, 1, load_adapter(self.path(name)).digest)

    def loaded(self, tier: Tier, seconds: float, ok: bool) -> None:
        assert seconds > 0
        self.loads[tier, ok] += 1

    def evicted(self, tier: Tier, reason: str) -> None:
        raise AssertionError("nothing is evicted here")

    def looked_up(self, hit: bool) -> None:
        raise AssertionError("nobody asks here")


def test_a_loaded_set_answers_as_the_library_does(weights: Weights) -> None:
    bench = Bench(weights)
    for name in ("cats", "dogs", "cats"):
        adapted = bench.loader.load(bench.ref(name))
        x = torch.randn(3, 64, 64)
        expected = build_adapted(bench.backbone, load_adapter(bench.path(name)))
        (answer,) = bench.form.forward([Query(adapted.resident, x, adapted.spec.task_names)])
        with torch.inference_mode():
            for task, logits in expected(x[None]).items():
                torch.testing.assert_close(at_model_size(answer[task], 64), logits[0], rtol=1e-3, atol=1e-4)
        assert adapted.cost_bytes == sum(4 * t.numel() for t in load_adapter(bench.path(name)).tensors.values())
    assert bench.loads == {(Tier.HOST, True): 2, (Tier.DEVICE, True): 3}


def test_what_is_in_host_memory_is_not_read_again(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "cats.safetensors").write_bytes(weights.upload("cats"))
    bench = Bench(weights, tmp_path)
    ref = bench.ref("cats")
    bench.loader.load(ref)
    bench.path("cats").unlink()
    bench.loader.load(ref)
    bench.host.drop(ref, "unload")
    with pytest.raises(AdapterLoadError, match="cannot open"):
        bench.loader.load(ref)
    assert bench.loads == {(Tier.HOST, True): 1, (Tier.HOST, False): 1, (Tier.DEVICE, True): 2}


def test_without_a_host_budget_every_load_reads_the_file(weights: Weights) -> None:
    bench = Bench(weights, host_bytes=0)
    for _ in range(2):
        bench.loader.load(bench.ref("cats"))
    assert (bench.loads[Tier.HOST, True], len(bench.host)) == (2, 0)


def test_uses_on_the_device_keep_the_copy_in_host_memory(weights: Weights) -> None:
    bench = Bench(weights)
    refs = [bench.ref("cats"), bench.ref("dogs")]
    for ref in refs:
        bench.loader.load(ref)
    bench.loader.used(refs[0])
    assert bench.host.held() == refs[::-1]


def test_a_file_that_is_not_the_one_promised(weights: Weights) -> None:
    bench = Bench(weights)
    with pytest.raises(AdapterLoadError, match=f"has digest [0-9a-f]+, expected {'0' * 64}"):
        bench.loader.load(AdapterRef("cats", 1, "0" * 64))
    assert len(bench.host) == 0


def test_a_set_is_freed_the_moment_it_is_let_go(weights: Weights) -> None:
    """No cycles: memory comes back without the garbage collector."""
    bench = Bench(weights)
    gc.disable()
    try:
        adapted = bench.loader.load(bench.ref("cats"))
        bench.form.forward([Query(adapted.resident, torch.zeros(3, 64, 64), adapted.spec.task_names)])
        resident = weakref.ref(adapted.resident)
        del adapted
        assert resident() is None
    finally:
        gc.enable()


def test_loading_takes_nothing_from_the_garbage_collector(weights: Weights) -> None:
    """Cycles of requests under way meanwhile (errors hold their frames) would never be freed."""
    bench = Bench(weights)
    frozen = gc.get_freeze_count()
    bench.loader.load(bench.ref("cats"))
    assert gc.get_freeze_count() <= frozen


@pytest.mark.parametrize(
    ("name", "words", "tier"), [("foreign", "trained on backbone", Tier.DEVICE), ("nothing", "cannot open", Tier.HOST)]
)
def test_files_that_do_not_fit(weights: Weights, name: str, words: str, tier: Tier) -> None:
    bench = Bench(weights)
    ref = bench.ref(name) if bench.path(name).exists() else AdapterRef(name, 1, "")
    with pytest.raises(AdapterLoadError, match=words):
        bench.loader.load(ref)
    assert bench.loads[tier, False] == 1
