"""The policy that is the same for all photos: blocks in the order in which they are left out.

It is a pooled policy whose networks read nothing: all weights are zero and the biases are the order. So whatever runs
pooled policies runs it, within any budget.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.policy import PolicyKind, PolicySpec, policy_shapes
from mtlora.vocabulary.spec import AdapterSpec

Block = tuple[int, int]
"""Stage and index in it."""

FIXED = PolicySpec(kind=PolicyKind.POOLED, hidden=(1, 1))
"""Its shape: gates of blocks, one hidden unit that is never read."""


def all_blocks(spec: AdapterSpec) -> list[Block]:
    """Every block of the encoder, stage by stage."""
    return [(stage, index) for stage, depth in enumerate(spec.backbone.depths) for index in range(depth)]


def fixed_policy(spec: AdapterSpec, order: Sequence[Block]) -> dict[str, Tensor]:
    """Tensors of a `FIXED` policy, float32, named as in an adapter file.

    order: every block once, the first to be left out first; `SpecError` if it is something else
    """
    if sorted(order) != all_blocks(spec):
        raise SpecError(f"an order has every block once: {all_blocks(spec)}, got {list(order)}")
    costs = multiply_adds(spec).blocks
    mean = sum(map(sum, costs)) / len(order)
    tensors = {name: torch.zeros(shape) for name, shape in policy_shapes(spec, FIXED).items()}
    place = {block: number for number, block in enumerate(all_blocks(spec))}
    bias = tensors["policy.blocks.out.bias"]
    for rank, (stage, index) in enumerate(order):  # plans open by logit less the logarithm of the cost
        bias[place[stage, index]] = rank - len(order) / 2 + float(torch.tensor(costs[stage][index] / mean).log())
    return tensors


def is_fixed(policy: PolicySpec | None, tensors: Mapping[str, Any]) -> bool:
    """Whether a policy decides the same for all photos and budgets. tensors: of the policy, by name."""
    if policy is None or policy.kind is not PolicyKind.POOLED:
        return False
    return all(not bool(tensor.any()) for name, tensor in tensors.items() if name.endswith("out.weight"))
