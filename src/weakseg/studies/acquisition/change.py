"""What a label is expected to change: pixels of the map, class by class, and from them mIoU.

In the form of expected model output change (Freytag, Rodner and Denzler, ECCV 2014; Kading et al., ACCV 2016): the mean over
the answers that an annotator may give, weighed by how likely each is, of what the answer does to the map. Deviations:

* We do not train again for every answer. What an answer does to the map is what the code does with it: a class that a
  tag rules out loses its pixels, one that a tag asserts is raised to the share that N1 lets expect (one-sided,
  ``methods.selftrain``); a pixel label replaces every guess, and a box those of its class.
* Changed pixels count by class, as a share of all that the class holds. So a car counts as much as a lawn, which is
  class balance as mIoU has it.
* How likely a class is in a crop is a committee's mean (query by committee, Seung, Opper and Sompolinsky, COLT 1992), so
  where task (i), its students and the experts disagree both answers are likely, and either changes something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

_TOP: Final = 0.01  # share of a crop's pixels that speaks for a class
_FEWEST: Final = 4  # px
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Look:
    """What a committee sees of N crops with C classes.

    Attributes:
        pixels: (N,), of the crop.
        mass: (N, C), pixels that each class holds in the committee's mean map.
        presence: (N, C), how likely the class is in the crop, in [0, 1].
        doubt: (N, C), pixels of the class's map that the truth is expected to change.
        disagreement: (N,), nats per pixel that the members differ by (BALD: Houlsby et al., 2011).
        entropy: (N,), nats per pixel of the mean map.
    """

    pixels: Floats
    mass: Floats
    presence: Floats
    doubt: Floats
    disagreement: Floats
    entropy: Floats

    def __len__(self) -> int:
        return len(self.pixels)


def look_at(maps: Maps, scale: float = 1.0) -> Look:
    """One crop as its M members see it: probabilities (M, C, h, w) that sum to 1 over C.

    ``scale``: side of a pixel of the maps in px of the raster.
    """
    members = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    mean = members.mean(0)
    entropy = float(_entropy(mean).mean())
    area = scale**2
    return Look(
        pixels=np.array([mean.shape[1] * area]),
        mass=mean.sum(1)[None] * area,
        presence=_presence(members).mean(0)[None],
        doubt=(2 * mean * (1 - mean)).sum(1)[None] * area,
        disagreement=np.array([max(0.0, entropy - float(_entropy(members).mean()))]),
        entropy=np.array([entropy]),
    )


def join_looks(looks: list[Look]) -> Look:
    """The looks of several lots of crops as one."""
    names = ("pixels", "mass", "presence", "doubt", "disagreement", "entropy")
    return Look(*(np.concatenate([getattr(look, name) for look in looks]) for name in names))


def _entropy(probabilities: Floats) -> Floats:
    """(..., C, P) -> (..., P), nats."""
    return np.asarray(-(probabilities * np.log(probabilities + _TINY)).sum(-2))


def _presence(members: Floats) -> Floats:
    """(M, C, P) -> (M, C): the mean of a class's probabilities at the hundredth of the pixels where it is likeliest."""
    count = min(members.shape[-1], max(_FEWEST, round(_TOP * members.shape[-1])))
    return np.asarray(np.partition(members, -count, axis=-1)[..., -count:].mean(-1))


def tag_changes(look: Look, typical: Floats, asked: npt.NDArray[np.bool_]) -> Floats:
    """Pixels (N, C) by which each class is expected to change once somebody says whether it is in the crop.

    Absent (1 - presence): what it holds goes. Present: it grows to its typical share, where it holds less.

    Args:
        typical: (C,), share of a crop that each class covers where it is present.
        asked: (N, C), False for what is known already.
    """
    grown = np.maximum(0.0, typical * look.pixels[:, None] - look.mass)
    return (1 - look.presence) * look.mass * asked + look.presence * grown * asked


def pixel_changes(look: Look, classes: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Pixels (N, C) that change once the truth of every pixel is known, of some classes (C,) where boxes tell those."""
    return look.doubt if classes is None else look.doubt * classes


def as_miou(changes: Floats, held: Floats) -> Floats:
    """Changed pixels (N, C) as a change of mIoU (N,), in points of 100: shares of all that each class holds (C,)."""
    return np.asarray(100 * (changes / np.maximum(held, 1.0)).mean(1))
