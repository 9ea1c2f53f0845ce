"""How many examples a property is tried with: a fifth in `make test`, all in `make test-slow`."""

import os

ALL = "ALL_EXAMPLES"
"""Environment variable: if it is set, all examples."""


def examples(whole: int) -> int:
    """So many if all are asked for, else a fifth, but at least 4."""
    return whole if os.environ.get(ALL) else max(4, whole // 5)
