"""The first convolution of a network for other bands than red, green and blue: which kernel each band starts with.

Three optical bands of 8 bits keep the three kernels in their order, whatever they show. Of any other bands, those named
red, green and blue keep the kernels of these names; a kernel that no band claims goes to the first optical band without
one (infrared, red, green: infrared takes blue's), so that all three stay in use and their sum, which answers to grey
edges, is what it was. Every further band starts by :data:`RULES`. Without weights all kernels are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from weakseg.core.bands import COLOURS, Bands
from weakseg.core.errors import ParamsError

RULES: Final[
    Mapping[str, Callable[[Tensor, int], Tensor]]
] = {  # kernels (O, 3, h, w), new bands -> one kernel (O, h, w)
    "mean": lambda kernels, new: kernels.mean(1),
    "zero": lambda kernels, new: torch.zeros_like(kernels[:, 0]),
    "scaled": lambda kernels, new: kernels.mean(1) / new,  # all new bands together weigh as much as one
}
NEW: Final = "mean"


def first_convolution(net: nn.Module) -> nn.Conv2d:
    """The convolution that sees the image, whose ``in_channels`` are the bands."""
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def widen_first(net: nn.Module, bands: Bands, *, pretrained: bool, rule: str = NEW) -> None:
    """Make the first convolution of ``net`` take ``bands``, in place; nothing changes for three optical ones of 8 bits.

    Args:
        net: its first convolution takes three channels.
        pretrained: its kernels are worth keeping.
        rule: how a band without a kernel of its own starts.
    """
    if bands.plain:
        return
    first = first_convolution(net)
    if first.in_channels != 3 or first.groups != 1 or rule not in RULES:
        raise ParamsError(
            f"a first convolution of {first.in_channels} channels, rule {rule!r}",
            expected=f"3 channels and one of {', '.join(RULES)}",
            cure="choose another encoder",
        )
    kernels = first.weight.detach()
    first.in_channels = len(bands)
    wide = kernels.new_empty(kernels.shape[0], len(bands), *kernels.shape[2:])
    if pretrained:
        owners = kernel_owners(bands)
        start = RULES[rule](kernels, max(1, len(bands) - len(owners)))
        for index in range(len(bands)):
            wide[:, index] = kernels[:, owners[index]] if index in owners else start
    else:
        wide.normal_(std=float(kernels.std()) * (3 / len(bands)) ** 0.5)
    first.weight = nn.Parameter(wide, requires_grad=first.weight.requires_grad)


def kernel_owners(bands: Bands) -> dict[int, int]:
    """Band -> the kernel (0 red, 1 green, 2 blue) that it keeps."""
    owners = {bands.names.index(name): kernel for kernel, name in enumerate(COLOURS) if name in bands.names}
    left = [kernel for kernel in range(3) if kernel not in owners.values()]
    free = [index for index, band in enumerate(bands.members) if band.colour and index not in owners]
    return owners | dict(zip(free, left, strict=False))
