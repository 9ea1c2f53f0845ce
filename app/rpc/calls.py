"""The protocol's calls: what each asks of the HTTP application, and the message it makes of the answer."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf import json_format

from app.core.errors import BadBodyError
from app.rpc.exchange import Answer, Ask
from app.rpc.messages import message, parameters_of
from app.rpc.tensors import infer_answer, infer_ask, model_path, segment

NOT_READY = frozenset({404, 503})
DATA_TYPES = {"TYPE_UINT8": 2, "TYPE_FP32": 11, "TYPE_STRING": 13}


class Call(NamedTuple):
    """One kind of call."""

    ask: Callable[[bytes], Ask]
    answer: Callable[[Answer], bytes]
    answered: frozenset[int] = frozenset()  # statuses beside success that are answers too
    open: bool = False  # needs no key
    large: bool = False  # may be so large that it is not for the event loop


def _get(path: str) -> Callable[[bytes], Ask]:
    return lambda _: Ask("GET", path)


def _of_model(what: str) -> Callable[[bytes], Ask]:
    """A question about the model that a message names."""

    def ask(content: bytes) -> Ask:
        asked = message("NameAndVersion").FromString(content)
        return Ask("GET", model_path(asked.name, asked.version, what))

    return ask


def _statistics(content: bytes) -> Ask:
    asked = message("NameAndVersion").FromString(content)
    if not asked.name and asked.version:
        raise BadBodyError(
            f"version {asked.version[:80]!r} of which model? Give its name, or no version for all models"
        )
    if not asked.name:
        return Ask("GET", "/v2/models/stats")
    return Ask("GET", model_path(asked.name, asked.version, "stats"))


def _metadata(content: bytes) -> Ask:
    """Of the current revision by a path that no name shares with anything else, as `stats` would."""
    asked = message("NameAndVersion").FromString(content)
    return Ask("GET", model_path(asked.name, asked.version, "" if asked.version else "metadata"))


def _index(content: bytes) -> Ask:
    asked = message("RepositoryIndexRequest").FromString(content)
    return _as_json("/v2/repository/index", {"repository_name": asked.repository_name, "ready": asked.ready})


def _repository(what: str) -> Callable[[bytes], Ask]:
    def ask(content: bytes) -> Ask:
        asked = message("RepositoryModelRequest").FromString(content)
        parameters = {
            name: f"{len(value)} bytes" if isinstance(value, bytes) else value
            for name, value in parameters_of(asked.parameters).items()
        }
        path = f"/v2/repository/models/{segment(asked.model_name)}/{what}"
        return _as_json(path, {"repository_name": asked.repository_name, "parameters": parameters})

    return ask


def _as_json(path: str, document: dict[str, Any]) -> Ask:
    return Ask("POST", path, json.dumps(document).encode(), [("content-type", "application/json")])


def _parsed(name: str, change: Callable[[Any], Any] = lambda document: document) -> Callable[[Answer], bytes]:
    """A message that has the fields of the JSON answer."""

    def answer(given: Answer) -> bytes:
        document = change(json.loads(given.body))
        made: bytes = json_format.ParseDict(document, message(name)(), ignore_unknown_fields=True).SerializeToString()
        return made

    return answer


def _is_ready(name: str) -> Callable[[Answer], bytes]:
    def answer(given: Answer) -> bytes:
        made: bytes = message(name)(ready=given.status not in NOT_READY).SerializeToString()
        return made

    return answer


def _config(document: Any) -> Any:
    for tensor in document["input"] + document["output"]:
        tensor["data_type"] = DATA_TYPES[tensor["data_type"]]
    return {"config": document}


CALLS = {
    "ServerLive": Call(_get("/v2/health/live"), _parsed("ServerLiveResponse"), open=True),
    "ServerReady": Call(_get("/v2/health/ready"), _is_ready("ServerReadyResponse"), NOT_READY, open=True),
    "ServerMetadata": Call(_get("/v2"), _parsed("ServerMetadataResponse"), open=True),
    "ModelReady": Call(_of_model("ready"), _is_ready("ModelReadyResponse"), NOT_READY),
    "ModelMetadata": Call(_metadata, _parsed("ModelMetadataResponse")),
    "ModelConfig": Call(_of_model("config"), _parsed("ModelConfigResponse", _config)),
    "ModelStatistics": Call(_statistics, _parsed("ModelStatisticsResponse")),
    "ModelInfer": Call(infer_ask, infer_answer, large=True),
    "RepositoryIndex": Call(_index, _parsed("RepositoryIndexResponse", lambda models: {"models": models})),
    "RepositoryModelLoad": Call(_repository("load"), lambda _: b""),
    "RepositoryModelUnload": Call(_repository("unload"), lambda _: b""),
}
