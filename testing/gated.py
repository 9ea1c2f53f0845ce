"""Gates to test with, and the slow way to apply them: everything is computed, then picked by `torch.where`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlora.model.gates import Gates, StageGates
from mtlora.model.lora.linear import TaskOutputs
from mtlora.model.mtlora import MTLoRAModel
from mtlora.model.swin import run_task_block
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task


def window_count(spec: AdapterSpec, stage: int) -> int:
    """Windows of a stage."""
    side, window = (sides(spec.image_size)[stage] for sides in (spec.backbone.stage_sides, spec.backbone.window_sides))
    return (side // window) ** 2


def random_gates(
    spec: AdapterSpec, seed: int, *, blocks: float = 0.7, windows: float | None = 0.6, streams: float = 0.7
) -> Gates:
    """Of one image; each gate is open with this probability. windows None: there are no gates of windows."""
    chance = torch.Generator().manual_seed(seed)

    def draw(share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=chance) < share

    return tuple(  # type: ignore[return-value]
        StageGates(
            draw(blocks, 1, depth),
            None if windows is None else draw(windows, 1, depth, window_count(spec, stage)),
            {task: draw(streams, 1) for task in spec.task_names if draw(0.7, 1)},
        )
        for stage, depth in enumerate(spec.backbone.depths)
    )


def open_gates(spec: AdapterSpec) -> Gates:
    """All open, one by one."""
    return random_gates(spec, 0, blocks=2.0, windows=2.0, streams=2.0)


def gated_logits(model: MTLoRAModel, image: Tensor, tasks: Sequence[Task], gates: Gates) -> dict[Task, Tensor]:
    """Coarse logits of one image, float [K, S/8, S/8] each. image: float [3, S, S]."""
    swin, spec = model.backbone, model.spec
    needed = spec.task_names if spec.mode is SharedMode.ADDITION else tuple(tasks)
    x = swin.patch_embed(image[None])
    features = []
    for index, (stage, own) in enumerate(zip(swin.layers, gates, strict=True)):
        for number, block in enumerate(stage.blocks):
            last = number == len(stage.blocks) - 1
            made = (
                run_task_block(block, x, needed)
                if last or spec.mode is SharedMode.ADDITION
                else TaskOutputs(block(x), {})
            )
            computed = _tokens(block, own, number, x)
            shared = torch.where(computed, made.shared, x)
            closed = {task for task, gate in own.streams.items() if not gate.item()}
            streams = {
                task: x if task in closed else torch.where(computed, stream, x) for task, stream in made.by_task.items()
            }
            x = shared
        merge = swin.layers[index + 1].downsample if index + 1 < len(swin.layers) else torch.nn.Identity()
        x = merge(x)
        features.append({task: merge(streams[task]) if task in streams else x for task in tasks})
    logits = {}
    for task in tasks:
        maps = model.projections[task]([level[task] for level in features])
        logits[task] = model.decoders[task](maps)[0]
    return logits


def _tokens(block: object, gates: StageGates, number: int, x: Tensor) -> Tensor:
    """Which tokens a block computes: bool [1, H, W, 1], by rows of the image."""
    _, height, width, _ = x.shape
    if not gates.blocks[0, number]:
        return torch.zeros(1, height, width, 1, dtype=torch.bool)
    if gates.windows is None:
        return torch.ones(1, height, width, 1, dtype=torch.bool)
    rows, columns = block.window_size  # type: ignore[attr-defined]
    grid = gates.windows[0, number].view(height // rows, width // columns)
    tokens = grid.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return torch.roll(tokens, shifts=block.shift_size, dims=(0, 1))[None, :, :, None]  # type: ignore[attr-defined]
