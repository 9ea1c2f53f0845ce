"""A policy that is the same for all photos opens blocks in its order, whatever the photo and the budget."""

import pytest
import torch

from mtlora.model.mtlora import build_model
from mtlora.model.policy.fixed import FIXED, all_blocks, fixed_policy, is_fixed
from mtlora.vocabulary.errors import SpecError
from testing.factories import adapter_spec, make_backbone
from testing.policies import pooled, published, with_policy

SPEC = adapter_spec()


def test_what_is_closed_first_is_first_in_the_order() -> None:
    """For every budget the open blocks are the last of the order, but for what fits in between."""
    order = all_blocks(SPEC)
    order = [order[i] for i in torch.randperm(len(order), generator=torch.Generator().manual_seed(3)).tolist()]
    model = build_model(make_backbone(), SPEC, policy=FIXED).eval()
    model.load_policy_tensors(fixed_policy(SPEC, order))
    x = torch.randn(3, 3, SPEC.image_size, SPEC.image_size)
    for compute in (0.2, 0.5, 0.8, 0.99):
        gates = model.plan(x, None, compute)
        opened = {block for block in order if bool(gates[block[0]].blocks[0, block[1]])}
        assert all(bool((stage.blocks == stage.blocks[:1]).all()) for stage in gates)
        assert order[0] not in opened
        wanted = order[-1:] if compute < 0.5 else order[len(order) // 2 + 1 :]
        if compute >= 0.5:
            assert set(wanted) & opened
        first_closed = max(order.index(block) for block in set(order) - opened)
        assert all(block in opened for block in order[first_closed + 1 :])


def test_an_order_has_every_block_once() -> None:
    blocks = all_blocks(SPEC)
    for order in (blocks[1:], [*blocks, blocks[0]], [blocks[0], *blocks[:-1]], [(9, 9), *blocks[1:]]):
        with pytest.raises(SpecError, match="every block once"):
            fixed_policy(SPEC, order)


def test_policies_that_look_at_photos_are_not_fixed() -> None:
    tensors = fixed_policy(SPEC, all_blocks(SPEC))
    assert is_fixed(FIXED, tensors)
    for shape in (pooled(), published()):
        assert not is_fixed(shape, with_policy(make_backbone(), SPEC, shape).policy_tensors())
    assert not is_fixed(None, {})
    tensors["policy.blocks.out.weight"][0, 0] = 1
    assert not is_fixed(FIXED, tensors)
