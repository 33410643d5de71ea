"""Losses as pure functions of tensors: logits (B, C, H, W) of any float type, reduced in float32 to one scalar.

Where a batch holds nothing that a loss can use, the loss is 0 and still part of the graph, so ``backward`` works.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.networks.class_sets import AllowedBatch


def cross_entropy(
    logits: Tensor, masks: Tensor, class_weights: Tensor | None = None, *, pixel_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy over the labelled pixels.

    ``sum(p * w[y] * -log softmax(logits)[y]) / sum(w[y])``, the sums over labelled pixels. Class weights w only shift
    attention between classes, as in torch; pixel weights p scale the loss: 0.5 everywhere halves it, so a batch with
    few confident pixels says little (the FixMatch convention).

    Args:
        logits: (B, C, H, W).
        masks: uint8 or int64 (B, H, W), classes or 255 = ignore.
        class_weights: (C,), >= 0.
        pixel_weights: (B, H, W), >= 0.
    """
    _check_pixels(logits, masks, "masks")
    targets = masks.long()
    losses = F.cross_entropy(logits.float(), targets, weight=class_weights, ignore_index=IGNORE, reduction="none")
    if pixel_weights is not None:
        _check_pixels(logits, pixel_weights, "pixel weights")
        losses = losses * pixel_weights
    labelled = targets != IGNORE
    share = labelled if class_weights is None else class_weights[targets.where(labelled, 0)] * labelled
    return _safe_mean(losses.sum(), share.sum())


def consistency_loss(logits: Tensor, targets: Tensor, pixel_weights: Tensor) -> Tensor:
    """Cross-entropy to a teacher's targets with one weight per pixel (Sohn et al. 2020, FixMatch, eq. 4).

    Pixels of weight 0 still count in the mean, so the loss grows with the share of confident pixels.

    Args:
        logits: student, (B, C, H, W).
        targets: hard, int64 or uint8 (B, H, W) with 255 = no target (left out of the mean); or soft, probabilities
            (B, C, H, W) that need not be detached: no gradient flows into them.
        pixel_weights: (B, H, W) in [0, 1], e.g. confidence above its class's threshold.
    """
    if targets.ndim == 3:
        return cross_entropy(logits, targets, pixel_weights=pixel_weights.detach())
    _check_pixels(logits, pixel_weights, "pixel weights")
    if targets.shape != logits.shape:
        raise DataError(
            f"soft targets {tuple(targets.shape)} for logits {tuple(logits.shape)}",
            expected="the same shape",
            cure="resize the teacher's probabilities to the student's view",
        )
    losses = -(targets.detach().float() * F.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return (losses * pixel_weights.detach()).mean()


def multi_label_bce(
    logits: Tensor, tags: Tensor, known: Tensor | None = None, pos_weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of image-level tags, mean over the known (crop, class) pairs.

    Args:
        logits: (B, C), before the sigmoid.
        tags: bool (B, C), True = present.
        known: bool (B, C), False where the tag says nothing; all known by default.
        pos_weight: (C,), weight of present against absent, e.g. absent / present counts.
    """
    if logits.shape != tags.shape or (known is not None and known.shape != tags.shape):
        raise DataError(
            f"logits {tuple(logits.shape)}, tags {tuple(tags.shape)}, known "
            f"{None if known is None else tuple(known.shape)}",
            expected="(B, C) each",
            cure="use the tags of these crops and this class scheme",
        )
    losses = F.binary_cross_entropy_with_logits(logits.float(), tags.float(), pos_weight=pos_weight, reduction="none")
    here = torch.ones_like(tags, dtype=torch.bool) if known is None else known
    return _safe_mean((losses * here).sum(), here.sum())


def tag_loss(logits: Tensor, allowed: AllowedBatch) -> Tensor:
    """-log of the summed probability of the classes that the tags allow, mean over all B * H * W pixels.

    This is cross-entropy with a set of candidate classes as target. A pixel where every class is allowed (no tag) adds
    exactly 0 and no gradient; so does one where none is (a crop that holds only clutter): nothing can be learnt there.

    With stated errors of the tags it is the likelihood of the tags under the network's pixel, up to a constant:
    ``-log sum_c p_c w_c``, w_c = 1 for classes that the tags name or know nothing of and ``min(1, d / (1 - q_c))`` for
    those that they do not name (:mod:`weakseg.core.tag_errors`, 1). It is bounded by -log of the least w_c.

    Args:
        logits: (B, C, H, W).
        allowed: of (B, H, W) px and C classes.
    """
    _check_pixels(logits, allowed.numbers, "allowed")
    values, weights = logits.float(), allowed.evidence()
    possible = values.masked_fill(weights == 0, float("-inf"))
    if allowed.errors is not None:
        possible = possible + weights.clamp(max=1.0).log()
    within = possible.logsumexp(dim=1)
    return (values.logsumexp(dim=1) - within).mean()


def presence_loss(logits: Tensor, window_ids: Tensor, tags: Tensor, *, chance: float = 0.0) -> Tensor:
    """Each tagged class must win somewhere in its tag window: -log of its largest probability pi there.

    Where tags may be wrong, ``-log(pi + (1 - pi) chance)``: the likelihood of the tag up to a constant, bounded by -log
    of ``chance``, so that a class that is nowhere to be seen is given up (:mod:`weakseg.core.tag_errors`, 3).

    Mean over the tagged (window, class) pairs whose window has pixels in the batch. Only hand in windows that the crop
    holds whole, or nearly so: of a window cut by the crop nobody knows on which side of the cut the class lies
    (`data.tags.windows_inside` sorts them out).

    Args:
        logits: (B, C, H, W).
        window_ids: int64 or int32 (B, H, W), 0..W-1 counted over the whole batch, or -1 = no window here.
        tags: bool (W, C), True = the class is known to be present; absent and unknown are both False.
        chance: in [0, 1), how likely tags name a class that is not there, over how likely they name one that is.
    """
    _check_pixels(logits, window_ids, "window ids")
    windows, classes = tags.shape
    if classes != logits.shape[1] or (window_ids.numel() and not -1 <= int(window_ids.max()) < windows):
        raise DataError(
            f"tags {tuple(tags.shape)} for {logits.shape[1]} classes and window ids up to {int(window_ids.max())}",
            expected="one row per window id and one column per class",
            cure="number the windows over the whole batch",
        )
    log_p = F.log_softmax(logits.float(), dim=1).movedim(1, 0).reshape(classes, -1)
    ids = window_ids.reshape(-1).long()
    inside = (ids >= 0).nonzero().squeeze(1)
    ids, log_p = ids[inside], log_p[:, inside]
    empty = log_p.new_zeros(classes, windows)
    best = empty.scatter_reduce(1, ids.expand(classes, -1), log_p, reduce="amax", include_self=False)
    seen = torch.zeros(windows, dtype=torch.bool, device=ids.device).index_fill(0, ids, True)
    if chance > 0:
        best = torch.logaddexp(best + math.log1p(-chance), best.new_tensor(math.log(chance)))
    pairs = tags.T & seen
    return _safe_mean(-(best * pairs).sum(), pairs.sum())


def _safe_mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and total (which is then 0) where count is 0."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def _check_pixels(logits: Tensor, pixels: Tensor, name: str) -> None:
    if logits.ndim != 4 or pixels.shape != (logits.shape[0], *logits.shape[2:]):
        raise DataError(
            f"logits {tuple(logits.shape)} and {name} {tuple(pixels.shape)}",
            expected="(B, C, H, W) and (B, H, W)",
            cure="crop and resize both alike",
        )
