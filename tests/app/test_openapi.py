"""The published schema: every path of the contract, every status code, examples."""

from typing import Any

import httpx
import pytest

PATHS = {
    "/predict": {"post"}, "/adapters": {"get", "post"}, "/adapters/{name}": {"get", "delete"},
    "/adapters/{name}/current": {"put"}, "/adapters/{name}/pin": {"put", "delete"}, "/adapters/{name}/load": {"post"},
    "/adapters/{name}/unload": {"post"}, "/adapters/{name}/file": {"get"}, "/tasks": {"get"}, "/livez": {"get"},
    "/readyz": {"get"}, "/metrics": {"get"},
}  # fmt: skip


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
    for operations in schema["paths"].values():
        for operation in operations.values():
            for code, response in operation["responses"].items():
                if int(code) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in str(schema["paths"])


def test_references_lead_somewhere_and_bodies_have_examples(schema: dict[str, Any]) -> None:
    text = str(schema)
    for name in schema["components"]["schemas"]:
        text = text.replace(f"#/components/schemas/{name}'", "")
    assert "#/components/schemas/" not in text
    for name in ("PredictOut", "AdapterSetOut", "Problem", "CurrentIn"):
        assert schema["components"]["schemas"][name]["examples"]
