"""Budgets as clients write them, and what a set lets them have."""

import pytest

from app.core.compute import WHOLE, Budget, granted, offered, parse_budget
from app.core.errors import BadParameterError
from mtlora.vocabulary.policy import CalibrationPoint, Policy, PolicyKind

POLICY = Policy(kind=PolicyKind.POOLED, windows=True)
POINT = CalibrationPoint(compute=0.45, threshold=0.0, share_p5=0.4, share_p50=0.45, share_p95=0.5)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("0.6", Budget(0.6, 0.6)),
        (".5", Budget(0.5, 0.5)),
        ("1", WHOLE),
        ("1.0", WHOLE),
        ("0.5-1", Budget(0.5, 1.0)),
        ("0.5-0.8", Budget(0.5, 0.8)),
        ("auto", None),
    ],
)
def test_what_is_a_budget(text: str, budget: Budget | None) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.1", "60%", "0.8-0.5", "0.5-", "-", "1e-1", "+0.5", "0,5", "nan", "AUTO", "٠.5"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"a share such as 0\.6"):
        parse_budget(text)


def test_what_sets_offer() -> None:
    assert offered(None) == WHOLE
    assert offered(Policy(kind=PolicyKind.PUBLISHED, tokens=True)) == WHOLE
    assert offered(POLICY) == Budget(0.3, 1.0)
    assert offered(POLICY.calibrated((POINT,))) == Budget(0.45, 1.0)


def test_a_budget_that_the_set_cannot_keep_is_refused_with_what_it_offers() -> None:
    assert granted(None, offered(POLICY), "leaf@1") == WHOLE
    assert granted("auto", offered(POLICY), "leaf@1") == Budget(0.3, 1.0)
    assert granted("auto", WHOLE, "leaf@1") == WHOLE
    assert granted("1", WHOLE, "leaf@1") == WHOLE
    with pytest.raises(BadParameterError, match=r"compute 0\.2: adapter set leaf@1 offers compute 0\.3 to 1"):
        granted("0.2", offered(POLICY), "leaf@1")
    with pytest.raises(BadParameterError, match="has no pooled policy, so compute is 1"):
        granted("0.9", WHOLE, "leaf@1")


def test_a_share_is_moved_into_a_budget() -> None:
    budget = Budget(0.4, 0.8)
    assert [budget.clamp(share) for share in (0.1, 0.5, 1.0)] == [0.4, 0.5, 0.8]
    assert budget.is_open
    assert not WHOLE.is_open
