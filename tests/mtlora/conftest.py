"""What tests of several modules share."""

from collections.abc import Iterator

import pytest

from mtlora.kernels import library


@pytest.fixture(
    scope="module",
    params=["0", *library.INSTRUCTION_SETS],
    ids=lambda name: "torch" if name == "0" else name,
)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a module's tests without native code, and with every instruction set there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, request.param)
        if request.param != "0" and library.kernels() is None:
            pytest.skip(library.status().reason)
        yield request.param
