"""The JSON documents of the protocol's extensions: repository, model configuration, statistics."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.core.numbers import SWITCH
from app.http.parameters import Strict
from app.telemetry.model_statistics import Duration, RevisionStatistics

DATA_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}


class IndexIn(Strict):
    """What to list."""

    repository_name: str | None = Field(None, description="there is one repository, without a name")
    ready: Annotated[bool, SWITCH] = Field(False, description="only what can be used")


class IndexEntryOut(BaseModel):
    """One revision of a set."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"] = Field(description="READY: it can be used; it need not be in memory")
    reason: str = Field(description="why it cannot; empty if it can")


class LoadIn(Strict):
    """How a set is to be loaded."""

    repository_name: str | None = Field(None, description="there is one repository, without a name")
    parameters: dict[str, Any] = Field({}, description="none is known: a set's file says all about it")


class UnloadParametersIn(Strict):
    """Of unloading."""

    unload_dependents: Annotated[bool, SWITCH] = Field(
        False, description="no set depends on another, so it makes no difference"
    )


class UnloadIn(Strict):
    """How a set is to be unloaded."""

    repository_name: str | None = Field(None, description="there is one repository, without a name")
    parameters: UnloadParametersIn = UnloadParametersIn()


class TensorConfigOut(BaseModel):
    """One input or output; -1: any."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfigOut(BaseModel):
    """A model's configuration, as far as it says something here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="0: the first dimension of every tensor is part of its shape")
    input: list[TensorConfigOut]
    output: list[TensorConfigOut]


class DurationOut(BaseModel):
    """How often, and how long in all."""

    count: int
    ns: int

    @classmethod
    def of(cls, one: Duration) -> "DurationOut":
        """As it is now."""
        return cls(count=one.count, ns=one.ns)


class InferenceStatisticsOut(BaseModel):
    """Requests that were answered and that were not; stages, counted by image."""

    success: DurationOut
    fail: DurationOut
    queue: DurationOut
    compute_input: DurationOut = Field(description="decoding, and waiting for the set to be loaded")
    compute_infer: DurationOut
    compute_output: DurationOut


class ModelStatisticsOut(BaseModel):
    """Of one revision, since the process started."""

    name: str
    version: str
    last_inference: int = Field(description="ms since the epoch; 0: never")
    inference_count: int = Field(description="images")
    execution_count: int = Field(description="forward passes")
    inference_stats: InferenceStatisticsOut
    batch_stats: list[None] = Field([], max_length=0, description="not kept")

    @classmethod
    def of(cls, name: str, version: int, known: RevisionStatistics) -> "ModelStatisticsOut":
        """As they are now."""
        parts = {part: DurationOut.of(getattr(known, part)) for part in InferenceStatisticsOut.model_fields}
        return cls(
            name=name,
            version=str(version),
            last_inference=known.last_inference_ms,
            inference_count=known.images,
            execution_count=round(known.executions),
            inference_stats=InferenceStatisticsOut(**parts),
        )


class StatisticsOut(BaseModel):
    """Of all revisions asked about."""

    model_stats: list[ModelStatisticsOut]


def small_body(name: str) -> dict[str, Any]:
    """Documentation of a body that may be left away."""
    return {
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
        }
    }
