"""Operations of the inference engine that torch is slow at on a CPU.

Each takes any device and float type. On float32 tensors of the CPU it runs native code where that is built
(see `mtlora.kernels`), otherwise plain torch (`torch_ops`). None keeps gradients.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlora.kernels.interface import MAX_DOTS, MAX_HEAD_DIM, MAX_RANK, MAX_TOKENS, MAX_WIDTH, MixHeadLayout
from mtlora.ops import torch_ops
from mtlora.ops.operands import checked, native_for, want
from mtlora.vocabulary.errors import MTLoRAError


def window_attention(qkv: Tensor, bias: Tensor, heads: int, scale: float, which: Tensor | None = None) -> Tensor:
    """Attention inside windows: softmax(scale · q kᵀ + bias) v for every window and head.

    qkv:     float [W, N, 3C], tokens of W windows; queries, keys and values one after the other, heads inside each
    bias:    float [n, heads, N, N], position bias plus shift mask
    which:   int32 [nW] on the CPU, nW a divisor of W: window w uses bias[which[w % nW]]; None: bias[w % n]
    returns: float [W, N, C]
    """
    want(qkv.ndim == 3 and heads > 0 and qkv.shape[2] % (3 * heads) == 0, "qkv", "[W, N, 3C], C a multiple of heads",
          qkv)  # fmt: skip
    tokens = qkv.shape[1]
    want(bias.ndim == 4 and bias.shape[1:] == (heads, tokens, tokens), "bias", f"[n, {heads}, {tokens}, {tokens}]",
          bias)  # fmt: skip
    which = torch.arange(len(bias), dtype=torch.int32) if which is None else which
    _want_which(which, len(bias), qkv.shape[0])
    head_dim = qkv.shape[2] // (3 * heads)
    native = native_for(qkv, bias)
    if native is None or tokens > MAX_TOKENS or head_dim > MAX_HEAD_DIM:
        return torch_ops.window_attention(qkv, bias, heads, scale, which)
    qkv, bias, which = qkv.contiguous(), bias.contiguous(), which.contiguous()
    out = qkv.new_empty(qkv.shape[0], tokens, qkv.shape[2] // 3)
    native.window_attention(
        qkv.data_ptr(), bias.data_ptr(), which.data_ptr(), out.data_ptr(),
        qkv.shape[0], tokens, heads, head_dim, len(which), scale, torch.get_num_threads(),
    )  # fmt: skip
    return out


def gelu_(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU (the exact one, with the error function) of x + bias, in place; returns x.

    x:    float [..., C]
    bias: float [C], or None
    """
    want(bias is None or (x.ndim > 0 and bias.shape == x.shape[-1:]), "bias", f"{list(x.shape[-1:])}", bias)
    native = native_for(x) if bias is None else native_for(x, bias)
    if native is None or not x.is_contiguous():
        return torch_ops.gelu_(x, bias)
    bias = None if bias is None else bias.contiguous()
    width = x.shape[-1] if x.ndim else 1
    native.gelu(
        x.data_ptr(), None if bias is None else bias.data_ptr(), x.numel() // width, width, torch.get_num_threads()
    )
    return x


def task_mlp(frozen: Tensor, u: Tensor, b1: Tensor, a2: Tensor) -> Tensor:
    """Hidden layer of an MLP for every task, reduced at once by A of the next layer: hidden activations stay in cache.

    u2[t, m] = a2[t] · GELU(frozen[m] + b1[t] · u[t, m])
    frozen:  float [M, H], what the frozen fc1 gives for the shared tokens, its bias included
    u:       float [T, M, r], the tasks' tokens after A of fc1
    b1:      float [T, H, r], B of fc1, scaling included; fastest where b1.mT is contiguous
    a2:      float [T, r2, H], A of fc2
    returns: float [T, M, r2]
    """
    want(frozen.ndim == 2, "frozen", "[M, H]", frozen)
    tokens, hidden = frozen.shape
    want(u.ndim == 3 and u.shape[1] == tokens, "u", f"[T, {tokens}, r]", u)
    tasks, _, rank = u.shape
    want(b1.shape == (tasks, hidden, rank), "b1", f"[{tasks}, {hidden}, {rank}]", b1)
    want(a2.ndim == 3 and a2.shape[::2] == (tasks, hidden), "a2", f"[{tasks}, r2, {hidden}]", a2)
    native = native_for(frozen, u, b1, a2)
    if native is None or a2.shape[1] > MAX_RANK:
        return torch_ops.task_mlp(frozen, u, b1, a2)
    frozen, u, b1, out = (
        frozen.contiguous(),
        u.contiguous(),
        b1.mT.contiguous(),
        u.new_empty(tasks, tokens, a2.shape[1]),
    )
    a2, by_columns = _down(a2)
    native.task_mlp(
        frozen.data_ptr(), u.data_ptr(), b1.data_ptr(), a2.data_ptr(), out.data_ptr(),
        tasks, tokens, hidden, rank, out.shape[2], by_columns, torch.get_num_threads(),
    )  # fmt: skip
    return out


