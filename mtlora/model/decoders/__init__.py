"""Decoders of the paper: four feature maps of one task -> its logits at the finest map's side.

Every decoder takes a list of NCHW maps, finest first, and gives float [B, K, H0, W0].
"""

from torch import nn

from mtlora.model.decoders.aspp import ASPPDecoder
from mtlora.model.decoders.hrnet import HRNetDecoder
from mtlora.model.decoders.segformer import SegFormerDecoder
from mtlora.vocabulary.spec import DecoderKind, PerStage


def build_decoder(kind: DecoderKind, channels: PerStage, outputs: int, segformer_channels: int = 256) -> nn.Module:
    """A fresh decoder.

    channels: channels of the four projected maps, finest first
    outputs:  channels of the logits
    """
    if kind is DecoderKind.HRNET:
        return HRNetDecoder(channels, outputs)
    if kind is DecoderKind.SEGFORMER:
        return SegFormerDecoder(channels, outputs, embed_channels=segformer_channels)
    return ASPPDecoder(channels, outputs)


__all__ = ["ASPPDecoder", "HRNetDecoder", "SegFormerDecoder", "build_decoder"]
