"""Documents of a server that is wrong in its types, its size or its words."""

import copy
import json
from typing import Any

import httpx
import pytest

from mtlora.client import AdapterList
from mtlora.client.answers import MOST_PROBLEMS, problem_of, read_as, read_pushed, read_status
from mtlora.client.reply import Reply
from mtlora.vocabulary.errors import BadAnswerError, RefusedError

JSON = "application/json"
TASK = {
    "outputs": 2,
    "ranks": [2, 2, 2, 2],
    "decoder": "hrnet",
    "classes": [{"id": 0, "name": "cat", "color": [0, 1, 2]}],
}
REVISION = {
    "revision": 1, "digest": "d", "bytes": 5, "created": "now", "current": True, "tier": "disk", "tasks": ["semseg"],
}  # fmt: skip
SET = {
    "name": "cats", "current": 1, "digest": "d", "bytes": 5, "tasks": {"semseg": TASK}, "ranks": [2, 2, 2, 2],
    "image_size": 224, "tier": "disk", "status": "ready", "reason": "", "pinned": False, "default": False,
    "bundled": False, "uses": 3, "last_used": None, "revisions": [REVISION], "new": "a newer server says more",
}  # fmt: skip
LIST = {"default": "cats", "adapters": [SET]}


def reply(body: bytes, status: int = 200, kind: str = JSON, **headers: str) -> Reply:
    found = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in found.items()]
    return Reply("http://h/x", status, httpx.Headers(raw), body, most=2**25)


def problem(document: object, status: int = 422, **headers: str) -> Any:
    return problem_of(reply(json.dumps(document).encode(), status, "application/problem+json", **headers))


def test_a_right_document() -> None:
    found = read_as(AdapterList, reply(json.dumps(LIST).encode()))
    assert found.adapters[0].tasks["semseg"].classes[0].color == (0, 1, 2)
    assert found.adapters[0].revisions[0].tasks == ("semseg",)


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, inner in items for path in paths(inner, (*at, name)))]


def changed(path: tuple[Any, ...], value: object) -> object:
    document: Any = copy.deepcopy({"": LIST})
    *before, last = ("", *path)
    inner = document
    for name in before:
        inner = inner[name]
    inner[last] = value
    return document[""]


@pytest.mark.parametrize("path", [path for path in paths(LIST) if path[-1:] != ("new",)], ids=str)
def test_every_value_of_a_wrong_type_is_named(path: tuple[Any, ...]) -> None:
    wrongs: list[Any] = [[[]], {"": {}}, 1.5, -1, 2**63, 10**4000, True if path[-1:] != ("current",) else 1.5]
    for wrong in wrongs:
        body = json.dumps(changed(path, wrong)).encode()
        try:
            read_as(AdapterList, reply(body))
        except BadAnswerError as error:
            assert str(error).isprintable()
        else:
            assert wrong is True, f"{path} may not be {wrong}"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"NaN", b"[" * 300_000, b'{"a":' * 300_000, b"9" * 9000, b"\xff", b'{"default":"\\ud800"',
        b'{"default":"a","adapters":[NaN]}', b'{"default":"a","adapters":' + b"9" * 9000 + b"}", b"<html>\x1b[2J",
        json.dumps(LIST).encode("utf-16"), b'{"default":"a","adapters":{}}', b'{"default":"\x00","adapters":[]}',
    ],
)  # fmt: skip
def test_what_is_no_document_is_an_error_in_words(body: bytes) -> None:
    with pytest.raises(BadAnswerError, match="http://h/x answered 200, application/json") as caught:
        read_as(AdapterList, reply(body))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"default":"a","adapters":[' + b"1," * 1_500_000 + b"1]}",
        b'{"default":"a","adapters":[' + b"[]," * 1_500_000 + b"1]}",
        json.dumps({"default": "a", "adapters": [{**SET, "tasks": {str(n): 1 for n in range(100_000)}}]}).encode(),
    ],
)
def test_many_faults_cost_no_more_than_one(body: bytes) -> None:
    with pytest.raises(BadAnswerError) as caught:
        read_as(AdapterList, reply(body))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("document", [{"type": 5, "detail": {"a": 1}, "errors": "x", "quota": []}, [], None, 7, "x"])
def test_a_problem_of_wrong_types_keeps_its_status(document: object) -> None:
    found = problem(document, retry_after="7")
    assert (type(found), found.status, found.kind, found.problems, found.quota) == (RefusedError, 422, "", (), "")
    assert found.retry_after_s == 7


def test_the_words_of_a_problem_are_fit_to_be_shown() -> None:
    nasty = "\x1b[2J\n\u202ex"
    found = problem(
        {"type": f"urn:mtlora:problem:{nasty}", "detail": nasty * 1000, "request_id": nasty, "quota": {"name": nasty},
         "errors": [{"detail": nasty, "where": nasty}, nasty, {"detail": 5}, None]}
    )  # fmt: skip
    seen = r"\x1b[2J\n\u202ex"
    assert found.kind == found.request_id == found.quota == seen
    assert found.problems == (f"{seen}: {seen}", seen, "", "None")
    assert found.detail.startswith(seen)
    assert len(found.detail) < 10_000
    assert all(line.isprintable() for line in str(found).split("\n"))
    assert str(found).count("\n") == len(found.problems)


def test_a_problem_s_list_has_an_end() -> None:
    found = problem({"type": "x", "detail": "much", "errors": [{"detail": "e"}] * 5000})
    assert len(found.problems) == MOST_PROBLEMS + 1
    assert found.problems[-1] == "and 4000 more"


@pytest.mark.parametrize("status", [100, 101, 199, 201, 202, 204, 206, 600, 999])
def test_an_answer_that_this_api_has_not(status: int) -> None:
    found = problem_of(reply(b"", status))
    assert isinstance(found, BadAnswerError)
    assert f"answered {status}" in str(found)


@pytest.mark.parametrize("charset", ["hex", "zip", "base64", "rot13", "utf-16", "idna", "unicode_escape", "nonsense"])
def test_no_charset_decodes_an_answer(charset: str) -> None:
    assert "<html>" in str(problem_of(reply(b"<html>", 500, f"text/html; charset={charset}")))


@pytest.mark.parametrize(
    "header", ["", "cats", "cats@", "cats@x", "cats@²", "cats@-1", "cats@" + "9" * 5000, "\x1b[31m@1", "a b@1", "@1"]
)
def test_a_revision_is_a_name_and_a_number(header: str) -> None:
    with pytest.raises(BadAnswerError, match="X-Adapter-Revision"):
        read_pushed(reply(json.dumps(SET).encode(), 201, X_Adapter_Revision=header))
    assert read_pushed(reply(json.dumps(SET).encode(), 201, X_Adapter_Revision="cats@12")).revision == 12


def test_readiness() -> None:
    assert read_status(reply(b'{"status": "ready"}')).ready
    with pytest.raises(BadAnswerError, match="status: Input should be a valid string"):
        read_status(reply(b'{"status": 1}'))
    with pytest.raises(BadAnswerError, match="missing"):
        read_status(reply(b'{"status": "ready", "missing": [{"adapter": 1, "reason": null}]}'))


def test_a_long_answer_is_read() -> None:
    """Many sets: the limits leave room for what a large server says."""
    many = json.dumps({"default": "a", "adapters": [{**SET, "name": f"s{n}"} for n in range(2000)]}).encode()
    assert len(read_as(AdapterList, reply(many)).adapters) == 2000
