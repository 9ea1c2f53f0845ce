"""timm's Swin as an encoder, and its forward pass with one stream per task (paper, sections 3.2 and 3.3).

timm's modules hold the weights and compute the ordinary blocks. The last block of a stage also carries the task
streams; its forward pass is written out here. Features are NHWC throughout.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import resize_rel_pos_bias_table
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    get_relative_position_index,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtlora.model.gating import Decision, TokenGate, closed_everywhere, gated, left_out_without_tokens, unchanged
from mtlora.model.lora.linear import TaskLoRALinear, TaskOutputs
from mtlora.vocabulary.spec import BackboneSpec, SharedMode
from mtlora.vocabulary.tasks import Task


def build_swin(spec: BackboneSpec, image_size: int, *, drop_path: float = 0.0, fixed_windows: bool = False) -> Any:
    """timm `SwinTransformer` of this shape, freshly initialised, without final norm and classifier.

    drop_path:     stochastic depth rate of the last block, rising linearly from 0
    fixed_windows: keep the window size whatever the input side, padding what windows do not tile; for training at
                   several resolutions with one set of position bias tables
    """
    swin = SwinTransformer(
        img_size=image_size,
        embed_dim=spec.embed_dim,
        depths=spec.depths,
        num_heads=spec.num_heads,
        window_size=spec.window_size,
        mlp_ratio=spec.mlp_ratio,
        drop_path_rate=drop_path,
        num_classes=0,
        always_partition=fixed_windows,
        strict_img_size=not fixed_windows,
    )
    swin.norm = nn.Identity()
    swin.head = nn.Identity()
    return swin


def fitted_table(table: Tensor, window: int) -> Tensor:
    """A position bias table for windows of another side: float [(2w-1)^2, heads], resized as timm does it."""
    rows = (2 * window - 1) ** 2
    if table.shape[0] == rows:
        return table
    resized: Tensor = resize_rel_pos_bias_table(table, (window, window), (rows, table.shape[1]))
    return resized


def restore_buffers(swin: Any) -> None:
    """Recompute position indices and attention masks of an encoder that was built on the meta device."""
    for stage in swin.layers:
        for block in stage.blocks:
            index = get_relative_position_index(*block.attn.window_size)
            block.attn.register_buffer("relative_position_index", index, persistent=False)
            block.init_non_persistent_buffers()


def encode(
    swin: Any,
    x: Tensor,
    tasks: Sequence[Task],
    *,
    mode: SharedMode,
    all_tasks: Sequence[Task],
    recompute: bool = False,
    decision: Decision | None = None,
) -> list[TaskOutputs]:
    """Features of the four stages, after the patch merging that follows stages 0..2.

    x:       float [B, 3, S, S], normalised
    tasks:   streams wanted
    recompute: keep no activations inside blocks; the backward pass computes them again (activation checkpointing)
    decision: what of the blocks is computed; None: all
    returns: four `TaskOutputs`, float NHWC [B, S/8, S/8, 2C], [.., S/16, .., 4C], [.., S/32, .., 8C] twice;
             `by_task` is empty where a stage has no task pairs: every task then takes `shared`
    """
    needed = tuple(all_tasks) if mode is SharedMode.ADDITION else tuple(tasks)
    run = _recomputed if recompute else _plainly
    x = swin.patch_embed(x)
    features: list[TaskOutputs] = []
    for index, stage in enumerate(swin.layers):
        gates = None if decision is None else decision.stage(index, x)
        streams: dict[Task, Tensor] = {}
        for number, block in enumerate(stage.blocks):
            # in mode `addition` a block's task pairs shape its shared output; otherwise they are only read in the last
            wanted = needed if number + 1 == len(stage.blocks) or mode is SharedMode.ADDITION else ()
            if closed_everywhere(gates, number):
                x, streams = unchanged(x, wanted if gives_streams(block) else ())
                continue
            tokens = None if decision is None else decision.tokens(index, number, x)
            here = left_out_without_tokens(gates, number, tokens)
            x, streams = gated(here, number, block, x, partial(run, run_task_block, block, x, wanted, tokens))
        merge = swin.layers[index + 1].downsample if index + 1 < len(swin.layers) else nn.Identity()
        x = merge(x)
        features.append(TaskOutputs(x, {task: merge(streams[task]) for task in tasks if task in streams}))
    return features


def _plainly(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    return checkpoint(function, *arguments, use_reentrant=False)


def gives_streams(block: SwinTransformerBlock) -> bool:
    """Whether tasks get features of their own from a block."""
    return any(isinstance(linear, TaskLoRALinear) for linear in (block.attn.proj, block.mlp.fc2))


def run_task_block(
    block: SwinTransformerBlock, x: Tensor, tasks: Sequence[Task], tokens: TokenGate | None = None
) -> TaskOutputs:
    """One Swin block with a stream per task; streams start in the block's own attention projection.

    x:      float [B, H, W, C]; windows must tile H and W
    tasks:  none: the block runs as timm has it
    tokens: which of them go through the MLP
    """
    proj, fc1, fc2 = block.attn.proj, block.mlp.fc1, block.mlp.fc2
    if tokens is None and (not tasks or not gives_streams(block)):
        return TaskOutputs(block(x), {})
    if not gives_streams(block):
        tasks = ()
    attended = _attention(block, x)
    y = _run(proj, attended, {}, tasks)
    z = x + block.drop_path1(_from_windows(block, y.shared, x))
    z_by_task = {task: x + block.drop_path1(_from_windows(block, y_t, x)) for task, y_t in y.by_task.items()}

    normed, normed_by_task = block.norm2(z), {task: block.norm2(z_t) for task, z_t in z_by_task.items()}
    h = _run(fc1, normed, normed_by_task, tasks)
    act = block.mlp.act
    out = _run(fc2, act(h.shared), {task: act(h_t) for task, h_t in h.by_task.items()}, tasks, spread=True)
    if tokens is not None:
        by_task_out = {task: tokens(normed_by_task.get(task, normed), out_t) for task, out_t in out.by_task.items()}
        out = TaskOutputs(tokens(normed, out.shared), by_task_out)
    by_task = {}
    for task, out_t in out.by_task.items():
        # without a stream from the projection the published model has no residual for the task either
        by_task[task] = z_by_task[task] + block.drop_path2(out_t) if task in z_by_task else block.drop_path2(out_t)
    return TaskOutputs(z + block.drop_path2(out.shared), by_task)


def attention_part(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    """The first half of a plain block: x + attention(norm1(x)), float [B, H, W, C]; windows must tile H and W."""
    attended: Tensor = x + block.drop_path1(_from_windows(block, block.attn.proj(_attention(block, x)), x))
    return attended


def _run(
    linear: nn.Module, x: Tensor, streams: Mapping[Task, Tensor], tasks: Sequence[Task], *, spread: bool = False
) -> TaskOutputs:
    """A linear with or without task pairs; without, the tasks get its shared output if `spread`, else no stream."""
    if isinstance(linear, TaskLoRALinear):
        return linear.forward_tasks(x, streams, tasks)
    y: Tensor = linear(x)
    return TaskOutputs(y, dict.fromkeys(tasks, y) if spread else {})


def _attention(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    """Shared attention before its projection: float [B, H, W, C] -> [B * windows, tokens, C]."""
    attn = block.attn
    x = block.norm1(x)
    if any(block.shift_size):
        x = torch.roll(x, shifts=(-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    windows = window_partition(x, block.window_size).flatten(1, 2)
    count, tokens, _ = windows.shape
    q, k, v = attn.qkv(windows).view(count, tokens, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q * attn.scale) @ k.transpose(-2, -1)
    index = attn.relative_position_index.flatten()
    scores = scores + attn.relative_position_bias_table[index].view(tokens, tokens, -1).permute(2, 0, 1)
    if block.attn_mask is not None:
        by_window = scores.view(-1, block.attn_mask.shape[0], attn.num_heads, tokens, tokens)
        scores = (by_window + block.attn_mask[:, None]).flatten(0, 1)
    attended: Tensor = attn.attn_drop(scores.softmax(dim=-1)) @ v
    return attended.transpose(1, 2).flatten(2)


def _from_windows(block: SwinTransformerBlock, windows: Tensor, like: Tensor) -> Tensor:
    """Undo windows and cyclic shift: float [B * windows, tokens, C] -> [B, H, W, C]."""
    _, height, width, _ = like.shape
    x: Tensor = window_reverse(windows.view(-1, *block.window_size, like.shape[-1]), block.window_size, height, width)
    return torch.roll(x, shifts=block.shift_size, dims=(1, 2)) if any(block.shift_size) else x
