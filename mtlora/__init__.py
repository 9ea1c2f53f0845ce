"""MTLoRA on frozen Swin encoders: many small adapter sets, several dense tasks each, one backbone."""

from mtlora.version import __version__

__all__ = ["__version__"]
