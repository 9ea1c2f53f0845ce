"""Fairness in virtual time: p95 of rare sets beside one at 20 times their rate, over their p95 without it.

    python -m benchmarks.simulate_fairness

Every image takes one second of a device that runs one at a time; Poisson arrivals over 20,000 s; a set holds at most
64 images in the queue. Deterministic: no clock, no real work. docs/decisions/0006 quotes the result.
"""

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from app.scheduling.fair_queue import FairQueue, Flow

HORIZON_S = 20_000
QUEUE_PER_SET = 64
BUSIER = 20
SECOND = 1000
LOADS = ((4, 0.05), (4, 0.1), (8, 0.05), (8, 0.08), (20, 0.02))  # rare sets, rate of each per second

Image = tuple[str, float]  # set, arrival


class Queue(Protocol):
    def __len__(self) -> int: ...
    def push(self, flow: Flow, item: Image, cost: int) -> None: ...
    def pop(self) -> Image: ...


class Fifo:
    """First come, first served."""

    def __init__(self) -> None:
        self._items: deque[Image] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def push(self, _flow: Flow, item: Image, _cost: int) -> None:
        self._items.append(item)

    def pop(self) -> Image:
        return self._items.popleft()


class RoundRobin:
    """Deficit round robin as published: newcomers queue up behind everyone; with equal costs, plain turns."""

    def __init__(self) -> None:
        self._flows: dict[Flow, deque[Image]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def push(self, flow: Flow, item: Image, _cost: int) -> None:
        self._flows.setdefault(flow, deque()).append(item)

    def pop(self) -> Image:
        flow = next(iter(self._flows))
        items = self._flows.pop(flow)
        item = items.popleft()
        if items:
            self._flows[flow] = items
        return item


DISCIPLINES: dict[str, Callable[[], Queue]] = {
    "first come, first served": Fifo,
    "round robin": RoundRobin,
    "credits, burst 1 image": lambda: FairQueue(burst=SECOND),
    "credits, burst 2 images": lambda: FairQueue(burst=2 * SECOND),
    "credits, burst 4 images": lambda: FairQueue(burst=4 * SECOND),
    "credits, burst 8 images": lambda: FairQueue(burst=8 * SECOND),
}


def p95(make: Callable[[], Queue], rates: dict[str, float], horizon_s: float = HORIZON_S) -> float:
    """p95 of the seconds that images of all sets but `busy` spend in the system."""
    events = deque(sorted((time, name) for name, rate in rates.items() for time in poisson(name, rate, horizon_s)))
    queue, held, waits, now = make(), Counter[str](), [], 0.0
    while events or len(queue):
        if not len(queue):
            now = max(now, events[0][0])
        while events and events[0][0] <= now:
            time, name = events.popleft()
            if held[name] < QUEUE_PER_SET:
                held[name] += 1
                queue.push(Flow("", name), (name, time), SECOND)
        name, time = queue.pop()
        held[name] -= 1
        now += 1
        if name != "busy":
            waits.append(now - time)
    return sorted(waits)[int(0.95 * len(waits))]


def poisson(name: str, rate: float, horizon_s: float) -> list[float]:
    source, times = random.Random(name), [0.0]
    while times[-1] < horizon_s:
        times.append(times[-1] + source.expovariate(rate))
    return times[1:]


def main() -> None:
    print("rare sets x rate".ljust(26) + "".join(f"{n:>3} x {rate:<6}" for n, rate in LOADS))
    rare = [{f"rare{i}": rate for i in range(n)} for n, rate in LOADS]
    alone = [p95(Fifo, rates) for rates in rare]
    print("p95 without the busy one, s".ljust(26) + "".join(f"{value:>7.2f}     " for value in alone))
    for name, make in DISCIPLINES.items():
        crowded = [p95(make, {**rates, "busy": BUSIER * rate}) for rates, (_, rate) in zip(rare, LOADS, strict=True)]
        print(name.ljust(26) + "".join(f"{c / a:>7.2f}     " for c, a in zip(crowded, alone, strict=True)))


if __name__ == "__main__":
    main()
