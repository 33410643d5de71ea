"""Batch norms that change nothing: how weights of a network without them get into one that has them.

A batch norm with weight = sqrt(var + eps) and bias = mean is the identity in evaluation, for any mean and var. With
those of training crops it is nearly so in training too, where each batch is normalised by its own: the network then
starts from the features that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.networks.encdec_unpool import pad_to_multiple

WAITING = "awaits_statistics"  # attribute of a trunk whose norms are identities still without statistics
STRIDE = 32  # of the deepest trunk: smaller crops would leave nothing of its last feature
CROPS = 64  # so many training crops give them: means of 512 channels at stride 16 from 4,000 places


def set_identity(trunk: nn.Module, norms: Sequence[nn.BatchNorm2d], preprocessing: Preprocessing) -> None:
    """Make ``norms`` of ``trunk`` the identity and mark it for :func:`settle_norms`."""
    for norm in norms:
        _describe(norm, torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var))  # type: ignore[arg-type]
    if norms:
        setattr(trunk, WAITING, preprocessing)


@torch.no_grad()
def _describe(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """An identity that holds these statistics, each (K,)."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("a batch norm without running statistics")
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)


def is_waiting(model: nn.Module) -> bool:
    """Whether :func:`settle_norms` would change anything."""
    return any(hasattr(part, WAITING) for part in model.modules())


@torch.no_grad()
def settle_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give the marked identity norms of ``model`` the statistics of one pass over training crops.

    In evaluation the network computes the same before and after. Networks without such norms are left alone.

    Args:
        batches: images (B, 3, H, W) in 0..255; taken until there are :data:`CROPS`.
    """
    trunks = [part for part in model.modules() if hasattr(part, WAITING)]
    if not trunks:
        return
    sums = {norm: _Moments() for trunk in trunks for norm in trunk.modules() if isinstance(norm, nn.BatchNorm2d)}
    hooks = [norm.register_forward_pre_hook(_watch(moments)) for norm, moments in sums.items()]
    was_training = model.training
    model.eval()
    seen = 0
    for images in batches:
        for trunk in trunks:
            padded, _ = pad_to_multiple(images.to(next(trunk.parameters()).device).float(), STRIDE)
            trunk(normalise(padded, getattr(trunk, WAITING)))
        seen += len(images)
        if seen >= CROPS:
            break
    for hook in hooks:
        hook.remove()
    model.train(was_training)
    for norm, moments in sums.items():
        if moments.count:
            _describe(norm, moments.mean, moments.var)
    for trunk in trunks:
        delattr(trunk, WAITING)


class _Moments:
    """Mean and variance (K,) of features (B, K, H, W), batch after batch (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.var = torch.zeros(())

    def add(self, features: Tensor) -> None:
        var, mean = torch.var_mean(features.double(), (0, 2, 3), correction=0)
        count = features.shape[0] * features.shape[2] * features.shape[3]
        total = self.count + count
        apart = mean - self.mean
        self.var = (self.var * self.count + var * count + apart**2 * self.count * count / total) / total
        self.mean = self.mean + apart * count / total
        self.count = total


def _watch(moments: _Moments) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _norm, inputs: moments.add(inputs[0])
