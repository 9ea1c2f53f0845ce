"""The frozen Swin encoder: its tensors as a value, files, import from elsewhere, and the forward pass with streams."""

from mtlora.backbone.encoder import build_swin, encode
from mtlora.backbone.files import load_backbone, save_backbone
from mtlora.backbone.importing import import_backbone
from mtlora.backbone.tensors import Backbone

__all__ = ["Backbone", "build_swin", "encode", "import_backbone", "load_backbone", "save_backbone"]
