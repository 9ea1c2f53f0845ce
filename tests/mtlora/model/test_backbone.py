import hashlib

import pytest
import torch

from mtlora.model.backbone import infer_spec
from mtlora.vocabulary.errors import BackboneError
from mtlora.weights.backbone import Backbone
from testing.factories import adapter_spec, backbone_spec, make_backbone


def test_fingerprint_is_what_its_description_says() -> None:
    backbone = make_backbone()
    frozen = sorted(
        n for n in backbone.tensors if n.split(".")[-2] in {"qkv", "proj", "fc1", "fc2"} and "patch" not in n
    )
    total = hashlib.sha256()
    for name in frozen:
        tensor = backbone.tensors[name]
        shape = "x".join(str(size) for size in tensor.shape)
        total.update(f"{name} {shape} {hashlib.sha256(tensor.numpy().astype('<f4').tobytes()).hexdigest()}\n".encode())
    assert backbone.fingerprint(adapter_spec()) == total.hexdigest()


def test_what_a_set_replaces_does_not_count() -> None:
    """Sets over one pretrained Swin bring norms of their own, so other norms are still the same backbone."""
    backbone = make_backbone()
    other = Backbone(backbone.spec, dict(backbone.tensors) | {"patch_embed.norm.bias": torch.ones(8)})
    assert other.fingerprint(adapter_spec()) == backbone.fingerprint(adapter_spec())
    frozen_norms = adapter_spec(train_patch_embed=False)
    assert other.fingerprint(frozen_norms) != backbone.fingerprint(frozen_norms)


def test_patch_merging_counts_when_it_is_frozen() -> None:
    backbone = make_backbone()
    name = "layers.1.downsample.reduction.weight"
    other = Backbone(backbone.spec, dict(backbone.tensors) | {name: backbone.tensors[name] + 1})
    plus = adapter_spec(adapt_reduction=True)
    assert other.fingerprint(adapter_spec()) == backbone.fingerprint(adapter_spec())
    assert other.fingerprint(plus) != backbone.fingerprint(plus)


def test_one_changed_weight_is_another_backbone() -> None:
    backbone = make_backbone()
    tensors = {name: tensor.clone() for name, tensor in backbone.tensors.items()}
    tensors["layers.3.blocks.0.mlp.fc2.weight"][0, 0] += 1e-6
    assert Backbone(backbone.spec, tensors).fingerprint(adapter_spec()) != backbone.fingerprint(adapter_spec())


def test_every_problem_is_listed() -> None:
    tensors = dict(make_backbone().tensors)
    del tensors["patch_embed.proj.bias"]
    tensors["head.fc.weight"] = torch.zeros(3)
    tensors["layers.0.blocks.0.norm1.weight"] = torch.zeros(9)
    tensors["layers.0.blocks.0.norm1.bias"] = torch.full((8,), float("nan"))
    tensors["layers.0.blocks.0.attn.relative_position_bias_table"] = torch.zeros(50, 1)
    with pytest.raises(BackboneError) as caught:
        Backbone(backbone_spec(), tensors)
    assert set(caught.value.problems) == {
        "missing tensor patch_embed.proj.bias",
        "unexpected tensor head.fc.weight",
        "layers.0.blocks.0.norm1.bias holds values that are not finite",
        "layers.0.blocks.0.norm1.weight has shape (9,), expected (8,)",
        "layers.0.blocks.0.attn.relative_position_bias_table has shape (50, 1), "
        "expected [(2w-1)^2, heads] with w <= window size",
    }


def test_shape_is_read_off_the_tensors() -> None:
    backbone = make_backbone()
    assert infer_spec(backbone.tensors, "test-swin") == backbone.spec
    with pytest.raises(BackboneError, match="'x' does not hold a Swin encoder"):
        infer_spec({"a": torch.zeros(1)}, "x")


def test_moving_to_where_it_is_copies_nothing() -> None:
    backbone = make_backbone()
    assert backbone.device.type == "cpu"
    assert backbone.to("cpu") is backbone
