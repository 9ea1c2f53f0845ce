"""The check of every request's API key. Without keys all is open; a server started with keys never becomes open."""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from app.access.key_file import read_keys, signature
from app.access.keys import ApiKey, Caller, Scope, check_distinct
from app.access.rates import Rates
from app.core.errors import ForbiddenError, KeyFileError, QuotaError, UnauthorizedError
from app.telemetry import audit

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0


class KeyRing:
    """Keys of the environment and of the key file, which is looked at again every second that somebody asks.

    What cannot be read changes nothing: the former keys stay, and an error is logged once for each state of the file.
    """

    def __init__(
        self,
        fixed: tuple[ApiKey, ...],
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = fixed
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._signature = signature(path) if path else None
        self._keys = self._read()

    @property
    def open(self) -> bool:
        """Whether the server was started without any keys."""
        return not self._fixed and self._path is None

    def keys(self) -> tuple[ApiKey, ...]:
        """The keys that count now."""
        now = self._clock()
        if self._path is not None and now - self._looked >= LOOK_AGAIN_S:
            self._looked = now
            self._look_again(self._path)
        return self._keys

    def _look_again(self, path: Path) -> None:
        found = signature(path)
        if found == self._signature:
            return
        self._signature = found
        try:
            keys = self._read()
        except KeyFileError as error:
            log.error("key file not taken over, the former keys still count", extra={"reason": str(error)})
            audit.record("reload-keys", "failed", reason=str(error))
            return
        before, after = ({key.label: key for key in group} for group in (self._keys, keys))
        self._keys = keys
        changed = {label for label in before.keys() & after.keys() if before[label] != after[label]}
        audit.record(
            "reload-keys",
            "done",
            added=sorted(after.keys() - before.keys()),
            removed=sorted(before.keys() - after.keys()),
            changed=sorted(changed),
        )

    def _read(self) -> tuple[ApiKey, ...]:
        if self._path is None:
            return self._fixed
        try:
            return check_distinct((*self._fixed, *read_keys(self._path)))
        except KeyFileError:
            raise
        except ValueError as error:
            raise KeyFileError(f"{self._path}: {error}; MTLORA_API_KEYS counts too") from None


class Gatekeeper:
    """Knows who presents a key, and whether they may."""

    def __init__(self, ring: KeyRing, rates: Rates | None = None) -> None:
        self._ring = ring
        self._rates = rates or Rates()

    def admit(
        self, presented: str | None, scope: Scope, *, known: Callable[[Caller], object] = lambda _: None
    ) -> Caller:
        """Who presents that key; `UnauthorizedError`, `QuotaError` or `ForbiddenError` if they may not.

        known: told who it is, as soon as that is known, and whether or not they may
        """
        if self._ring.open:
            return Caller()
        key = self._identify(presented)
        caller = Caller(label=key.label, namespace=key.namespace, quota=key.quota, compute=key.compute)
        known(caller)
        if key.expired():
            raise UnauthorizedError(f"API key {key.label!r} has expired at {key.expires}")
        self._count(key)
        if scope not in key.scopes:
            raise ForbiddenError(f"API key {key.label!r} lacks the scope {scope.value!r}")
        return caller

    def knows(self, presented: str | None) -> bool:
        """Whether it is worth listening to whoever presents that key; counts nothing."""
        try:
            return self._ring.open or bool(self._identify(presented))
        except UnauthorizedError:
            return False

    def _identify(self, presented: str | None) -> ApiKey:
        keys = self._ring.keys()
        if not presented:
            raise UnauthorizedError("an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        digest = hashlib.sha256(presented.encode()).hexdigest()
        # Every key is compared, so the time taken says nothing about which one came close.
        matches = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
        if not matches:
            raise UnauthorizedError("the API key is not known")
        return matches[0]

    def _count(self, key: ApiKey) -> None:
        limit = key.quota.requests_per_minute
        wait = self._rates.take(key.label, limit) if limit else 0.0
        if limit and wait:
            raise QuotaError(
                f"API key {key.label!r} may make {limit} requests a minute, and has",
                retry_after_s=wait,
                name="requests_per_minute",
                limit=limit,
                usage=limit,
            )
