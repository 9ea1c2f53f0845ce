"""Every error has a status, a type of its own, and a place in the documentation."""

import inspect
from pathlib import Path

import pytest

from app.api.errors import CLIENT_CLOSED_REQUEST, STATUS_OF, problem_of
from app.api.problem import PROBLEMS
from app.core import errors

BRANCHES = {errors.ServiceError, errors.RequestError, errors.AccessError, errors.AdapterError, errors.BusyError}
LEAVES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ServiceError) and kind not in BRANCHES
]
PAGE = Path("docs/http-api.md").read_text()


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_has_a_documented_status_and_type(kind: type[errors.ServiceError]) -> None:
    problem = problem_of(kind("words"), "id")
    assert problem.type.startswith("urn:mtlora:problem:")
    if problem.status == CLIENT_CLOSED_REQUEST or issubclass(kind, errors.StartupError):
        return
    assert problem.status in PROBLEMS
    assert f"`{problem.type.rsplit(':', 1)[1]}`" in PAGE


def test_the_table_has_no_branches_and_all_leaves() -> None:
    assert set(STATUS_OF) == set(LEAVES)


@pytest.mark.parametrize("kind", LEAVES)
def test_the_tree_is_drawn_whole(kind: type[errors.ServiceError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
