"""The one preprocessing of train, evaluate and serve, and the joint augmentation of images and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
