"""What both clients do alike: the address and the key, and what follows from the outcome of an attempt."""

import os
import random
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from mtlora.client.answers import problem_of
from mtlora.client.calls import Call
from mtlora.client.retry import BUSY, LASTING_QUOTAS, Retry
from mtlora.errors import LostAnswerError, RefusedError, RemoteError, UnreachableError
from mtlora.version import __version__

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "MTLORA_KEY"
CONNECT_TIMEOUT_S = 10.0
NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def connection_options(url: str, key: str | None, timeout_s: float, connections: int) -> dict[str, Any]:
    """Arguments of an httpx client. Redirects are not followed: a key goes nowhere but to the address given."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RemoteError(f"a server's address looks like {DEFAULT_URL}, got {url!r}")
    if timeout_s <= 0 or connections < 1:
        raise RemoteError(f"need timeout_s > 0 and connections >= 1, got {timeout_s} and {connections}")
    headers = {"User-Agent": f"mtlora-client/{__version__}"}
    secret = os.environ.get(KEY_VARIABLE, "") if key is None else key
    if secret:
        headers["Authorization"] = f"Bearer {_checked(secret)}"
    return {
        "base_url": url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S), pool=None),
        "limits": httpx.Limits(max_connections=connections),
    }


def _checked(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RemoteError("the API key holds characters that no key has: spaces inside, control or non-ASCII ones")
    return key


@dataclass(slots=True)
class Attempts:
    """One call, from its first attempt to its last."""

    call: Call[Any]
    retry: Retry
    chance: random.Random
    made: int = 0
    waited_s: float = 0.0

    def done(self, outcome: httpx.Response | httpx.RequestError) -> bool:
        """Whether this is the answer."""
        return isinstance(outcome, httpx.Response) and outcome.status_code in self.call.accepted

    def pause_s(self, outcome: httpx.Response | httpx.RequestError) -> float:
        """Seconds until the next attempt; the error, if there is to be none."""
        self.made += 1
        error = self._error(outcome)
        told_s = error.retry_after_s if isinstance(error, RefusedError) else None
        wait_s = self.retry.wait_s(self.made, self.waited_s, told_s, self.chance)
        if wait_s is None or not self._worth_repeating(outcome, error):
            raise error from (outcome if isinstance(outcome, Exception) else None)
        self.waited_s += wait_s
        return wait_s

    def _worth_repeating(self, outcome: httpx.Response | httpx.RequestError, error: RemoteError) -> bool:
        if isinstance(error, RefusedError):
            return self.call.patient and error.status in BUSY and error.quota not in LASTING_QUOTAS
        if isinstance(error, UnreachableError):
            return self.call.patient
        # After a timeout the server may still be at it: asking again would add to its load.
        return self.call.repeatable and not isinstance(outcome, httpx.TimeoutException)

    def _error(self, outcome: httpx.Response | httpx.RequestError) -> RemoteError:
        if isinstance(outcome, httpx.Response):
            return problem_of(outcome)
        words = str(outcome) or type(outcome).__name__
        again = f", after {self.made} attempts" if self.made > 1 else ""
        if isinstance(outcome, NOTHING_SENT):
            return UnreachableError(
                f"cannot reach {outcome.request.url.copy_with(path='/', query=None)}{again}: {words}"
            )
        effect = "" if self.call.repeatable else "; whether it had an effect is unknown"
        what = f"{self.call.method} {outcome.request.url.copy_with(query=None)}"
        return LostAnswerError(f"{what} got no whole answer{again}: {words}{effect}")
