"""Sets with policies to test with: models whose policy has random weights, and random gates."""

import torch
from torch import Tensor

from mtlora.model.gates import Gates, StageGates
from mtlora.model.mtlora import MTLoRAModel, build_model
from mtlora.vocabulary.compute_costs import stage_grids
from mtlora.vocabulary.policy import PolicyKind, PolicyMode, PolicySpec
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import Backbone
from testing.factories import make_model


def pooled(**changes: object) -> PolicySpec:
    """A pooled policy with gates of blocks and windows, few hidden units."""
    fields: dict[str, object] = {"kind": PolicyKind.POOLED, "hidden": (5, 6), "blocks": True, "windows": True}
    return PolicySpec(**(fields | changes))


def published(**changes: object) -> PolicySpec:
    """AdaMTL's selectors of blocks and tokens, few hidden units."""
    fields: dict[str, object] = {"kind": PolicyKind.PUBLISHED, "hidden": (3, 4), "blocks": True, "tokens": True}
    return PolicySpec(**(fields | changes))


def with_policy(backbone: Backbone, spec: AdapterSpec, policy: PolicySpec, seed: int = 1) -> MTLoRAModel:
    """A model in eval mode whose tensors, those of its policy too, are all random: logits around 0."""
    plain = make_model(backbone, spec, seed=seed)
    model = build_model(backbone, spec, policy=policy)
    model.load_adapter_tensors(plain.adapter_tensors())
    model.load_policy_tensors({name: _noise(name, t.shape, seed) for name, t in model.policy_tensors().items()})
    return model.eval()


def _noise(name: str, shape: torch.Size, seed: int) -> Tensor:
    """The same for a tensor's name whatever else there is."""
    generator = torch.Generator().manual_seed(seed * 1000 + sum(name.encode()))
    return torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)


def open_gates(spec: AdapterSpec, images: int, *, windows: bool) -> Gates:
    """Everything is computed."""
    return _gates(spec, images, lambda *shape: torch.ones(shape, dtype=torch.bool), windows)


def random_gates(spec: AdapterSpec, images: int, seed: int, *, windows: bool, share: float = 0.5) -> Gates:
    """Each gate by a coin."""
    generator = torch.Generator().manual_seed(seed)
    return _gates(spec, images, lambda *shape: torch.rand(shape, generator=generator) < share, windows)


def rows(gates: Gates, images: list[int]) -> Gates:
    """The gates of some images."""
    first, second, third, fourth = (
        StageGates(
            stage.blocks[images],
            None if stage.windows is None else stage.windows[images],
            {task: own[images] for task, own in stage.streams.items()},
        )
        for stage in gates
    )
    return first, second, third, fourth


def _gates(spec: AdapterSpec, images: int, make, windows: bool) -> Gates:  # type: ignore[no-untyped-def]
    stages = []
    for depth, grid in zip(spec.backbone.depths, stage_grids(spec), strict=True):
        streams: dict[Task, Tensor] = {task: make(images) for task in spec.task_names[::2]}
        stages.append(StageGates(make(images, depth), make(images, depth, grid.windows) if windows else None, streams))
    first, second, third, fourth = stages
    return first, second, third, fourth


PER_TASK = {"mode": PolicyMode.PER_TASK}
