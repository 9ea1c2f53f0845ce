"""Several writers on one bucket, one call to it at a time, in an order that somebody chooses: the same again each time.

Each writer runs in a thread of its own, and only one thread runs: it stops at its next call to the bucket and waits to
be chosen. A call may fail before or after it was done, be done twice, or be done later, when its writer has given up;
and its writer may be killed there.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.store.objects import BucketError
from testing.memory_objects import MemoryObjects, Wrapped

REQUEST_S = 5.0  # how long a lost answer is waited for
FINE, LOST, DROPPED, LATE, TWICE, KILLED_BEFORE, KILLED_AFTER = range(7)


class Killed(BaseException):
    """The writer's process is gone: nothing catches this."""


@dataclass
class Choices:
    """Numbers somebody chose; when they are used up, the plainest ones."""

    numbers: Sequence[int]
    used: int = 0

    def below(self, count: int) -> int:
        self.used += 1
        return self.numbers[self.used - 1] % count if self.used <= len(self.numbers) else 0

    def fault(self, kind: str, *, kills: bool) -> int:
        """Most calls go well."""
        number = self.below(24)
        if number < 24 - 8:
            return FINE
        fault = (LOST, LOST, DROPPED, LATE, TWICE, TWICE, KILLED_BEFORE, KILLED_AFTER)[number - 16]
        if fault >= KILLED_BEFORE and not kills:
            return FINE
        return fault if kind == "write" or fault in {DROPPED, KILLED_BEFORE, KILLED_AFTER} else FINE


@dataclass(eq=False)
class Writer:
    """One process; its calls go through the schedule."""

    schedule: "Schedule"
    work: Callable[["Writer"], None]
    kind: str = ""
    request: Callable[[], object] = lambda: None
    fault: int = FINE
    done: bool = False
    failure: BaseException | None = None
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def objects(self) -> Wrapped:
        return Wrapped(self.schedule.bucket, self.call)

    def call(self, kind: str, request: Callable[[], object]) -> object:
        self.kind, self.request = kind, request
        self.schedule.turn.release()
        self.go.acquire()
        bucket, fault = self.schedule.bucket, self.fault
        if fault == KILLED_BEFORE:
            raise Killed
        if fault in {DROPPED, LATE}:
            bucket.seconds += REQUEST_S
            if fault == LATE:
                self.schedule.late.append(request)
            raise BucketError("made to fail")
        answer = request()
        if fault == TWICE:
            answer = request()
        if fault == KILLED_AFTER:
            raise Killed
        if fault == LOST:
            bucket.seconds += REQUEST_S
            raise BucketError("made to lose the answer")
        return answer

    def sleep(self, seconds: float) -> None:
        self.schedule.bucket.seconds += seconds
        self.call("pause", lambda: None)

    def run(self) -> None:
        self.go.acquire()
        try:
            self.work(self)
        except Killed:
            pass
        except BaseException as error:  # told by the schedule
            self.failure = error
        self.done = True
        self.schedule.turn.release()


class Schedule:
    """Runs writers to their end, or to where they are killed."""

    def __init__(self, bucket: MemoryObjects, choices: Choices, *, kills: bool = True, faults: bool = True) -> None:
        self.bucket = bucket
        self.choices = choices
        self.turn = threading.Semaphore(0)
        self.late: list[Callable[[], object]] = []
        self._kills = kills
        self._faults = faults

    def run(self, works: Sequence[Callable[[Writer], None]], after_each: Callable[[], None] = lambda: None) -> None:
        """after_each: called after every call to the bucket"""
        writers = [Writer(self, work) for work in works]
        threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
        for writer, thread in zip(writers, threads, strict=True):
            thread.start()
            self._step(writer)
        while living := [writer for writer in writers if not writer.done]:
            chosen = self.choices.below(len(living) + bool(self.late))
            self.bucket.seconds += 0.001
            if chosen == len(living):
                self.late.pop(self.choices.below(len(self.late)))()
            else:
                writer = living[chosen]
                faulty = self._faults and writer.kind != "pause"
                writer.fault = self.choices.fault(writer.kind, kills=self._kills) if faulty else FINE
                self._step(writer)
            after_each()
        for thread in threads:
            thread.join()
        while self.late:  # what is still on its way comes in or not
            request = self.late.pop(0)
            if self.choices.below(2) == 0:
                request()
            after_each()
        for writer in writers:
            if writer.failure is not None:
                raise writer.failure

    def _step(self, writer: Writer) -> None:
        writer.go.release()
        self.turn.acquire()
