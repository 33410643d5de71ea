"""The random walk: scores flow between neighbouring cells unless a boundary lies between them.

Ahn, Cho and Kwak (CVPR 2019), section 5: affinities of all pairs closer than a radius, to the power beta, are
row-normalised to a transition matrix T = D^-1 W; scores become T^t scores. The published code squares T as a dense
matrix of cells by cells; here t rounds of weighted averages over shifted views give the same numbers in time and memory
linear in the cells. The anchored walk x <- a T x + (1 - a) x0 keeps a tie to its start and degrades gently where
boundaries are weak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.errors import DataError
from weakseg.data.windows import blend_weights, cover_starts
from weakseg.methods.irnet.affinity import pair_affinity, pair_offsets, shifted
from weakseg.methods.irnet.forms import Normalise, Views, Walk
from weakseg.methods.irnet.network import STRIDE, IRNet, boundary_map
from weakseg.methods.scores import ScoreMaps, check_scores

DRIFT_FLOOR = 1e-3  # share of an area; classes far below it cannot drift
BAND_VALUES = 1 << 17  # floats of one band of rows on the CPU, half a megabyte
REST = 1e-3  # weight below which an anchored walk's further steps do not count


@dataclass(frozen=True)
class Drift:
    """What the walk did to an area; all tuples are per class, in scheme order.

    Attributes:
        before, after: share of the area whose largest score is the class's, in 0..1.
        octaves: log2((after + 0.001) / (before + 0.001)): 1 = doubled, -1 = halved.
        mean_change: mean absolute change of the scores of the present classes.
        fell_back: True where the walk was thrown away because some class drifted beyond ``max_drift``.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    octaves: tuple[float, ...]
    mean_change: float
    fell_back: bool


@torch.no_grad()
def walk(scores: Tensor, boundary: Tensor, options: Walk) -> Tensor:
    """Random walk of scores (B, C, h, w) over boundary probabilities (B, h, w), all float in [0, 1] -> (B, C, h, w).

    Both forms: ``options.steps`` steps of x <- T x, and with ``options.anchor`` a < 1 of x <- a T x + (1 - a) x0.
    Affinities outside the grid are 0 and a cell keeps weight 1 to itself, so rows of T sum to one, results stay within
    the start's range, and a closed ring of boundary 1 lets nothing through. Raises DataError for other shapes.
    """
    if scores.ndim != 4 or boundary.shape != (scores.shape[0], *scores.shape[2:]):
        raise DataError(
            f"scores {tuple(scores.shape)}, boundary {tuple(boundary.shape)}",
            expected="(B, C, h, w) and (B, h, w)",
            cure="reduce the scores to the boundary's grid",
        )
    start = (scores * (1 - boundary[:, None]) if options.damp else scores).float().contiguous()
    affinities = walk_affinities(boundary.float(), options)
    degree = walk_degree(affinities, start.shape, options)
    buffers = (start.clone(), torch.empty_like(start))
    plans = [_plan(*pair, affinities, options) for pair in (buffers, buffers[::-1])]
    for step in range(options.steps):
        source, target = buffers[step % 2], buffers[1 - step % 2]
        target.zero_()
        for flow in plans[step % 2]:
            flow.run()
        target.div_(degree).add_(source)
        if options.anchor < 1:
            torch.lerp(start, target, options.anchor, out=target)
    return buffers[options.steps % 2]


def walk_affinities(boundary: Tensor, options: Walk) -> list[Tensor]:
    """Weights of all pairs, boundary (B, h, w) -> one (B, 1, h - dy, w - |dx|) per offset of the walk's radius."""
    offsets = pair_offsets(options.radius)
    return [pair_affinity(boundary, offset).pow_(options.beta)[:, None] for offset in offsets]


def walk_degree(affinities: list[Tensor], shape: torch.Size, options: Walk) -> Tensor:
    """Row sums (B, 1, h, w) of W, for scores of ``shape``: 1 for the cell itself, its affinities to both sides."""
    total = torch.ones((shape[0], 1, *shape[2:]), device=affinities[0].device)
    for offset, affinity in zip(pair_offsets(options.radius), affinities, strict=True):
        shifted(total, offset, (0, 0)).add_(affinity)
        shifted(total, offset, offset).add_(affinity)
    return total


