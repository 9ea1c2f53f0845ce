"""Admission: who may wait, in images and time. When it is full, the newest of the largest flow gives way.

Pure but for the callbacks that it is given: no clock, no threads. Lives on the event loop.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.core.errors import DeadlineError, QueueFullError, WaitTooLongError
from app.scheduling.fair_queue import Flow

MAX_RETRY_AFTER_S = 60.0

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request brings."""

    flow: Flow
    images: int  # as the engine counts them: each tile of a photo is one
    cost_us: int  # of the engine for one image, estimated; 0: nothing is known yet
    cold: bool  # its set is not on the device
    patience_s: float  # until its deadline


@dataclass(slots=True, eq=False)
class Ticket:
    """The places that an admitted request holds."""

    demand: Demand
    evict: Callable[[QueueFullError], None]
    images: int  # not answered yet
    loading: bool  # waits for its set
    begun: bool = field(default=False, init=False)  # an image is through the model: too late to give way


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds of what may wait."""

    images: int
    age_s: float

    @property
    def loading(self) -> int:
        """Images that may wait for sets that are being loaded: half, so that they never fill the queue."""
        return max(1, self.images // 2)


class Admission:
    """Every request that is admitted and not answered."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._tickets: dict[Ticket, None] = {}  # oldest first

    @property
    def images(self) -> int:
        """Images admitted and not answered."""
        return _images(self._tickets)

    def check(self, demand: Demand) -> None:
        """`QueueFullError`, `WaitTooLongError` or `DeadlineError` if `admit` would refuse it now."""
        self._check_wait(demand)
        self._give_way(demand)

    def admit(self, demand: Demand, evict: Callable[[QueueFullError], None]) -> Ticket:
        """Places for a request. When there are none, requests of whoever holds most are told to go by their `evict`."""
        self._make_room(demand)
        ticket = Ticket(demand, evict, demand.images, demand.cold)
        self._tickets[ticket] = None
        return ticket

    def grow(self, ticket: Ticket, more: int, patience_s: float) -> None:
        """More places for a request, of which one image turned out to be several; errors and evictions as of `admit`.

        patience_s: until its deadline
        """
        self._make_room(replace(ticket.demand, images=more, cold=ticket.loading, patience_s=patience_s))
        ticket.images += more

    def leave(self, ticket: Ticket, images: int = 1) -> None:
        """So many images are answered or given up."""
        ticket.images -= images
        if not ticket.images:
            self._tickets.pop(ticket, None)

    def expected_wait_s(self, demand: Demand) -> float:
        """Seconds until the engine begins with the demand's last image, if turns are fair and no one else comes.

        While the demand's flow has work left, each other flow is served as much, or all that it has; first among the
        sets of its caller, then among callers. Images that wait for their sets are not counted.
        """
        work: dict[str, Counter[str]] = defaultdict(Counter)
        for ticket in self._tickets:
            if not ticket.loading:
                caller, adapter = ticket.demand.flow
                work[caller][adapter] += ticket.images * ticket.demand.cost_us
        own = demand.images * demand.cost_us
        caller, adapter = demand.flow
        work[caller][adapter] += own
        until_done = work[caller][adapter]
        in_caller = sum(min(amount, until_done) for amount in work[caller].values())
        total = sum(min(sets.total(), in_caller) for sets in work.values())
        return (total - own) / 1e6

    def _make_room(self, demand: Demand) -> None:
        """Let those go who have to; errors as of `check`."""
        self._check_wait(demand)
        for ticket in self._give_way(demand):
            del self._tickets[ticket]
            ticket.evict(
                QueueFullError(
                    f"the queue of {self._limits.images} images is full, and this key and adapter set hold most of it",
                    self._retry_after_s(ticket.demand),
                )
            )

    def _check_wait(self, demand: Demand) -> None:
        if demand.patience_s <= 0:  # not a matter of waiting: coming again with the same deadline would not help
            raise DeadlineError("the deadline passed before the request was admitted")
        wait_s = self.expected_wait_s(demand)
        if wait_s > self._limits.age_s:
            raise WaitTooLongError(
                f"the image would wait about {wait_s:.1f} s for its turn, MTLORA_MAX_QUEUE_AGE_MS allows "
                f"{self._limits.age_s:.1f} s",
                _bounded(wait_s - self._limits.age_s),
            )
        if wait_s:  # else it is tried: nobody loses by it, and an estimate that is too high is put right
            self._check_deadline(demand, wait_s)

    def _check_deadline(self, demand: Demand, wait_s: float) -> None:
        """The request's own pass counts as well: whose turn comes in time and whose answer does not is waste."""
        own_s = demand.images * demand.cost_us / 1e6
        if own_s > demand.patience_s:
            raise DeadlineError(
                f"the model takes about {own_s:.2f} s for this request alone, its deadline allows "
                f"{demand.patience_s:.2f} s: allow more"
            )
        if wait_s + own_s > demand.patience_s:
            raise WaitTooLongError(
                f"the image would wait about {wait_s:.1f} s for its turn and take {own_s:.1f} s, its deadline allows "
                f"{demand.patience_s:.1f} s",
                _bounded(wait_s + own_s - demand.patience_s),
            )

    def _give_way(self, demand: Demand) -> list[Ticket]:
        """Who has to go so that the demand has room; `QueueFullError` if it is the demand itself."""
        gone: list[Ticket] = []
        if demand.cold:
            loading = [ticket for ticket in self._tickets if ticket.loading]
            gone = self._victims(demand, loading, self._limits.loading, "wait for adapter sets that are being loaded")
        rest = [ticket for ticket in self._tickets if ticket not in gone]
        return gone + self._victims(demand, rest, self._limits.images, "are waiting (MTLORA_MAX_QUEUE_IMAGES)")

    def _victims(self, demand: Demand, tickets: list[Ticket], limit: int, what: str) -> list[Ticket]:
        gone: list[Ticket] = []
        while tickets and _images(tickets) + demand.images > limit:
            victim = newest_of_the_longest(tickets, demand)
            if victim is None:
                raise QueueFullError(
                    f"{self._held(tickets, demand.flow)} of at most {limit} images {what}, {demand.images} more came",
                    self._retry_after_s(demand),
                )
            gone.append(victim)
            tickets = [ticket for ticket in tickets if ticket is not victim]
        return gone

    def _held(self, tickets: list[Ticket], flow: Flow) -> str:
        own = _images(ticket for ticket in tickets if ticket.demand.flow == flow)
        return f"{_images(tickets)}, of them {own} for this key and adapter set,"

    def _retry_after_s(self, demand: Demand) -> float:
        return _bounded(self.expected_wait_s(demand))


