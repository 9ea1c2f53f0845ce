"""The shared part of both clients: what follows from an attempt's outcome, and how an answer is read."""

import random
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpcore

from mtlora.client.answers import problem_of
from mtlora.client.calls import Call
from mtlora.client.connection import Outcome
from mtlora.client.reply import Reply
from mtlora.client.retry import BUSY, LASTING_QUOTAS, Retry
from mtlora.vocabulary.errors import (
    BadAnswerError,
    LostAnswerError,
    MTLoRAError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from mtlora.vocabulary.shown import shown

T = TypeVar("T")

NOTHING_SENT = (
    httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout, httpcore.UnsupportedProtocol,
    httpcore.ProxyError,
)  # fmt: skip


@dataclass(slots=True)
class Attempts(Generic[T]):
    """One call, from its first attempt to its last."""

    call: Call[T]
    address: str
    retry: Retry
    chance: random.Random
    made: int = 0
    waited_s: float = 0.0

    def answer(self, outcome: Outcome) -> Reply | None:
        """The outcome, if it is the answer."""
        return outcome if isinstance(outcome, Reply) and outcome.status in self.call.accepted else None

    def read(self, reply: Reply) -> T:
        """What an answer says; `BadAnswerError` if reading it comes to nothing, however."""
        try:
            return self.call.read(reply)
        except MTLoRAError:
            raise
        except Exception as error:  # readers of zip and JSON fail in many ways, some of them by accident
            why = f"{type(error).__name__}: {shown(error)}"
            raise BadAnswerError(f"{reply.url}: the answer makes no sense: {why}") from error

    def pause_s(self, outcome: Outcome) -> float:
        """Seconds until the next attempt; the error, if there is to be none."""
        self.made += 1
        error = self._error(outcome)
        told_s = error.retry_after_s if isinstance(error, RefusedError) else None
        wait_s = self.retry.wait_s(self.made, self.waited_s, told_s, self.chance)
        if wait_s is None or not self._worth_repeating(outcome, error):
            raise error from (outcome if isinstance(outcome, Exception) else None)
        self.waited_s += wait_s
        return wait_s

    def _worth_repeating(self, outcome: Outcome, error: RemoteError) -> bool:
        if isinstance(error, BadAnswerError):
            return False
        if isinstance(error, RefusedError):
            return self.call.patient and error.status in BUSY and error.quota not in LASTING_QUOTAS
        if isinstance(error, UnreachableError):
            return self.call.patient
        # After a timeout the server may still be at it: asking again would add to its load.
        return self.call.repeatable and not isinstance(outcome, httpcore.TimeoutException)

    def _error(self, outcome: Outcome) -> RemoteError:
        if isinstance(outcome, Reply):
            return problem_of(outcome)
        words = shown(outcome) or type(outcome).__name__
        again = f", after {self.made} attempts" if self.made > 1 else ""
        if isinstance(outcome, NOTHING_SENT):
            return UnreachableError(f"cannot reach {self.address.rstrip('/')}/{again}: {words}")
        effect = "" if self.call.repeatable else "; whether it had an effect is unknown"
        what = f"{self.call.method} {self.address.rstrip('/')}/{shown(self.call.path)}"
        return LostAnswerError(f"{what} got no whole answer{again}: {words}{effect}")
