"""The parameters and answers of POST /predict."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.answers.negotiation import OFFERED
from app.api.problem import Problem
from app.core.compute import BudgetText
from app.core.map_size import MapSize
from app.core.numbers import PLAIN, PLAIN_DECIMAL, SWITCH
from app.core.tiling import TilesText
from mtlora.vocabulary.errors import TaskError
from mtlora.vocabulary.tasks import parse_tasks

Milliseconds = Annotated[int, Field(ge=1, le=3_600_000), PLAIN]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), PLAIN_DECIMAL]
FORMATS = [form.value for form in OFFERED]


class PredictQuery(BaseModel):
    """Parameters of POST /predict: in the query, as form fields or as keys of the JSON body."""

    model_config = ConfigDict(extra="forbid")

    tasks: str | None = Field(
        None,
        max_length=200,
        description="comma list: semseg, human_parts (parts), saliency (sal), normals, edge, depth; default: all",
        examples=["semseg,normals"],
    )
    adapter: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="NAME or NAME@REVISION; default: the server's",
        examples=["default"],
    )
    format: str | None = Field(
        None, description="form of the answer; wins over Accept", json_schema_extra={"enum": [*FORMATS, None]}
    )
    masks: Literal["png", "rle", "polygons", "none"] = Field(
        "png",
        description="JSON and zip: `rle` adds COCO run lengths per class, `polygons` outlines; JSON: `none` leaves the "
        "PNGs out",
    )
    size: MapSize = Field(
        "photo",
        description="of the maps: the photo's, the model's square, or so many pixels for the longer side",
        examples=["photo", "model", "640"],
    )
    edges: Literal["scores", "nearest"] = Field(
        "scores",
        description="of class maps larger than the model's square: decided at their size from interpolated scores, or "
        "the model's map enlarged",
    )
    style: Literal["blend", "contour", "plain"] = Field(
        "blend",
        description="overlay only: a veil, outlines in vivid colours with a thin fill, or the photo as it was seen",
    )
    logits: Annotated[bool, SWITCH] = Field(False, description="npz only: add float32 logits at model resolution")
    threshold: Score | None = Field(
        None, description="hf and coco only: leave out masks whose score is below", examples=[0.5]
    )
    compute: BudgetText | None = Field(
        None,
        description="share of the encoder computed for each image: 0.6, or a range 0.5-1 that the server chooses from, "
        "or auto (what the set offers); sets with a policy only. Default: as the key, set or server says, else 1",
        examples=["0.6"],
    )
    tiles: TilesText | None = Field(
        None,
        description="rows x columns of overlapping tiles, one pass each, or auto. Default: squeezed into one pass",
        examples=["auto", "2x3"],
    )
    explain: Literal["compute"] | None = Field(None, description="JSON only: say what was computed, as a picture")
    deadline_ms: Milliseconds | None = Field(None, description="give up (504) after so many milliseconds")

    @field_validator("tasks")
    @classmethod
    def _one_spelling(cls, names: str | None) -> str | None:
        """Aliases spelled out, so that two ways to say the same are the same; what is no task is for the set to say."""
        try:
            return ",".join(parse_tasks(names or "")) or names
        except TaskError:
            return names

    @field_validator("format")
    @classmethod
    def _lower(cls, name: str | None) -> str | None:
        return name.lower() if name else name


PARAMETERS = tuple(PredictQuery.model_fields)
LISTS = ("tasks",)  # which may come more than once in the query or a form, and as a list in JSON


class AdapterOut(BaseModel):
    """The revision that answered."""

    name: str
    revision: int
    digest: str


class ImageOut(BaseModel):
    """Size of the upright photo, and of every map unless `maps` says another."""

    width: int
    height: int
    orientation: int | None = Field(None, description="how the photo was turned, as of EXIF; where it was")


class MapsOut(BaseModel):
    """Size of every map, where it is not the photo's."""

    width: int
    height: int


