"""Both ways to a product give the same; only AMD's processors take the one that is not torch's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mtlora.ops import products
from mtlora.ops.products import linear

sides = st.integers(1, 70)


@pytest.fixture(params=["AuthenticAMD", "GenuineIntel"], scope="module")
def vendor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A processor of this maker, as Linux tells it."""
    path = tmp_path_factory.mktemp("proc") / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {request.param}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_CPU_INFO", path)
        products._onednn_is_faster.cache_clear()
        yield request.param
    products._onednn_is_faster.cache_clear()


@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), rows=sides, width=sides, out=sides, biased=st.booleans())
def test_linear(vendor: str, seed: int, n: int, rows: int, width: int, out: int, biased: bool) -> None:
    torch.manual_seed(seed)
    x, weight, bias = torch.randn(n, rows, width), torch.randn(out, width), torch.randn(out) if biased else None
    expected = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    for given_x in (x, x.transpose(0, 1).contiguous().transpose(0, 1)):
        result = linear(given_x, weight, bias)
        assert (result.dtype, result.shape) == (torch.float32, (n, rows, out))
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-6 * width)
    transposed = weight.T.contiguous().T
    torch.testing.assert_close(linear(x, transposed, bias).double(), expected, rtol=0, atol=2e-6 * width)


def test_the_maker_decides(vendor: str) -> None:
    assert products._onednn_is_faster() == (vendor == "AuthenticAMD")


def test_other_types_and_empty_tensors_are_torchs(vendor: str) -> None:
    x, weight = torch.randn(3, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    assert torch.equal(linear(x, weight), functional.linear(x, weight))
    assert linear(torch.empty(0, 5), torch.randn(4, 5)).shape == (0, 4)


def test_a_machine_without_proc_takes_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_CPU_INFO", Path("/nowhere/cpuinfo"))
    products._onednn_is_faster.cache_clear()
    assert not products._onednn_is_faster()
    products._onednn_is_faster.cache_clear()
