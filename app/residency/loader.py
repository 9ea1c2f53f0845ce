"""The loader: an adapter file becomes a set on the device. Runs in loader threads, never on the event loop."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import AdapterLoadError
from app.core.names import AdapterRef
from app.core.tiers import Tier, TierEvents
from app.residency.host_cache import HostCache
from mtlora.inference import Backend, Resident
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import Policy
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.weights.adapter_file import AdapterSet, CheckedFiles, load_adapter


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedSet:
    """A revision on the device."""

    ref: AdapterRef
    resident: Resident
    policy: Policy | None = None

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        return self.resident.spec

    @property
    def cost_bytes(self) -> int:
        """Bytes of this set alone."""
        return self.resident.cost_bytes


class AdapterLoader:
    """Brings revisions from disk to host, and from host to the device in the form that the engine runs."""

    def __init__(
        self,
        backend: Backend[Any],
        locate: Callable[[AdapterRef], Path],
        host: HostCache,
        events: TierEvents,
        checked: CheckedFiles,
    ) -> None:
        self._backend = backend
        self._locate = locate
        self._host = host
        self._events = events
        self._checked = checked

    def load(self, ref: AdapterRef) -> AdaptedSet:
        """The revision on the device, read from disk unless it is in host memory; `AdapterLoadError` says why not."""
        try:
            adapter = self._host.get(ref) or self._read(ref)
            with self._told(Tier.DEVICE):
                resident = self._backend.prepare(adapter)
        except (MTLoRAError, OSError) as error:
            raise AdapterLoadError(f"adapter set {ref} cannot be loaded: {error}") from error
        return AdaptedSet(ref, resident, adapter.manifest.policy)

    def used(self, ref: AdapterRef) -> None:
        """A request uses the set on the device."""
        self._host.touch(ref)

    def _read(self, ref: AdapterRef) -> AdapterSet:
        with self._told(Tier.HOST):
            adapter = load_adapter(self._locate(ref), known=self._checked)
            if adapter.digest != ref.digest:
                raise AdapterLoadError(f"the file of {ref} has digest {adapter.digest}, expected {ref.digest}")
        self._host.put(ref, adapter)
        return adapter

    @contextmanager
    def _told(self, tier: Tier) -> Iterator[None]:
        start, ok = time.perf_counter(), False
        try:
            yield
            ok = True
        finally:
            self._events.loaded(tier, time.perf_counter() - start, ok)
