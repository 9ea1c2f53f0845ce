"""MTLoRA on a frozen Swin: encoder with task streams, per-task projections, decoders (paper, sections 3.2 to 3.4)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlora.model.backbone import Backbone
from mtlora.model.decoders import build_decoder
from mtlora.model.decoders.fusion import inside_input, upsample
from mtlora.model.gates import Gates
from mtlora.model.gating import Decided, Decision, check_gates
from mtlora.model.lora.inject import inject
from mtlora.model.lora.linear import LowRankPair
from mtlora.model.policy.plan import Owners, above_threshold, within_budget
from mtlora.model.policy.pooled import PolicyLogits, PooledPolicy
from mtlora.model.policy.published import PublishedDecision, PublishedPolicy
from mtlora.model.policy.soft import PooledTraining
from mtlora.model.swin import build_swin, encode, fitted_table, restore_buffers
from mtlora.vocabulary.adapted_linears import adapted_linears
from mtlora.vocabulary.compute_costs import ComputeCosts, mlp_parts, multiply_adds, stage_grids
from mtlora.vocabulary.errors import BackboneError, MTLoRAError
from mtlora.vocabulary.policy import PolicyKind, PolicySpec, check_compute
from mtlora.vocabulary.spec import AdapterSpec, BackboneSpec, PerStage
from mtlora.vocabulary.tasks import Task
from mtlora.vocabulary.trainable import ParameterCounts, is_lora, is_policy, is_trainable

UNSTORED = "num_batches_tracked"  # BatchNorm's counter: no output depends on it


class TaskProjections(nn.ModuleList):
    """One 1x1 convolution without bias per scale: what a task takes from the stage features."""

    def __init__(self, in_channels: PerStage, out_channels: PerStage) -> None:
        sizes = zip(in_channels, out_channels, strict=True)
        super().__init__(nn.Conv2d(i, o, kernel_size=1, bias=False) for i, o in sizes)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Four features float NHWC [B, h_k, w_k, in_k] -> four maps float NCHW [B, out_k, h_k, w_k]."""
        return [project(x.permute(0, 3, 1, 2)) for project, x in zip(self, features, strict=True)]


