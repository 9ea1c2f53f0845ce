"""The network that `pretrain` trains: a Swin, one decoder per task on the shared features, and distillation heads.

Its tensors `backbone.…`, `projections.…` and `decoders.…` have the names of `MTLoRAModel`: the first become a
backbone file, the others may start an adapter set.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from mtlora.model.decoders import build_decoder
from mtlora.model.decoders.fusion import inside_input
from mtlora.training.pretraining.resolution import set_resolution
from mtlora.vocabulary.spec import AdapterSpec
from mtlora.vocabulary.tasks import Task
from mtlora.weights.backbone import build_swin

DISTILLED_STAGES = (1, 2, 3)  # at 1/8, 1/16 and 1/32, as the teacher's maps


class PretrainOutputs(NamedTuple):
    """logits: float [B, K, h, w] per task, at 1/8 of the input; features: per teacher scale float [B, C, h, w]."""

    logits: dict[Task, Tensor]
    features: list[Tensor]


class FeatureHead(nn.Module):
    """LayerNorm and one linear: a stage's features in the teacher's channels."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """float NHWC [B, h, w, channels] -> float NCHW [B, outputs, h, w]."""
        y: Tensor = self.linear(self.norm(x))
        return y.permute(0, 3, 1, 2)


class PretrainModel(nn.Module):
    """All weights are trained; see the module's docstring."""

    def __init__(self, spec: AdapterSpec, teacher_channels: Sequence[int] = (), *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.image_size = spec.image_size
        self.backbone = build_swin(spec.backbone, spec.image_size, drop_path=drop_path)
        self.projections = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        for task in spec.tasks:
            sizes = zip(spec.backbone.feature_dims, spec.decoder_channels, strict=True)
            self.projections[task.task] = nn.ModuleList(nn.Conv2d(i, o, kernel_size=1, bias=False) for i, o in sizes)
            self.decoders[task.task] = build_decoder(
                task.decoder, spec.decoder_channels, task.outputs, spec.segformer_channels
            )
        dims = (spec.backbone.stage_dims[stage] for stage in DISTILLED_STAGES)
        self.features = nn.ModuleList(FeatureHead(i, o) for i, o in zip(dims, teacher_channels, strict=False))

    def set_image_size(self, image_size: int) -> None:
        """Take photos of another side from now on; no tensor changes."""
        set_resolution(self.backbone, image_size)
        self.image_size = image_size

    def forward(self, x: Tensor) -> PretrainOutputs:
        """x: float [B, 3, S, S], normalised, S as set; see `PretrainOutputs`."""
        x = self.backbone.patch_embed(x)
        merged: list[Tensor] = []
        stages: list[Tensor] = []
        for number, stage in enumerate(self.backbone.layers):
            x = stage.downsample(x)
            if number:
                merged.append(x)
            x = stage.blocks(x)
            stages.append(x)
        maps = [
            inside_input(f.permute(0, 3, 1, 2), level, self.image_size) for level, f in enumerate([*merged, stages[-1]])
        ]
        logits = {Task(name): self._decode(name, maps) for name in self.decoders}
        features = [head(stages[s]) for head, s in zip(self.features, DISTILLED_STAGES, strict=False)]
        return PretrainOutputs(logits, features)

    def _decode(self, task: str, maps: Sequence[Tensor]) -> Tensor:
        projections = cast(nn.ModuleList, self.projections[task])
        logits: Tensor = self.decoders[task]([project(f) for project, f in zip(projections, maps, strict=True)])
        return logits
