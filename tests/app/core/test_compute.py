"""Budgets as clients write them, and what a set lets them have."""

import pytest

from app.core.compute import WHOLE, Budget, granted, offered, parse_budget, usual
from app.core.errors import BadParameterError
from mtlora.vocabulary.policy import CalibrationPoint, Policy, PolicyKind

POLICY = Policy(kind=PolicyKind.POOLED, windows=True)
PUBLISHED = Policy(kind=PolicyKind.PUBLISHED, tokens=True)
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
    assert offered(PUBLISHED) == WHOLE
    assert offered(POLICY) == Budget(0.3, 1.0)
    assert offered(POLICY.calibrated((POINT,))) == Budget(0.45, 1.0)


def test_a_budget_that_the_set_cannot_keep_is_refused_with_what_it_offers() -> None:
    assert granted("auto", POLICY, "leaf@1") == Budget(0.3, 1.0)
    assert granted("auto", None, "leaf@1") == WHOLE
    assert granted("1", None, "leaf@1") == WHOLE
    with pytest.raises(BadParameterError, match=r"compute 0\.2: adapter set leaf@1 offers compute 0\.3 to 1"):
        granted("0.2", POLICY, "leaf@1")
    with pytest.raises(BadParameterError, match="has no policy; a server computes everything of it"):
        granted("0.9", None, "leaf@1")
    with pytest.raises(BadParameterError, match="a policy of kind published, which only `mtlora predict` runs"):
        granted("0.9", PUBLISHED, "leaf@1")


def test_the_key_says_it_before_the_set_and_the_set_before_the_server() -> None:
    of_set = POLICY.usually(0.6)
    assert usual(POLICY, None, None) == WHOLE
    assert usual(POLICY, None, "0.5") == Budget(0.5, 0.5)
    assert usual(of_set, None, "0.5") == Budget(0.6, 0.6)
    assert usual(of_set, "0.8", "0.5") == Budget(0.8, 0.8)
    assert usual(of_set, "1", None) == WHOLE


def test_nobody_asked_this_set_for_a_default_so_it_gives_what_is_nearest() -> None:
    assert usual(POLICY, "0.1", None) == Budget(0.3, 0.3)
    assert usual(POLICY, "0.1-0.5", None) == Budget(0.3, 0.5)
    assert usual(POLICY, "auto", None) == Budget(0.3, 1.0)
    assert [usual(policy, said, said) for policy in (None, PUBLISHED) for said in ("0.1", "auto")] == [WHOLE] * 4


def test_a_share_is_moved_into_a_budget() -> None:
    budget = Budget(0.4, 0.8)
    assert [budget.clamp(share) for share in (0.1, 0.5, 1.0)] == [0.4, 0.5, 0.8]
    assert budget.is_open
    assert not WHOLE.is_open
