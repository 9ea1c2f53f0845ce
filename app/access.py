"""API keys: kept as hashes, compared in constant time, each with scopes. Without keys everything is open."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from app.errors import ForbiddenError, UnauthorizedError

_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
FORM = "LABEL:SHA256:SCOPE+SCOPE, comma separated"


class Scope(StrEnum):
    """What a key may do."""

    PREDICT = "predict"
    ADAPTERS_READ = "adapters:read"
    ADAPTERS_WRITE = "adapters:write"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, as far as the server knows it."""

    label: str  # for logs
    digest: str  # sha256 of the key, lower-case hex
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what a request may see and use follows from it. Both empty where no keys are set."""

    label: str = ""  # of the key, for logs and fair shares
    namespace: str = ""  # empty: the global one


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of `MTLORA_API_KEYS`; `ValueError` names the entry that is wrong, but never shows a whole hash."""
    keys = tuple(_parse_key(entry.strip()) for entry in text.split(",") if entry.strip())
    labels = [key.label for key in keys]
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels of API keys must differ, got {', '.join(labels)}")
    return keys


def _parse_key(entry: str) -> ApiKey:
    label, _, rest = entry.partition(":")
    digest, _, scopes = rest.partition(":")
    if not _LABEL.fullmatch(label) or not _HASH.fullmatch(digest):
        raise ValueError(f"an API key is written {FORM} (the hash as 64 lower-case hex digits), got {entry[:24]!r}…")
    try:
        return ApiKey(label, digest, frozenset(Scope(scope) for scope in scopes.split("+")))
    except ValueError:
        known = ", ".join(scope.value for scope in Scope)
        raise ValueError(f"API key {label!r}: unknown scope in {scopes!r}; known: {known}") from None


class Gatekeeper:
    """Lets requests in, or not."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys

    def admit(self, presented: str | None, scope: Scope) -> Caller:
        """Who presents that key; `UnauthorizedError` or `ForbiddenError` if they may not."""
        if not self._keys:
            return Caller()
        if not presented:
            raise UnauthorizedError("an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        digest = hashlib.sha256(presented.encode()).hexdigest()
        # Every key is compared, so the time taken says nothing about which one came close.
        matches = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not matches:
            raise UnauthorizedError("the API key is not known")
        if scope not in matches[0].scopes:
            raise ForbiddenError(f"API key {matches[0].label!r} lacks the scope {scope.value!r}")
        return Caller(matches[0].label)
