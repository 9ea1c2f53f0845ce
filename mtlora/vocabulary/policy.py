"""Policies as values: what decides, image by image, which parts of an encoder are computed. No torch.

A policy belongs to an adapter set but not to its `AdapterSpec`: sets that differ in nothing else keep one shape.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer, model_validator

from mtlora.vocabulary.errors import SpecError
from mtlora.vocabulary.spec import AdapterSpec, Number, PerStage, Spec, Switch, Whole
from mtlora.vocabulary.tasks import Task

MAX_HIDDEN = 8192
MAX_POOLED_HIDDEN = 256
"""A server keeps pooled policies in memory beside what it counts: with this bound less than a megabyte each."""

MAX_CALIBRATION_POINTS = 64
SMALLEST_COMPUTE = 0.05
"""Below this there is hardly an encoder left; no set is trained for it."""

Share = Annotated[Number, Field(ge=0, le=1)]
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class PolicyKind(StrEnum):
    """What a policy looks at, and when it decides."""

    POOLED = "pooled"  # means and deviations of the patch embedding; decides everything before stage 0
    PUBLISHED = "published"  # AdaMTL's selectors of blocks and tokens; decide stage by stage, block by block


class PolicyMode(StrEnum):
    """Whether tasks have a say of their own."""

    SINGLE = "single"
    PER_TASK = "per_task"  # what any requested task opens is open; the last block of a stage also has gates by task


class Residual(StrEnum):
    """What a closed token of an open block adds to the features instead of its MLP."""

    IDENTITY = "identity"  # nothing
    PUBLISHED = "published"  # its normalised value, as AdaMTL's code has it


class PolicySpec(Spec):
    """Everything that decides which tensors a policy holds, and what is computed with them."""

    kind: PolicyKind
    mode: PolicyMode = PolicyMode.SINGLE
    hidden: tuple[Whole, Whole] = Field(
        default=(32, 32), description="hidden units of what decides blocks, and of what decides windows or tokens"
    )
    blocks: Switch = Field(default=True, description="it has gates of whole blocks")
    windows: Switch = Field(default=False, description="it has gates of windows; pooled only")
    tokens: Switch = Field(default=False, description="it has gates of tokens in the MLP; published only")
    residual: Residual = Field(default=Residual.IDENTITY, description="what closed tokens add")

    @model_validator(mode="after")
    def _check(self) -> Self:
        most = MAX_POOLED_HIDDEN if self.kind is PolicyKind.POOLED else MAX_HIDDEN
        if min(self.hidden) < 1 or max(self.hidden) > most:
            raise SpecError(f"hidden units of a {self.kind} policy must be 1 to {most}, got {self.hidden}")
        foreign = "tokens" if self.kind is PolicyKind.POOLED else "windows"
        if getattr(self, foreign):
            raise SpecError(f"a {self.kind} policy has no gates of {foreign}, got {foreign}: true")
        if not (self.blocks or self.windows or self.tokens):
            raise SpecError(f"a policy needs gates, got none of blocks, windows and tokens ({self.kind})")
        if self.residual is Residual.PUBLISHED and not self.tokens:
            raise SpecError("residual 'published' is about closed tokens, and this policy has no gates of tokens")
        return self

    def owners(self, spec: AdapterSpec) -> tuple[Task | None, ...]:
        """Who has logits of their own: the set's tasks in order, or (None,), all of them together."""
        return spec.task_names if self.mode is PolicyMode.PER_TASK else (None,)


class CalibrationPoint(Spec):
    """What one threshold gives on unlabelled photos: a row of a set's calibration."""

    compute: Annotated[Number, Field(ge=SMALLEST_COMPUTE, le=1)]
    threshold: Number = Field(description="a gate is open where its logit is above; of tokens with `token_threshold`")
    token_threshold: Number | None = Field(default=None, description="the tokens' own; published policies only")
    share_p5: Share
    share_p50: Share
    share_p95: Share
    scores: dict[TaskName, Number] = Field(default_factory=dict, description="headline score by task, where known")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.share_p5 <= self.share_p50 <= self.share_p95:
            raise SpecError(
                f"shares must rise from the 5th to the 95th percentile, got "
                f"{self.share_p5}, {self.share_p50}, {self.share_p95}"
            )
        unknown = [name for name in self.scores if name not in set(Task)]
        if unknown:
            raise SpecError(f"scores are of tasks, got {', '.join(unknown)}")
        return self


