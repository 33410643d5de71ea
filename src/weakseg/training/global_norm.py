"""Batch norm over the crops of all ranks, so that several processes train as one does with the whole batch.

torch's own SyncBatchNorm runs on GPUs only and drops the activation that timm keeps inside its batch norm. This one is
plain arithmetic around one differentiable sum over the ranks, on any device and backend; it is checked on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class _OverRanks:
    """Placed before a batch norm class: in training, mean and variance are those of all ranks' crops together."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        mean, variance, count = moments_over_ranks(x)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), self.momentum)
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        y = (x.float() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)
        for part in ("drop", "act"):  # timm's batch norm ends with these
            y = getattr(self, part)(y) if hasattr(self, part) else y
        return y


def moments_over_ranks(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number of values per channel, float32, over all ranks' x (B, C, H, W)."""
    x = x.float()
    count = x.new_full((1,), x.numel() / x.shape[1])
    sums = _SumOverRanks.apply(torch.cat([x.sum((0, 2, 3)), count]))
    mean, count = sums[:-1] / sums[-1], sums[-1].detach()
    squares = _SumOverRanks.apply((x - mean.view(1, -1, 1, 1)).square().sum((0, 2, 3)))  # twice, to lose no digits
    return mean, squares / count, count


def normalise_over_ranks(model: nn.Module) -> None:
    """Change every 2D batch norm of ``model`` in place; weights, buffers and their names stay. Call it on all ranks."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, _OverRanks):
            kind = type(module)
            module.__class__ = type(f"{kind.__name__}OverRanks", (_OverRanks, kind), {})
