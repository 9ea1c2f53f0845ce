"""The planner of a set: from the patch embedding of an image to what is computed of it within a budget."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mtlora.model.gates import Gates
from mtlora.model.policy.plan import Owners, shares, within_budget
from mtlora.model.policy.pooled import PooledPolicy
from mtlora.vocabulary.compute_costs import multiply_adds, stage_grids
from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.policy import PolicyKind, PolicySpec, check_compute
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task


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

    def plan(self, patches: Tensor, tasks: Sequence[Task], compute: float) -> ComputePlan:
        """What is computed of one image.

        patches: float [H, W, C], its patch embedding, row by row
        tasks:   those wanted, of the set's
        compute: the budget, a share of what all blocks cost for these tasks
        """
        check_compute(compute)
        owners = Owners.of(self._network.owners, tasks)
        logits = self._network(patches[None].float().cpu(), compute, self._grids)
        gates = within_budget(logits, self._costs, owners, compute, windows=self._network.policy.windows)
        return ComputePlan(gates, float(shares(gates, self._costs, tasks)))
