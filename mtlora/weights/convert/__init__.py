"""Published MTLoRA checkpoints to a backbone and an adapter set; docs/conversion.md tells the details."""

from mtlora.weights.convert.conversion import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]
