"""Conversion of published MTLoRA checkpoints to a backbone and an adapter set; see docs/conversion.md."""

from mtlora.weights.convert.conversion import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]
