"""The retry rule: when a request is sent again, and after how long. Pure: the clients do the waiting."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mtlora.vocabulary.errors import RemoteError

BUSY = frozenset({429, 503})
"""Statuses by which a server says that it did nothing and would be asked again."""

LASTING_QUOTAS = frozenset({"max_sets", "max_bytes"})
"""Quotas that waiting does not free."""

LONGEST_TOLD_S = 1e9
DATE_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How patient a client is; `Retry(attempts=1)` never sends again."""

    attempts: int = 5  # of one request, the first included
    budget_s: float = 60.0  # most seconds that one request spends waiting between attempts
    first_s: float = 0.5  # doubled with every attempt
    longest_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.budget_s, self.first_s, self.longest_s) < 0:
            raise RemoteError(f"retries need attempts >= 1 and times >= 0, got {self}")

    def wait_s(self, attempt: int, waited_s: float, told_s: float | None, chance: random.Random) -> float | None:
        """Seconds to wait after attempt number `attempt` (1, 2, …); None: give up.

        told_s: what the server's Retry-After says; never less is waited. Some of the wait is chance, so that clients
                that were refused together do not come back together.
        """
        left_s = self.budget_s - waited_s
        if attempt >= self.attempts or (told_s or 0.0) > left_s:
            return None
        step_s = min(self.longest_s, self.first_s * 2 ** (attempt - 1))
        if told_s is None:
            return min(left_s, chance.uniform(step_s / 2, step_s))
        return min(left_s, told_s + chance.uniform(0, step_s))


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date; None if it is neither."""
    text = "" if value is None else value.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_TOLD_S, float(text))
    if not text or len(text) > DATE_CHARACTERS:
        return None
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        left_s = (moment - (now or datetime.now(UTC))).total_seconds()
        return min(LONGEST_TOLD_S, max(0.0, left_s))
    except (ValueError, TypeError, IndexError, OverflowError):  # what comes of years, hours and zones that are none
        return None
