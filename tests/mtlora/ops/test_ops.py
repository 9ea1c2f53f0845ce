"""Operations against the formulas written out in float64, over odd shapes, with every instruction set there is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtlora.ops import ops
from mtlora.vocabulary.errors import MTLoRAError

pytestmark = pytest.mark.usefixtures("instruction_set")

small = st.integers(1, 9)
rank = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 16, 33, 64])
width = st.sampled_from([1, 3, 8, 17, 24, 48, 96, 130])
seeds = st.integers(0, 2**31)


def noise(*shape: int, spread: float = 1.0) -> Tensor:
    return torch.randn(shape) * spread


def close(actual: Tensor, expected: Tensor, tolerance: float = 2e-6) -> None:
    assert actual.dtype == torch.float32
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance * max(1.0, scale))


@given(
    seed=seeds,
    side=st.sampled_from([1, 2, 4, 5, 7, 8, 12]),
    head_dim=st.sampled_from([1, 3, 8, 16, 20, 24, 32, 48, 64]),
    heads=st.integers(1, 4),
    masks=st.integers(1, 4),
    images=st.integers(1, 2),
    masked=st.booleans(),
)
def test_window_attention(
    seed: int, side: int, head_dim: int, heads: int, masks: int, images: int, masked: bool
) -> None:
    torch.manual_seed(seed)
    tokens, windows = side * side, masks * images
    qkv = noise(windows, tokens, 3 * heads * head_dim, spread=2)
    bias = noise(masks, heads, tokens, tokens)
    if masked:
        bias += (torch.rand(masks, 1, tokens, tokens) < 0.3) * -100.0
    scale = head_dim**-0.5
    q, k, v = qkv.double().view(windows, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
    scores = torch.stack([q[w] @ k[w].transpose(1, 2) * scale + bias[w % masks].double() for w in range(windows)])
    expected = (scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, tokens, -1)
    close(ops.window_attention(qkv, bias, heads, scale), expected, 4e-6)
    which = torch.randperm(masks).int()
    close(ops.window_attention(qkv, bias[which.argsort()], heads, scale, which), expected, 4e-6)


@given(seed=seeds, tokens=small, channels=width, biased=st.booleans(), spread=st.sampled_from([0.01, 1.0, 5.0, 40.0]))
def test_gelu(seed: int, tokens: int, channels: int, biased: bool, spread: float) -> None:
    torch.manual_seed(seed)
    x = noise(2, tokens, channels, spread=spread)
    bias = noise(channels) if biased else None
    y = x if bias is None else x + bias
    expected = y.double() * 0.5 * (1 + torch.erf(y.double() / 2**0.5))
    result = ops.gelu_(x, bias)
    assert result.data_ptr() == x.data_ptr()
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=2e-6)


@given(seed=seeds, tasks=st.integers(1, 4), tokens=st.integers(0, 40), hidden=width, r=rank, r2=rank)
def test_task_mlp(seed: int, tasks: int, tokens: int, hidden: int, r: int, r2: int) -> None:
    torch.manual_seed(seed)
    frozen, u = noise(tokens, hidden), noise(tasks, tokens, r)
    b1, a2 = noise(tasks, hidden, r, spread=0.3), noise(tasks, r2, hidden, spread=0.3)
    h = functional.gelu(frozen.double() + u.double() @ b1.double().transpose(1, 2))
    close(ops.task_mlp(frozen, u, b1, a2), h @ a2.double().transpose(1, 2), 4e-6)


@given(
    seed=seeds, tasks=st.integers(1, 4), tokens=st.integers(0, 40), channels=width, r=rank, with_residual=st.booleans()
)
def test_lowrank_add(seed: int, tasks: int, tokens: int, channels: int, r: int, with_residual: bool) -> None:
    torch.manual_seed(seed)
    base, u, b = noise(tokens, channels), noise(tasks, tokens, r), noise(tasks, channels, r)
    residual = noise(tokens, channels) if with_residual else None
    expected = base.double() + u.double() @ b.double().transpose(1, 2)
    if residual is not None:
        expected += residual.double()
    close(ops.lowrank_add(base, residual, u, b), expected)


@given(
    seed=seeds,
    tasks=st.integers(1, 4),
    tokens=st.integers(0, 40),
    channels=width,
    r=rank,
    offset=st.sampled_from([0, 5]),
)
def test_layer_norm_tasks(seed: int, tasks: int, tokens: int, channels: int, r: int, offset: int) -> None:
    torch.manual_seed(seed)
    x, a = noise(tasks, tokens, channels) + offset, noise(tasks, r, channels)
    weight, bias = noise(channels), noise(channels)
    normed = functional.layer_norm(x.double(), (channels,), weight.double(), bias.double(), 1e-5)
    close(ops.layer_norm_tasks(x, weight, bias, 1e-5, a), normed @ a.double().transpose(1, 2), 2e-5)


@given(
    seed=seeds,
    tasks=st.integers(1, 4),
    merged=st.integers(1, 60),
    channels=st.sampled_from([1, 3, 8, 24, 33, 96]),
    out=st.sampled_from([1, 4, 18, 36, 72, 100]),
    by_columns=st.booleans(),
)
def test_merged_projection(seed: int, tasks: int, merged: int, channels: int, out: int, by_columns: bool) -> None:
    torch.manual_seed(seed)
    streams, gather = noise(tasks, 4 * merged + 3, channels) + 1, torch.randint(4 * merged + 3, (4 * merged,))
    weight, bias, projection = noise(4 * channels), noise(4 * channels), noise(tasks, out, 4 * channels, spread=0.3)
    if by_columns:
        projection = projection.mT.contiguous().mT
    neighbours = streams.double()[:, gather].reshape(tasks, merged, 4 * channels)
    normed = functional.layer_norm(neighbours, (4 * channels,), weight.double(), bias.double(), 1e-5)
    result = ops.merged_projection(streams, gather, weight, bias, 1e-5, projection)
    close(result, normed @ projection.double().mT, 2e-5)


@given(seed=seeds, tasks=st.integers(1, 3), merged=small, channels=width)
def test_merged_projection_with_tokens_from_elsewhere(seed: int, tasks: int, merged: int, channels: int) -> None:
    """What is not written is not read: it is no number."""
    torch.manual_seed(seed)
    streams, other, gather = noise(tasks, 4 * merged, channels), noise(4 * merged, channels), torch.randperm(4 * merged)
    rest = (gather, noise(4 * channels), noise(4 * channels), 1e-5, noise(tasks, 5, 4 * channels))
    written = torch.rand(tasks, 4 * merged) < 0.5
    expected = ops.merged_projection(torch.where(written[..., None], streams, other), *rest)
    streams[~written] = torch.nan
    assert torch.equal(ops.merged_projection(streams, *rest, (other, written)), expected)
    with pytest.raises(MTLoRAError, match=r"written must be bool"):
        ops.merged_projection(streams, *rest, (other, written.float()))
    with pytest.raises(MTLoRAError, match=r"instead must be"):
        ops.merged_projection(streams, *rest, (other[1:], written))


@pytest.mark.parametrize("index", [-1, 8])
def test_tokens_that_do_not_exist_are_not_merged(index: int) -> None:
    gather = torch.tensor([0, 1, 2, index])
    with pytest.raises(MTLoRAError, match="gather must be int64 from 0 to 7, got"):
        merge_with(gather)


def mixed_by_hand(
    maps: list[Tensor], mix: list[Tensor], bias: Tensor, classify: Tensor, classify_bias: Tensor
) -> Tensor:
    size = maps[0].shape[1:3]
    enlarged = [
        functional.interpolate(one.double().permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
        for one in maps
    ]
    hidden = functional.conv2d(torch.cat(enlarged, 1), torch.cat(mix, 1).double()[..., None, None], bias.double())
    return functional.conv2d(hidden.relu(), classify.double()[..., None, None], classify_bias.double())


@given(
    seed=seeds,
    images=st.integers(1, 2),
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 20)), min_size=3, max_size=3),
    channels=st.lists(st.sampled_from([1, 3, 18, 36]), min_size=3, max_size=3),
    hidden=st.sampled_from([1, 15, 64, 70, 130]),
    outputs=st.sampled_from([1, 3, 7, 15, 16, 21, 40]),
)
def test_mix_head(
    seed: int, images: int, sizes: list[tuple[int, int]], channels: list[int], hidden: int, outputs: int
) -> None:
    torch.manual_seed(seed)
    sizes.sort(reverse=True)
    sizes[0] = max(h for h, _ in sizes), max(w for _, w in sizes)
    maps = [noise(images, *size, c) for size, c in zip(sizes, channels, strict=True)]
    mix = [noise(hidden, c, spread=0.3) for c in channels]
    bias, classify, classify_bias = noise(hidden), noise(outputs, hidden), noise(outputs)
    result = ops.mix_head(maps, [own.T.contiguous().T for own in mix], bias, classify, classify_bias)
    close(result, mixed_by_hand(maps, mix, bias, classify, classify_bias), 4e-6)


def test_scores_of_what_is_not_a_number_are_none_either() -> None:
    maps = [noise(1, 4, 4, 3), noise(1, 2, 2, 3), noise(1, 1, 1, 3)]
    maps[0][0, 1, 2] = torch.nan
    scores = ops.mix_head(maps, [noise(20, 3)] * 3, noise(20), noise(2, 20), noise(2))
    assert scores.isnan().any(1)[0].nonzero().tolist() == [[1, 2]]


def test_any_layout_and_float_type() -> None:
    """What native code does not take goes through torch, with the same result."""
    qkv, bias = noise(4, 9, 48), noise(2, 2, 9, 9)
    expected = ops.window_attention(qkv, bias, 2, 0.25)
    strided = torch.stack([qkv, qkv], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(ops.window_attention(strided, bias, 2, 0.25), expected)
    assert ops.window_attention(qkv.double(), bias.double(), 2, 0.25).dtype == torch.float64
    column = noise(6, 8).T
    torch.testing.assert_close(ops.gelu_(column.clone(), None), functional.gelu(column))
    view = column.T.clone().T
    assert ops.gelu_(view, None) is view
    torch.testing.assert_close(view, functional.gelu(column))


def attend_with(which: Tensor) -> Tensor:
    return ops.window_attention(noise(4, 9, 48), noise(2, 2, 9, 9), 2, 1.0, which)


def merge_with(gather: Tensor | None = None, projection: Tensor | None = None, streams: Tensor | None = None) -> Tensor:
    streams = noise(2, 8, 3) if streams is None else streams
    gather = torch.arange(4) if gather is None else gather
    projection = noise(2, 5, 12) if projection is None else projection
    return ops.merged_projection(streams, gather, noise(12), noise(12), 1e-5, projection)


def mix_with(
    maps: list[Tensor] | None = None, mix: list[Tensor] | None = None, classify: Tensor | None = None
) -> Tensor:
    maps = maps or [noise(1, 4, 4, 3), noise(1, 2, 2, 3), noise(1, 1, 1, 3)]
    classify = noise(2, 9) if classify is None else classify
    return ops.mix_head(maps, mix or [noise(9, 3)] * 3, noise(9), classify, noise(2))


@pytest.mark.parametrize("index", [-1, 2])
def test_a_bias_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(MTLoRAError, match="which must be from 0 to 1, got"):
        attend_with(torch.tensor([1, index]).int())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.window_attention(noise(4, 9, 50), noise(1, 2, 9, 9), 2, 1.0), r"qkv must be .*got \[4, 9, 50\]"),
        (lambda: ops.window_attention(noise(4, 9, 48), noise(1, 2, 9, 8), 2, 1.0), r"bias must be \[n, 2, 9, 9\]"),
        (lambda: ops.window_attention(noise(4, 9, 48), noise(3, 2, 9, 9), 2, 1.0), "which must be .*divisor of 4"),
        (lambda: attend_with(torch.tensor([0, 2])), "which must be int32 .*int64"),
        (lambda: attend_with(torch.tensor([0, 1, 0]).int()), "which must be .*divisor of 4"),
        (lambda: ops.gelu_(noise(2, 8), noise(7)), r"bias must be \[8\], got \[7\]"),
        (lambda: ops.task_mlp(noise(5, 8), noise(2, 4, 3), noise(2, 8, 3), noise(2, 3, 8)), r"u must be \[T, 5, r\]"),
        (lambda: ops.task_mlp(noise(5, 8), noise(2, 5, 3), noise(2, 8, 4), noise(2, 3, 8)), r"b1 must be \[2, 8, 3\]"),
        (lambda: ops.task_mlp(noise(5, 8), noise(2, 5, 3), noise(2, 8, 3), noise(2, 3, 9)), "a2 must be"),
        (lambda: ops.lowrank_add(noise(5, 8), noise(5, 7), noise(2, 5, 3), noise(2, 8, 3)), "residual must be"),
        (lambda: ops.lowrank_add(noise(5, 8), None, noise(2, 5, 3), noise(1, 8, 3)), "b must be"),
        (lambda: ops.layer_norm_tasks(noise(2, 5, 8), noise(8), noise(7), 1e-5, noise(2, 3, 8)), "bias must be"),
        (lambda: ops.layer_norm_tasks(noise(2, 5, 8), noise(8), noise(8), 1e-5, noise(2, 3, 9)), "a must be"),
        (lambda: merge_with(gather=torch.arange(6)), r"gather must be \[4M\], got \[6\]"),
        (lambda: merge_with(projection=noise(2, 5, 11)), r"projection must be \[2, c, 12\]"),
        (
            lambda: merge_with(streams=noise(8, 3)),
            "streams",
        ),
        (lambda: mix_with(mix=[noise(9, 3), noise(9, 3), noise(9, 4)]), r"mix\[2\] must be \[9, 3\], got \[9, 4\]"),
        (lambda: mix_with(maps=[noise(1, 4, 4, 3), noise(2, 2, 2, 3), noise(1, 1, 1, 3)]), r"maps\[1\] must be \[1, h"),
        (lambda: mix_with(classify=noise(2, 8)), r"classify must be \[2, 9\], got \[2, 8\]"),
    ],
)
def test_wrong_shapes_are_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(MTLoRAError, match=message):
        call()
