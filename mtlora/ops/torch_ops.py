"""The operations of `ops` in plain torch, for any device and float type: what runs without native code, and its oracle.

Shapes are checked by `ops`; see there for what each computes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_TOKENS_AT_ONCE = 512  # hidden activations of so many tokens stay in a core's second-level cache
_SMALLEST_NORM = 1e-12
_MERGED_AT_ONCE = 196  # tokens of streams, four times as many before they are merged
_ROWS_AT_ONCE = 8  # rows of the finest map whose hidden activations stay in cache
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


def merged_projection(
    streams: Tensor, gather: Tensor, weight: Tensor, bias: Tensor, eps: float, projection: Tensor
) -> Tensor:
    """See `ops.merged_projection`."""
    tasks, _, width = streams.shape
    merged = len(gather) // 4
    out = streams.new_empty(tasks, merged, projection.shape[1])
    for first in range(0, merged, _MERGED_AT_ONCE):
        part = streams.index_select(1, gather[4 * first : 4 * (first + _MERGED_AT_ONCE)])
        normed = functional.layer_norm(part.view(tasks, -1, 4 * width), weight.shape, weight, bias, eps)
        torch.matmul(normed, projection.mT, out=out[:, first : first + _MERGED_AT_ONCE])
    return out


def mix_head(
    maps: Sequence[Tensor], mix: Sequence[Tensor], bias: Tensor, classify: Tensor, classify_bias: Tensor
) -> Tensor:
    """See `ops.mix_head`; a few rows of the finest map at a time."""
    fine, *coarse = maps
    images, height, width, _ = fine.shape
    sources = [_Upsampled.of(one, own, height, width) for one, own in zip(coarse, mix[1:], strict=True)]
    scores = fine.new_empty(images, height, width, len(classify))
    for image in range(images):
        for first in range(0, height, _ROWS_AT_ONCE):
            rows = slice(first, min(first + _ROWS_AT_ONCE, height))
            hidden = functional.linear(fine[image, rows], mix[0], bias)
            for source in sources:
                source.add_to(hidden.view(len(hidden), -1), image, rows)
            scores[image, rows] = functional.linear(hidden.relu_(), classify, classify_bias)
    return scores.permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class _Upsampled:
    """A coarse map, upsampled along its rows already; along columns a few rows at a time."""

    lines: Tensor  # float [n, h, width * D]
    weights: Tensor  # float [height, h]
    reach: tuple[tuple[int, int], ...]  # for each of `height` rows the lines it needs: first, end

    @classmethod
    def of(cls, coarse: Tensor, mix: Tensor, height: int, width: int) -> "_Upsampled":
        """coarse: float [n, h, w, c], mixed by `mix` at its own size."""
        weights, reach = interpolation(coarse.shape[1], height, coarse.device)
        along, _ = interpolation(coarse.shape[2], width, coarse.device)
        lines = torch.matmul(along.to(coarse.dtype), functional.linear(coarse, mix)).flatten(2)
        return cls(lines, weights.to(coarse.dtype), reach)

    def add_to(self, hidden: Tensor, image: int, rows: slice) -> None:
        """Add these rows of the upsampled map to float [rows, width * D]."""
        first, end = self.reach[rows.start][0], self.reach[rows.stop - 1][1]
        hidden.addmm_(self.weights[rows, first:end], self.lines[image, first:end])


@lru_cache(maxsize=64)
def interpolation(source: int, target: int, device: torch.device) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Bilinear upsampling along one axis: float [target, source], and each row's nonzero columns (first, end)."""
    identity = torch.eye(source)[None]
    weights = functional.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T
    used = [row.nonzero().flatten().tolist() for row in weights]
    return weights.contiguous().to(device), tuple((columns[0], columns[-1] + 1) for columns in used)


def upsample_argmax(logits: Tensor, height: int, width: int) -> Tensor:
    """See `map_ops.upsample_argmax`; one enlarged map at a time."""
    best = bilinear(logits[:1], height, width)[0].clone()
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, logits.shape[0]):
        scores = bilinear(logits[k : k + 1], height, width)[0]
        index.masked_fill_(scores > best, k)
        torch.maximum(best, scores, out=best)
    return index


def decide_classes(logits: Tensor, first: tuple[int, int], height: int, width: int, top: int, bottom: int) -> Tensor:
    """See `map_ops.decide_classes`; one enlarged map of some rows at a time. first: the size that comes before."""
    best = index = torch.empty(0)
    for k in range(logits.shape[0]):
        scores = enlarged_rows(bilinear(logits[k : k + 1], *first), top, bottom, height, width)[0]
        if k == 0:
            best, index = scores.clone(), torch.zeros_like(scores, dtype=torch.uint8)
        index.masked_fill_(scores > best, k)
        torch.maximum(best, scores, out=best)
    return index


def unit_normals(normals: Tensor, height: int, width: int) -> Tensor:
    """See `map_ops.unit_normals`."""
    vectors = bilinear(normals, height, width)
    # forty times as fast on a CPU as functional.normalize over the first dimension
    return vectors / lengths(vectors)


def enlarge_sigmoid(logits: Tensor, height: int, width: int) -> Tensor:
    """See `map_ops.enlarge_sigmoid`."""
    return bilinear(logits[None], height, width)[0].sigmoid()


def enlarge_classes(class_map: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """See `map_ops.enlarge_classes`; counted on the small map, times the pixels that each of its pixels becomes."""
    rows, columns = (
        nearest(source, target).to(class_map.device)
        for source, target in zip(class_map.shape, (height, width), strict=True)
    )
    h, w = class_map.shape
    pixels = torch.outer(rows.bincount(minlength=h), columns.bincount(minlength=w))
    counts = torch.zeros(256, dtype=torch.int64, device=class_map.device)
    counts.scatter_add_(0, class_map.flatten().long(), pixels.flatten())
    return class_map[rows][:, columns], counts


def quantise_normals(normals: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
    """See `map_ops.quantise_normals`; band by band."""
    out = normals.new_empty(bottom - top, width, 3, dtype=torch.uint8)
    for begin, end in bands_of_rows(top, bottom, max(width, normals.shape[-1])):
        vectors = unit_vectors(enlarged_rows(normals, begin, end, height, width))
        out[begin - top : end - top] = to_bytes(vectors.mul_(127.5).add_(127.5))
    return out


def saliency_to_gray(probability: Tensor, height: int, width: int, top: int, bottom: int) -> Tensor:
    """See `map_ops.saliency_to_gray`; band by band."""
    out = probability.new_empty(bottom - top, width, dtype=torch.uint8)
    for begin, end in bands_of_rows(top, bottom, max(width, probability.shape[-1])):
        grey = enlarged_rows(probability[None], begin, end, height, width)[0].mul_(255)
        out[begin - top : end - top] = to_bytes(grey)
    return out


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


def bands_of_rows(top: int, bottom: int, width: int) -> Iterator[tuple[int, int]]:
    """Where to cut rows so that a band takes little memory: first row, and the one behind the last.

    width: of the rows, or of the map that they are made of where that is wider
    """
    rows = max(1, _BAND_PIXELS // width)
    for begin in range(top, bottom, rows):
        yield begin, min(begin + rows, bottom)


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
