"""The one preprocessing of train, evaluate and serve, and the joint augmentation of images and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """Channel statistics of the encoder, in 0..1 units; they travel in every checkpoint.

    Attributes:
        mean, std: one value per input channel; ``normalise`` computes ``(x / 255 - mean) / std``.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Images (B, C, H, W) uint8 or float in 0..255 -> float32 ``(x / 255 - mean) / std``, same shape and device."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(1, -1, 1, 1) * 255
    std = torch.tensor(preprocessing.std, device=images.device).view(1, -1, 1, 1) * 255
    return (images.float() - mean) / std


def denormalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Inverse of :func:`normalise`: a new float32 tensor in 0..1, same shape (never in place)."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(1, -1, 1, 1)
    return images * std + mean


def jitter_colour(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random gain, contrast and band balance per sample: images (B, C, H, W) in 0..255 -> float32, same range.

    Args:
        strength: half-width of the uniform draws around 1 (gain, contrast) and of the shift in units of 255;
            0 changes nothing. Hue has no meaning for false-colour bands, so each band gets a gain of its own.
        generator: on the CPU; the draws are the same on every device.
    """
    images = images.float()
    if strength <= 0:
        return images
    count, bands = images.shape[:2]

    def draw(*shape: int) -> Tensor:
        return ((torch.rand(*shape, generator=generator) * 2 - 1) * strength).to(images.device)

    gain = 1 + draw(count, 1, 1, 1) + 0.5 * draw(count, bands, 1, 1)
    contrast = 1 + draw(count, 1, 1, 1)
    shift = 255 * 0.5 * draw(count, 1, 1, 1)
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * gain + shift).clamp(0, 255)


def blur(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """3x3 binomial blur of a share of the samples; images (B, C, H, W) float -> same shape."""
    chosen = torch.rand(images.shape[0], generator=generator) < probability
    if not bool(chosen.any()):
        return images
    line = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (line[:, None] * line[None, :]).expand(images.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), soft, images)
