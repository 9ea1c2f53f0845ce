"""The fair queue: deficit round robin over flows, by cost. Pure: no clock, no locks, no threads.

A flow is what one caller sends to one adapter set. Turns are given to callers first and to a caller's sets within its
turn, so that a caller gains nothing by using many sets. Costs are whole numbers of one unit, here microseconds.

Each flow has a credit. The one with the most goes next and pays the cost of what it sent; it may go into debt, so no
cost need be known to anyone but the flow itself. When nobody who waits has credit left, all get the same amount, just
enough for one to go on: rounds of the smallest quantum, as many at once as it takes. A newcomer starts with `burst`,
and idle flows get their debts written off up to it: who uses less than a fair share seldom waits for who uses more.
docs/decisions/0006 has the reasons and the alternatives that were simulated.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Flow(NamedTuple):
    """Work that is served in order of arrival."""

    caller: str  # label of the key; empty where no keys are set
    adapter: str  # name of the set


class FairQueue(Generic[T]):
    """Things that wait, each once; they are hashable."""

    def __init__(self, *, burst: int) -> None:
        self._turns: _Turns[T] = _Turns(burst)

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[T]:
        """Everything that waits, in no particular order."""
        return iter(self._turns)

    def push(self, flow: Flow, item: T, cost: int, *, ahead: bool = False) -> None:
        """Wait at the end of a flow, or behind those that are `ahead` of it; `cost` counts as 1 if it is less."""
        self._turns.push(flow, _Entry(item, max(1, cost), ahead))

    def peek(self) -> T:
        """What `pop` would return; there must be something."""
        return self._turns.peek()

    def pop(self) -> T:
        """The next one; its flow pays for it."""
        return self._turns.pop()[0]

    def discard(self, flow: Flow, item: T) -> bool:
        """Take out something that is no longer wanted, free of charge; whether it was there."""
        return self._turns.discard(flow, item)

    def charge(self, flow: Flow, cost: int) -> None:
        """What a flow sent turned out to cost so much more (less, if negative) than was said."""
        self._turns.charge(flow, cost)


class _Entry(NamedTuple, Generic[T]):
    item: T
    cost: int
    ahead: bool


class _Waiting(Protocol[T]):
    """One flow, or several that take turns. `path` says which below this one."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...
    def push(self, path: tuple[str, ...], entry: _Entry[T]) -> None: ...
    def peek(self) -> T: ...
    def pop(self) -> tuple[T, int]: ...
    def discard(self, path: tuple[str, ...], item: T) -> bool: ...
    def charge(self, path: tuple[str, ...], cost: int) -> None: ...


class _Line(Generic[T]):
    """One flow: first come, first served, after those that are ahead."""

    def __init__(self) -> None:
        self._ahead: OrderedDict[T, int] = OrderedDict()
        self._behind: OrderedDict[T, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ahead) + len(self._behind)

    def __iter__(self) -> Iterator[T]:
        yield from self._ahead
        yield from self._behind

    def push(self, _path: tuple[str, ...], entry: _Entry[T]) -> None:
        (self._ahead if entry.ahead else self._behind)[entry.item] = entry.cost

    def peek(self) -> T:
        return next(iter(self._ahead or self._behind))

    def pop(self) -> tuple[T, int]:
        return (self._ahead or self._behind).popitem(last=False)

    def discard(self, _path: tuple[str, ...], item: T) -> bool:
        return any(line.pop(item, None) is not None for line in (self._ahead, self._behind))

    def charge(self, _path: tuple[str, ...], _cost: int) -> None:
        """Within a flow there is nothing to share."""


@dataclass(slots=True)
class _Branch(Generic[T]):
    waiting: _Waiting[T]
    credit: int


class _Turns(Generic[T]):
    """Branches that take turns; those without anything waiting are remembered until their debt is written off."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._branches: dict[str, _Branch[T]] = {}  # in order of their last turn
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        return (item for branch in self._branches.values() for item in branch.waiting)

    def push(self, path: tuple[str, ...], entry: _Entry[T]) -> None:
        if path[0] not in self._branches:
            below: _Waiting[T] = _Turns(self._burst) if len(path) > 1 else _Line()
            self._branches[path[0]] = _Branch(below, self._burst)
        self._branches[path[0]].waiting.push(path[1:], entry)
        self._size += 1

    def peek(self) -> T:
        return self._branches[self._next()].waiting.peek()

    def pop(self) -> tuple[T, int]:
        key = self._next()
        branch = self._branches.pop(key)
        self._branches[key] = branch  # of equals, the one whose last turn is longest ago goes first
        item, cost = branch.waiting.pop()
        branch.credit -= cost
        self._shrink()
        return item, cost

    def discard(self, path: tuple[str, ...], item: T) -> bool:
        branch = self._branches.get(path[0])
        if branch is None or not branch.waiting.discard(path[1:], item):
            return False
        self._shrink()
        return True

    def charge(self, path: tuple[str, ...], cost: int) -> None:
        branch = self._branches.get(path[0])
        if branch is not None:
            branch.credit = min(branch.credit - cost, self._burst)
            branch.waiting.charge(path[1:], cost)

    def _next(self) -> str:
        waiting = [key for key, branch in self._branches.items() if len(branch.waiting)]
        richest = max(waiting, key=lambda key: self._branches[key].credit)
        lacking = 1 - self._branches[richest].credit
        if lacking > 0:
            for branch in self._branches.values():
                branch.credit = min(branch.credit + lacking, self._burst)
            self._forget_the_settled()
        return richest

    def _shrink(self) -> None:
        self._size -= 1
        if not self._size:
            self._branches.clear()  # nobody is kept waiting, so nobody owes anything

    def _forget_the_settled(self) -> None:
        settled = [k for k, b in self._branches.items() if not len(b.waiting) and b.credit >= self._burst]
        for key in settled:
            del self._branches[key]
