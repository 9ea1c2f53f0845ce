"""The JSON documents of the Open Inference Protocol 2: https://github.com/kserve/open-inference-protocol."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.predict.schemas import HEADERS
from app.api.problem import PROBLEMS
from app.core.compute import BudgetText
from app.core.numbers import PLAIN, SWITCH
from app.core.tiling import TilesText
from app.http.parameters import Strict

V2_PREFIX = "/v2"
IMAGE_INPUT = "image"
EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
]
"""Of the protocol, in Triton's words."""
LENGTH_HEADER = "Inference-Header-Content-Length"
MAX_TIMEOUT_US = 3_600_000_000

Count = Annotated[int, Field(strict=True, ge=0, le=2**40)]
Flag = Annotated[bool, SWITCH]


class V2ErrorOut(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"error": "Adapter not found: no adapter set 'cats'"}]},
    )

    error: str


class LiveV2Out(BaseModel):
    """The process answers."""

    live: Literal[True] = True


class ReadyV2Out(BaseModel):
    """The server takes requests."""

    ready: Literal[True] = True


class ServerV2Out(BaseModel):
    """What answers here."""

    name: str
    version: str
    extensions: list[str]


class TensorSpecOut(BaseModel):
    """One input or output; -1 in a shape: any."""

    name: str
    datatype: str
    shape: list[int]


class ModelV2Out(BaseModel):
    """An adapter set as a model, its revisions as the model's versions."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorSpecOut]
    outputs: list[TensorSpecOut]


class ModelReadyV2Out(BaseModel):
    """The model can be used."""

    name: str
    ready: Literal[True] = True


class InputParametersIn(Strict):
    """Of an input."""

    binary_data_size: Count | None = Field(None, description="bytes of this tensor behind the JSON")
    shared_memory_region: Any = Field(None, description="not supported")
    shared_memory_byte_size: Any = Field(None, description="not supported")
    shared_memory_offset: Any = Field(None, description="not supported")


class InputIn(Strict):
    """The images."""

    name: str = Field(max_length=100, description=f"`{IMAGE_INPUT}`")
    datatype: str = Field(max_length=20, description="`BYTES`")
    shape: Annotated[list[Count], Field(max_length=8)] = Field(description="[number of images]")
    parameters: InputParametersIn = InputParametersIn()
    data: list[str] | None = Field(None, description="each image as base64; not with binary_data_size")


class OutputParametersIn(Strict):
    """Of a wanted output."""

    binary_data: Flag | None = Field(None, description="the tensor as bytes behind the JSON; else as JSON")
    classification: Any = Field(None, description="refused: outputs are maps, not scores of classes")
    shared_memory_region: Any = Field(None, description="not supported")
    shared_memory_byte_size: Any = Field(None, description="not supported")
    shared_memory_offset: Any = Field(None, description="not supported")


class OutputIn(Strict):
    """A wanted output."""

    name: str = Field(max_length=100, description="a task of the adapter set")
    parameters: OutputParametersIn = OutputParametersIn()


class InferParametersIn(Strict):
    """Of the request."""

    binary_data_output: Flag = Field(False, description="outputs that do not say otherwise as bytes behind the JSON")
    timeout: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_US), PLAIN] | None = Field(
        None, description="give up (504) after so many microseconds"
    )
    compute: BudgetText | None = Field(
        None, description="share of the encoder computed for each image, as `compute` of /predict"
    )
    tiles: TilesText | None = Field(None, description="tiles of each photo, as `tiles` of /predict")
    priority: Annotated[int, Field(ge=0, le=2**64 - 1), PLAIN] = Field(
        0, description="there are no levels of priority, so it makes no difference, as in Triton"
    )
    sequence_id: Annotated[int, Field(strict=True, ge=0, le=2**64 - 1)] | str = Field(
        0, description="no model keeps a state between requests, so it makes no difference, as in Triton"
    )
    sequence_start: Flag = Field(False, description="as sequence_id")
    sequence_end: Flag = Field(False, description="as sequence_id")


class InferIn(Strict):
    """A prediction."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": "7",
                    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["/9j/4AAQ…"]}],
                    "outputs": [{"name": "semseg"}],
                }
            ]
        },
    )

    id: str = Field("", max_length=128, description="given back with the answer")
    model_name: str | None = Field(None, description="KServe's client says it here too: as in the path, or 400")
    model_version: str | None = Field(None, description="as in the path, or 400")
    inputs: Annotated[list[InputIn], Field(max_length=16)]
    outputs: Annotated[list[OutputIn], Field(max_length=16)] = Field(default=[], description="default: all tasks")
    parameters: InferParametersIn = InferParametersIn()


class OutputV2Out(BaseModel):
    """One task's maps."""

    name: str
    datatype: Literal["UINT8", "FP32"]
    shape: list[int] = Field(description="[N, H, W], of normals [N, H, W, 3]")
    parameters: dict[str, int] | None = Field(None, description="binary_data_size, where the tensor is not in `data`")
    data: list[float] | None = Field(None, description="row-major")


class InferOut(BaseModel):
    """The maps, at the size of the photos."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputV2Out]


def v2_responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Documentation of error answers for a route of the protocol."""
    schema = {"$ref": "#/components/schemas/V2ErrorOut"}
    return {
        code: {"description": PROBLEMS[code], "content": {"application/json": {"schema": schema}}} for code in codes
    }


INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferIn"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The maps; as JSON, or as JSON of {LENGTH_HEADER} bytes and the tensors behind it.",
        "headers": {
            **HEADERS,
            LENGTH_HEADER: {"description": "bytes of the JSON, where tensors follow it", "schema": {"type": "string"}},
        },
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferOut"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
