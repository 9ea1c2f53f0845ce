"""The host tier: bytes that are really held, least recently used first, safe from many threads."""

import gc
import threading
import weakref
from collections import Counter
from pathlib import Path

import pytest

from app.core.names import AdapterRef
from app.residency.host_cache import HostCache
from mtlora.weights.adapter_file import AdapterSet, load_adapter
from testing.serving import Weights


@pytest.fixture
def sets(weights: Weights) -> dict[AdapterRef, AdapterSet]:
    loaded = {name: load_adapter(weights.uploads / f"{name}.safetensors") for name in ("cats", "dogs", "birds")}
    return {AdapterRef(name, 1, adapter.digest): adapter for name, adapter in loaded.items()}


def test_least_recently_used_goes_first_and_uses_on_the_device_count(sets: dict[AdapterRef, AdapterSet]) -> None:
    reasons: Counter[str] = Counter()
    cats, dogs, birds = sets
    host = HostCache(sets[cats].bytes + sets[dogs].bytes, lambda reason: reasons.update([reason]))
    host.put(cats, sets[cats])
    host.put(dogs, sets[dogs])
    host.touch(cats)
    host.put(birds, sets[birds])
    assert host.held() == [cats, birds]
    assert host.get(dogs) is None
    assert host.get(cats) is sets[cats]
    assert host.held() == [birds, cats]
    assert host.used_bytes == sets[cats].bytes + sets[birds].bytes
    assert host.drop(cats, "unload")
    assert not host.drop(cats, "unload")
    assert reasons == {"room": 1, "unload": 1}


def test_a_set_larger_than_the_budget_costs_nobody_their_place(sets: dict[AdapterRef, AdapterSet]) -> None:
    cats, dogs, _ = sets
    host = HostCache(sets[cats].bytes - 1, lambda reason: None)
    host.put(cats, sets[cats])
    assert (len(host), host.used_bytes) == (0, 0)
    host = HostCache(sets[cats].bytes, lambda reason: None)
    host.put(cats, sets[cats])
    host.put(cats, sets[cats])  # two loads of one set do not count twice
    assert (cats in host, dogs in host, host.used_bytes) == (True, False, sets[cats].bytes)


def test_bytes_counted_are_copies_that_eviction_frees(weights: Weights, tmp_path: Path) -> None:
    """A deleted file leaves nothing behind: no mapping holds it, and letting a set go frees its buffer at once."""
    path = tmp_path / "set.safetensors"
    path.write_bytes(weights.upload("cats"))
    adapter = load_adapter(path)
    ref = AdapterRef("cats", 1, adapter.digest)
    host = HostCache(10**9, lambda reason: None)
    host.put(ref, adapter)
    assert str(path) not in Path("/proc/self/maps").read_text()
    storages = {tensor.untyped_storage().data_ptr() for tensor in adapter.tensors.values()}
    assert len(storages) == len(adapter.tensors)  # views into one buffer, each with its own offset
    span = max(t.data_ptr() + t.nbytes for t in adapter.tensors.values()) - min(storages)
    assert span <= adapter.bytes == host.used_bytes
    watched = weakref.ref(next(iter(adapter.tensors.values())))
    del adapter
    gc.collect()
    assert watched() is not None
    host.drop(ref, "room")
    assert watched() is None


def test_threads_keep_the_books_right(sets: dict[AdapterRef, AdapterSet]) -> None:
    host = HostCache(max(a.bytes for a in sets.values()) * 2, lambda reason: None)

    def work() -> None:
        for _ in range(300):
            for ref, adapter in sets.items():
                host.put(ref, adapter)
                host.get(ref)
                host.drop(ref, "unload")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(host), host.used_bytes) == (0, 0)
