"""Methods that are refused by name."""

from types import SimpleNamespace
from typing import Any

import pytest

from mtlora.vocabulary.errors import ConversionError
from mtlora.weights.checkpoint.other_methods import refuse_other_methods


def _tensors(*names: str) -> Any:
    return {name: SimpleNamespace(shape=(1, 4)) for name in names}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("layers.0.blocks.0.attn.logit_scale", "SwinV2"),
        ("base_model.model.layers.0.lora_A.weight", "PEFT"),
        ("layers.0.blocks.0.attn.qkv.lora_shared_A", "DiTASK"),
        ("layers.0.task_prompts.semseg", "TADFormer"),
    ],
)
def test_a_method_is_refused_by_name_in_one_line(key: str, name: str) -> None:
    with pytest.raises(ConversionError, match=name) as caught:
        refuse_other_methods("a.pth", _tensors(key))
    assert "\n" not in str(caught.value)


def test_published_pairs_are_not_refused() -> None:
    refuse_other_methods("a.pth", _tensors("qkv.lora_shared_A", "qkv.lora_shared_B", "qkv.linear.weight"))
