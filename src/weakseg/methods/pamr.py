"""PAMR, pixel-adaptive mask refinement: soft masks diffuse along colour similarity (Araslanov and Roth, CVPR 2020).

The formula asks for the 8 neighbours of every pixel at several dilations: written with dilated unfolds it holds
``B * C * 8 * len(dilations) * H * W`` floats at once. Here the masks are padded once by the largest dilation, every
neighbour is a view of that buffer, and one fused multiply-add per neighbour accumulates the result. On a grid so small
that starting hundreds of operations costs more than they do, all neighbours are gathered at once
(``benchmarks/pamr.py`` has the timings).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import DataError, ParamsError

DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
_OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
_EPSILON, _TEMPERATURE = 1e-8, 0.1
_TINY = 1280  # mask values of a batch below which gathering is faster


@torch.no_grad()
def pamr(
    image: Tensor,
    masks: Tensor,
    *,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = ITERATIONS,
    sigma_floor: float = 0.0,
) -> Tensor:
    """Diffuse ``masks`` along the colours of ``image``; no gradient is recorded.

    Each iteration replaces a mask value by the affinity-weighted mean of its neighbours (never of itself), so the
    result keeps the range of the masks and their sum over channels.

    Args:
        image: float (B, K, H, W) on the grid of the masks, any K; each channel on any scale while ``sigma_floor`` is 0,
            in [0, 1] otherwise.
        masks: float (B, C, H, W), usually softmax values.
        dilations: distances in pixels of the eight neighbours; outside the image the border value counts.
        iterations: passes; 0 returns the masks as they are.
        sigma_floor: least local deviation, in image units, against sensor noise on flat roofs (our addition; 0 is the
            published formula).

    Returns:
        float32 (float64 if the masks are float64) (B, C, H, W).

    Raises:
        DataError: image and masks differ in batch or grid.
        ParamsError: no dilation, or one below 1.
    """
    if image.shape[0] != masks.shape[0] or image.shape[-2:] != masks.shape[-2:]:
        raise DataError(
            f"image {tuple(image.shape)}, masks {tuple(masks.shape)}",
            expected="the same batch size and grid",
            cure="resize the image to the grid of the masks first",
        )
    masks = masks if masks.dtype == torch.float64 else masks.float()
    if iterations == 0:
        return masks
    if masks.numel() <= _TINY:
        return _gathered(image.to(masks.dtype), masks, dilations, iterations, sigma_floor)
    return _accumulated(image.to(masks.dtype), masks, dilations, iterations, sigma_floor)


def _accumulated(image: Tensor, masks: Tensor, dilations: Sequence[int], iterations: int, sigma_floor: float) -> Tensor:
    weights = affinity(image, dilations=dilations, sigma_floor=sigma_floor)
    for _ in range(iterations):
        refined = torch.zeros_like(masks)
        for index, neighbour in enumerate(_neighbours(masks, dilations)):
            refined.addcmul_(neighbour, weights[:, index : index + 1])
        masks = refined
    return masks


def _gathered(image: Tensor, masks: Tensor, dilations: Sequence[int], iterations: int, sigma_floor: float) -> Tensor:
    _check(dilations)
    height, width = masks.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = [
        (rows + dilation * dy).clamp(0, height - 1) * width + (columns + dilation * dx).clamp(0, width - 1)
        for dilation in dilations
        for dy, dx in _OFFSETS
    ]
    index = torch.stack(places).flatten(1).to(masks.device)
    centre = image.flatten(2)[:, :, None]
    differences = image.flatten(2)[:, :, index] - centre
    count = 9 * len(dilations)
    squares = differences.square().sum(2) - differences.sum(2).square() / count
    deviation = (squares.clamp_min(0.0) / (count - 1)).sqrt().clamp_min(sigma_floor)
    scale = -image.shape[1] * (_TEMPERATURE * deviation + _EPSILON)
    weights = (differences.abs() / scale[:, :, None]).sum(1, keepdim=True).softmax(2)
    values = masks.flatten(2)
    for _ in range(iterations):
        values = (values[:, :, index] * weights).sum(2)
    return values.view_as(masks)


@torch.no_grad()
def affinity(image: Tensor, *, dilations: Sequence[int] = DILATIONS, sigma_floor: float = 0.0) -> Tensor:
    """Weight of every neighbour: softmax of ``-mean_k |I_k(p) - I_k(q)| / (1e-8 + 0.1 sigma_k(p))``.

    Args:
        image, dilations, sigma_floor: as in :func:`pamr`; the image float32 or float64.

    Returns:
        (B, 8 * len(dilations), H, W) in the image's dtype, non-negative, summing to 1 over axis 1; neighbours row by
        row for the first dilation, then for the next.
    """
    _check(dilations)
    deviation = local_deviation(image, dilations=dilations).clamp_min_(sigma_floor)
    scale = deviation.mul_(_TEMPERATURE).add_(_EPSILON).mul_(-image.shape[1]).reciprocal_()
    batch, _, height, width = image.shape
    weights = image.new_empty((batch, len(_OFFSETS) * len(dilations), height, width))
    for index, neighbour in enumerate(_neighbours(image, dilations)):
        torch.sum((neighbour - image).abs_().mul_(scale), dim=1, out=weights[:, index])
    weights.sub_(weights.amax(dim=1, keepdim=True)).exp_()
    return weights.div_(weights.sum(dim=1, keepdim=True))


def _check(dilations: Sequence[int]) -> None:
    if not dilations or min(dilations) < 1:
        raise ParamsError(
            f"PAMR dilations {list(dilations)}", expected="at least one, each 1 or more", cure="list them"
        )


def local_deviation(image: Tensor, *, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Unbiased standard deviation of each channel over the 3x3 grids of all dilations; the same shape as ``image``.

    The centre counts once per dilation, as published. Sums run over differences from the centre, so flat areas give
    exactly 0.
    """
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in _neighbours(image, dilations):
        difference = neighbour - image
        total.add_(difference)
        squares.addcmul_(difference, difference)
    count = 9 * len(dilations)
    return squares.sub_(total.square_().div_(count)).clamp_min_(0.0).div_(count - 1).sqrt_()


def _neighbours(values: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views of the padded values, one per neighbour; padding for the largest dilation serves the smaller ones too."""
    reach = max(dilations)
    height, width = values.shape[-2:]
    padded = F.pad(values, [reach] * 4, mode="replicate")
    for dilation in dilations:
        for dy, dx in _OFFSETS:
            yield padded.narrow(2, reach + dilation * dy, height).narrow(3, reach + dilation * dx, width)
