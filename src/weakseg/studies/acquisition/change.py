"""What a label is expected to change: pixels of the map, class by class, and from them mIoU.

In the form of expected model output change (Freytag, Rodner and Denzler, ECCV 2014; Kaeding et al., ACCV 2016): the
mean over the answers that an annotator may give, weighed by how likely each is, of what the answer does to the map.
Deviations:

* We do not train again for every answer. What an answer does to the map is what the code does with it
  (``methods.fusion``): a class that a tag rules out loses the pixels that it wins, one that a tag asserts and that wins
  nowhere claims a few; a pixel label replaces every guess, and a box those of its class.
* Changed pixels count by class, as a share of all that the class holds. So a car counts as much as a lawn, which is
  class balance as mIoU has it.
* How likely a class is in a crop is a committee's mean (query by committee: Seung, Opper and Sompolinsky, COLT 1992),
  and the change counts in proportion to the committee's disagreement (BALD: Houlsby et al., 2011). Without that, places
  that every network finds hard in the same way come first, and where the networks are wrong about new ground that
  loses even to entropy (measured on Dubai: docs/tagging.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.methods.fusion import CLAIM_SHARE
from weakseg.tagging.guesses import presence

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

_SPECK: Final = 4  # px; smaller regions are no objects
_TINY: Final = 1e-12
_AGREED: Final = 1e-9  # nats below which a disagreement is rounding


@dataclass(frozen=True)
class Look:
    """What a committee sees of N crops with C classes.

    Attributes:
        pixels: (N,), of the crop.
        won: (N, C), pixels that each class wins in the committee's mean map.
        presence: (N, C), how likely the class is in the crop, in [0, 1].
        doubt: (N, C), pixels of the class's map that the truth is expected to change.
        objects: (N, C), connected regions that the class wins in the mean map, specks left out.
        disagreement: (N,), nats per pixel that the members differ by (BALD: Houlsby et al., 2011).
        entropy: (N,), nats per pixel of the mean map.
    """

    pixels: Floats
    won: Floats
    presence: Floats
    doubt: Floats
    objects: Floats
    disagreement: Floats
    entropy: Floats

    def __len__(self) -> int:
        return len(self.pixels)


def look_at(maps: Maps) -> Look:
    """One crop as its M members see it: probabilities (M, C, h, w) that sum to 1 over C.

    Members with a NaN are silent about the crop, and one at least is not.
    """
    heard = maps[~np.isnan(maps).any(axis=(1, 2, 3))].astype(np.float64)
    members = heard.reshape(*heard.shape[:2], -1)
    mean = members.mean(0)
    winners = mean.argmax(0)
    entropy = float(_entropy(mean).mean())
    return Look(
        pixels=np.array([float(mean.shape[1])]),
        won=np.bincount(winners, minlength=len(mean)).astype(np.float64)[None],
        presence=np.stack([presence(m, (0, 0, *maps.shape[2:])) for m in heard])
        .astype(np.float64)
        .mean(0, keepdims=True),
        doubt=(2 * mean * (1 - mean)).sum(1)[None],
        objects=_objects(winners.reshape(maps.shape[2:]), len(mean))[None],
        disagreement=np.array([max(0.0, entropy - float(_entropy(members).mean()))]),
        entropy=np.array([entropy]),
    )


def join_looks(looks: Sequence[Look]) -> Look:
    """The looks of several lots of crops as one."""
    return Look(*(np.concatenate([getattr(look, field.name) for look in looks]) for field in fields(Look)))


def take(look: Look, index: npt.NDArray[np.intp] | slice) -> Look:
    """Some of the crops, in the order of ``index``."""
    return Look(*(getattr(look, field.name)[index] for field in fields(Look)))


def _objects(winners: npt.NDArray[np.integer], classes: int) -> Floats:
    """Regions of each class in a map of winners (h, w): (C,)."""
    counts = np.zeros(classes)
    for index in np.unique(winners):
        found = cv2.connectedComponentsWithStats((winners == index).astype(np.uint8), connectivity=8)[2]
        counts[index] = (found[1:, cv2.CC_STAT_AREA] >= _SPECK).sum()
    return counts


def _entropy(probabilities: Floats) -> Floats:
    """(..., C, P) -> (..., P), nats."""
    return np.asarray(-(probabilities * np.log(probabilities + _TINY)).sum(-2))


def tag_changes(look: Look, asked: npt.NDArray[np.bool_]) -> Floats:
    """Pixels (N, C) by which each class is expected to change once somebody says whether it is in the crop.

    Absent (1 - presence): what it wins goes. Present: where it wins nowhere it claims its best pixels.

    Args:
        asked: (N, C), False for what is known already.
    """
    claimed = np.where(look.won == 0, CLAIM_SHARE * look.pixels[:, None], 0.0)
    return ((1 - look.presence) * look.won + look.presence * claimed) * asked


def pixel_changes(look: Look, classes: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Pixels (N, C) that change once the truth of every pixel is known, of some classes (C,) where boxes tell those."""
    return look.doubt if classes is None else look.doubt * classes


def in_points(changes: Floats, held: Floats) -> Floats:
    """Changed pixels (N, C) as what each adds to mIoU, in points of 100: shares of all that each class holds (C,)."""
    return np.asarray(100 / changes.shape[1] * changes / np.maximum(held, 1.0))


def as_miou(changes: Floats, held: Floats) -> Floats:
    """Changed pixels (N, C) as a change of mIoU (N,), in points of 100."""
    return np.asarray(in_points(changes, held).sum(1))


def weigh_disagreement(disagreement: Floats, among: npt.NDArray[np.bool_]) -> Floats:
    """Weights (N,) in proportion to the disagreement, 1 on average ``among`` some crops; 1 for all where none is.

    A committee of one never disagrees.
    """
    mean = float(disagreement[among].mean()) if among.any() else 0.0
    return disagreement / mean if mean > _AGREED else np.ones(len(disagreement))