class PolygonOut(BaseModel):
    """A ring of a class; what lies within an odd number of them is the class."""

    points: list[tuple[int, int]] = Field(description="x, y in pixels from the top left corner")
    hole: bool


class RleOut(BaseModel):
    """COCO run-length encoding, column-major, as pycocotools."""

    size: tuple[int, int] = Field(description="height, width")
    counts: str


class ClassOut(BaseModel):
    """A class that is present in a class map."""

    id: int
    name: str
    color: tuple[int, int, int]
    pixels: int
    fraction: float
    rle: RleOut | None = None
    polygons: list[PolygonOut] | None = None


class TaskOut(BaseModel):
    """One task's map. Which fields are there depends on the task."""

    encoding: Literal["png-palette", "png-gray", "png-rgb", "png-gray16"] | None = None
    png: str | None = Field(None, description="base64")
    classes: list[ClassOut] | None = Field(None, description="class maps: the classes present")
    mean: float | None = Field(None, description="saliency, edge, depth")
    minimum: float | None = Field(None, description="depth: value of grey 0")
    maximum: float | None = Field(None, description="depth: value of grey 65535")
    axes: str | None = Field(None, description="normals: what x, y, z mean")


class TimingsOut(BaseModel):
    """Milliseconds this image spent in each stage, and the request in all."""

    decode: float
    queue: float
    load: float
    forward: float
    encode: float
    total: float


class BatchOut(BaseModel):
    """The micro-batch this image ran in."""

    size: int = Field(description="images")
    adapters: int = Field(description="adapter sets")


class ComputeOut(BaseModel):
    """How much of the encoder was computed; given where the request says anything of it, or the set has a policy."""

    share: float = Field(ge=0, le=1, description="of the multiply-adds of its blocks")
    png: str | None = Field(
        None,
        description="explain=compute: base64 of a grey PNG, a pixel a patch of the model's square; 255: every block",
    )


class TilesOut(BaseModel):
    """The grid that the photo was cut in; given where tiles were asked for."""

    rows: int
    columns: int


class PredictOut(BaseModel):
    """Answer for one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "adapter": {"name": "default", "revision": 1, "digest": "0f3c" + "0" * 60},
                    "image": {"width": 640, "height": 480},
                    "tasks": {
                        "semseg": {
                            "encoding": "png-palette",
                            "png": "iVBORw0KGgo…",
                            "classes": [
                                {"id": 15, "name": "person", "color": [192, 128, 128], "pixels": 9, "fraction": 0.25}
                            ],
                        },
                        "saliency": {"encoding": "png-gray", "png": "iVBORw0KGgo…", "mean": 0.21},
                    },
                    "timings_ms": {
                        "decode": 6.1, "queue": 0.2, "load": 0.0, "forward": 180.4, "encode": 5.3, "total": 193.0,
                    },
                    "batch": {"size": 1, "adapters": 1},
                }
            ]
        }
    )  # fmt: skip

    adapter: AdapterOut
    image: ImageOut
    maps: MapsOut | None = None
    tasks: dict[str, TaskOut]
    timings_ms: TimingsOut
    batch: BatchOut
    compute: ComputeOut | None = None
    tiles: TilesOut | None = None


class PredictManyOut(BaseModel):
    """Answers for several images, in order; a failed image has its problem in its place."""

    results: list[PredictOut | Problem]


class HfMaskOut(BaseModel):
    """One mask as Hugging Face's image segmentation answers it; format=hf is a list of them."""

    label: str = Field(description="name of the class; of saliency `salient`, of edges `edge`")
    score: float = Field(ge=0, le=1, description="mean probability of the mask's pixels")
    mask: str = Field(description="8-bit grey PNG of the photo's size as base64: 255 inside, 0 outside")


class CocoImageOut(MapsOut):
    """The photo."""

    id: int
    file_name: str


