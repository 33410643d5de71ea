"""Self-training of the single-stage network: refined masks, pseudo labels and their class-balanced loss.

Araslanov and Roth, CVPR 2020. Channel 0 is the background where there is one more channel than tags; else every
channel is a class (our aerial setting: all thresholds alike). Everything runs in float32 or better, also under mixed
precision.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.core.methods import Gate, SingleStageParams
from weakseg.methods.pamr import pamr
from weakseg.methods.single_stage.network import SingleStageOutput
from weakseg.networks.losses import multi_label_bce

CLASS_SHARE: Final = 0.6  # a pixel is a candidate above this share of its channel's largest value,
BACKGROUND_SHARE: Final = 0.7  # of the background's this one,
FLOOR: Final = 0.2  # and above this value


class SelfTraining(NamedTuple):
    """Of a batch: ``loss`` scalar; ``labels`` int64 (B, H, W), 255 = ignored; ``passed`` bool (B,), the gate."""

    loss: Tensor
    labels: Tensor
    passed: Tensor


class SingleStageLoss(NamedTuple):
    """``total`` to optimise, its tag part ``tags``, and ``self_training``, None while only tags train."""

    total: Tensor
    tags: Tensor
    self_training: SelfTraining | None


def single_stage_loss(
    output: SingleStageOutput,
    image: Tensor,
    tags: Tensor,
    params: SingleStageParams,
    *,
    self_train: bool,
    known: Tensor | None = None,
    valid: Tensor | None = None,
    pos_weight: Tensor | None = None,
) -> SingleStageLoss:
    """The paper's loss of one step: tags always, pseudo labels once the first epochs (5 of 24) are over.

    Args:
        output: of the network, for normalised images.
        image: float (B, 3, H, W) in [0, 1]: the same augmented images, de-normalised.
        tags: bool (B, C), True = present.
        params: of them dilations, pamr_iterations and sigma_floor, for :func:`refined_masks`, and the gate.
        self_train: adds the self-supervised loss, weight 1. Off, PAMR is not run (the original runs and discards it).
        known: bool (B, C), False where a tag says nothing; such a class may occur but does not have to.
        valid: bool (B, H, W), False where there is no data.
        pos_weight: (C,), of presences against absences in the tag part (ours; published: none). Where classes are in
            most crops, the few absences are what says where they are.
    """
    tag_part = multi_label_bce(output.scores, tags, known, pos_weight)
    if not self_train:
        return SingleStageLoss(tag_part, tag_part, None)
    trained = self_training_loss(output.logits, image, tags, params, known=known, valid=valid)
    return SingleStageLoss(tag_part + trained.loss, tag_part, trained)


def self_training_loss(
    logits: Tensor,
    image: Tensor,
    tags: Tensor,
    params: SingleStageParams,
    *,
    known: Tensor | None = None,
    valid: Tensor | None = None,
) -> SelfTraining:
    """Pseudo labels from the logits' own refined masks, and the loss of the logits, both at image size.

    Arguments as in :func:`single_stage_loss`; the logits (B, C or 1 + C, h, w). No gradient flows into the labels.
    """
    tags = tags.bool()
    possible = tags if known is None else tags | ~known.bool()
    labels = pseudo_labels(refined_masks(logits, image, params), possible)
    if valid is not None:
        labels = labels.masked_fill(~valid, IGNORE)
    loss, passed = balanced_cross_entropy(_resize(_lift(logits), image.shape[-2:]), labels, tags, gate=params.gate)
    return SelfTraining(loss, labels, passed)


@torch.no_grad()
def refined_masks(logits: Tensor, image: Tensor, params: SingleStageParams) -> Tensor:
    """Softmax of the logits (B, C, h, w), refined by PAMR on their own grid, then resized to the image (B, C, H, W).

    The image, float (B, 3, H, W) in [0, 1], is resized to the grid of the logits.
    """
    masks = _lift(logits.detach()).softmax(dim=1)
    small = _resize(_lift(image), logits.shape[-2:])
    refined = pamr(
        small,
        masks,
        dilations=params.dilations,
        iterations=params.pamr_iterations,
        sigma_floor=params.sigma_floor,
    )
    return _resize(refined, image.shape[-2:])


@torch.no_grad()
def pseudo_labels(masks: Tensor, tags: Tensor) -> Tensor:
    """One label per pixel where exactly one channel is confident.

    Masks of untagged classes are set to 0, without sharing their mass out. A channel is a candidate where it is
    strictly above ``max(floor, share * its largest value in this image)``; pixels with no or several candidates are
    ignored.

    Args:
        masks: float (B, C or 1 + C, H, W) in [0, 1].
        tags: bool (B, C), True = the class may occur.

    Returns:
        int64 (B, H, W), index of the channel, or 255.
    """
    background = _has_background(masks, tags)
    present = F.pad(tags.bool(), (int(background), 0), value=True)
    masks = masks * present[:, :, None, None]
    shares = masks.new_full((masks.shape[1],), CLASS_SHARE)
    if background:
        shares[0] = BACKGROUND_SHARE
    thresholds = (masks.amax(dim=(2, 3)) * shares).clamp_min(FLOOR)
    candidates = masks > thresholds[:, :, None, None]
    return candidates.int().argmax(dim=1).masked_fill(candidates.sum(dim=1) != 1, IGNORE)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, tags: Tensor, *, gate: Gate) -> tuple[Tensor, Tensor]:
    """Cross-entropy in which a class weighs the share of the *other* classes among the labelled pixels of its image.

    ``mean over pixels of (n - n_label) / (1 + n) * CE``, ignored pixels counting as 0; then the mean over the batch,
    images that the gate stops counting as 0. An image of one class has no loss: nothing contrasts with it.

    Args:
        logits: float (B, C or 1 + C, H, W).
        labels: int64 (B, H, W), channels of the logits, or 255.
        tags: bool (B, C), True = present; a class that merely may occur is no condition of the gate.
        gate: ``strict`` passes images in which every tagged class, and the background, owns a pixel; ``none`` all.

    Returns:
        The loss, scalar, and bool (B,): which images passed.
    """
    background = _has_background(logits, tags)
    labelled = labels != IGNORE
    index = labels.where(labelled, 0)
    per_pixel = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    counts = per_pixel.new_zeros(logits.shape[:2])
    counts.scatter_add_(1, index.flatten(1), labelled.flatten(1).to(counts.dtype))
    total = counts.sum(dim=1, keepdim=True)
    weights = ((total - counts) / (1 + total)).gather(1, index.flatten(1)).view_as(per_pixel)
    needed = F.pad(tags.bool(), (int(background), 0), value=True)
    passed = ((counts > 0) | ~needed).all(dim=1) | (gate == "none")
    return ((per_pixel * weights).mean(dim=(1, 2)) * passed).mean(), passed


def _has_background(channels: Tensor, tags: Tensor) -> bool:
    extra = channels.shape[1] - tags.shape[1]
    if tags.ndim != 2 or channels.shape[0] != tags.shape[0] or extra not in (0, 1):
        raise DataError(
            f"{tuple(channels.shape)} with tags {tuple(tags.shape)}",
            expected="one channel per tag, or one more for the background",
            cure="use the tags of these crops and this class scheme",
        )
    return extra == 1


def _lift(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
