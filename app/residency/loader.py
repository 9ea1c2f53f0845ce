"""From an adapter file to a set on the device: in a loader thread, never on the event loop or in the engine."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import AdapterLoadError
from app.residency.names import AdapterRef
from mtlora.adapter_file import load_adapter
from mtlora.errors import MTLoRAError
from mtlora.inference import Form, Resident
from mtlora.spec import AdapterSpec


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedSet:
    """A revision on the device."""

    ref: AdapterRef
    resident: Resident

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        return self.resident.spec

    @property
    def cost_bytes(self) -> int:
        """Bytes of this set alone."""
        return self.resident.cost_bytes


class AdapterLoader:
    """Brings revisions to the device in the form that the engine runs."""

    def __init__(self, form: Form[Any], locate: Callable[[AdapterRef], Path]) -> None:
        self._form = form
        self._locate = locate

    def __call__(self, ref: AdapterRef) -> AdaptedSet:
        """Read, check and prepare one revision; `AdapterLoadError` says why it cannot be."""
        try:
            adapter = load_adapter(self._locate(ref))
            if adapter.digest != ref.digest:
                raise AdapterLoadError(f"the file of {ref} has digest {adapter.digest}, expected {ref.digest}")
            resident = self._form.prepare(adapter)
        except (MTLoRAError, OSError) as error:
            raise AdapterLoadError(f"adapter set {ref} cannot be loaded: {error}") from error
        _spare_the_collector()
        return AdaptedSet(ref, resident)


def _spare_the_collector() -> None:
    """Take what is in memory now out of the garbage collector's sight.

    A set can be thousands of objects: with hundreds of them every full collection would stop all threads for seconds.
    They hold no cycles, so eviction still frees them at once; cycles that exist now are collected first.
    """
    gc.collect()
    gc.freeze()
