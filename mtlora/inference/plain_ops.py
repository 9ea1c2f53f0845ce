"""The operations of `ops` in plain torch, for any device and float type: what runs without native code, and its oracle.

Shapes are checked by `ops`; see there for what each computes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

_TOKENS_AT_ONCE = 512  # hidden activations of so many tokens stay in a core's second-level cache
_SMALLEST_NORM = 1e-12
_BAND_PIXELS = 1 << 18  # of normals 3 MB: little memory, and most of it stays in the cache


def window_attention(qkv: Tensor, bias: Tensor, heads: int, scale: float, which: Tensor) -> Tensor:
    """See `ops.window_attention`."""
    windows, tokens, width = qkv.shape
    q, k, v = qkv.view(windows, tokens, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    own = bias[which.to(bias.device)].repeat(windows // len(which), 1, 1, 1)
    attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=own, scale=scale)
    return attended.transpose(1, 2).flatten(2)


def gelu_(x: Tensor, bias: Tensor | None) -> Tensor:
    """See `ops.gelu_`."""
    if bias is not None:
        x.add_(bias)
    result: Tensor = torch.ops.aten.gelu_(x)
    return result


def task_mlp(frozen: Tensor, u: Tensor, b1: Tensor, a2: Tensor) -> Tensor:
    """See `ops.task_mlp`; a chunk of tokens at a time, so that the hidden activations stay in cache."""
    tasks, tokens, _ = u.shape
    out = u.new_empty(tasks, tokens, a2.shape[1])
    for t in range(tasks):
        for start in range(0, tokens, _TOKENS_AT_ONCE):
            part = slice(start, start + _TOKENS_AT_ONCE)
            h = torch.ops.aten.gelu_(torch.addmm(frozen[part], u[t, part], b1[t].T))
            out[t, part] = h @ a2[t].T
    return out


def lowrank_add(base: Tensor, residual: Tensor | None, u: Tensor, b: Tensor) -> Tensor:
    """See `ops.lowrank_add`."""
    together = base if residual is None else base + residual
    return torch.baddbmm(together, u, b.transpose(1, 2))


def layer_norm_tasks(x: Tensor, weight: Tensor, bias: Tensor, eps: float, a: Tensor) -> Tensor:
    """See `ops.layer_norm_tasks`."""
    return functional.layer_norm(x, weight.shape, weight, bias, eps) @ a.transpose(1, 2)


def upsample_argmax(logits: Tensor, height: int, width: int) -> Tensor:
    """See `ops.upsample_argmax`; one enlarged map at a time."""
    best = bilinear(logits[:1], height, width)[0].clone()
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, logits.shape[0]):
        scores = bilinear(logits[k : k + 1], height, width)[0]
        index.masked_fill_(scores > best, k)
        torch.maximum(best, scores, out=best)
    return index


def unit_normals(normals: Tensor, height: int, width: int) -> Tensor:
    """See `ops.unit_normals`."""
    vectors = bilinear(normals, height, width)
    # forty times as fast on a CPU as functional.normalize over the first dimension
    return vectors / lengths(vectors)


def enlarge_sigmoid(logits: Tensor, height: int, width: int) -> Tensor:
    """See `ops.enlarge_sigmoid`."""
    return bilinear(logits[None], height, width)[0].sigmoid()


def enlarge_classes(class_map: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """See `ops.enlarge_classes`; counted on the small map, times the pixels that each of its pixels becomes."""
    rows, columns = (
        nearest(source, target).to(class_map.device)
        for source, target in zip(class_map.shape, (height, width), strict=True)
    )
    h, w = class_map.shape
    pixels = torch.outer(rows.bincount(minlength=h), columns.bincount(minlength=w))
    counts = torch.zeros(256, dtype=torch.int64, device=class_map.device)
    counts.scatter_add_(0, class_map.flatten().long(), pixels.flatten())
    return class_map[rows][:, columns], counts


def quantise_normals(normals: Tensor, height: int, width: int) -> Tensor:
    """See `ops.quantise_normals`; band by band."""
    out = normals.new_empty(height, width, 3, dtype=torch.uint8)
    for top, bottom in bands_of_rows(height, width):
        vectors = unit_vectors(enlarged_rows(normals, top, bottom, height, width))
        out[top:bottom] = to_bytes(vectors.mul_(127.5).add_(127.5))
    return out


def saliency_to_gray(probability: Tensor, height: int, width: int) -> Tensor:
    """See `ops.saliency_to_gray`; band by band."""
    out = probability.new_empty(height, width, dtype=torch.uint8)
    for top, bottom in bands_of_rows(height, width):
        out[top:bottom] = to_bytes(enlarged_rows(probability[None], top, bottom, height, width)[0].mul_(255))
    return out


def resize_cubic(photo: Tensor, side: int) -> Tensor:
    """See `ops.resize_cubic`; one channel at a time: a 50-megapixel photo needs 200 MB of float32 for each."""
    channels = [
        functional.interpolate(channel.float()[None, None], (side, side), mode="bicubic", align_corners=False)[0, 0]
        for channel in photo.unbind(2)
    ]
    return torch.stack(channels)


def to_bytes(values: Tensor) -> Tensor:
    """Rounded (half to even) and cut to 0..255, as uint8. Overwrites its input."""
    return values.round_().clamp_(0, 255).to(torch.uint8)


def lengths(planes: Tensor) -> Tensor:
    """Of vectors, float [3, H, W] -> [H, W]; at least 1e-12, so that they can be divided by."""
    x, y, z = planes
    squared: Tensor = x * x + y * y + z * z
    return squared.sqrt_().clamp_min_(_SMALLEST_NORM)


def unit_vectors(planes: Tensor) -> Tensor:
    """Float [3, H, W] to unit length as float [H, W, 3].

    Plane by plane into the final layout: far faster than normalising and then transposing a large map.
    """
    length = lengths(planes)
    vectors = planes.new_empty(*length.shape, 3)
    for axis, plane in enumerate(planes):
        torch.div(plane, length, out=vectors[..., axis])
    return vectors


def nearest(source: int, target: int) -> Tensor:
    """For each of `target` positions the index of the nearest of `source` pixel centres: int64 [target]."""
    return (2 * torch.arange(target) + 1) * source // (2 * target)


def bands_of_rows(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Where to cut a map of that size so that a band takes little memory: first row, and the one behind the last."""
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def enlarged_rows(maps: Tensor, top: int, bottom: int, height: int, width: int) -> Tensor:
    """Rows `top` to `bottom` of what `bilinear` makes: float [K, h, w] -> a new [K, bottom - top, width]."""
    source = maps.shape[1]
    centres = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * (source / height) - 0.5
    centres = centres.clamp(0, source - 1)
    upper = centres.floor().long()
    weight = (centres - upper).to(maps)[:, None]
    rows = torch.lerp(maps[:, upper], maps[:, (upper + 1).clamp(max=source - 1)], weight)
    return bilinear(rows, bottom - top, width)


def bilinear(maps: Tensor, height: int, width: int) -> Tensor:
    """Float [K, h, w] -> [K, height, width], pixel centres aligned (align_corners=False)."""
    if maps.shape[1:] == (height, width):
        return maps
    return functional.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]