class Policy(PolicySpec):
    """A policy as a manifest has it: its shape, and what was found when it was calibrated (empty: it was not)."""

    calibration: tuple[CalibrationPoint, ...] = Field(default=(), max_length=MAX_CALIBRATION_POINTS)
    default_compute: Number | None = Field(
        default=None,
        ge=SMALLEST_COMPUTE,
        le=1,
        description="the budget of requests that a server gets without one; pooled policies only; None: 1",
    )

    @model_validator(mode="after")
    def _default_is_kept(self) -> Self:
        least = self.calibration[0].compute if self.calibration else SMALLEST_COMPUTE
        if self.default_compute is not None and self.kind is not PolicyKind.POOLED:
            raise SpecError(
                f"default_compute is of pooled policies, which servers run, got {self.default_compute:g} "
                f"with kind {self.kind}"
            )
        if self.default_compute is not None and self.default_compute < least:
            raise SpecError(f"default_compute must be {least:g} to 1, as calibrated, got {self.default_compute:g}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files whose set says nothing have the same bytes as before a set could say it."""
        written: dict[str, Any] = handler(self)
        if self.default_compute is None:
            del written["default_compute"]
        return written

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        budgets = [point.compute for point in self.calibration]
        if budgets != sorted(set(budgets)):
            raise SpecError(f"calibration must be in rising order of compute, each once, got {budgets}")
        return self

    @property
    def shape(self) -> PolicySpec:
        """Without the calibration."""
        return PolicySpec(**{name: getattr(self, name) for name in PolicySpec.model_fields})

    def calibrated(self, points: tuple[CalibrationPoint, ...]) -> "Policy":
        """The same policy with another calibration."""
        return Policy(**{**dict(self), "calibration": points})

    def usually(self, compute: float | None) -> "Policy":
        """The same policy with another default; None: everything is computed unless a request says otherwise."""
        return Policy(**{**dict(self), "default_compute": compute})

    def threshold(self, compute: float) -> tuple[float, float]:
        """Thresholds of blocks (or windows) and of tokens for a budget, interpolated between calibrated points."""
        points = self.calibration
        if not points:
            raise SpecError("this set's policy has no calibration; `mtlora calibrate` makes one")
        if not points[0].compute <= compute <= points[-1].compute:
            raise SpecError(
                f"the set is calibrated for compute {points[0].compute:g} to {points[-1].compute:g}, got {compute:g}"
            )
        after = next(number for number, point in enumerate(points) if point.compute >= compute)
        high, low = points[after], points[max(after - 1, 0)]
        gap = high.compute - low.compute
        part = (compute - low.compute) / gap if gap else 1.0

        def between(a: float, b: float) -> float:
            return a + (b - a) * part

        return between(low.threshold, high.threshold), between(_of_tokens(low), _of_tokens(high))


def _of_tokens(point: CalibrationPoint) -> float:
    return point.threshold if point.token_threshold is None else point.token_threshold


def check_compute(compute: float) -> None:
    """Raise `SpecError` unless a budget can be asked for."""
    if not SMALLEST_COMPUTE <= compute <= 1:
        raise SpecError(f"compute must be {SMALLEST_COMPUTE:g} to 1, got {compute:g}")


Shapes = dict[str, tuple[int, ...]]


def policy_shapes(spec: AdapterSpec, policy: PolicySpec) -> Shapes:
    """The tensors of a policy in an adapter file, no more and no less: {name: shape}."""
    return _pooled_shapes(spec, policy) if policy.kind is PolicyKind.POOLED else _published_shapes(spec, policy)


def _pooled_shapes(spec: AdapterSpec, policy: PolicySpec) -> Shapes:
    channels, outputs = spec.backbone.embed_dim, len(policy.owners(spec)) * sum(spec.backbone.depths)
    shapes: Shapes = {}
    if policy.blocks:
        shapes |= _mlp("policy.blocks", 2 * channels + 1, policy.hidden[0], outputs)
    if policy.windows:
        shapes |= _mlp("policy.windows", 4 * channels + 1, policy.hidden[1], outputs)
    return shapes


def _published_shapes(spec: AdapterSpec, policy: PolicySpec) -> Shapes:
    sides: PerStage = spec.backbone.stage_sides(spec.image_size)
    shapes: Shapes = {}
    for owner in policy.owners(spec):
        inner = "" if owner is None else f"{owner.value}."
        for stage, (side, dim) in enumerate(zip(sides, spec.backbone.stage_dims, strict=True)):
            if policy.blocks:
                hidden, out = policy.hidden[0], spec.backbone.depths[stage]
                shapes |= _mlp(f"policy.blocks.{inner}{stage}", dim, hidden, out, flat=side * side * hidden)
            if policy.tokens:
                shapes |= _mlp(f"policy.tokens.{inner}{stage}", dim, policy.hidden[1], 1)
    return shapes


def _mlp(name: str, inputs: int, hidden: int, outputs: int, *, flat: int = 0) -> Shapes:
    """Two layers with a ReLU between. flat: inputs of the second, where it reads more than the first one's units."""
    return {
        f"{name}.hidden.weight": (hidden, inputs),
        f"{name}.hidden.bias": (hidden,),
        f"{name}.out.weight": (outputs, flat or hidden),
        f"{name}.out.bias": (outputs,),
    }
