"""Targets on images without pixel labels: a teacher's probabilities, held to the tags, and weak-to-strong views.

Sources: FixMatch (Sohn et al., NeurIPS 2020), UniMatch (Yang et al., CVPR 2023), CutMix (Yun et al., ICCV 2019),
class-wise thresholds after FlexMatch (Zhang et al., NeurIPS 2021). Ours: the tags. A class that no tag allows at a
pixel has probability zero there, the rest is renormalised, and only then is confidence measured; so a pixel whose
crop carries one tag is certain, and one whose crop carries two is a two-way question.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.networks.class_sets import AllowedBatch


def constrain(probabilities: Tensor, allowed: AllowedBatch) -> Tensor:
    """Probabilities (B, C, H, W) with classes outside ``allowed`` set to zero and the rest renormalised.

    Where a network gives all allowed classes (near) zero, they share the pixel equally: it stays uncertain. With stated
    errors of the tags a class outside is weighed down instead (:mod:`weakseg.core.tag_errors`, 1).
    """
    channels = allowed.evidence()
    kept = probabilities * channels + 1e-6 * channels
    return kept / kept.sum(1, keepdim=True)


@dataclass(frozen=True)
class Targets:
    """What a student is taught on weak crops.

    Attributes:
        label: int64 (B, H, W), the most probable allowed class, 255 where none is allowed.
        weight: float32 (B, H, W), 1 where the teacher is sure enough, else 0.
        allowed: of (B, H, W) px.
        windows: int64 (B, H, W) number of the tag crop, -1 where none is seen whole.
        mask: int64 (B, H, W) of pseudo-masks that were made before, 255 where they are silent; None without any.
    """

    label: Tensor
    weight: Tensor
    allowed: AllowedBatch
    windows: Tensor
    mask: Tensor | None = None


def expected_shares(allowed: AllowedBatch, typical: Tensor) -> Tensor:
    """Class shares (B, C) that the tags let expect in each crop: what a tagged class typically covers, split per pixel.

    Pixels where no class is allowed (no image data, contradicting tags) count nowhere; a crop of these alone has zeros.
    With stated errors of the tags each class counts with the chance that it is in the crop.

    Args:
        allowed: of (B, H, W) px.
        typical: (C,), mean share of a tag crop that the class covers where it is present, measured on N1.
    """
    channels = allowed.presence()
    parts = channels * typical.to(channels.device).view(1, -1, 1, 1)
    return _crop_means(parts / parts.sum(1, keepdim=True), allowed)


def _crop_means(planes: Tensor, allowed: AllowedBatch) -> Tensor:
    """Mean (B, C) of planes (B, C, H, W) over the pixels where a class is allowed, 0 in crops without any."""
    here = allowed.some.unsqueeze(1)
    if bool(here.all()):
        return planes.mean((2, 3))
    return (planes * here).sum((2, 3)) / here.sum((2, 3)).clamp(min=1)


def _batch_mean(planes: Tensor, allowed: AllowedBatch) -> Tensor:
    """Mean (C,) of planes (B, C, H, W); of those crops that have pixels where a class is allowed, over these pixels."""
    if bool(allowed.some.all()):
        return planes.mean((0, 2, 3))
    return _mean_of_crops(_crop_means(planes, allowed), allowed)


def _mean_of_crops(values: Tensor, allowed: AllowedBatch) -> Tensor:
    """Mean (C,) of values (B, C) over the crops that have a pixel where a class is allowed; zeros without any."""
    seen = allowed.some.any(2).any(1)
    return values.mean(0) if bool(seen.all()) else values[seen].sum(0) / seen.sum().clamp(min=1)


def align(constrained: Tensor, shares: Tensor, allowed: AllowedBatch, limit: float = 4.0) -> Tensor:
    """Raise the classes that constrained probabilities (B, C, H, W) give less than their expected shares (B, C).

    Distribution alignment (Berthelot et al., ReMixMatch, ICLR 2020) with shares from the tags instead of the labelled
    set, and one-sided: a class that gets more than expected keeps its odds, because the expected share of a rare class
    (cars) is too uncertain to take pixels away from it. Pixels where no class is allowed count nowhere.
    """
    wanted, given = _mean_of_crops(shares, allowed), _batch_mean(constrained, allowed)
    factor = (wanted / given.clamp(min=1e-6)).clamp(1.0, limit)
    raised = constrained * factor.view(1, -1, 1, 1)
    return raised / raised.sum(1, keepdim=True)


def share_loss(logits: Tensor, allowed: AllowedBatch, shares: Tensor) -> Tensor:
    """Divergence of the batch's predicted class shares, from logits (B, C, H, W), from the expected (B, C); 0 if equal.

    Over the batch, not per crop: what one crop holds scatters widely around what its tags let expect.

    Learning from label proportions (Ardehaly and Culotta 2017); the proportions are :func:`expected_shares`.
    """
    predicted = _batch_mean(constrain(logits.softmax(1), allowed), allowed)
    expected = _mean_of_crops(shares, allowed)
    return (expected * (expected.clamp(min=1e-8) / predicted.clamp(min=1e-8)).log()).sum()


def make_targets(
    probabilities: Tensor,
    allowed: AllowedBatch,
    windows: Tensor,
    *,
    confidence: float,
    adaptive: bool,
    shares: Tensor | None = None,
) -> Targets:
    """Teacher probabilities (B, C, H, W) -> hard targets where the tag-constrained teacher is confident.

    Args:
        shares: (B, C) expected class shares to align with, or None.
        confidence: threshold for the class that the teacher is surest of.
        adaptive: scale each class's threshold by its own mean confidence in the batch over the highest one, so
            that a rare, unsure class (cars) is not silenced; never below half of ``confidence``.
    """
    constrained = constrain(probabilities, allowed)
    if shares is not None:
        constrained = align(constrained, shares, allowed)
    here = allowed.some
    best, label = constrained.max(1)
    thresholds = torch.full((probabilities.shape[1],), confidence, device=best.device)
    if adaptive:
        relative = _relative_confidence(best[here], label[here], probabilities.shape[1])
        thresholds = confidence * relative.clamp(min=0.5)
    sure = (best >= thresholds[label]) & here
    return Targets(torch.where(here, label, IGNORE), sure.float(), allowed, windows)


def behind_mask(targets: Targets, mask: Tensor) -> Targets:
    """Targets that count only where a pseudo-mask int64 (B, H, W) is silent (255), with the mask beside them."""
    return replace(targets, weight=targets.weight * (mask == IGNORE), mask=mask)


def no_targets(allowed: AllowedBatch, windows: Tensor) -> Targets:
    """Targets of weight 0, for steps that learn the tags (B, H, W) alone."""
    return Targets(torch.zeros_like(windows), torch.zeros_like(windows, dtype=torch.float32), allowed, windows)


def _relative_confidence(best: Tensor, label: Tensor, classes: int) -> Tensor:
    """Mean confidence per predicted class over the largest such mean; 1 for classes that win nowhere."""
    counts = torch.bincount(label.flatten(), minlength=classes)
    sums = torch.zeros(classes, device=best.device).scatter_add_(0, label.flatten(), best.flatten().float())
    means = sums / counts.clamp(min=1)
    return torch.where(counts > 0, means / means.max().clamp(min=1e-6), torch.ones_like(means))


def cut_mix(images: Tensor, targets: Targets, probability: float, generator: torch.Generator) -> tuple[Tensor, Targets]:
    """Paste a rectangle of the next sample into each, with a given probability: images and targets alike.

    Tag crops that the rectangle touches, or that are only seen inside it, are no longer whole: their windows become -1.
    """
    count, _, height, width = images.shape
    if count < 2 or probability <= 0:
        return images, targets
    inside = torch.zeros(count, height, width, dtype=torch.bool)
    for sample in range(count):
        draws = torch.rand(4, generator=generator)
        if draws[0] >= probability:
            continue
        area, ratio = 0.02 + 0.38 * draws[1], 0.5 + 1.5 * draws[2]
        rows = min(height, max(1, int((area * ratio) ** 0.5 * height)))
        columns = min(width, max(1, int((area / ratio) ** 0.5 * width)))
        top = int(draws[3] * (height - rows + 1))
        left = int(torch.rand(1, generator=generator) * (width - columns + 1))
        inside[sample, top : top + rows, left : left + columns] = True
    inside = inside.to(images.device)
    other = torch.roll(torch.arange(count, device=images.device), 1)
    touched = torch.unique(targets.windows[inside])
    windows = torch.where(inside | torch.isin(targets.windows, touched), -1, targets.windows)
    mixed = Targets(
        torch.where(inside, targets.label[other], targets.label),
        torch.where(inside, targets.weight[other], targets.weight),
        replace(
            targets.allowed,
            numbers=torch.where(inside, targets.allowed.numbers[other], targets.allowed.numbers),
        ),
        windows,
    )
    return torch.where(inside.unsqueeze(1), images[other], images), mixed
