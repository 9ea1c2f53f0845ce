"""The manifest of an adapter file: what it says about itself, as one JSON text in the safetensors metadata."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mtlora.vocabulary.spec import AdapterSpec, Spec

FORMAT_VERSION = 1
METADATA_KEY = "mtlora_adapter"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_PROVENANCE_ENTRIES = 200
_BARE_BYTES = 4096

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ProvenanceKey = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ProvenanceText = Annotated[str, StringConstraints(max_length=4000)]
ProvenanceValue = bool | int | float | ProvenanceText
Provenance = dict[ProvenanceKey, ProvenanceValue]


class AdapterManifest(Spec):
    """Header of an adapter set: what it is, which backbone it needs, where it comes from."""

    format_version: Literal[1] = Field(default=1, description="version of the adapter file format")
    name: str = Field(default="", pattern=rf"{NAME_PATTERN}|^$", description="the set's own name; empty: none")
    spec: AdapterSpec
    backbone_name: str = Field(min_length=1, max_length=100)
    backbone_fingerprint: Fingerprint = Field(description="sha256 over the frozen tensors of the backbone")
    provenance: Provenance = Field(default_factory=dict, max_length=MAX_PROVENANCE_ENTRIES)

    @property
    def memory_bytes(self) -> int:
        """About what this takes in memory where its spec is shared with others."""
        return _BARE_BYTES + sum(len(key) + len(str(value)) for key, value in self.provenance.items())