def newest_of_the_longest(tickets: Sequence[Ticket], demand: Demand) -> Ticket | None:
    """The request to give way to the demand: of the caller that holds most, in its set that holds most, the newest.

    None if that is the demand's own flow, counted with what it brings, or if all of the flow's requests have begun.
    """
    callers, sets = Counter({demand.flow.caller: demand.images}), Counter({demand.flow: demand.images})
    for ticket in tickets:
        callers[ticket.demand.flow.caller] += ticket.images
        sets[ticket.demand.flow] += ticket.images
    caller = _longest(callers, demand.flow.caller)
    flow = _longest({flow: held for flow, held in sets.items() if flow.caller == caller}, demand.flow)
    if flow == demand.flow:
        return None
    return next((t for t in reversed(tickets) if t.demand.flow == flow and not t.begun), None)


def _longest(held: Mapping[K, int], own: K) -> K:
    """Who holds most; of equals rather the demand's own, so that equals do not push each other out."""
    most = max(held.values())
    return own if held.get(own) == most else next(key for key, amount in held.items() if amount == most)


def _images(tickets: Iterable[Ticket]) -> int:
    return sum(ticket.images for ticket in tickets)


def _bounded(seconds: float) -> float:
    return min(max(1.0, seconds), MAX_RETRY_AFTER_S)
