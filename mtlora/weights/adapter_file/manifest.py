"""The manifest of an adapter file: what it says about itself, as one JSON text in the safetensors metadata."""

from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.policy import Policy
from mtlora.vocabulary.spec import WHOLE, AdapterSpec, Spec

FORMAT_VERSION = 2
"""The newest that is read. A set that needs nothing of it is written as version 1."""

METADATA_KEY = "mtlora_adapter"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_PROVENANCE_ENTRIES = 200
_BARE_BYTES = 4096
_POINT_BYTES = 2048

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ProvenanceKey = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ProvenanceText = Annotated[str, StringConstraints(max_length=4000)]


def _plain_value(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise SpecError(f"must be text, a number, true or false, got {type(value).__name__}")
    if isinstance(value, float) and not isfinite(value):
        raise SpecError(f"must be a finite number, got {value}")
    return value


ProvenanceValue = Annotated[bool | int | float | ProvenanceText, BeforeValidator(_plain_value)]
Provenance = dict[ProvenanceKey, ProvenanceValue]


def needed_version(spec: AdapterSpec, policy: Policy | None = None) -> Literal[1, 2]:
    """The format version that a set is written in: the oldest that can say what it has."""
    return 2 if policy is not None or spec.has_linear_ranks else 1


class AdapterManifest(Spec):
    """Header of an adapter set: what it is, which backbone it needs, where it comes from."""

    format_version: Annotated[Literal[1, 2], WHOLE] = Field(default=1, description="version of the adapter file format")
    name: str = Field(default="", pattern=rf"{NAME_PATTERN}|^$", description="the set's own name; empty: none")
    spec: AdapterSpec
    backbone_name: str = Field(min_length=1, max_length=100)
    backbone_fingerprint: Fingerprint = Field(description="sha256 over the frozen tensors of the backbone")
    provenance: Provenance = Field(default_factory=dict, max_length=MAX_PROVENANCE_ENTRIES)
    policy: Policy | None = Field(default=None, description="what decides which parts are computed; None: all are")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.policy is not None and self.format_version < 2:
            raise SpecError(f"a policy needs format_version 2, got {self.format_version}")
        if self.spec.has_linear_ranks and self.format_version < 2:
            raise SpecError(f"linear_ranks need format_version 2, got {self.format_version}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files without a policy have the same bytes as before there were policies."""
        written: dict[str, Any] = handler(self)
        if self.policy is None:
            del written["policy"]
        return written

    @property
    def memory_bytes(self) -> int:
        """About what this takes in memory where its spec is shared with others."""
        told = sum(len(key) + len(str(value)) for key, value in self.provenance.items())
        return _BARE_BYTES + told + _POINT_BYTES * (0 if self.policy is None else 1 + len(self.policy.calibration))