@dataclass(frozen=True)
class _Flow:
    """What passes between all pairs of one offset in one band of rows; all members are views.

    A step adds up a * (x_j - x_i) instead of a * x_j: float32 then keeps constant regions constant, where the plain
    sums err by 2e-4 after 256 steps.
    """

    source: tuple[Tensor, Tensor]
    target: tuple[Tensor, Tensor]
    affinity: Tensor
    scratch: Tensor

    def run(self) -> None:
        """Add the flow to both ends of the target."""
        torch.sub(self.source[1], self.source[0], out=self.scratch)
        self.target[0].addcmul_(self.affinity, self.scratch)
        self.target[1].addcmul_(self.affinity, self.scratch, value=-1)


def _plan(source: Tensor, target: Tensor, affinities: list[Tensor], options: Walk) -> list[_Flow]:
    """All flows of one step from ``source`` to ``target`` (B, C, h, w).

    Slicing costs as much as adding on small grids, so it is done once per walk. On the CPU the rows are taken in bands
    that stay in the cache for all offsets, or time per cell would double from 256x256 to 512x512.
    """
    height = source.shape[-2]
    band = height if source.is_cuda else min(height, max(1, BAND_VALUES // (source.numel() // height)))
    scratch = torch.empty_like(source[..., :band, :])
    flows = []
    for top in range(0, height, band):
        rows = (..., slice(top, top + band), slice(None))
        for offset, affinity in zip(pair_offsets(options.radius), affinities, strict=True):
            weight = affinity[rows]
            if weight.numel():
                flows.append(
                    _Flow(
                        (shifted(source, offset, (0, 0))[rows], shifted(source, offset, offset)[rows]),
                        (shifted(target, offset, (0, 0))[rows], shifted(target, offset, offset)[rows]),
                        weight,
                        scratch[..., : weight.shape[-2], : weight.shape[-1]],
                    )
                )
    return flows


def walk_reach(options: Walk) -> int:
    """Cells beyond which a score hardly matters: three standard deviations of the walk without any boundary.

    Never more than the walk can go at all; an anchored walk counts as long as ``anchor ** k`` stays above 0.001.
    """
    offsets = pair_offsets(options.radius)
    variance = sum(dy * dy + dx * dx for dy, dx in offsets) / (2 * len(offsets) + 1)  # of one axis
    steps = options.steps
    if options.anchor < 1:
        steps = min(steps, math.ceil(math.log(REST) / math.log(max(options.anchor, REST))))
    return min(steps * (options.radius - 1), math.ceil(3 * math.sqrt(steps * variance)))


def walk_tiled(scores: Tensor, boundary: Tensor, options: Walk) -> Tensor:
    """:func:`walk` of one area: scores (C, h, w), boundary (h, w) -> (C, h, w), in tiles with halos where it is large.

    Each tile of ``options.tile`` cells is walked with a halo of :func:`walk_reach` cells, which is thrown away.
    """
    height, width = boundary.shape
    if max(height, width) <= options.tile:
        return walk(scores[None], boundary[None], options)[0]
    halo, walked = walk_reach(options), torch.empty_like(scores)
    for row in range(0, height, options.tile):
        for column in range(0, width, options.tile):
            top, left = max(row - halo, 0), max(column - halo, 0)
            window = (slice(top, row + options.tile + halo), slice(left, column + options.tile + halo))
            piece = walk(scores[None, :, *window], boundary[None, *window], options)[0]
            piece = piece[:, row - top :, column - left :][:, : options.tile, : options.tile]
            walked[:, row : row + options.tile, column : column + options.tile] = piece
    return walked


def walk_area(
    maps: ScoreMaps, boundary: Tensor, options: Walk, *, max_drift: float = math.inf
) -> tuple[ScoreMaps, Drift]:
    """Walk the scores of one area and say how its classes drifted.

    Scores are averaged over 4x4 px cells, walked, normalised by ``options.normalise`` and enlarged bilinearly to the
    area's size; without a background, classes compete by their largest score. Absent classes stay zero.

    Args:
        maps: scores of H x W px.
        boundary: (ceil(H / 4), ceil(W / 4)) float in [0, 1], on the device that shall do the work.
        options: see :class:`Walk`. max_drift: octaves (1 is double or half).

    Returns:
        The walked maps as float32, or ``maps`` themselves where any class drifted by more than ``max_drift``; and
        the drift. Raises DataError where boundary and scores do not fit.
    """
    check_scores(maps, "scores before the walk")
    height, width = maps.scores.shape[1:]
    grid = (-(-height // STRIDE), -(-width // STRIDE))
    if tuple(boundary.shape) != grid or not bool(((boundary >= 0) & (boundary <= 1)).all()):
        raise DataError(
            f"boundary {tuple(boundary.shape)} for an area of {height}x{width} px, or values outside [0, 1]",
            expected=f"{grid} probabilities",
            cure="rerun the boundary map for this area",
        )
    if not maps.present.any():
        return maps, measure_drift(
            maps.present, boundary.new_zeros((0, *grid)), boundary.new_zeros((0, *grid)), max_drift
        )
    before = reduce_to_grid(maps, boundary.device)
    after = normalise_walked(walk_tiled(before, boundary.float(), options), before, options.normalise)
    drift = measure_drift(maps.present, before, after, max_drift)
    if drift.fell_back:
        return maps, drift
    scores = np.zeros(maps.scores.shape, np.float32)
    for index, walked in enumerate(after):
        scores[index] = enlarge(walked, height, width).clamp_(0, 1).cpu().numpy()
    return ScoreMaps(scores, maps.present), drift


def reduce_to_grid(maps: ScoreMaps, device: torch.device) -> Tensor:
    """Mean of each 4x4 px cell, of what there is of it at the rim: (P, H, W) -> (P, h, w) float32."""
    planes = [
        F.avg_pool2d(torch.from_numpy(plane.astype(np.float32))[None], STRIDE, ceil_mode=True) for plane in maps.scores
    ]
    return torch.cat(planes).to(device)


def enlarge(plane: Tensor, height: int, width: int) -> Tensor:
    """Bilinear from the grid (h, w) to (height, width) px; the centre of a cell is the centre of its 4x4 px."""
    large = F.interpolate(plane[None, None], scale_factor=float(STRIDE), mode="bilinear", align_corners=False)
    return large[0, 0, :height, :width]


def normalise_walked(walked: Tensor, before: Tensor, normalise: Normalise) -> Tensor:
    """Scale walked scores (C, h, w) by their maxima; see :class:`Walk`. An all-zero class stays zero."""
    if normalise == "none":
        return walked
    if normalise == "global":
        return walked / walked.amax().clamp(min=1e-12)
    return walked * (before.amax((1, 2)) / walked.amax((1, 2)).clamp(min=1e-12))[:, None, None]


def measure_drift(
    present: np.ndarray[tuple[int], np.dtype[np.bool_]], before: Tensor, after: Tensor, max_drift: float
) -> Drift:
    """Compare the largest scores of (present classes, h, w) before and after; cells without any score count nowhere."""
    index = np.flatnonzero(present)
    shares = np.zeros((2, present.size))
    for row, scores in enumerate((before, after)):
        if index.size:
            best, winner = scores.max(0)
            counts = torch.bincount(winner[best > 0], minlength=index.size)
            shares[row, index] = (counts.double() / winner.numel()).cpu().numpy()
    octaves = np.log2((shares[1] + DRIFT_FLOOR) / (shares[0] + DRIFT_FLOOR))
    change = float((after - before).abs().mean()) if index.size else 0.0
    return Drift(
        tuple(shares[0].tolist()),
        tuple(shares[1].tolist()),
        tuple(octaves.tolist()),
        change,
        bool((np.abs(octaves) > max_drift).any()),
    )


def boundary_of_area(model: IRNet, image: Tensor, *, window: int, overlap: float, views: Views) -> Tensor:
    """Boundary map of a whole area in overlapping windows, cross-faded: image (3, H, W) normalised -> (h, w) in [0, 1].

    ``window`` in px is rounded down to whole cells; windows start on cell corners, so that all grids coincide.
    GroupNorm sees one window at a time: windows should be about as large as the training crops.
    """
    height, width = (-(-size // STRIDE) for size in image.shape[1:])
    size = window // STRIDE
    total = image.new_zeros((height, width), dtype=torch.float32)
    weight = torch.zeros_like(total)
    for row in cover_starts(height, size, overlap):
        for column in cover_starts(width, size, overlap):
            px = image[None, :, row * STRIDE : (row + size) * STRIDE, column * STRIDE : (column + size) * STRIDE]
            piece = boundary_map(model, px, views)[0, 0].float()
            share = torch.from_numpy(blend_weights(*piece.shape)).to(piece.device)
            here = (slice(row, row + piece.shape[0]), slice(column, column + piece.shape[1]))
            total[here] += piece * share
            weight[here] += share
    return total / weight
