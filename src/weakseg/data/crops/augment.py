"""The one preprocessing of train, evaluate and serve, and the joint augmentation of images and masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.errors import DataError


@dataclass(frozen=True)
class Preprocessing:
    """Channel statistics, in units of 255 whatever the depth of the bands; they travel in every checkpoint.

    Attributes:
        mean, std: one value per input channel; ``normalise`` computes ``(x / 255 - mean) / std``.
        bands: what the channels are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: Bands = PLAIN

    def numbers(self) -> dict[str, list[float]]:
        """mean and std, for model files and exports."""
        return {"mean": list(self.mean), "std": list(self.std)}


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fit_preprocessing(encoder: Preprocessing, bands: Bands) -> Preprocessing:
    """What images of these bands must be normalised with for an encoder that was trained on pictures.

    Three optical bands of 8 bits: the encoder's own numbers. Else a band's mean over N1 becomes 0, which is what a
    missing band shows, and its deviation that of ImageNet in the encoder's units: 1, or .46 for (x - 127) / 128.
    """
    if bands.plain:
        return Preprocessing(encoder.mean, encoder.std, bands)
    found = [band.statistics for band in bands.members if band.statistics is not None]
    if len(found) < len(bands):
        raise DataError("bands without statistics", expected="those of N1", cure="run `dvc repro tiles`")
    spread = sum(ours / theirs for ours, theirs in zip(IMAGENET.std, encoder.std, strict=True)) / 3
    mean = tuple(band.mean / 255 for band in found)
    return Preprocessing(mean, tuple((band.std or 1.0) / 255 / spread for band in found), bands)


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


def displayed(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalised images (B, K, H, W) -> the three bands that people see, float32 (B, 3, H, W) in 0..1."""
    pictures, bands = denormalise(images, preprocessing), preprocessing.bands
    if bands.plain:
        return pictures
    low, high, _, _ = _limits(bands, images.device)
    shown = list(bands.shown)
    return ((pictures[:, shown] * 255 - low[:, shown]) / (high - low)[:, shown]).clamp(0, 1)


def drop_bands(images: Tensor, probability: float, generator: torch.Generator, bands: Bands) -> Tensor:
    """Normalised images (B, K, H, W) with bands set to 0, their mean, as where an image lacks them.

    Args:
        probability: per sample and band; only those that an image may lack are ever dropped.
    """
    drop = torch.tensor([band.drop for band in bands.members])
    if probability <= 0 or not drop.any():
        return images
    drawn = (torch.rand(len(images), len(bands), generator=generator) < probability) & drop
    return images.masked_fill(drawn.to(images.device)[:, :, None, None], 0.0)


def jitter_colour(images: Tensor, strength: float, generator: torch.Generator, bands: Bands = PLAIN) -> Tensor:
    """Random gain, contrast and band balance per sample: images (B, C, H, W) in 0..255 -> float32, same range.

    Bands of other depths are jittered in units of their ranges and cut off at their dtype's limits. Bands that are no
    colours stay as they are, and so does one that is the same all over an image, which lacks it.

    Args:
        strength: half-width of the uniform draws around 1 (gain, contrast) and of the shift in units of 255;
            0 changes nothing. Hue has no meaning for false-colour bands, so each band gets a gain of its own.
        generator: on the CPU; the draws are the same on every device.
    """
    images = images.float()
    if strength <= 0:
        return images
    count, channels = images.shape[:2]

    def draw(*shape: int) -> Tensor:
        return ((torch.rand(*shape, generator=generator) * 2 - 1) * strength).to(images.device)

    gain = 1 + draw(count, 1, 1, 1) + 0.5 * draw(count, channels, 1, 1)
    contrast = 1 + draw(count, 1, 1, 1)
    shift = 255 * 0.5 * draw(count, 1, 1, 1)
    if bands.plain:
        mean = images.mean(dim=(2, 3), keepdim=True)
        return (((images - mean) * contrast + mean) * gain + shift).clamp(0, 255)
    low, high, least, most = _limits(bands, images.device)
    span = (high - low) / 255
    scaled = (images - low) / span
    mean = scaled.mean(dim=(2, 3), keepdim=True)
    jittered = (((scaled - mean) * contrast + mean) * gain + shift) * span + low
    colour = torch.tensor([band.colour for band in bands.members], device=images.device).view(1, -1, 1, 1)
    colour = colour & (images.amax((2, 3), keepdim=True) > images.amin((2, 3), keepdim=True))
    return torch.where(colour, torch.minimum(torch.maximum(jittered, least), most), images)


def _limits(bands: Bands, device: torch.device) -> tuple[Tensor, ...]:
    """Of each band, float32 (1, K, 1, 1): low and high of its range, least and most of its dtype."""
    rows = []
    for band in bands.members:
        kind = torch.finfo(torch.float32) if band.dtype == "float32" else torch.iinfo(getattr(torch, band.dtype))
        rows.append((band.low, band.high, kind.min, kind.max))
    return tuple(torch.tensor(rows, dtype=torch.float32, device=device).T.reshape(4, 1, -1, 1, 1))


def blur(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """3x3 binomial blur of a share of the samples; images (B, C, H, W) float -> same shape."""
    chosen = torch.rand(images.shape[0], generator=generator) < probability
    if not bool(chosen.any()):
        return images
    line = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (line[:, None] * line[None, :]).expand(images.shape[1], 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), soft, images)
