"""Operations of the inference engine that torch is slow at on a CPU.

Each takes any device and float type. On contiguous float32 tensors of the CPU it runs native code where that is built
(see `mtlora.native`), otherwise plain torch (`plain_ops`). None keeps gradients.
"""

from torch import Tensor

from mtlora.errors import MTLoRAError
from mtlora.inference import plain_ops


def window_attention(qkv: Tensor, bias: Tensor, heads: int, scale: float) -> Tensor:
    """Attention inside windows: softmax(scale · q kᵀ + bias) v for every window and head.

    qkv:     float [W, N, 3C], tokens of W windows; queries, keys and values one after the other, heads inside each
    bias:    float [nW, heads, N, N], position bias plus shift mask; window w uses bias[w % nW]; nW divides W
    returns: float [W, N, C]
    """
    _want(qkv.ndim == 3 and heads > 0 and qkv.shape[2] % (3 * heads) == 0, "qkv", "[W, N, 3C], C a multiple of heads",
          qkv)  # fmt: skip
    tokens = qkv.shape[1]
    _want(bias.ndim == 4 and bias.shape[1:] == (heads, tokens, tokens), "bias", f"[nW, {heads}, {tokens}, {tokens}]",
          bias)  # fmt: skip
    _want(bias.shape[0] > 0 and qkv.shape[0] % bias.shape[0] == 0, "bias", f"[a divisor of {qkv.shape[0]}, …]", bias)
    return plain_ops.window_attention(qkv, bias, heads, scale)


def gelu_(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU (the exact one, with the error function) of x + bias, in place; returns x.

    x:    float [..., C]
    bias: float [C], or None
    """
    _want(bias is None or (x.ndim > 0 and bias.shape == x.shape[-1:]), "bias", f"{list(x.shape[-1:])}", bias)
    return plain_ops.gelu_(x, bias)


def task_mlp(frozen: Tensor, u: Tensor, b1: Tensor, a2: Tensor) -> Tensor:
    """Hidden layer of an MLP for every task, reduced at once by A of the next layer: hidden activations stay in cache.

    u2[t, m] = a2[t] · GELU(frozen[m] + b1[t] · u[t, m])
    frozen:  float [M, H], what the frozen fc1 gives for the shared tokens, its bias included
    u:       float [T, M, r], the tasks' tokens after A of fc1
    b1:      float [T, H, r], B of fc1, scaling included
    a2:      float [T, r2, H], A of fc2
    returns: float [T, M, r2]
    """
    _want(frozen.ndim == 2, "frozen", "[M, H]", frozen)
    tokens, hidden = frozen.shape
    _want(u.ndim == 3 and u.shape[1] == tokens, "u", f"[T, {tokens}, r]", u)
    tasks, _, rank = u.shape
    _want(b1.shape == (tasks, hidden, rank), "b1", f"[{tasks}, {hidden}, {rank}]", b1)
    _want(a2.ndim == 3 and a2.shape[::2] == (tasks, hidden), "a2", f"[{tasks}, r2, {hidden}]", a2)
    return plain_ops.task_mlp(frozen, u, b1, a2)


def lowrank_add(base: Tensor, residual: Tensor | None, u: Tensor, b: Tensor) -> Tensor:
    """base + residual + b[t] · u[t, m] for every task and token.

    base:     float [M, C], shared by all tasks
    residual: float [M, C], shared too, or None
    u:        float [T, M, r]
    b:        float [T, C, r], scaling included
    returns:  float [T, M, C]
    """
    _want(base.ndim == 2, "base", "[M, C]", base)
    tokens, width = base.shape
    _want(residual is None or residual.shape == base.shape, "residual", f"{list(base.shape)}", residual)
    _want(u.ndim == 3 and u.shape[1] == tokens, "u", f"[T, {tokens}, r]", u)
    _want(b.shape == (u.shape[0], width, u.shape[2]), "b", f"[{u.shape[0]}, {width}, {u.shape[2]}]", b)
    return plain_ops.lowrank_add(base, residual, u, b)


def layer_norm_tasks(x: Tensor, weight: Tensor, bias: Tensor, eps: float, a: Tensor) -> Tensor:
    """A of every task on its layer-normalised tokens: a[t] · LayerNorm(x[t, m]).

    x:            float [T, M, C]
    weight, bias: float [C], of the layer norm
    a:            float [T, r, C]
    returns:      float [T, M, r]
    """
    _want(x.ndim == 3, "x", "[T, M, C]", x)
    tasks, _, width = x.shape
    for name, value in (("weight", weight), ("bias", bias)):
        _want(value.shape == (width,), name, f"[{width}]", value)
    _want(a.ndim == 3 and a.shape[::2] == (tasks, width), "a", f"[{tasks}, r, {width}]", a)
    return plain_ops.layer_norm_tasks(x, weight, bias, eps, a)


def upsample_argmax(logits: Tensor, height: int, width: int) -> Tensor:
    """Class map of bilinearly enlarged scores (align_corners=False), without K maps at that size; of equals the lowest.

    logits:  float [K, h, w], K from 1 to 255
    returns: uint8 [height, width]
    """
    _want(logits.ndim == 3 and 1 <= logits.shape[0] <= 255 and logits.numel() > 0, "logits", "[1 to 255, h, w]", logits)
    _want_size(height, width)
    return plain_ops.upsample_argmax(logits, height, width)


def quantise_normals(normals: Tensor, height: int, width: int) -> Tensor:
    """Vectors enlarged bilinearly, made unit length and turned to colours: round((n + 1) · 127.5).

    normals: float [3, h, w], of any length
    returns: uint8 [height, width, 3]
    """
    _want(normals.ndim == 3 and normals.shape[0] == 3 and normals.numel() > 0, "normals", "[3, h, w]", normals)
    _want_size(height, width)
    return plain_ops.quantise_normals(normals, height, width)


def saliency_to_gray(probability: Tensor, height: int, width: int) -> Tensor:
    """Probabilities enlarged bilinearly and turned to grey: round(255 p).

    probability: float [h, w], 0..1
    returns:     uint8 [height, width]
    """
    _want(probability.ndim == 2 and probability.numel() > 0, "probability", "[h, w]", probability)
    _want_size(height, width)
    return plain_ops.saliency_to_gray(probability, height, width)


def _want(valid: bool, name: str, expected: str, got: Tensor | None) -> None:
    if not valid:
        raise MTLoRAError(f"{name} must be {expected}, got {None if got is None else list(got.shape)}")


def _want_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise MTLoRAError(f"the map's size must be at least 1 x 1, got {height} x {width}")
