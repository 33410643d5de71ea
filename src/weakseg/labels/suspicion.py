"""How likely each tag is wrong: what the pixels say that no tag of the area has taught, against what people said.

Confident learning (Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70,
2021) ranks labels by the probability that a model gives them **out of sample**. Here:

* A network that has seen no tag (task i) says how likely each class is at each pixel of a crop.
* Per class a logistic regression learns from the tags how these numbers go with presence. It is cross-fitted: the tags
  of an area are judged by a regression that has seen those of other areas only: a wrong tag cannot speak for itself.
* People are witnesses who err in :data:`ERROR` of their answers, independently: those who agree with a tag speak for
  it, those who do not against it. So a tag of three people is less suspect than one of two against one.

Deviations: the share of errors is assumed, not estimated from the confident joint (on the embedded scenes the order is
as good with 0.01 as with 0.2); and the labels of a crop count together, 1 - prod(1 - P(wrong)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.labels.tags import Bools, Counts, Window

Floats = npt.NDArray[np.float64]

ERROR: Final = 0.05  # share of a person's answers that are wrong
SHARES: Final = (0.004, 0.01, 0.03, 0.1, 0.3, 1.0)  # of a crop's pixels, those where a class is likeliest
USUAL: Final = SHARES.index(0.01)
FOLDS: Final = 5
FEWEST: Final = 10  # crops with a class, and without it, of which a regression learns
_RIDGE: Final = 0.1  # inverse strength of the penalty
_EDGE: Final = 1e-4


def presence_numbers(maps: npt.NDArray[np.float32], window: Window) -> Floats:
    """Of a window of probabilities (C, H, W): each class's mean over the pixels where it is likeliest, (C, 6).

    The columns are the shares of the window's pixels in :data:`SHARES`, one pixel at least.
    """
    row, column, height, width = window
    pixels = np.sort(maps[:, row : row + height, column : column + width].reshape(len(maps), -1), axis=1)
    counts = [max(1, round(share * pixels.shape[1])) for share in SHARES]
    return np.stack([pixels[:, -count:].mean(1) for count in counts], 1).astype(np.float64)


def presence_out_of_fold(numbers: Floats, present: Bools, known: Bools, areas: Sequence[str]) -> Floats:
    """How likely each class is in each crop, (N, C) in (0, 1), by regressions that saw no tag of the crop's area.

    Where other areas have fewer than :data:`FEWEST` crops with a class, or without it, the network's own number stands
    (the mean over the likeliest hundredth of the pixels). With one area the folds are five parts of the table.

    Args:
        numbers: (N, C, 6) of :func:`presence_numbers`.
        present, known: (N, C), the tags.
        areas: of the N crops.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = numbers[:, :, USUAL].clip(_EDGE, 1 - _EDGE)
    clipped = numbers.clip(_EDGE, 1 - _EDGE)
    logits = np.log(clipped / (1 - clipped)).reshape(len(numbers), -1)
    for taught, judged in _folds(areas):
        for index in range(present.shape[1]):
            mine = taught[known[taught, index]]
            yes = int(present[mine, index].sum())
            if min(yes, len(mine) - yes) >= FEWEST:
                model = make_pipeline(StandardScaler(), LogisticRegression(C=_RIDGE, max_iter=1000))
                model.fit(logits[mine], present[mine, index])
                found[judged, index] = model.predict_proba(logits[judged])[:, 1]
    return np.asarray(found.clip(_EDGE, 1 - _EDGE))


def _folds(areas: Sequence[str]) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """(rows to learn from, rows to judge), every row judged once."""
    from sklearn.model_selection import GroupKFold, KFold

    several = len(set(areas))
    if several == 1 and len(areas) < FOLDS:
        return []
    if several == 1:
        return list(KFold(FOLDS).split(np.zeros(len(areas))))
    return list(GroupKFold(min(FOLDS, several)).split(np.zeros(len(areas)), groups=list(areas)))


def wrong_probability(presence: Floats, present: Bools, known: Bools, votes: Counts) -> Floats:
    """P(the tag is wrong) of each class of each crop, (N, C); of a class that is not known 0, of a draw one half.

    Args:
        presence: (N, C), how likely each class is there, out of sample.
        present, known: (N, C), the tags.
        votes: int (N, C, 2), people who say so and people who say the opposite; a tag without any counts as one vote
            for itself. Of an unknown class an equal number above 0 is a draw: somebody is wrong.
    """
    here = np.where(present, presence, 1 - presence)
    margin = np.maximum(votes[..., 0], 1) - votes[..., 1]
    against = (1 - here) * np.power((1 - ERROR) / ERROR, -margin.astype(np.float64))
    draw = ~known & (votes[..., 0] == votes[..., 1]) & (votes[..., 0] > 0)
    return np.asarray(np.where(known, against / (against + here), np.where(draw, 0.5, 0.0)))


def crop_suspicion(wrong: Floats) -> Floats:
    """P(any tag of a crop is wrong), (N,), from (N, C)."""
    return np.asarray(1 - np.prod(1 - wrong, axis=1))