class CocoCategoryOut(BaseModel):
    """A class of the task; its id is that of the class map's pixels."""

    id: int
    name: str
    supercategory: str = Field(description="the task")


class CocoAnnotationOut(BaseModel):
    """One class that is present."""

    id: int
    image_id: int
    category_id: int
    segmentation: RleOut
    area: int
    bbox: tuple[int, int, int, int] = Field(description="left, top, width, height")
    iscrowd: int
    score: float = Field(ge=0, le=1, description="mean probability of the mask's pixels")


class CocoOut(BaseModel):
    """format=coco: a dataset of one photo, as pycocotools loads it."""

    info: dict[str, str]
    licenses: list[str]
    images: list[CocoImageOut]
    categories: list[CocoCategoryOut]
    annotations: list[CocoAnnotationOut]


_BASE64 = {"type": "string", "format": "byte", "description": "base64, a data: URL is understood too"}
_BINARY = {"type": "string", "format": "binary"}
IMAGE_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/tiff",
    "image/gif",
    "image/avif",
    "image/heic",
)


def _in_body(*, as_json: bool) -> dict[str, Any]:
    """The parameters as properties of a body: null and lists are JSON's alone."""
    properties = {}
    for name, field in PredictQuery.model_json_schema()["properties"].items():
        kinds = [kind for kind in field.pop("anyOf", []) if as_json or kind != {"type": "null"}]
        if as_json and name in LISTS:
            kinds.append({"type": "array", "items": {"type": "string"}})
        if None in field.get("enum", ()) and not as_json:
            field["enum"] = [value for value in field["enum"] if value is not None]
        if not as_json:
            field.pop("default", None)
        properties[name] = {**field, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})}
    return properties


def _json_body(key: str, value: dict[str, Any]) -> dict[str, Any]:
    properties = {key: value, **_in_body(as_json=True)}
    return {"type": "object", "required": [key], "properties": properties, "additionalProperties": False}


_HUGGING_FACE: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": _BASE64,
        "parameters": {
            "type": ["object", "null"],
            "properties": {
                **_in_body(as_json=True),
                "subtask": {"type": ["string", "null"], "enum": ["semantic", None]},
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{media: {"schema": _BINARY} for media in (*IMAGE_TYPES, "application/octet-stream")},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "items": _BINARY, "minItems": 1},
                        **_in_body(as_json=False),
                    },
                    "additionalProperties": False,
                }
            },
            "application/json": {
                "schema": {
                    "oneOf": [
                        _json_body("image", _BASE64),
                        _json_body("images", {"type": "array", "items": _BASE64, "minItems": 1}),
                        _HUGGING_FACE,
                    ]
                }
            },
        },
    }
}

_ANSWER = {
    "schema": {
        "anyOf": [
            {"$ref": "#/components/schemas/PredictOut"},
            {"$ref": "#/components/schemas/PredictManyOut"},
            {"type": "array", "items": {"$ref": "#/components/schemas/HfMaskOut"}},
            {"$ref": "#/components/schemas/CocoOut"},
        ]
    }
}
HEADERS = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in {
        "X-Adapter-Revision": "NAME@REVISION that answered",
        "X-Compute-Share": "share of the encoder computed, a mean; given if asked for, or if the set has a policy",
        "X-Tiles": "where tiles were asked for: rows x columns of each image, in order; none for one that failed",
        "X-Adapter-Cold": "1 if this request waited for the load of its set, else 0",
    }.items()
}
OK_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The maps, in the form asked for.",
        "headers": HEADERS,
        "content": {
            "application/json": _ANSWER,
            "image/png": {"schema": _BINARY},
            "application/zip": {"schema": _BINARY},
            "application/x-npz": {"schema": _BINARY},
        },
    },
    207: {
        "description": "Several images, of which some failed: a problem object stands in their place.",
        "headers": HEADERS,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictManyOut"}}},
    },
}

HeaderText = Annotated[str | None, Field(json_schema_extra={"maxLength": 100})]
