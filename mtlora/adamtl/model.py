"""The AdaMTL model: Swin with selectors, and a decoder for each task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtlora.adamtl.decisions import Decisions
from mtlora.adamtl.decoder import FusionDecoder
from mtlora.adamtl.encoder import encode
from mtlora.adamtl.gating import Gating
from mtlora.adamtl.noise import BatchNoise, Noise, NoNoise
from mtlora.adamtl.selectors import BlockSelector, Selectors, TokenSelector
from mtlora.adamtl.spec import AdaSpec
from mtlora.model.decoders.fusion import upsample
from mtlora.model.swin import build_swin, restore_buffers
from mtlora.vocabulary.errors import MTLoRAError
from mtlora.vocabulary.tasks import Task

_UNSTORED = "num_batches_tracked"  # BatchNorm's counter: no output depends on it


class AdaOutput(NamedTuple):
    """What a forward pass gives.

    logits:    float [B, K, S, S] by task, unnormalised
    features:  what decoders read, float [B, L', C'] of four stages, those of 0..2 after patch merging
    decisions: which blocks and tokens were computed
    """

    logits: dict[Task, Tensor]
    features: list[Tensor]
    decisions: Decisions


class AdaModel(nn.Module):
    """An AdaMTL model with fresh weights. In training gates mask, in evaluation they skip."""

    def __init__(self, spec: AdaSpec) -> None:
        super().__init__()
        self.spec = spec
        backbone = spec.backbone
        self.backbone = build_swin(backbone, spec.image_size, drop_path=spec.drop_path)
        self.policy = Selectors()
        for owner in spec.owners:
            self.policy.add(owner, _block_selectors(spec), _token_selectors(spec))
        self.decoders = nn.ModuleDict(
            {
                task.task.value: FusionDecoder(
                    backbone.feature_dims,
                    spec.decoder_channels,
                    task.outputs,
                    reinterpret=spec.quirks.reinterpreted_features,
                )
                for task in spec.tasks
            }
        )

    def forward(
        self, x: Tensor, tasks: Sequence[Task] | None = None, *, noise: Noise | None = None, task: Task | None = None
    ) -> AdaOutput:
        """Logits of `tasks` (None: all), only their decoders being computed.

        x:     float [B, 3, S, S], normalised with the spec's mean and std
        noise: of the gates; None: drawn in training, else none (drawn, too, with `noise_in_evaluation`)
        task:  whose gates alone are used; None: those of all tasks, united
        """
        size = self.spec.image_size
        if x.ndim != 4 or tuple(x.shape[1:]) != (3, size, size):
            raise MTLoRAError(f"input must be [B, 3, {size}, {size}], got {list(x.shape)}")
        if task is not None:
            self.spec.select((task,))
        wanted = self.spec.select(tuple(tasks) if tasks else None)
        features, decisions = encode(
            self.backbone, x, Gating(self.spec, self.policy, noise or self._usual_noise(), task)
        )
        sides = self.spec.backbone.feature_sides(size)
        logits = {t: upsample(self.decoders[t](features, sides), (size, size)) for t in wanted}
        return AdaOutput(logits, features, decisions)

    def stored_tensors(self) -> dict[str, Tensor]:
        """What a file holds: parameters and BatchNorm statistics, by name, detached."""
        return {name: t.detach() for name, t in self.state_dict().items() if not name.endswith(_UNSTORED)}

    def _usual_noise(self) -> Noise:
        return BatchNoise() if self.training or self.spec.quirks.noise_in_evaluation else NoNoise()


def build_ada_model(spec: AdaSpec, tensors: Mapping[str, Tensor]) -> AdaModel:
    """The model of a spec with these weights (taken over, not copied), in evaluation mode.

    tensors: float32, exactly those of `adamtl_shapes(spec)`
    """
    with torch.device("meta"):  # no time or memory for weights that are replaced at once
        model = AdaModel(spec)
    counters = {name: torch.zeros((), dtype=torch.int64) for name in model.state_dict() if name.endswith(_UNSTORED)}
    model.load_state_dict(counters | dict(tensors), assign=True)
    restore_buffers(model.backbone)
    return model.eval()


def _block_selectors(spec: AdaSpec) -> list[BlockSelector]:
    if not spec.ada_blocks:
        return []
    stages = zip(spec.backbone.stage_dims, spec.stage_tokens, spec.backbone.depths, strict=True)
    return [BlockSelector(width, tokens, blocks, spec.block_hidden) for width, tokens, blocks in stages]


def _token_selectors(spec: AdaSpec) -> list[TokenSelector]:
    if not spec.ada_tokens:
        return []
    return [TokenSelector(width, spec.token_hidden) for width in spec.backbone.stage_dims]
