"""The decoders with all folded that can be: projections to logits, most of the work at the coarse scales.

A 1x1 convolution commutes with bilinear upsampling, so the decoders whose first layer is one (hrnet; segformer, whose
two linear layers are one) apply it to each scale at that scale's own size and upsample what comes out of it.
BatchNorm is part of the convolution before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlora.inference.prepare.layers import Linear, mapped
from mtlora.model.decoders.aspp import DILATIONS
from mtlora.model.decoders.fusion import to_finest
from mtlora.ops import ops
from mtlora.ops.torch_ops import interpolation
from mtlora.vocabulary.spec import DecoderKind, PerStage

BATCH_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class MixHead:
    """classify · ReLU(sum over scales of upsampled mix_k · map_k, plus bias).

    mix: float [D, c_0], [D, c_1], [D, c_2 + c_3] (the two coarsest maps have one size); bias: float [D];
    classify: float [K, D]. `mix` lies in memory as `ops.mix_head` likes it best.
    """

    mix: tuple[Tensor, Tensor, Tensor]
    bias: Tensor
    classify: Tensor
    classify_bias: Tensor

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps float NHWC [B, h_k, w_k, c_k], finest first -> logits float [B, K, h_0, w_0]."""
        fine, middle, *coarse = maps
        levels = (fine, middle, torch.cat(coarse, dim=-1))
        return ops.mix_head(levels, self.mix, self.bias, self.classify, self.classify_bias)

    def at_once(self, maps: Sequence[Tensor]) -> Tensor:
        """The same for many images, where this head's tensors have a first dimension of one or of images.

        maps: float [n, h_k, w_k, c_k] -> float [n, K, h_0, w_0]
        """
        fine, middle, *coarse = maps
        items, height, width, _ = fine.shape
        hidden = Linear(self.mix[0], self.bias).product(fine.flatten(1, 2)).view(items, height, -1)
        lines, columns = zip(
            _lines(middle, self.mix[1], height, width),
            _lines(torch.cat(coarse, dim=-1), self.mix[2], height, width),
            strict=True,
        )
        hidden.baddbmm_(torch.cat(columns, dim=1).expand(items, -1, -1), torch.cat(lines, dim=1))
        hidden = hidden.relu_().view(items, height * width, -1)
        scores = Linear(self.classify, self.classify_bias).product(hidden)
        return scores.transpose(1, 2).view(items, -1, height, width)


