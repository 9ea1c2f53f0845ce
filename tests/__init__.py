"""Tests, in folders like those of the source."""

import pytest

pytest.register_assert_rewrite("testing")
