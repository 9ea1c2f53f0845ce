"""One Swin block, with a stream for each task where its linears have task pairs (paper, section 3.3)."""

from typing import NamedTuple

import torch
from torch import Tensor

from mtlora.inference.forward import batched_ops
from mtlora.inference.prepare.layers import Block, Linear, TaskLinear
from mtlora.ops import ops


class Features(NamedTuple):
    """What a block gives: the shared path, and a stream for each task where it has task pairs."""

    shared: Tensor  # float [n, M, C]
    streams: Tensor | None  # float [n, T, M, C]


class Terms(NamedTuple):
    """Outputs of a linear for all tasks, not added up yet: base + b_t u_t."""

    base: Tensor  # float [n, M, out]
    u: Tensor  # float [n, T, M, R]
    b: Tensor  # float [1 or n, T, out, R]


def run_block(block: Block, x: Tensor, position: Tensor, heads: int) -> Features:
    """All of a block's layers.

    x:        float [n, M, C], whole windows of each item one after the other
    position: float [nW, heads, N, N], see `batched_ops.window_attention`
    """
    attended = _attention(block, x, position, heads)
    if block.gives_streams:
        return _run_with_streams(block, x, attended)
    z = x + _plain(block.proj)(attended)
    hidden = ops.gelu_(_plain(block.fc1)(block.norm2(z)))
    return Features(z.add_(_plain(block.fc2)(hidden)), None)


def _attention(block: Block, x: Tensor, position: Tensor, heads: int) -> Tensor:
    """Attention before its projection: float [n, M, C], same shape out."""
    tokens = position.shape[-2]
    qkv = block.qkv(block.norm1(x)).view(-1, tokens, 3 * x.shape[2])
    scale = (x.shape[2] // heads) ** -0.5
    return batched_ops.window_attention(qkv, position, heads, scale).reshape(x.shape)


def _run_with_streams(block: Block, x: Tensor, attended: Tensor) -> Features:
    y, y_tasks = _outputs(block.proj, attended)
    z = x + y
    z_tasks = None if y_tasks is None else batched_ops.lowrank_add(y_tasks.base, x, y_tasks.u, y_tasks.b)

    normed = block.norm2(z)
    h, h_tasks = _hidden(block, normed, z_tasks)
    h = ops.gelu_(h.clone() if h_tasks is not None and h_tasks.base is h else h)

    if not isinstance(block.fc2, TaskLinear):
        out = block.fc2(h)
        return Features(z + out, None if z_tasks is None else z_tasks.add_(out[:, None]))
    pairs = block.fc2.tasks
    u = pairs.down(h) if h_tasks is None else batched_ops.task_mlp(h_tasks.base, h_tasks.u, h_tasks.b, pairs.a)
    base, out = block.fc2.base_and_shared(h)
    out_tasks = Terms(base, u, pairs.b)
    if block.fc2.norm is not None:
        out = base + block.fc2.norm(_sum(out_tasks))
    return Features(z + out, _with_residual(out_tasks, y_tasks, x))


def _outputs(linear: Linear | TaskLinear, x: Tensor) -> tuple[Tensor, Terms | None]:
    """Shared output, and the tasks' where they have pairs, of an input that tasks share: float [n, M, in]."""
    if not isinstance(linear, TaskLinear):
        return linear(x), None
    base, shared = linear.base_and_shared(x)
    terms = Terms(base, linear.tasks.down(x), linear.tasks.b)
    return (shared if linear.norm is None else base + linear.norm(_sum(terms))), terms


def _hidden(block: Block, normed: Tensor, z_tasks: Tensor | None) -> tuple[Tensor, Terms | None]:
    """Before the activation; a task's pair sees its own stream where there is one."""
    if z_tasks is None or not isinstance(block.fc1, TaskLinear):
        return _outputs(block.fc1, normed)
    base, shared = block.fc1.base_and_shared(normed)
    u = batched_ops.layer_norm_tasks(z_tasks, block.norm2.weight, block.norm2.bias, block.fc1.tasks.a)
    terms = Terms(base, u, block.fc1.tasks.b)
    return (shared if block.fc1.norm is None else base + block.fc1.norm(_sum(terms))), terms


def _with_residual(out: Terms, y: Terms | None, x: Tensor) -> Tensor:
    """x + y_t + out_t as one low-rank sum; without a stream from the projection the tasks have no residual."""
    if y is None:
        return batched_ops.lowrank_add(out.base, None, out.u, out.b)
    together = torch.cat([y.u, out.u], dim=3), torch.cat([y.b, out.b], dim=3)
    return batched_ops.lowrank_add(x + y.base, out.base, *together)


def _sum(terms: Terms) -> Tensor:
    """Sum of all tasks' outputs: float [n, M, out]."""
    u = terms.u.transpose(1, 2).flatten(2)  # [n, M, T * R]
    b = terms.b.transpose(2, 3).flatten(1, 2)  # [n, T * R, out]
    return terms.base * terms.u.shape[1] + torch.matmul(u, b)


def _plain(linear: Linear | TaskLinear) -> Linear:
    """A linear of a block without streams, which has none with task pairs."""
    return linear.linear if isinstance(linear, TaskLinear) else linear
