"""The ledger must catch what a server may not do, or the soak proves nothing."""

from benchmarks.churn.ledger import Ledger, SetNow

ONE = SetNow().uploaded("aa", activate=True)
TWO = ONE.uploaded("bb", activate=True)


def acknowledged(*states: tuple[SetNow, float, float]) -> Ledger:
    ledger = Ledger("name")
    for state, sent, answered in states:
        ledger.acknowledge(ledger.begin(state, sent), answered)
    return ledger


def test_an_acknowledged_change_must_be_seen() -> None:
    ledger = acknowledged((ONE, 1, 2), (TWO, 3, 4))
    assert ledger.possible(5, 6) == [TWO]


def test_a_change_under_way_may_be_seen_or_not() -> None:
    ledger = acknowledged((ONE, 1, 2), (TWO, 3, 4))
    assert ledger.possible(3.5, 6) == [ONE, TWO]
    assert ledger.possible(2.5, 3.5) == [ONE, TWO]
    assert ledger.possible(2.1, 2.9) == [ONE]


def test_a_refused_change_is_never_seen() -> None:
    ledger = acknowledged((ONE, 1, 2))
    ledger.refused(ledger.begin(TWO, 3))
    assert ledger.possible(3, 9) == [ONE]


def test_after_a_crash_only_what_was_possible_is_accepted() -> None:
    for actual in (ONE, TWO):
        ledger = acknowledged((ONE, 1, 2))
        ledger.begin(TWO, 3)
        assert ledger.settle(actual, 9)
        assert ledger.certain == actual
        assert ledger.possible(10, 11) == [actual]
    ledger = acknowledged((ONE, 1, 2), (TWO, 3, 4))
    assert not ledger.settle(ONE, 9), "an acknowledged revision is gone"


def test_numbers_are_never_given_again_and_known_bytes_keep_theirs() -> None:
    assert TWO.revisions == ((1, "aa"), (2, "bb"))
    assert TWO.uploaded("aa", activate=True).current == 1
    assert TWO.uploaded("aa", activate=False) == TWO
    assert TWO.deleted().uploaded("aa", activate=False) == SetNow(((3, "aa"),), 3, 4)
