"""SegFormer's all-linear decoder: every scale to one width, concatenate, fuse, classify."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.model.decoders.fusion import to_finest
from mtlora.vocabulary.spec import PerStage

DROPOUT = 0.1


class SegFormerDecoder(nn.Module):
    """A linear layer per scale, bilinear to the finest map, conv 4E -> E with BatchNorm and ReLU, dropout, conv."""

    def __init__(self, channels: PerStage, outputs: int, *, embed_channels: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(c, embed_channels) for c in channels)
        self.fuse = nn.Conv2d(len(channels) * embed_channels, embed_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(embed_channels)
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(embed_channels, outputs, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps float [B, c_k, h_k, w_k], finest first -> logits float [B, outputs, h_0, w_0]."""
        embedded = [
            linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for linear, x in zip(self.linear, maps, strict=True)
        ]
        fused = self.fuse(torch.cat(to_finest(embedded)[::-1], dim=1))  # published weights expect coarsest first
        logits: Tensor = self.classify(self.dropout(F.relu(self.norm(fused))))
        return logits
