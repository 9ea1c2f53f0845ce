"""The default decoder: concatenate all scales, mix with one wide 1x1 convolution, classify (HRNet's head)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.model.decoders.fusion import to_finest
from mtlora.vocabulary.spec import PerStage

EXPANSION = 4


class HRNetDecoder(nn.Module):
    """Upsample to the finest map, concatenate (K channels), conv K -> 4K, BatchNorm, ReLU, conv 4K -> outputs."""

    def __init__(self, channels: PerStage, outputs: int) -> None:
        super().__init__()
        width = sum(channels)
        self.mix = nn.Conv2d(width, EXPANSION * width, kernel_size=1)
        self.norm = nn.BatchNorm2d(EXPANSION * width, momentum=0.01)
        self.classify = nn.Conv2d(EXPANSION * width, outputs, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps float [B, c_k, h_k, w_k], finest first -> logits float [B, outputs, h_0, w_0]."""
        logits: Tensor = self.classify(F.relu(self.norm(self.mix(torch.cat(to_finest(maps), dim=1)))))
        return logits