def lowrank_add(base: Tensor, residual: Tensor | None, u: Tensor, b: Tensor) -> Tensor:
    """base + residual + b[t] · u[t, m] for every task and token.

    base:     float [M, C], shared by all tasks
    residual: float [M, C], shared too, or None
    u:        float [T, M, r]
    b:        float [T, C, r], scaling included; fastest where b.mT is contiguous
    returns:  float [T, M, C]
    """
    want(base.ndim == 2, "base", "[M, C]", base)
    tokens, width = base.shape
    want(residual is None or residual.shape == base.shape, "residual", f"{list(base.shape)}", residual)
    want(u.ndim == 3 and u.shape[1] == tokens, "u", f"[T, {tokens}, r]", u)
    want(b.shape == (u.shape[0], width, u.shape[2]), "b", f"[{u.shape[0]}, {width}, {u.shape[2]}]", b)
    native = native_for(base, u, b) if residual is None else native_for(base, residual, u, b)
    if native is None:
        return torch_ops.lowrank_add(base, residual, u, b)
    residual = None if residual is None else residual.contiguous()
    base, u, b, out = base.contiguous(), u.contiguous(), b.mT.contiguous(), u.new_empty(u.shape[0], tokens, width)
    native.lowrank_add(
        base.data_ptr(), None if residual is None else residual.data_ptr(), u.data_ptr(), b.data_ptr(), out.data_ptr(),
        u.shape[0], tokens, width, u.shape[2], torch.get_num_threads(),
    )  # fmt: skip
    return out


def layer_norm_tasks(x: Tensor, weight: Tensor, bias: Tensor, eps: float, a: Tensor) -> Tensor:
    """A of every task on its layer-normalised tokens: a[t] · LayerNorm(x[t, m]).

    x:            float [T, M, C]
    weight, bias: float [C], of the layer norm
    a:            float [T, r, C]
    returns:      float [T, M, r]
    """
    want(x.ndim == 3, "x", "[T, M, C]", x)
    tasks, tokens, width = x.shape
    for name, value in (("weight", weight), ("bias", bias)):
        want(value.shape == (width,), name, f"[{width}]", value)
    want(a.ndim == 3 and a.shape[::2] == (tasks, width), "a", f"[{tasks}, r, {width}]", a)
    native = native_for(x, weight, bias, a)
    if native is None or a.shape[1] > MAX_RANK or width > MAX_WIDTH:
        return torch_ops.layer_norm_tasks(x, weight, bias, eps, a)
    out = x.new_empty(tasks, tokens, a.shape[1])
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    a, by_columns = _down(a)
    native.layer_norm_tasks(
        x.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps, a.data_ptr(), out.data_ptr(),
        tasks, tokens, width, out.shape[2], by_columns, torch.get_num_threads(),
    )  # fmt: skip
    return out


