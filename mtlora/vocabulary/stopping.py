"""The stop signal for long work: it asks between its steps."""

from collections.abc import Callable

Check = Callable[[], None]
"""Called between steps of a few hundredths of a second; raises where the work is to stop."""


def never() -> None:
    """The check of work that goes on to its end."""
