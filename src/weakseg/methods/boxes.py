"""Bounding boxes to ScoreMaps: what of each box its class fills, by a dense CRF.

``crf`` is Bbox-Seg of Papandreou et al. (ICCV 2015): the middle of the box is its class, what lies outside is not, and
a dense CRF settles the rest by colour. Ours: its kernels are as wide as the box says (cars of 15 px and roofs of 150
share one set of params), and the rest starts a little in favour of the class, because boxes are tight. A result that
leaves the box nearly empty is not believed and the whole box takes its place, the rule of Khoreva et al. (CVPR 2017)
with a lower limit: theirs is half of the box, but a car parked askew fills less than half of an upright one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.methods import BoxRefiner, CrfParams
from weakseg.labels.tags import Window
from weakseg.methods.crf import mean_field
from weakseg.methods.scores import ScoreMaps

Image = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

SURE: Final = 0.95  # probability in the middle of a box that it is the class; outside, that it is not
INSIDE: Final = 0.6  # of the rest of the box
SMOOTH_WIDTH, COLOUR_WIDTH = 0.1, 0.5  # of the CRF's kernels in space, as a share of the root of the box's pixels
SMOOTH_WEIGHT, COLOUR_WEIGHT = 1.0, 5.0  # of the same; these four from a grid on the embedded scenes' N1
CENTRE: Final = 0.2  # share of the box's pixels, in its middle, that are certain
MARGIN: Final = 0.5  # how far around the box colours are compared, as a share of its longer side, 4 px at least
LEAST: Final = 0.25  # share of the box below which a result is not believed
STEPS: Final = 5  # of the mean field
WHOLE: Final = 0.7  # probability all over a box that no refiner could settle


@dataclass(frozen=True)
class Filled:
    """Evidence of an area's boxes.

    Attributes:
        maps: scores of the box classes and, inside boxes, of the others; zero outside all boxes.
        kept_whole: boxes that no refiner could settle.
    """

    maps: ScoreMaps
    kept_whole: int


def fill_boxes(
    image: Image,
    windows: Sequence[Window],
    labels: Sequence[int],
    classes: int,
    *,
    refiner: BoxRefiner,
    colour: float,
) -> Filled:
    """ScoreMaps of an area from its boxes.

    Inside boxes a class's score is its probability by the boxes of that class, the largest where they overlap; what is
    left of 1 goes to the classes without a box there, in equal parts. Outside all boxes every score is 0: unknown.

    Args:
        image: uint8 (H, W, 3).
        windows: N boxes (row, column, height, width) inside the image, px; labels: N class indices.
        classes: C.
        refiner: ``crf`` or ``none`` (the whole box).
        colour: grey levels of 255, width of the CRF's colour kernel (``crf.bilateral_srgb``).
    """
    height, width = image.shape[:2]
    filled = np.zeros((classes, height, width), np.float32)
    boxed = np.zeros((classes, height, width), bool)
    for (row, column, tall, wide), label in zip(windows, labels, strict=True):
        boxed[label, row : row + tall, column : column + wide] = True
    kept_whole = 0
    for (row, column, tall, wide), label in zip(windows, labels, strict=True):
        found = box_probability(image, (row, column, tall, wide), boxed[label], refiner, colour)
        kept_whole += found is None
        part = filled[label, row : row + tall, column : column + wide]
        np.maximum(part, WHOLE if found is None else found, out=part)
    here = boxed.any(0)
    others = classes - boxed.sum(0)
    rest = np.where(boxed, 1 - filled, 1).prod(0) * here
    share = (rest / np.maximum(others, 1)).astype(np.float32)
    scores = np.where(boxed, filled, share[None] * ~boxed)
    return Filled(ScoreMaps.of(scores.astype(np.float32)), kept_whole)


def box_probability(
    image: Image, window: Window, same_class: Bools, refiner: BoxRefiner, colour: float
) -> Floats | None:
    """Probability (height, width) that each pixel of a box belongs to the box's object, or None: it cannot be told.

    Args:
        image: uint8 (H, W, 3). window: the box.
        same_class: bool (H, W), the boxes of its class: pixels of other boxes are no background.
        refiner, colour: see :func:`fill_boxes`.
    """
    row, column, tall, wide = window
    margin = max(4, round(MARGIN * max(tall, wide)))
    top, left = max(0, row - margin), max(0, column - margin)
    rows, columns = slice(top, row + tall + margin), slice(left, column + wide + margin)
    cut = np.ascontiguousarray(image[rows, columns])
    inside = np.zeros(cut.shape[:2], bool)
    here = (slice(row - top, row - top + tall), slice(column - left, column - left + wide))
    inside[here] = True
    background = ~same_class[rows, columns]
    if refiner == "none" or not background.any():
        return None
    found = _by_crf(cut, inside, background, _middle(here, CENTRE), colour)
    if (found[here] >= 0.5).mean() < LEAST:
        return None
    return found[here]


def _middle(box: tuple[slice, slice], share: float) -> tuple[slice, slice]:
    """The part of a box in its middle, of the same shape, that holds ``share`` of its pixels; one pixel at least."""
    spans = []
    for span in box:
        length = span.stop - span.start
        kept = max(1, round(length * share**0.5))
        start = span.start + (length - kept) // 2
        spans.append(slice(start, start + kept))
    return spans[0], spans[1]


def _by_crf(cut: Image, inside: Bools, background: Bools, middle: tuple[slice, slice], colour: float) -> Floats:
    side = float(np.sqrt(inside.sum()))
    kernels = CrfParams(
        refiner="crf",
        unary="soft",
        bilateral_srgb=colour,
        gaussian_sxy=max(0.5, SMOOTH_WIDTH * side),
        gaussian_weight=SMOOTH_WEIGHT,
        bilateral_sxy=max(1.0, COLOUR_WIDTH * side),
        bilateral_weight=COLOUR_WEIGHT,
        iterations=STEPS,
    )
    belief = np.full(inside.shape, 0.5, np.float32)  # other boxes of the class
    belief[inside] = INSIDE
    belief[background] = 1 - SURE
    belief[middle] = SURE
    energy = -np.log(np.stack([1 - belief, belief]))
    return np.asarray(mean_field(cut, energy, kernels)[1] * inside, np.float32)
