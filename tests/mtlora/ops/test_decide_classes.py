"""Class maps at the photo's size against K maps of scores at that size, with every instruction set there is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtlora.maps.postprocessing import class_map
from mtlora.ops import map_ops, torch_ops
from mtlora.vocabulary.errors import MTLoRAError

pytestmark = pytest.mark.usefixtures("instruction_set")

sides = (
    {name: st.integers(1, 12) for name in ("h", "w")}
    | {name: st.integers(1, 60) for name in ("rows", "columns")}
    | {name: st.integers(1, 150) for name in ("height", "width")}
)


def enlarged(scores: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(scores[None], (height, width), mode="bilinear", align_corners=False)[0]


@given(seed=st.integers(0, 2**31), classes=st.sampled_from([1, 2, 7, 21, 40, 255]), **sides)
def test_the_class_chosen_is_the_best_but_for_rounding(
    seed: int, classes: int, rows: int, columns: int, h: int, w: int, height: int, width: int
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(classes, h, w)
    decided = map_ops.upsample_argmax(logits, rows, columns)
    result, counts = map_ops.decide_classes(logits, decided, height, width)
    scores = enlarged(enlarged(logits.double(), rows, columns), height, width)
    chosen = scores.gather(0, result.long()[None])[0]
    assert float((scores.max(0).values - chosen).max()) <= 1e-4
    assert counts.tolist() == result.flatten().bincount(minlength=256).tolist()


@pytest.mark.parametrize(("height", "width"), [(960, 1280), (500, 1700), (100, 600)])
def test_nearly_every_pixel_is_as_the_long_way_has_it(height: int, width: int) -> None:
    torch.manual_seed(0)
    logits = enlarged(torch.randn(21, 9, 9) * 3, 56, 56) + torch.randn(21, 56, 56) * 0.2
    long_way = class_map(enlarged(enlarged(logits, 448, 448), height, width))
    decided = map_ops.upsample_argmax(logits, 448, 448)
    result, _ = map_ops.decide_classes(logits, decided, height, width)
    assert float((result == long_way).float().mean()) >= 0.9999
    assert float((map_ops.enlarge_classes(decided, height, width)[0] == long_way).float().mean()) < 0.999


def test_rows_are_those_of_the_whole_and_written_where_asked() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 14, 14)
    decided = map_ops.upsample_argmax(logits, 112, 112)
    whole, counts = map_ops.decide_classes(logits, decided, 301, 203)
    room = torch.empty(301, 203, dtype=torch.uint8)
    parts = [map_ops.decide_classes(logits, decided, 301, 203, a, b, room[a:b])[1] for a, b in ((0, 150), (150, 301))]
    assert torch.equal(room, whole)
    assert torch.equal(sum(parts, torch.zeros(256, dtype=torch.int64)), counts)
    assert float((torch_ops.decide_classes(logits, (112, 112), 301, 203, 0, 301) == whole).float().mean()) >= 0.9999


def test_what_does_not_fit_is_refused() -> None:
    logits, decided = torch.randn(3, 4, 4), torch.zeros(8, 8, dtype=torch.uint8)
    for wrong in ({"decided": decided[None]}, {"out": torch.empty(9, 9, dtype=torch.uint8)}, {"top": 5, "bottom": 5}):
        with pytest.raises(MTLoRAError):
            map_ops.decide_classes(**{"logits": logits, "decided": decided, "height": 10, "width": 10, **wrong})  # type: ignore[arg-type]
