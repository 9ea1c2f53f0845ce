"""A backbone and an adapter set, put together for inference."""

from mtlora.adapter_file import AdapterSet, check_backbone
from mtlora.backbone import Backbone
from mtlora.model import MTLoRAModel, build_model


def build_adapted(backbone: Backbone, adapter: AdapterSet) -> MTLoRAModel:
    """The model of one adapter set, ready to predict: frozen, in eval mode, float32.

    `AdapterMismatchError` if the set was trained on another backbone. Frozen weights are shared with the backbone.
    """
    check_backbone(adapter.manifest, backbone)
    model = build_model(backbone, adapter.manifest.spec)
    model.load_adapter_tensors(adapter.tensors)
    return model.eval().requires_grad_(False)
