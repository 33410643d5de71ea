"""Affinities between grid cells: pair offsets, the largest boundary on the path between two cells, pair losses.

Two cells belong together when no boundary lies between them: affinity = 1 - max of the boundary probability along the
path (Ahn, Cho and Kwak, CVPR 2019, section 4). All pairs of one offset are handled at once by shifted views of the
grid, so no index tables are built or shipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError

Offset = tuple[int, int]

EPSILON = 1e-5  # of the published losses


def pair_offsets(radius: int) -> tuple[Offset, ...]:
    """Offsets (dy, dx) from a cell to its partners closer than ``radius`` cells, each unordered pair once.

    dy >= 0, and dx > 0 where dy = 0: 34 offsets for radius 5, 152 for radius 10.
    """
    if radius < 2:
        raise ParamsError(f"radius {radius}", expected=">= 2 cells", cure="mend the radius: 5 and 10 are published")
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in range(1 - radius, radius)
        if dy * dy + dx * dx < radius * radius and (dy > 0 or dx > 0)
    )


def path_points(offset: Offset) -> tuple[Offset, ...]:
    """Cells (y, x) on the straight path from (0, 0) to ``offset``, both ends included, less than a cell off it."""
    dy, dx = offset
    return tuple(
        (y, x)
        for y in range(dy + 1)
        for x in range(min(0, dx), max(0, dx) + 1)
        if (dy * x - dx * y) ** 2 < dy * dy + dx * dx
    )


def sample_offsets(offsets: Sequence[Offset], count: int, generator: torch.Generator) -> tuple[Offset, ...]:
    """``count`` different offsets drawn by ``generator`` (on the CPU), or all of them where there are no more."""
    if count >= len(offsets):
        return tuple(offsets)
    drawn = torch.randperm(len(offsets), generator=generator)[:count]
    return tuple(offsets[index] for index in sorted(drawn.tolist()))


def shifted(field: Tensor, offset: Offset, point: Offset) -> Tensor:
    """View (..., h - dy, w - |dx|) of ``field`` (..., h, w): the value at ``point`` from each source of ``offset``.

    Sources are the cells whose partner at ``offset`` lies inside the grid. The published code drops radius - 1 rows
    and columns at the rim for every offset; here each pair inside the grid counts.
    """
    (dy, dx), (y, x) = offset, point
    height, width = max(field.shape[-2] - dy, 0), max(field.shape[-1] - abs(dx), 0)
    column = max(0, -dx) + x
    return field[..., y : y + height, column : column + width]


def path_maximum(field: Tensor, offset: Offset) -> Tensor:
    """Largest value of ``field`` (..., h, w) on the path of every pair: (..., h - dy, w - |dx|)."""
    return torch.stack([shifted(field, offset, point) for point in path_points(offset)]).amax(0)


def pair_affinity(boundary: Tensor, offset: Offset) -> Tensor:
    """1 - largest boundary probability between the pairs of ``offset``; ``boundary`` (..., h, w) in [0, 1]."""
    return 1 - path_maximum(boundary, offset)


def boundary_loss(
    boundary_logits: Tensor, labels: Tensor, offsets: Sequence[Offset], classes: int, *, background: bool = False
) -> Tensor:
    """Pair loss of the boundary branch: half attraction within classes, half repulsion between them; a scalar.

    Args:
        boundary_logits: (B, 1, h, w), any float type.
        labels: (B, h, w) integer class indices on the same grid, 255 = ignore; a pair counts where both ends do not.
        offsets: from :func:`pair_offsets` or :func:`sample_offsets`.
        classes: number of classes.
        background: True is the published form: the mean of class 0's positive loss and of all others' pooled. False is
            ours: the mean over the classes that have positive pairs. Without a background the published form would
            halve the positive part, and large classes would drown small ones.

    The sums run over the batch. A part without pairs counts 0. Raises DataError for other shapes or label values.
    """
    codes = _check_labels(boundary_logits, labels, classes)
    logits = boundary_logits[:, 0].float()
    weights, repulsion = _pair_weights(codes, offsets, classes, background)
    total = logits.sum() * 0
    for offset in offsets:
        source, target = shifted(codes, offset, (0, 0)), shifted(codes, offset, offset)
        same = source == target
        differ = ~same & (source < classes) & (target < classes)
        weight = torch.where(same, weights[source], repulsion * differ)
        apart = path_maximum(logits, offset)  # of logits: the sigmoid is monotone
        likelihood = torch.sigmoid(torch.where(same, -apart, apart))
        total = total - (weight * torch.log(likelihood + EPSILON)).sum()
    return total


def displacement_loss(
    displacement: Tensor, labels: Tensor, offsets: Sequence[Offset], classes: int, *, background: bool = False
) -> Tensor:
    """Pair loss of the displacement branch, halved: cells of one class point at one place; a scalar.

    ``displacement`` (B, 2, h, w): cells to the centroid, channel 0 = y, 1 = x. With ``background``, pairs of class 0
    want equal displacements instead. Labels as in :func:`boundary_loss`.
    """
    codes = _check_labels(displacement[:, :1], labels, classes)
    field = displacement.float()
    first = 1 if background else 0
    thing, stuff = field.sum() * 0, field.sum() * 0
    things, stuffs = codes.new_zeros(()), codes.new_zeros(())
    for offset in offsets:
        source, target = shifted(codes, offset, (0, 0)), shifted(codes, offset, offset)
        same = (source == target) & (source < classes)
        difference = shifted(field, offset, (0, 0)) - shifted(field, offset, offset)
        step = field.new_tensor(offset).view(1, 2, 1, 1)
        is_thing, is_stuff = same & (source >= first), same & (source < first)
        thing = thing + ((difference - step).abs().sum(1) * is_thing).sum()
        stuff = stuff + (difference.abs().sum(1) * is_stuff).sum()
        things, stuffs = things + is_thing.sum(), stuffs + is_stuff.sum()
    return 0.5 * (thing / (2 * things + EPSILON) + stuff / (2 * stuffs + EPSILON))


def count_classes(labels: Tensor, classes: int, least: float = 0.01) -> Tensor:
    """Number of classes that fill at least ``least`` of each crop: labels (N, h, w), 255 = ignore -> (N,) int64."""
    shares = torch.stack([(labels == index).float().mean((1, 2)) for index in range(classes)], 1)
    return ((shares >= least) & (shares > 0)).sum(1)


def crop_weights(counts: Tensor, most_single: float) -> Tensor:
    """Sampling weights (N,) float64, sum 1, that hold the share of single-class crops to ``most_single``.

    ``counts`` (N,) are classes per crop, from :func:`count_classes`. Crops without a class get 0. Crops within a kind
    weigh alike. Raises DataError where no crop has two classes: such a set teaches "no boundary anywhere".
    """
    single, several = counts == 1, counts > 1
    if not bool(several.any()):
        raise DataError(
            f"none of {counts.numel()} crops holds two confident classes",
            expected="crops with negative pairs",
            cure="take larger crops or lower irnet.label_score and irnet.label_margin",
        )
    weights = (counts > 0).double()
    weights = weights / weights.sum()
    share = float(weights[single].sum())
    if share > most_single:
        weights[single] *= most_single / share
        weights[several] *= (1 - most_single) / (1 - share)
    return weights


def _check_labels(field: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Labels as int64 with IGNORE replaced by ``classes``, or DataError."""
    if field.ndim != 4 or field.shape[1] != 1 or labels.shape != (field.shape[0], *field.shape[2:]):
        raise DataError(
            f"output {tuple(field.shape)}, labels {tuple(labels.shape)}",
            expected="(B, 1, h, w) and (B, h, w)",
            cure="bring the masks to the grid with label_grid",
        )
    known = labels[labels != IGNORE]
    if bool(((known < 0) | (known >= classes)).any()):
        raise DataError(
            f"labels from {int(known.min())} to {int(known.max())} among {classes} classes",
            expected=f"0 to {classes - 1}, or {IGNORE}",
            cure="check that labels and class scheme belong together",
        )
    return torch.where(labels == IGNORE, classes, labels.long())


def _pair_weights(codes: Tensor, offsets: Sequence[Offset], classes: int, background: bool) -> tuple[Tensor, Tensor]:
    """Weight of a positive pair by its class, (classes + 1,) with 0 for ignored, and of a negative pair."""
    positive = codes.new_zeros(classes + 1)
    negative = codes.new_zeros(())
    for offset in offsets:
        source, target = shifted(codes, offset, (0, 0)), shifted(codes, offset, offset)
        same = source == target
        positive += torch.bincount(source[same], minlength=classes + 1)
        negative += (~same & (source < classes) & (target < classes)).sum()
    counts = positive[:classes].float()
    if background:
        rest = counts[1:].sum().expand(classes - 1)
        counts, share = torch.cat([counts[:1], rest]), torch.full_like(counts, 0.5)
    else:
        share = (counts > 0).float() / (counts > 0).sum().clamp(min=1)
    weights = torch.cat([0.5 * share / (counts + EPSILON), counts.new_zeros(1)])
    return weights, 0.5 / (negative.float() + EPSILON)
