"""Multiply-adds and sizes of the published configurations, as the published code and its counter give them."""

from math import prod

import pytest
import torch

from mtlora.adamtl.cost import encoder_multiply_adds, multiply_adds, static_multiply_adds
from mtlora.adamtl.model import build_ada_model
from mtlora.adamtl.noise import NoNoise
from mtlora.adamtl.quirks import Quirks
from mtlora.adamtl.shapes import adamtl_shapes
from mtlora.adamtl.spec import AdaSpec, AdaTask
from mtlora.vocabulary.model_shapes import is_statistic
from mtlora.vocabulary.spec import BackboneSpec
from mtlora.vocabulary.tasks import Task
from testing.ada_models import SPEC, random_ada_tensors, random_images

PASCAL = tuple(
    AdaTask(task=task, outputs=outputs)
    for task, outputs in ((Task.SEMSEG, 21), (Task.NORMALS, 3), (Task.SALIENCY, 1), (Task.HUMAN_PARTS, 7))
)
SMALL_DEPTHS, BASE_HEADS = (2, 2, 18, 2), (4, 8, 16, 32)
TINY = AdaSpec(
    backbone=BackboneSpec(name="tiny", embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7),
    image_size=224,
    tasks=PASCAL,
    block_hidden=64,
    token_hidden=64,
    decoder_channels=64,
)
SMALL = TINY.switched(backbone=TINY.backbone.model_copy(update={"depths": SMALL_DEPTHS}), decoder_channels=128)
BASE = SMALL.switched(
    backbone=SMALL.backbone.model_copy(update={"embed_dim": 128, "num_heads": BASE_HEADS, "window_size": 12}),
    image_size=384,
)


@pytest.mark.parametrize(
    ("spec", "all_gmac", "encoder_gmac", "encoder_m", "decoders_m", "block_selectors", "token_selectors"),
    [
        (TINY, 5.80, 4.49, 27.5, 7.25, 675_724, 92_676),
        (SMALL, 12.41, 8.75, 48.8, 18.2, 826_264, 92_676),
        (BASE, 59.40, 47.10, 86.9, 21.8, 2_279_704, 123_396),
    ],
    ids=["tiny", "small", "base"],
)
def test_published_configurations(
    spec: AdaSpec,
    all_gmac: float,
    encoder_gmac: float,
    encoder_m: float,
    decoders_m: float,
    block_selectors: int,
    token_selectors: int,
) -> None:
    """GMAC and millions of parameters, with four tasks of PASCAL-Context."""
    assert static_multiply_adds(spec) / 1e9 == pytest.approx(all_gmac, abs=0.005)
    assert encoder_multiply_adds(spec) / 1e9 == pytest.approx(encoder_gmac, abs=0.005)
    sizes = {name: prod(shape) for name, shape in adamtl_shapes(spec).items() if not is_statistic(name)}

    def total(prefix: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(prefix))

    assert total("backbone.") / 1e6 == pytest.approx(encoder_m, abs=0.05)
    assert total("decoders.") / 1e6 == pytest.approx(decoders_m, abs=0.05)
    assert total("policy.blocks.") == block_selectors
    assert total("policy.tokens.") == token_selectors


@pytest.mark.parametrize("quirks", [Quirks(), Quirks.published()])
def test_a_model_that_runs_in_full(quirks: Quirks) -> None:
    """Published, selectors are free then; else both kinds are counted once for every block and task."""
    spec = SPEC.switched(adaptive=False, quirks=quirks)
    with torch.inference_mode():
        decisions = build_ada_model(spec, random_ada_tensors(spec))(random_images(spec, 1), noise=NoNoise()).decisions
    stages = ((256, 8, 1), (64, 16, 2), (16, 32, 2), (4, 64, 1))  # tokens, width, blocks
    blocks = 2 * sum(tokens * width * 3 + tokens * 3 * depth for tokens, width, depth in stages)
    tokens_cost = 2 * sum(depth * (tokens * width * 4 + tokens * 4) for tokens, width, depth in stages)
    selectors = 0 if quirks.block_selectors_cost_nothing else blocks + tokens_cost
    assert multiply_adds(spec, decisions).tolist() == [static_multiply_adds(spec) + selectors]