def _lines(coarse: Tensor, mix: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Mixed and upsampled along its rows, float [n, h, width * D], and the weights along columns, [height, h]."""
    rows, columns = coarse.shape[1:3]
    mixed = Linear(mix, None).product(coarse.flatten(1, 2)).view(len(coarse), rows, columns, -1)
    along, _ = interpolation(columns, width, coarse.device)
    weights, _ = interpolation(rows, height, coarse.device)
    return torch.matmul(along.to(mixed.dtype), mixed).flatten(2), weights.to(mixed.dtype)


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution with the BatchNorm after it. weight: float [out, in, k, k], bias: float [out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor, dilation: int = 1) -> Tensor:
        """ReLU of the convolution, same size. float [B, in, h, w] -> [B, out, h, w]."""
        padding = dilation * (self.weight.shape[-1] // 2)
        return F.relu_(F.conv2d(x, self.weight, self.bias, padding=padding, dilation=dilation))


@dataclass(frozen=True, slots=True)
class ASPPHead:
    """Atrous pyramid pooling; the pooled branch is one vector an image, so it enters the projection as a bias."""

    point: Conv
    dilated: tuple[Conv, Conv, Conv]
    pooled: Conv
    project: Conv
    refine: Conv
    classify: Tensor
    classify_bias: Tensor

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps float NHWC [B, h_k, w_k, c_k], finest first -> logits float [B, K, h_0, w_0]."""
        x = torch.cat(to_finest([m.permute(0, 3, 1, 2) for m in maps]), dim=1)
        branches = [conv(x, rate) for conv, rate in zip(self.dilated, DILATIONS, strict=True)]
        local = torch.cat([self.point(x), *branches], dim=1)
        pooled = self.pooled(x.mean(dim=(2, 3), keepdim=True))
        weight, width = self.project.weight, local.shape[1]
        bias = F.conv2d(pooled, weight[:, width:], self.project.bias)
        mixed = F.relu_(F.conv2d(local, weight[:, :width]) + bias)
        return F.conv2d(self.refine(mixed), self.classify, self.classify_bias)

    def at_once(self, maps: Sequence[Tensor]) -> Tensor:
        """The same for many images; see `MixHead.at_once`. Images of different sets take turns."""
        if len(self.classify) == 1:
            return _of_set(self, 0)(maps)
        each = [_of_set(self, i)([level[i : i + 1] for level in maps]) for i in range(len(maps[0]))]
        return torch.cat(each)


Head = MixHead | ASPPHead


def fold_head(kind: DecoderKind, channels: PerStage, tensors: Mapping[str, Tensor]) -> Head:
    """One task's decoder.

    channels: of the four maps it gets, finest first
    tensors:  float32, named as in the decoder's module
    """
    if kind is DecoderKind.HRNET:
        return _hrnet(tensors, channels)
    return _segformer(tensors) if kind is DecoderKind.SEGFORMER else _aspp(tensors)


def _of_set(head: ASPPHead, index: int) -> ASPPHead:
    """One set's own, of a head whose tensors have a first dimension of sets."""
    return mapped(head, lambda tensor: tensor[index])


def _hrnet(tensors: Mapping[str, Tensor], channels: PerStage) -> MixHead:
    scale, shift = _batch_norm(tensors, "norm")
    mix = tensors["mix.weight"].flatten(1) * scale[:, None]
    fine, middle, coarse = torch.split(mix, [channels[0], channels[1], channels[2] + channels[3]], dim=1)
    bias = torch.addcmul(shift, tensors["mix.bias"], scale)
    return _mix_head((fine, middle, coarse), bias, tensors)


def _segformer(tensors: Mapping[str, Tensor]) -> MixHead:
    scale, shift = _batch_norm(tensors, "norm")
    fuse = tensors["fuse.weight"].flatten(1) * scale[:, None]
    parts = fuse.chunk(4, dim=1)[::-1]  # the published concatenation begins with the coarsest
    mix = [part @ tensors[f"linear.{k}.weight"] for k, part in enumerate(parts)]
    bias = shift + sum(part @ tensors[f"linear.{k}.bias"] for k, part in enumerate(parts))
    return _mix_head((mix[0], mix[1], torch.cat(mix[2:], dim=1)), bias, tensors)


def _aspp(tensors: Mapping[str, Tensor]) -> ASPPHead:
    def conv(name: str) -> Conv:
        scale, shift = _batch_norm(tensors, f"{name}.norm")
        return Conv(tensors[f"{name}.conv.weight"] * scale[:, None, None, None], shift)

    dilated = (conv("branches.1"), conv("branches.2"), conv("branches.3"))
    parts = (conv("branches.0"), dilated, conv("branches.4"), conv("project"), conv("refine"))
    return ASPPHead(*parts, tensors["classify.weight"], tensors["classify.bias"])


def _batch_norm(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as a factor and a summand, float [C] each."""
    factor = tensors[f"{name}.weight"] * torch.rsqrt(tensors[f"{name}.running_var"] + BATCH_NORM_EPS)
    return factor, torch.addcmul(tensors[f"{name}.bias"], tensors[f"{name}.running_mean"], factor, value=-1)


def _mix_head(mix: tuple[Tensor, Tensor, Tensor], bias: Tensor, tensors: Mapping[str, Tensor]) -> MixHead:
    fine, middle, coarse = (_by_columns(part) for part in mix)
    return MixHead((fine, middle, coarse), bias, tensors["classify.weight"].flatten(1), tensors["classify.bias"])


def _by_columns(matrix: Tensor) -> Tensor:
    """The same, [out, in], in memory as [in, out]."""
    return matrix.T.contiguous().T
