"""One value of each parameter, wherever it stands."""

import json
from typing import Annotated

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from app.api.adapters.schemas import CurrentIn
from app.api.predict.schemas import LISTS, PARAMETERS, PredictQuery
from app.core.errors import BadBodyError, ParameterConflictError
from app.http.json_body import parse_document
from app.http.parameters import FORM, HEADER, JSON, QUERY, Found, check_query, field_text, given, in_json, merged, told


def query_of(*found: tuple[str, str, str]) -> PredictQuery:
    return merged(PredictQuery, [Found(*one) for one in found], LISTS)


def test_nothing_gives_the_defaults() -> None:
    assert query_of() == PredictQuery()


def test_each_place_counts() -> None:
    query = query_of((QUERY, "adapter", "people"), (FORM, "tasks", "sal"), (HEADER, "deadline_ms", "50"))
    assert (query.adapter, query.tasks, query.deadline_ms) == ("people", "saliency", 50)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("adapter", "people", "people"),
        ("tasks", "sal, parts", "saliency,human_parts"),
        ("deadline_ms", "50", "050"),
        ("logits", "true", "1"),
        ("format", "ZIP", "zip"),
    ],
)
def test_the_same_twice_is_once(name: str, one: str, other: str) -> None:
    assert query_of((QUERY, name, one), (JSON, name, other)) == query_of((FORM, name, one))


@pytest.mark.parametrize("places", [(QUERY, QUERY), (QUERY, FORM), (HEADER, JSON), (FORM, FORM), (HEADER, HEADER)])
@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("adapter", "people", "cutout"),
        ("adapter", "people", "people@1"),
        ("deadline_ms", "50", "60"),
        ("logits", "true", "false"),
        ("masks", "png", "none"),
        ("format", "png", "zip"),
    ],
)
def test_two_values_are_refused(places: tuple[str, str], name: str, one: str, other: str) -> None:
    with pytest.raises(ParameterConflictError, match=f"{name} is '{one}' .* and '{other}' .*; give it once"):
        query_of((places[0], name, one), (places[1], name, other))


def test_tasks_in_one_place_add_up_and_in_two_places_must_agree() -> None:
    assert query_of((QUERY, "tasks", "semseg"), (QUERY, "tasks", "sal,semseg")).tasks == "semseg,saliency"
    with pytest.raises(ParameterConflictError, match="tasks is 'semseg' in the query and 'normals' as a form field"):
        query_of((QUERY, "tasks", "semseg"), (FORM, "tasks", "normals"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("masks", "some"), ("logits", "maybe"), ("deadline_ms", "0"), ("deadline_ms", "true"), ("adapter", "")],
)
def test_values_that_make_no_sense_are_told_with_their_place(name: str, text: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        query_of((FORM, name, text))
    (fault,) = refused.value.errors()
    assert fault["loc"] == (FORM, name)
    assert f"got {text!r}" in fault["msg"]


def test_json_speaks_its_own_types() -> None:
    document = {"tasks": ["semseg", "sal"], "logits": True, "deadline_ms": 1500, "adapter": "people", "format": None}
    assert merged(PredictQuery, in_json(document, LISTS), LISTS) == PredictQuery(
        tasks="semseg,saliency", logits=True, deadline_ms=1500, adapter="people"
    )


@pytest.mark.parametrize(
    "document", [{"adapter": ["people"]}, {"tasks": [1]}, {"tasks": {}}, {"logits": [True]}, {"deadline_ms": {"a": 1}}]
)
def test_json_of_other_shapes_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(RequestValidationError, match=next(iter(document))):
        in_json(document, LISTS)


def test_queries() -> None:
    check_query([Found(QUERY, "tasks", "a"), Found(QUERY, "tasks", "b")], PARAMETERS, LISTS)
    check_query([Found(QUERY, "adapter", "a")] * 2, PARAMETERS, LISTS)
    with pytest.raises(ParameterConflictError, match="revision is '1' in the query and '2' in the query"):
        check_query([Found(QUERY, "revision", "1"), Found(QUERY, "revision", "2")], ["revision"])
    with pytest.raises(RequestValidationError) as refused:
        check_query([Found(QUERY, "task", "a"), Found(QUERY, "x", "")], PARAMETERS, LISTS)
    first, second = refused.value.errors()
    assert (first["loc"], second["loc"]) == ((QUERY, "task"), (QUERY, "x"))
    assert first["msg"].startswith("unknown query parameter 'task'; did you mean 'tasks'? known: tasks, adapter,")
    assert second["msg"].startswith("unknown query parameter 'x'; known: tasks, adapter,")


def test_fields_are_text() -> None:
    assert field_text("adapter", b" people\r\n") == "people"
    with pytest.raises(BadBodyError, match="'adapter' is not UTF-8 text"):
        field_text("adapter", b"\xff")


def test_keys_that_come_twice_are_refused() -> None:
    assert parse_document(b'{"revision": 2}', CurrentIn).revision == 2
    with pytest.raises(BadBodyError, match="the key 'revision' twice"):
        parse_document(b'{"revision": 2, "revision": 3}', CurrentIn)
    with pytest.raises(RequestValidationError, match="did you mean 'revision'"):
        parse_document(json.dumps({"revison": 2}).encode(), CurrentIn)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a", "'a'"),
        ("a" * 500, "… (500 characters)"),
        (None, "null"),
        (True, "true"),
        (0.5, "0.5"),
        (2**300, "a huge number"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (b"x", "bytes"),
    ],
)
def test_a_value_is_shown_and_never_long(value: object, words: str) -> None:
    assert given(value).endswith(words)
    assert len(given(value)) < 120


def test_faults_say_what_came_and_where_and_say_it_once() -> None:
    class Asked(BaseModel):
        number: int
        name: Annotated[str, Field(min_length=1)]
        needed: int

    with pytest.raises(ValidationError) as caught:
        Asked.model_validate({"number": "many", "name": ""})
    found = told(caught.value.errors(), "body")
    assert [(one["loc"], one["msg"]) for one in found] == [
        (("body", "number"), "Input should be a valid integer, unable to parse string as an integer, got 'many'"),
        (("body", "name"), "must not be empty, got '': leave it away, or give it a value"),
        (("body", "needed"), "is missing"),
    ]
    assert [one["msg"] for one in told(found)] == [one["msg"] for one in found]
