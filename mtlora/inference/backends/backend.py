"""The interface of all backends: bring a set to the device, say what it costs, run images of several sets."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from mtlora.inference.prepare.planner import ComputePlan, Planner
from mtlora.model.gates import Gates
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet


class Resident(Protocol):
    """An adapter set on the device, ready to run."""

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        ...

    @property
    def cost_bytes(self) -> int:
        """Bytes on the device that are this set's alone, beyond the shared backbone."""
        ...

    @property
    def planner(self) -> Planner | None:
        """What decides which parts are computed of an image; None: everything always is."""
        ...


R = TypeVar("R", bound=Resident)


@dataclass(frozen=True, slots=True, eq=False)
class Query(Generic[R]):
    """One image for one set."""

    resident: R
    pixels: Tensor  # float32 [3, S, S], normalised, S = the set's image size
    tasks: tuple[Task, ...]  # tasks of the set, at least one
    gates: Gates | None = None  # of this one image; None: everything is computed


class Backend(Protocol[R]):
    """One way to keep sets on the device and to run them; all forms give equal answers."""

    name: str

    def prepare(self, adapter: AdapterSet) -> R:
        """Bring a set to the device. Slow: called in loader threads, several at a time.

        `AdapterMismatchError` if the set was trained on another backbone.
        """
        ...

    def device_bytes(self, spec: AdapterSpec) -> int:
        """What `prepare` will cost for a set of this shape, known beforehand."""
        ...

    def group(self, query: Query[R]) -> Hashable:
        """Queries with equal keys may share one call of `forward`."""
        ...

    def warm(self, resident: R, images: int) -> None:
        """Do once what the first passes would pay for: batches of up to so many images."""
        ...

    def plan(self, query: Query[R], compute: float) -> ComputePlan:
        """What is to be computed of an image within a budget below 1, for its query's `gates`.

        `MTLoRAError` if its set has no policy that decides beforehand. Called from the thread that calls `forward`.
        """
        ...

    def forward(self, queries: Sequence[Query[R]]) -> list[dict[Task, Tensor]]:
        """Logits of each query's tasks before the last upsampling, on the CPU: float32 [K, S/8, S/8] each.

        Called from one thread only. All queries have equal `group` keys; there is at least one.
        """
        ...