class MTLoRAModel(nn.Module):
    """The adapted model. Build it with `build_model`; frozen tensors are shared with the backbone, not copied."""

    policy: PooledPolicy | PublishedPolicy | None

    def __init__(self, spec: AdapterSpec, *, drop_path: float = 0.0, policy: PolicySpec | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.input_side = spec.image_size  # training may take another
        self.recompute = False  # activation checkpointing
        with torch.device("meta"):  # weights come from a backbone: no time or memory for fresh ones
            self.backbone = build_swin(spec.backbone, spec.image_size, drop_path=drop_path)
            inject(self.backbone, spec)
        self.projections = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        for task in spec.tasks:
            self.projections[task.task] = TaskProjections(spec.backbone.feature_dims, spec.decoder_channels)
            self.decoders[task.task] = build_decoder(
                task.decoder, spec.decoder_channels, task.outputs, spec.segformer_channels
            )
        self.policy = None if policy is None else build_policy(spec, policy)

    def forward(
        self, x: Tensor, tasks: Sequence[Task] | None = None, *, gates: Gates | None = None, compute: float = 1.0
    ) -> dict[Task, Tensor]:
        """Logits of `tasks` (None: all of the set), only those being computed.

        x:       float [B, 3, S, S], normalised with the spec's mean and std
        gates:   what of the encoder is computed; None: all, or what the policy decides
        compute: share of the encoder's blocks that the policy may spend on each image; 1: it is not asked
        returns: float [B, K, S, S] for each task
        """
        size = self.input_side
        coarse = self.coarse_logits(x, tasks, gates=gates, compute=compute)
        return {task: upsample(logits, (size, size)) for task, logits in coarse.items()}

    def coarse_logits(
        self, x: Tensor, tasks: Sequence[Task] | None = None, *, gates: Gates | None = None, compute: float = 1.0
    ) -> dict[Task, Tensor]:
        """Logits before the last upsampling: float [B, K, S/8, S/8] for each task; see `forward`."""
        wanted = self.spec.select(tuple(tasks) if tasks else None)
        x = self._input(x)
        if gates is None and compute != 1:
            gates = self.plan(x, wanted, compute)
        if gates is None:
            return self.decided_logits(x, wanted, None)
        check_gates(gates, len(x), self.spec.backbone.depths, stage_grids(self.spec, self.input_side))
        return self.decided_logits(x, wanted, Decided(gates))

    def plan(
        self, x: Tensor, tasks: Sequence[Task] | None = None, compute: float = 1.0, costs: ComputeCosts | None = None
    ) -> Gates:
        """What a pooled policy opens of each image within a budget; no block is run for it.

        An image's plan does not depend on the others': everything that leads to it is computed image by image.
        x:       float [B, 3, S, S], normalised
        compute: the budget, as a share of what all blocks cost for these tasks
        costs:   of the blocks; None: multiply-adds
        """
        check_compute(compute)
        owners = self._owners(tasks)
        costs = multiply_adds(self.spec, self.input_side) if costs is None else costs.checked(self.spec)
        policy, logits = self._policy(), self.policy_logits(x, compute)
        return within_budget(logits, costs, owners, compute, windows=policy.policy.windows)

    def plan_above(self, x: Tensor, tasks: Sequence[Task] | None, compute: float, threshold: float) -> Gates:
        """What a pooled policy opens where a gate is open above a threshold of its logit; see `plan`."""
        policy, logits = self._policy(), self.policy_logits(x, compute)
        return above_threshold(logits, self._owners(tasks), threshold, windows=policy.policy.windows)

    def policy_logits(self, x: Tensor, compute: float) -> PolicyLogits:
        """A pooled policy's logits for a budget, each image by itself; see `PooledPolicy`."""
        policy, grids = self._policy(), stage_grids(self.spec, self.input_side)
        embed = self.backbone.patch_embed
        each = [policy(embed(image[None]), compute, grids) for image in self._input(x)]
        return [torch.cat(stage) for stage in zip(*each, strict=True)]

    def decided_logits(self, x: Tensor, tasks: tuple[Task, ...], decision: Decision | None) -> dict[Task, Tensor]:
        """As `coarse_logits`, of tasks in the set's order, with gates that are decided while the encoder runs."""
        size = self.input_side
        wanted = tasks
        stages = encode(
            self.backbone,
            self._input(x),
            wanted,
            mode=self.spec.mode,
            all_tasks=self.spec.task_names,
            recompute=self.recompute,
            decision=decision,
        )
        logits: dict[Task, Tensor] = {}
        for task in wanted:
            maps = self.projections[task]([stage.by_task.get(task, stage.shared) for stage in stages])
            logits[task] = self.decoders[task]([inside_input(m, level, size) for level, m in enumerate(maps)])
        return logits

    def _input(self, x: Tensor) -> Tensor:
        size = self.input_side
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise MTLoRAError(f"input must be [B, 3, {size}, {size}], got {list(x.shape)}")
        return x.to(self.backbone.patch_embed.proj.weight.device)

    def _policy(self) -> PooledPolicy:
        policy = self._any_policy()
        if not isinstance(policy, PooledPolicy):
            raise MTLoRAError("a published policy decides stage by stage, above calibrated thresholds: it has no plan")
        return policy

    def _any_policy(self) -> PooledPolicy | PublishedPolicy:
        if self.policy is None:
            raise MTLoRAError("this adapter set has no policy, so it is computed as a whole: compute must be 1")
        return self.policy

    def training_decision(self, compute: float) -> PooledTraining | PublishedDecision:
        """What the policy decides in training for all tasks, with gradients. compute: what a pooled one is told."""
        policy = self._any_policy()
        if isinstance(policy, PooledPolicy):
            return PooledTraining(policy, self.spec.task_names, compute, stage_grids(self.spec, self.input_side))
        return self._published(policy, self._owners(None), None)

    def published_decision(self, tasks: Sequence[Task] | None, thresholds: tuple[float, float]) -> PublishedDecision:
        """What published selectors decide while the encoder runs. thresholds: of blocks and of tokens."""
        policy = self._any_policy()
        if isinstance(policy, PooledPolicy):
            raise MTLoRAError("a pooled policy decides before stage 0: ask for its plan")
        return self._published(policy, self._owners(tasks), thresholds)

    def _published(
        self, policy: PublishedPolicy, owners: Owners, thresholds: tuple[float, float] | None
    ) -> PublishedDecision:
        return PublishedDecision(policy, owners, thresholds, mlp_parts(self.spec, self.input_side))

    def _owners(self, tasks: Sequence[Task] | None) -> Owners:
        wanted = self.spec.select(tuple(tasks) if tasks else None)
        return Owners.of(self._any_policy().owners, wanted)

    def policy_tensors(self) -> dict[str, Tensor]:
        """What an adapter file holds of the policy, by name, detached; empty where there is none."""
        return {n: t.detach() for n, t in self.state_dict().items() if is_policy(n)}

    def adapter_tensors(self) -> dict[str, Tensor]:
        """What an adapter file holds beside a policy: trained parameters, BatchNorm statistics, by name, detached."""
        return {
            name: tensor.detach()
            for name, tensor in self.state_dict().items()
            if is_trainable(name, self.spec) and not name.endswith(UNSTORED) and not is_policy(name)
        }

    def load_adapter_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over an adapter set's tensors (copied; shapes and names must be exactly those of `adapter_tensors`)."""
        self._load(self.adapter_tensors(), tensors)

    def load_policy_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a policy's tensors (copied; shapes and names must be exactly those of `policy_tensors`)."""
        self._load(self.policy_tensors(), tensors)

    @staticmethod
    def _load(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        if own.keys() != tensors.keys():
            missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
            raise MTLoRAError(f"adapter tensors do not fit the model: missing {missing}, unexpected {unknown}")
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != tensors[name].shape:
                    raise MTLoRAError(f"{name} has shape {list(tensors[name].shape)}, expected {list(tensor.shape)}")
                tensor.copy_(tensors[name])


def build_policy(spec: AdapterSpec, policy: PolicySpec) -> PooledPolicy | PublishedPolicy:
    """A fresh policy whose gates are all open."""
    return PooledPolicy(spec, policy) if policy.kind is PolicyKind.POOLED else PublishedPolicy(spec, policy)


def build_model(
    backbone: Backbone, spec: AdapterSpec, *, drop_path: float = 0.0, policy: PolicySpec | None = None
) -> MTLoRAModel:
    """A fresh adapter set on a frozen backbone; `requires_grad` is set on exactly what is trained.

    Frozen tensors are the backbone's own memory; trained ones (norms, …) start as copies of the backbone's.
    """
    if _shape(backbone.spec) != _shape(spec.backbone):
        raise BackboneError(
            f"the spec wants {_shape(spec.backbone)}, backbone {backbone.spec.name!r} is {_shape(backbone.spec)}"
        )
    model = MTLoRAModel(spec, drop_path=drop_path, policy=policy)
    state: dict[str, Tensor] = {}
    for name, parameter in model.backbone.named_parameters():
        full_name = f"backbone.{name}"
        if is_lora(full_name):
            state[name] = torch.empty(parameter.shape, device=backbone.device)
            continue
        tensor = _fitted(backbone.tensors[name], parameter, name)
        state[name] = tensor.clone() if is_trainable(full_name, spec) else tensor
    model.backbone.load_state_dict(state, assign=True)
    restore_buffers(model.backbone)
    _initialise_pairs(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trainable(name, spec))
    return model.to(backbone.device)  # what is there already, the frozen tensors above all, is not copied


def parameter_counts(model: MTLoRAModel) -> ParameterCounts:
    """Counts of a built model without its policy; see `ParameterCounts`."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if not is_policy(name)}
    return ParameterCounts.of(sizes, model.spec)


def _shape(spec: BackboneSpec) -> str:
    return (
        f"width {spec.embed_dim}, depths {spec.depths}, heads {spec.num_heads}, "
        f"window {spec.window_size}, mlp ratio {spec.mlp_ratio:g}"
    )


def _fitted(tensor: Tensor, parameter: nn.Parameter, name: str) -> Tensor:
    """A backbone tensor in the shape the model wants: only position bias tables may differ, by their window."""
    if tensor.shape == parameter.shape:
        return tensor
    if not name.endswith("relative_position_bias_table"):
        raise BackboneError(f"{name} has shape {list(tensor.shape)}, expected {list(parameter.shape)}")
    return fitted_table(tensor, (math.isqrt(parameter.shape[0]) + 1) // 2)


def _initialise_pairs(model: MTLoRAModel) -> None:
    for module in model.backbone.modules():
        if isinstance(module, LowRankPair):
            module.reset_parameters()
    parameters = dict(model.named_parameters())
    for linear in adapted_linears(model.spec):
        for pair in linear.pairs:
            if pair.learned_scaling:
                nn.init.constant_(parameters[f"{pair.name}.scaling"], pair.scaling)
        if linear.norm:
            nn.init.ones_(parameters[f"{linear.prefix}.norm.weight"])
            nn.init.zeros_(parameters[f"{linear.prefix}.norm.bias"])
