"""A set that computes only what its policy opens, in the plain model: what the engine's results are tested against."""

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from mtlora.model.decoders.fusion import upsample
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.model.policy.plan import shares
from mtlora.model.policy.pooled import PooledPolicy
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.policy import Policy, check_compute
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file import AdapterSet, check_backbone
from mtlora.weights.backbone import Backbone

Thresholds = tuple[float, float]
"""Of blocks (or windows), and of tokens: a gate is open where its logit is above."""


class Spending(StrEnum):
    """How a budget is kept."""

    EACH = "each"  # by each photo: the best is opened until it is spent; known before the photo runs
    MEAN = "mean"  # on average: gates above a calibrated threshold, so that hard photos get more than easy ones


class Gated:
    """One adapter set at a budget, a `Predictor`. Make it with `build_gated`."""

    def __init__(self, model: MTLoRAModel, policy: Policy, compute: float, spending: Spending) -> None:
        check_compute(compute)
        self.model, self._compute = model, compute
        self._thresholds = policy.threshold(compute) if spending is Spending.MEAN and compute < 1 else None
        self.shares: list[float] = []
        """What each photo so far has computed, as a share of the multiply-adds of all blocks."""

    @property
    def mean_share(self) -> float:
        """Of the photos so far; 1 before the first."""
        return sum(self.shares) / len(self.shares) if self.shares else 1.0

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the set."""
        return self.model.spec

    def coarse_logits(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """float32 [B, 3, S, S] -> float32 [B, K, S/8, S/8] for each task; see `MTLoRAModel.coarse_logits`."""
        with torch.inference_mode():
            logits, spent = run_gated(self.model, x, tasks, self._compute, self._thresholds)
        self.shares += spent.tolist()
        return logits

    def __call__(self, x: Tensor, tasks: Sequence[Task] | None = None) -> dict[Task, Tensor]:
        """Logits at the input's size: float32 [B, K, S, S] for each task."""
        size = (self.spec.image_size, self.spec.image_size)
        return {task: upsample(logits, size) for task, logits in self.coarse_logits(x, tasks).items()}


def run_gated(
    model: MTLoRAModel, x: Tensor, tasks: Sequence[Task] | None, compute: float, thresholds: Thresholds | None
) -> tuple[dict[Task, Tensor], Tensor]:
    """Coarse logits, and what each image has computed: float64 [B].

    compute:    1: all; else what a pooled policy is told
    thresholds: of the gates; None: a pooled policy spends the budget on each image
    """
    wanted = model.spec.select(tuple(tasks) if tasks else None)
    if compute == 1:
        return model.coarse_logits(x, wanted), torch.ones(len(x), dtype=torch.float64)
    costs = multiply_adds(model.spec, model.input_side)
    if isinstance(model.policy, PooledPolicy):
        gates = (
            model.plan(x, wanted, compute)
            if thresholds is None
            else model.plan_above(x, wanted, compute, thresholds[0])
        )
        return model.coarse_logits(x, wanted, gates=gates), shares(gates, costs, wanted)
    if thresholds is None:
        raise MTLoRAError(
            f"a published policy keeps a budget on average only, above calibrated thresholds: spending {Spending.MEAN}"
        )
    decision = model.published_decision(wanted, thresholds)
    logits = model.decided_logits(x, wanted, decision)
    return logits, shares(decision.gates, costs, wanted, decision.open_shares())


def build_plain(backbone: Backbone, adapter: AdapterSet) -> tuple[MTLoRAModel, Policy]:
    """A set with a policy as the plain model, in eval mode; `AdapterMismatchError` if it is of another backbone."""
    check_backbone(adapter.manifest, backbone)
    policy = adapter.manifest.policy
    if policy is None:
        raise MTLoRAError(
            f"adapter set {adapter.manifest.name or adapter.digest[:12]!r} has no policy: it is computed as a whole, "
            "so no compute can be asked for"
        )
    model = build_model(backbone, adapter.manifest.spec, policy=policy.shape)
    model.load_adapter_tensors(adapter.tensors)
    model.load_policy_tensors(adapter.policy_tensors)
    return model.eval().requires_grad_(False), policy


def build_gated(backbone: Backbone, adapter: AdapterSet, compute: float, spending: Spending = Spending.EACH) -> Gated:
    """A set that is ready to predict within a budget.

    compute:  share of the multiply-adds of all encoder blocks, from 0.05 to 1
    spending: whether each photo keeps to it, or their mean; a published policy knows the mean only
    """
    model, policy = build_plain(backbone, adapter)
    return Gated(model, policy, compute, spending)
