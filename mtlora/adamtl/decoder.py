"""The published decoder of AdaMTL: residual blocks at four scales, fused at the finest."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.vocabulary.spec import PerStage


class Shortcut(nn.Module):
    """What is added to a residual block that changes the width: a 1x1 convolution and BatchNorm."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, h, w] -> float [B, out, h, w]."""
        projected: Tensor = self.norm(self.conv(x))
        return projected


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and a shortcut."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity() if in_channels == channels else Shortcut(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, in, h, w] -> float [B, out, h, w]."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class FusionDecoder(nn.Module):
    """Two residual blocks a scale, nearest upsampling to the finest, 1x1 convolutions to logits."""

    def __init__(self, in_channels: PerStage, channels: int, outputs: int, *, reinterpret: bool) -> None:
        """Fresh weights.

        in_channels: channels of the four features, finest first
        channels:    width d
        reinterpret: read the memory of tokens [L, F] as [F, h, w], as published
        """
        super().__init__()
        self.reinterpret = reinterpret
        self.scales = nn.ModuleList(
            nn.Sequential(_first_block(width, channels), ResidualBlock(channels, channels)) for width in in_channels
        )
        self.mix = nn.Conv2d(len(in_channels) * channels, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)
        self.classify = nn.Conv2d(channels, outputs, kernel_size=1)

    def forward(self, features: Sequence[Tensor], sides: PerStage) -> Tensor:
        """Logits at the finest scale: float [B, K, sides[0], sides[0]].

        features: four of float [B, side * side, F], tokens row-major, finest first
        """
        maps = [
            F.interpolate(scale(self._as_map(tokens, side)), size=(sides[0], sides[0]), mode="nearest")
            for scale, tokens, side in zip(self.scales, features, sides, strict=True)
        ]
        logits: Tensor = self.classify(F.relu(self.norm(self.mix(torch.cat(maps, dim=1)))))
        return logits

    def _as_map(self, tokens: Tensor, side: int) -> Tensor:
        count, _, width = tokens.shape
        if not self.reinterpret:
            tokens = tokens.transpose(1, 2)
        return tokens.reshape(count, width, side, side)


def _first_block(in_channels: int, channels: int) -> ResidualBlock:
    """The block that changes the width; its shortcut has weights even where the widths are equal."""
    block = ResidualBlock(in_channels, channels)
    block.shortcut = Shortcut(in_channels, channels)
    return block
