"""API keys as the server knows them: hashes with scopes, a name space, quotas. Pure values."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.core.compute import BudgetText
from app.core.names import NAMESPACE_RULE

FORM = "LABEL:SHA256:SCOPE+SCOPE, comma separated"
LABEL_RULE = r"^[A-Za-z0-9._-]{1,64}$"
_LABEL = re.compile(LABEL_RULE.strip("^$"))
_HASH = re.compile(r"[0-9a-f]{64}")


class Scope(StrEnum):
    """What a key may do."""

    PREDICT = "predict"
    ADAPTERS_READ = "adapters:read"
    ADAPTERS_WRITE = "adapters:write"
    METRICS = "metrics"


class Quota(BaseModel):
    """How much a key may use; None: no limit. What is stored is counted in the key's name space."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_sets: int | None = Field(default=None, ge=0, description="uploaded adapter sets")
    max_bytes: int | None = Field(default=None, ge=0, description="files of uploaded revisions together")
    requests_per_minute: int | None = Field(default=None, ge=1)


class ApiKey(BaseModel):
    """One key. The key itself is known only to whoever made it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    label: Annotated[str, Field(pattern=LABEL_RULE, description="for people and logs")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False, description="of the key, lower-case hex")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    namespace: Annotated[str, Field(pattern=rf"^({NAMESPACE_RULE})?$", description="empty: the global one")] = ""
    quota: Quota = Quota()
    compute: Annotated[BudgetText | None, Field(description="of requests that say nothing of it")] = None
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.namespace and Scope.METRICS in self.scopes:
            raise ValueError(
                f"metrics tell of the whole server, so a key of name space {self.namespace!r} cannot have that scope"
            )
        return self

    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.now(UTC) >= self.expires


class Caller(BaseModel):
    """Who asks: what a request may see, use and change follows from it. All empty where no keys are set."""

    model_config = ConfigDict(frozen=True)

    label: str = Field(default="", description="of the key, for logs and fair shares")
    namespace: str = Field(default="", description="empty: the global one")
    quota: Quota = Quota()
    compute: str | None = Field(default=None, description="of its requests that say nothing of it")


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys of `MTLORA_API_KEYS`; `ValueError` names the entry that is wrong, but never shows a whole hash."""
    keys = tuple(_parse_key(entry.strip()) for entry in text.split(",") if entry.strip())
    return check_distinct(keys)


def check_distinct(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    """The keys; `ValueError` if two share a label or are the same key: revoking one would not be the end of it."""
    for what, values in (("label", [k.label for k in keys]), ("hash", [k.sha256 for k in keys])):
        if len(set(values)) != len(values):
            twice = sorted({k.label for k, value in zip(keys, values, strict=True) if values.count(value) > 1})
            raise ValueError(f"each API key has a {what} of its own, got one more than once: {', '.join(twice)}")
    return keys


def parse_scopes(text: str, separator: str) -> frozenset[Scope]:
    """Scopes by name; `ValueError` lists those there are."""
    try:
        return frozenset(Scope(scope.strip()) for scope in text.split(separator))
    except ValueError:
        known = ", ".join(scope.value for scope in Scope)
        raise ValueError(f"unknown scope in {text!r}; known: {known}") from None


def first_fault(error: ValidationError) -> str:
    """What is wrong with a document, in one line and without the document's own words."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _parse_key(entry: str) -> ApiKey:
    label, _, rest = entry.partition(":")
    digest, _, scopes = rest.partition(":")
    if not _LABEL.fullmatch(label) or not _HASH.fullmatch(digest):
        raise ValueError(f"an API key is written {FORM} (the hash as 64 lower-case hex digits), got {entry[:24]!r}…")
    try:
        return ApiKey(label=label, sha256=digest, scopes=parse_scopes(scopes, "+"))
    except ValueError as error:
        raise ValueError(f"API key {label!r}: {error}") from None
