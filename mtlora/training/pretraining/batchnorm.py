"""BatchNorm over the batches of all processes, on any device; torch's own knows GPUs only."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes; gradients are exchanged too."""

    @staticmethod
    def forward(_ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        shared = gradient.clone()
        dist.all_reduce(shared)
        return shared


class SharedBatchNorm2d(nn.BatchNorm2d):
    """In training, mean and variance are those of all processes' batches together; tensors named as in BatchNorm2d."""

    def forward(self, x: Tensor) -> Tensor:
        """float [B, C, H, W] -> the same shape and type."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        local = torch.cat([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3)), count])
        total: Tensor = _SumOfAll.apply(local)
        count = total[-1].detach()
        mean, square = (total[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def share_batchnorm(module: nn.Module) -> None:
    """Replace every BatchNorm2d below `module`, in place, keeping its parameters and statistics."""
    for name, child in list(module.named_children()):
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.load_state_dict(child.state_dict())
            shared.weight, shared.bias = child.weight, child.bias
            setattr(module, name, shared)
        else:
            share_batchnorm(child)
