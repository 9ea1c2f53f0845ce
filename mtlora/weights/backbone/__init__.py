"""The frozen Swin encoder: its tensors as a value, files, import from elsewhere, and the forward pass with streams."""

from mtlora.model.backbone import Backbone
from mtlora.model.swin import build_swin, encode
from mtlora.weights.backbone.files import load_backbone, save_backbone
from mtlora.weights.backbone.importing import import_backbone

__all__ = ["Backbone", "build_swin", "encode", "import_backbone", "load_backbone", "save_backbone"]
