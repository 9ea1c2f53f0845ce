"""The planner of a set: from the patch embedding of an image to what is computed of it within a budget."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cachetools import LRUCache
from torch import Tensor

from mtlora.model.gates import Gates
from mtlora.model.policy.fixed import is_fixed
from mtlora.model.policy.plan import Owners, shares, within_budget
from mtlora.model.policy.pooled import PooledPolicy
from mtlora.vocabulary.compute_costs import multiply_adds, stage_grids
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.policy import PolicyKind, PolicySpec, check_compute
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task

KNOWN_PLANS = 64
"""That a policy which is the same for all photos remembers, by tasks and budget."""


class ComputePlan(NamedTuple):
    """What is computed of one image, and how much that is."""

    gates: Gates
    share: float  # multiply-adds of the encoder's blocks, of those of a plain pass for the same tasks; above 0 to 1


class Planner:
    """Decides for images of one set. Pooled policies only: others decide while the encoder runs."""

    def __init__(self, spec: AdapterSpec, policy: PolicySpec, tensors: Mapping[str, Tensor]) -> None:
        """tensors: of the policy, named as in the adapter file, of any float type"""
        if policy.kind is not PolicyKind.POOLED:
            raise SpecError(f"only pooled policies decide beforehand, this one is {policy.kind}")
        self._network = PooledPolicy(spec, policy).eval().requires_grad_(False)
        self._network.load_state_dict({name.removeprefix("policy."): tensor for name, tensor in tensors.items()})
        self._grids, self._costs = stage_grids(spec), multiply_adds(spec)
        self._is_fixed = is_fixed(policy, tensors)
        self._known: LRUCache[tuple[tuple[Task, ...], float], ComputePlan] = LRUCache(KNOWN_PLANS)

    def plan(self, patches: Tensor, tasks: Sequence[Task], compute: float) -> ComputePlan:
        """What is computed of one image.

        patches: float [H, W, C], its patch embedding, row by row
        tasks:   those wanted, of the set's
        compute: the budget, a share of what all blocks cost for these tasks
        """
        check_compute(compute)
        key = tuple(tasks), compute
        if self._is_fixed and (known := self._known.get(key)) is not None:
            return known
        owners = Owners.of(self._network.owners, tasks)
        logits = self._network(patches[None].float().cpu(), compute, self._grids)
        gates = within_budget(logits, self._costs, owners, compute, windows=self._network.policy.windows)
        plan = ComputePlan(gates, float(shares(gates, self._costs, tasks)))
        if self._is_fixed:
            self._known[key] = plan
        return plan
