"""DeepLab's decoder: atrous spatial pyramid pooling over the concatenated scales."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlora.model.decoders.fusion import to_finest, upsample
from mtlora.vocabulary.spec import PerStage

WIDTH = 256
DILATIONS = (12, 24, 36)
DROPOUT = 0.5


class ConvNormReLU(nn.Module):
    """Convolution without bias that keeps the size, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, C, H, W] -> float [B, out, H, W]."""
        return F.relu(self.norm(self.conv(x)))


class ASPPDecoder(nn.Module):
    """Branches: 1x1, three dilated 3x3, image pooling; projected, refined by a 3x3 convolution, classified."""

    def __init__(self, channels: PerStage, outputs: int) -> None:
        super().__init__()
        total = sum(channels)
        dilated = [ConvNormReLU(total, WIDTH, kernel_size=3, dilation=dilation) for dilation in DILATIONS]
        self.branches = nn.ModuleList([ConvNormReLU(total, WIDTH), *dilated, ConvNormReLU(total, WIDTH)])
        self.project = ConvNormReLU(len(self.branches) * WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.refine = ConvNormReLU(WIDTH, WIDTH, kernel_size=3)
        self.classify = nn.Conv2d(WIDTH, outputs, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps float [B, c_k, h_k, w_k], finest first -> logits float [B, outputs, h_0, w_0]."""
        x = torch.cat(to_finest(maps), dim=1)
        height, width = x.shape[-2:]
        local = [branch(x) for branch in self.branches[:-1]]
        pooled = upsample(self.branches[-1](x.mean(dim=(2, 3), keepdim=True)), (height, width))
        logits: Tensor = self.classify(self.refine(self.dropout(self.project(torch.cat([*local, pooled], dim=1)))))
        return logits
