"""Calibration of a policy: for each budget the threshold at which photos spend it on average."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mtlora.data.records import PhotoDataset
from mtlora.evaluation.evaluate import evaluate
from mtlora.images.opening import open_photo
from mtlora.metrics import HEADLINE
from mtlora.model.mtlora import MTLoRAModel
from mtlora.model.policy.plan import Owners, above_threshold, shares
from mtlora.model.policy.pooled import PooledPolicy
from mtlora.ops.preprocess import preprocess
from mtlora.prediction.gated import Gated, Spending, run_gated
from mtlora.vocabulary.compute_costs import multiply_adds
from mtlora.vocabulary.errors import DataError
from mtlora.vocabulary.policy import CalibrationPoint, Policy, check_compute
from mtlora.vocabulary.tasks import Task

GRID = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

_POOLED_STEPS = 40  # halvings of the range of thresholds; a step costs no forward pass
_PUBLISHED_STEPS = 12  # here each costs one of every photo
_FARTHEST = 30.0  # a gate with such a logit is open, or closed, for any purpose

ShareAt = Callable[[float], Tensor]
"""Threshold -> what each photo computes: float64 [photos]."""

Progress = Callable[[int, int], None]


def calibrate(
    model: MTLoRAModel,
    policy: Policy,
    photos: PhotoDataset,
    grid: Sequence[float] = GRID,
    *,
    scored: Sequence[Task] = (),
    progress: Progress = lambda _done, _total: None,
) -> Policy:
    """The policy with a new calibration; labels are needed for scores only.

    grid:   budgets, as shares of the multiply-adds of all blocks
    scored: tasks whose headline scores are found at each budget, on those photos that have labels
    """
    if not len(photos):
        raise DataError(f"{photos.root} has no photos to calibrate on")
    for compute in grid:
        check_compute(compute)
    images = _Images(model, photos)
    points: list[CalibrationPoint] = []
    budgets = sorted(set(grid))
    for done, compute in enumerate(budgets, start=1):
        share_at = images.shares_at(compute)
        point = _point(compute, *_fit(share_at, compute, images.steps))
        scores = _scores(model, policy, point, photos, scored) if scored else {}
        points.append(point.model_copy(update={"scores": scores}))
        progress(done, len(budgets))
    return policy.calibrated(tuple(points))


class _Images:
    """The photos, read anew for each pass: hundreds of them at the model's size would take gigabytes."""

    def __init__(self, model: MTLoRAModel, photos: PhotoDataset) -> None:
        self._model, self._photos = model, photos
        self._pooled = isinstance(model.policy, PooledPolicy)
        self.steps = _POOLED_STEPS if self._pooled else _PUBLISHED_STEPS

    def shares_at(self, compute: float) -> ShareAt:
        return self._pooled_shares(compute) if self._pooled else self._published_shares

    def _inputs(self) -> Iterator[Tensor]:
        for record in self._photos.records:
            yield preprocess(open_photo(record.photo), self._model.spec)[None]

    def _pooled_shares(self, compute: float) -> ShareAt:
        """Logits are computed once; thresholds are then tried on them."""
        spec = self._model.spec
        with torch.inference_mode():
            each = [self._model.policy_logits(x, compute) for x in self._inputs()]
        logits = [torch.cat(stage) for stage in zip(*each, strict=True)]
        apart = logits[0].shape[1] > 1
        owners = Owners(tuple(range(logits[0].shape[1])), spec.task_names, apart)
        policy, costs = self._model.policy, multiply_adds(spec)
        windows = policy is not None and policy.policy.windows

        def at(threshold: float) -> Tensor:
            return shares(above_threshold(logits, owners, threshold, windows=windows), costs, spec.task_names)

        return at

    def _published_shares(self, threshold: float) -> Tensor:
        with torch.inference_mode():
            each = [run_gated(self._model, x, None, 0.5, (threshold, threshold))[1] for x in self._inputs()]
        return torch.cat(each)


def _fit(share_at: ShareAt, compute: float, steps: int) -> tuple[float, Tensor]:
    """The lowest threshold found at which the mean share is within the budget, and the photos' shares there."""
    low, high = -_FARTHEST, _FARTHEST
    found = share_at(low)
    if compute == 1 or float(found.mean()) <= compute:
        return low, found
    found = share_at(high)
    for _ in range(steps):
        middle = (low + high) / 2
        tried = share_at(middle)
        if float(tried.mean()) <= compute:
            high, found = middle, tried
        else:
            low = middle
    return high, found


def _point(compute: float, threshold: float, found: Tensor) -> CalibrationPoint:
    p5, p50, p95 = (float(round(share, 4)) for share in np.percentile(found.numpy(), (5, 50, 95)))
    return CalibrationPoint(compute=compute, threshold=threshold, share_p5=p5, share_p50=p50, share_p95=p95)


def _scores(
    model: MTLoRAModel, policy: Policy, point: CalibrationPoint, photos: PhotoDataset, tasks: Sequence[Task]
) -> dict[str, float]:
    gated = Gated(model, policy.calibrated((point,)), point.compute, Spending.MEAN)
    reports = evaluate(gated, photos, tasks)
    scores = {task.value: report.scores[HEADLINE[task]] for task, report in reports.items()}
    return {name: round(score, 5) for name, score in scores.items() if np.isfinite(score)}
