"""The operations of `ops` that the encoder needs, for several items at once.

Each item may bring parameters of its own (first dimension n) or all share one set's (first dimension 1). On a CPU items
take turns through `ops`; on a GPU they are one batched product. Letters: see `layers`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.inference.prepare.layers import NORM_EPS, Norm
from mtlora.ops import ops


def takes_turns(tensor: Tensor) -> bool:
    """Whether small pieces run one after the other, as a CPU's caches want it, or all at once."""
    return tensor.device.type == "cpu"


def window_attention(qkv: Tensor, position: Tensor, heads: int, scale: float) -> Tensor:
    """Attention inside windows.

    qkv:      float [W, N, 3C], see `ops.window_attention`
    position: float [nW, heads, N, N or more], nW 1 or W at once, in turns a divisor of W; columns beyond N are padding
    returns:  float [W, N, C]
    """
    if takes_turns(qkv):
        return ops.window_attention(qkv, position, heads, scale)
    windows, tokens, width = qkv.shape
    q, k, v = qkv.view(windows, tokens, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=position[..., :tokens], scale=scale)
    return attended.transpose(1, 2).flatten(2)


def lowrank_add(base: Tensor, residual: Tensor | None, u: Tensor, b: Tensor) -> Tensor:
    """base + residual + b_t u_t.

    base, residual: float [n, M, C]
    u:              float [n, T, M, r]
    b:              float [1 or n, T, C, r]
    returns:        float [n, T, M, C]
    """
    if takes_turns(base):
        return _in_turn(
            len(base), lambda i: ops.lowrank_add(base[i], None if residual is None else residual[i], u[i], _of(b, i))
        )
    together = base if residual is None else base + residual
    return (u @ b.transpose(2, 3)).add_(together[:, None])


def layer_norm_tasks(x: Tensor, weight: Tensor, bias: Tensor, a: Tensor) -> Tensor:
    """a_t · LayerNorm(x_t).

    x:            float [n, T, M, C]
    weight, bias: float [C], [1, C] or [n, C]
    a:            float [1 or n, T, r, C]
    returns:      float [n, T, M, r]
    """
    weight, bias = weight.view(-1, x.shape[-1]), bias.view(-1, x.shape[-1])
    if takes_turns(x):
        return _in_turn(len(x), lambda i: ops.layer_norm_tasks(x[i], _of(weight, i), _of(bias, i), NORM_EPS, _of(a, i)))
    normed = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
    scaled, shift = a * weight[:, None, None], (a @ bias[:, None, :, None]).transpose(2, 3)
    return (normed @ scaled.transpose(2, 3)).add_(shift)


def task_mlp(frozen: Tensor, u: Tensor, b1: Tensor, a2: Tensor) -> Tensor:
    """a2_t · GELU(frozen + b1_t u_t).

    frozen:  float [n, M, H]
    u:       float [n, T, M, r]
    b1:      float [1 or n, T, H, r]
    a2:      float [1 or n, T, r2, H]
    returns: float [n, T, M, r2]
    """
    if takes_turns(frozen):
        return _in_turn(len(frozen), lambda i: ops.task_mlp(frozen[i], u[i], _of(b1, i), _of(a2, i)))
    hidden = (u @ b1.transpose(2, 3)).add_(frozen[:, None])
    return ops.gelu_(hidden) @ a2.transpose(2, 3)


def merged_projection(
    streams: Tensor,
    gather: Tensor,
    norm: Norm,
    projection: Tensor,
    instead: Tensor | None = None,
    written: Tensor | None = None,
) -> Tensor:
    """p_t · LayerNorm(four neighbouring tokens side by side), see `ops.merged_projection`.

    streams:    float [n, T, L, C]
    gather:     int64 [4M]
    norm:       over 4C
    projection: float [1 or n, T, c, 4C]
    instead:    float [n, L, C], tokens of all tasks where `written`, bool [n, T, L], is false
    returns:    float [n, T, M, c]
    """
    if takes_turns(streams):
        width = 4 * streams.shape[3]
        weight, bias = norm.weight.view(-1, width), norm.bias.view(-1, width)

        def of(i: int) -> Tensor:
            other = None if instead is None or written is None else (instead[i], written[i])
            own = (_of(weight, i), _of(bias, i), NORM_EPS, _of(projection, i))
            return ops.merged_projection(streams[i], gather, *own, other)

        return _in_turn(len(streams), of)
    if written is not None and instead is not None:
        streams = torch.where(written[..., None], streams, instead[:, None])
    neighbours = streams.index_select(2, gather).view(*streams.shape[:2], -1, 4 * streams.shape[3])
    return norm(neighbours) @ projection.transpose(2, 3)


def _of(parameter: Tensor, item: int) -> Tensor:
    return parameter[item if len(parameter) > 1 else 0]


def _in_turn(count: int, run: Callable[[int], Tensor]) -> Tensor:
    first = run(0)
    return first[None] if count == 1 else torch.stack([first, *(run(i) for i in range(1, count))])
