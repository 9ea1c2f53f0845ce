"""Names without wrappers."""

import pytest

from mtlora.vocabulary.errors import ConversionError
from mtlora.weights.checkpoint.wrappers import WRAPPERS, unwrapped


@pytest.mark.parametrize("wrapper", sorted(WRAPPERS))
def test_a_wrapper_is_dropped_wherever_it_stands(wrapper: str) -> None:
    assert unwrapped({f"{wrapper}.a.{wrapper}.b": 1, f"c.{wrapper}.d": 2}) == {"a.b": 1, "c.d": 2}


def test_the_counter_of_averages_is_dropped_and_longer_names_stay() -> None:
    assert unwrapped({"n_averaged": 1, "modules.a": 2}) == {"modules.a": 2}


def test_names_that_become_one_are_refused_with_five_of_them_and_a_count() -> None:
    state = {f"{start}{i}": i for i in range(12) for start in ("", "module.")}
    with pytest.raises(ConversionError, match="12 tensors") as caught:
        unwrapped(state)
    assert "module.4" in str(caught.value)
    assert "module.5" not in str(caught.value)
    assert "and 7 more" in str(caught.value)