def merged_projection(
    streams: Tensor,
    gather: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    projection: Tensor,
    instead: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Patch merging and projection of task streams: p[t] · LayerNorm(four neighbouring tokens side by side).

    streams:      float [T, L, C]
    gather:       int64 [4M], tokens that go side by side
    weight, bias: float [4C], of the layer norm, as eps
    projection:   float [T, c, 4C], fastest where projection.mT is contiguous
    instead:      float [L, C], and bool [T, L]: where that is false a task's token is taken from there, and what
                  `streams` has is not read; None: nowhere
    returns:      float [T, M, c]
    """
    want(streams.ndim == 3, "streams", "[T, L, C]", streams)
    tasks, tokens, width = streams.shape
    want(gather.ndim == 1 and len(gather) > 0 and len(gather) % 4 == 0, "gather", "[4M]", gather)
    for name, value in (("weight", weight), ("bias", bias)):
        want(value.shape == (4 * width,), name, f"[{4 * width}]", value)
    want(projection.ndim == 3 and projection.shape[::2] == (tasks, 4 * width), "projection",
          f"[{tasks}, c, {4 * width}]", projection)  # fmt: skip
    lowest, highest = gather.aminmax()
    if gather.dtype != torch.int64 or lowest < 0 or highest >= tokens:
        raise MTLoRAError(f"gather must be int64 from 0 to {tokens - 1}, got {gather.dtype}, {lowest} to {highest}")
    other, written = _instead(instead, streams)
    native = native_for(streams, weight, bias, projection, *(() if other is None else (other,)))
    if native is None:
        if other is not None and written is not None:
            streams = torch.where(written[..., None], streams, other)
        return torch_ops.merged_projection(streams, gather, weight, bias, eps, projection)
    streams, gather, weight, bias = (tensor.contiguous() for tensor in (streams, gather, weight, bias))
    columns, out = projection.mT.contiguous(), streams.new_empty(tasks, len(gather) // 4, projection.shape[1])
    failed = native.merged_projection(
        streams.data_ptr(), None if other is None else other.data_ptr(),
        None if written is None else written.data_ptr(), gather.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps,
        columns.data_ptr(), out.data_ptr(), tasks, tokens, width, out.shape[1], out.shape[2], torch.get_num_threads(),
    )  # fmt: skip
    return checked(out, failed)


def mix_head(
    maps: Sequence[Tensor], mix: Sequence[Tensor], bias: Tensor, classify: Tensor, classify_bias: Tensor
) -> Tensor:
    """Scores from maps of three sizes: classify · ReLU(bias + sum of the mix_k · map_k, enlarged bilinearly).

    maps:          float [n, h_k, w_k, c_k], the finest first; the others are enlarged to its size
    mix:           float [D, c_k] for each, fastest where mix_k.mT is contiguous
    bias:          float [D]
    classify:      float [K, D]
    classify_bias: float [K]
    returns:       float [n, K, h_0, w_0]
    """
    for k, (one, own) in enumerate(zip(maps, mix, strict=True)):
        want(one.ndim == 4 and len(one) == len(maps[0]), f"maps[{k}]", f"[{len(maps[0])}, h, w, c]", one)
        want(own.shape == (len(bias), one.shape[3]), f"mix[{k}]", f"[{len(bias)}, {one.shape[3]}]", own)
    want(
        classify.shape == (len(classify_bias), len(bias)), "classify", f"[{len(classify_bias)}, {len(bias)}]", classify
    )
    native = native_for(*maps, *mix, bias, classify, classify_bias)
    if native is None or len(maps) != 3:
        return torch_ops.mix_head(maps, mix, bias, classify, classify_bias)
    classify, by_columns = _down(classify[None])
    held = [one.contiguous() for one in (*maps, *(own.mT for own in mix), bias, classify, classify_bias)]
    pointers = [tensor.data_ptr() for tensor in held]
    sizes = zip(*(one.shape[1:] for one in maps), strict=True)
    images, height, width, _ = maps[0].shape
    layout = MixHeadLayout(
        tuple(pointers[:3]),
        tuple(pointers[3:6]),
        *pointers[6:],
        *sizes,
        images,
        len(bias),
        len(classify_bias),
        by_columns,
    )
    mixed = bias.new_empty(native.mix_head_floats(ctypes.byref(layout)))
    out = bias.new_empty(images, len(classify_bias), height, width)
    failed = native.mix_head(ctypes.byref(layout), mixed.data_ptr(), out.data_ptr(), torch.get_num_threads())
    return checked(out, failed)


def _down(a: Tensor) -> tuple[Tensor, bool]:
    """A of every task in the layout that its rank wants: few rows [T, r, C] in rows, many as columns [T, C, r]."""
    return (a.contiguous(), False) if a.shape[1] <= MAX_DOTS else (a.mT.contiguous(), True)


def _instead(instead: tuple[Tensor, Tensor] | None, streams: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if instead is None:
        return None, None
    other, written = instead
    tasks, tokens, width = streams.shape
    want(other.shape == (tokens, width), "instead", f"[{tokens}, {width}]", other)
    want(written.shape == (tasks, tokens) and written.dtype == torch.bool, "written", f"bool [{tasks}, {tokens}]",
          written)  # fmt: skip
    return other.contiguous(), written.contiguous()


def _want_which(which: Tensor, biases: int, windows: int) -> None:
    if which.dtype != torch.int32 or which.ndim != 1 or len(which) == 0 or windows % len(which):
        raise MTLoRAError(f"which must be int32 [nW], nW a divisor of {windows}, got {which.dtype} {list(which.shape)}")
    lowest, highest = which.aminmax()
    if lowest < 0 or highest >= biases:
        raise MTLoRAError(f"which must be from 0 to {biases - 1}, got {int(lowest)} to {int(highest)}")
