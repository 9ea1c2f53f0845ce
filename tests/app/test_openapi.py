"""The published schema: every path of the contract, every status code, examples."""

import re
from typing import Any

import httpx
import pytest

PATHS = {
    "/": {"post"}, "/predict": {"post"}, "/adapters": {"get", "post"}, "/adapters/{name}": {"get", "delete"},
    "/adapters/{name}/current": {"put"}, "/adapters/{name}/pin": {"put", "delete"}, "/adapters/{name}/load": {"post"},
    "/adapters/{name}/unload": {"post"}, "/adapters/{name}/file": {"get"}, "/tasks": {"get"}, "/livez": {"get"},
    "/readyz": {"get"}, "/metrics": {"get"},
    "/v2": {"get"}, "/v2/health/live": {"get"}, "/v2/health/ready": {"get"}, "/v2/models/{model}": {"get"},
    "/v2/models/{model}/metadata": {"get"},
    "/v2/models/{model}/ready": {"get"}, "/v2/models/{model}/infer": {"post"},
    "/v2/models/{model}/versions/{version}": {"get"}, "/v2/models/{model}/versions/{version}/ready": {"get"},
    "/v2/models/{model}/versions/{version}/infer": {"post"},
    "/v2/repository/index": {"post"}, "/v2/repository/models/{name}/load": {"post"},
    "/v2/repository/models/{name}/unload": {"post"}, "/v2/models/stats": {"get"}, "/v2/models/{model}/stats": {"get"},
    "/v2/models/{model}/versions/{version}/stats": {"get"}, "/v2/models/{model}/config": {"get"},
    "/v2/models/{model}/versions/{version}/config": {"get"},
}  # fmt: skip

OPERATIONS = [
    "activateRevision", "allStatistics", "deleteAdapter", "getAdapter", "getAdapterFile", "imageSegmentation",
    "infer", "inferVersion", "listAdapters", "listTasks", "livez", "loadAdapter", "loadModel", "metrics",
    "modelConfig", "modelMetadata", "modelReady", "modelStatistics", "namedMetadata", "pinAdapter", "predict",
    "readyz", "repositoryIndex", "serverLive", "serverMetadata", "serverReady", "unloadAdapter", "unloadModel",
    "unpinAdapter", "uploadAdapter", "versionConfig", "versionMetadata", "versionReady", "versionStatistics",
]  # fmt: skip
"""Names of requests in generated clients: a change of one breaks the code of those who use them."""


@pytest.fixture(scope="module")
def schema(live: Any) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{live.url}/openapi.json").json()
    return document


def test_paths_and_methods(schema: dict[str, Any]) -> None:
    assert {path: set(operations) for path, operations in schema["paths"].items()} == PATHS


def test_predict_documents_every_answer(schema: dict[str, Any]) -> None:
    codes = set(schema["paths"]["/predict"]["post"]["responses"])
    assert codes == {
        "200",
        "207",
        "400",
        "401",
        "403",
        "404",
        "406",
        "408",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    }


def test_errors_are_problems_and_nothing_else(schema: dict[str, Any]) -> None:
    """But under /v2, where the protocol has a shape of its own."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/V2ErrorOut"}}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            for code, response in operation["responses"].items():
                if int(code) >= 400:
                    assert response["content"] == (error if path.startswith("/v2") else problem)
    assert "HTTPValidationError" not in str(schema["paths"])


def test_references_lead_somewhere_and_bodies_have_examples(schema: dict[str, Any]) -> None:
    text = str(schema)
    for name in schema["components"]["schemas"]:
        text = text.replace(f"#/components/schemas/{name}'", "")
    assert "#/components/schemas/" not in text
    for name in ("PredictOut", "AdapterSetOut", "Problem", "CurrentIn", "InferIn", "V2ErrorOut"):
        assert schema["components"]["schemas"][name]["examples"]


def test_requests_are_summed_up_in_words_not_in_names_of_functions(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert not re.fullmatch(r"([A-Z]\w+ ?)+", operation["summary"]), (path, operation["summary"])
            assert operation["summary"] not in operation.get("description", "")


def test_operations_keep_their_names(schema: dict[str, Any]) -> None:
    found = [one["operationId"] for operations in schema["paths"].values() for one in operations.values()]
    assert sorted(found) == OPERATIONS


def test_bodies_of_photos_are_documented_as_bytes_too(schema: dict[str, Any]) -> None:
    """Generators that know no `image/jpeg` know these."""
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert content["application/octet-stream"] == {"schema": {"type": "string", "format": "binary"}}
