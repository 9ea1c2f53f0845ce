import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlora.client import Retry
from mtlora.client.retry import retry_after_s
from mtlora.vocabulary.errors import RemoteError

NOW = datetime(2030, 1, 31, 12, 0, 0, tzinfo=UTC)
told = st.none() | st.floats(0, 100)


@given(told=told, budget_s=st.floats(0, 120), attempts=st.integers(1, 8), seed=st.integers(0, 99))
def test_never_sooner_than_told_never_beyond_the_budget(
    told: float | None, budget_s: float, attempts: int, seed: int
) -> None:
    retry = Retry(attempts=attempts, budget_s=budget_s)
    waited, made = 0.0, 1
    while (wait := retry.wait_s(made, waited, told, random.Random(seed))) is not None:
        assert wait >= (told or 0)
        waited, made = waited + wait, made + 1
    assert waited <= budget_s + 1e-9
    assert made <= attempts


def test_waits_grow_to_a_limit_and_differ_between_clients() -> None:
    retry = Retry(attempts=99, first_s=1, longest_s=8, budget_s=1e9)
    for attempt, step in ((1, 1), (2, 2), (3, 4), (4, 8), (50, 8)):
        waits = [retry.wait_s(attempt, 0, None, random.Random(seed)) or 0 for seed in range(50)]
        assert step / 2 <= min(waits) < max(waits) <= step
    waits = [retry.wait_s(1, 0, 30.0, random.Random(seed)) or 0 for seed in range(50)]
    assert 30 <= min(waits) < max(waits) <= 31


def test_impatience_is_said() -> None:
    assert Retry(attempts=1).wait_s(1, 0, 0.0, random.Random(0)) is None
    with pytest.raises(RemoteError, match="attempts >= 1"):
        Retry(attempts=0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 31 Jan 2030 12:00:30 GMT", 30.0),
        ("Thu, 31 Jan 2030 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (" 7 ", 7.0),
        ("9" * 400, 1e9),
        ("9" * 5000, 1e9),
        ("\xb2", None),
        ("\u0663", None),
        ("1.5", None),
        ("1e9", None),
        ("nan", None),
        ("1, 2", None),
        ("a" * 100_000, None),
        ("Mon, 99999999999999999999 Jan 2020 99:99:99 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 1e9),
        ("Sat, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("-3", None),
        (None, None),
    ],
)
def test_both_forms_of_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds
