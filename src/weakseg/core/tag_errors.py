"""Tags as evidence: what a yes or a no of stated error rates says of a pixel, and of a class's presence in its crop.

For one class: z, whether it is in a crop; t, whether the tags name it. ``d = P(t = no | z = yes)`` is the rate of
missing tags, ``e = P(t = yes | z = no)`` that of wrong ones: class-conditional noise (Natarajan et al., NeurIPS
2013), the same for all classes and crops, independent of the image. ``q = P(t = yes)`` is counted. Then:

1. **A pixel.** Where it is of the class, the class is in its crop, and tags of other classes say nothing about it.
   So ``P(class | image, tags) ~ P(class | image) P(t | z = yes) / P(t)``. Where t is no, the last two are
   ``d / (1 - q)``, at most 1 (:attr:`TagErrors.outside`): 0 for tags that miss nothing, as a no forbids the class by
   the hard rule, 1 for tags of pure chance. Where t is yes they are ``(1 - d) / q``, at least 1
   (:attr:`TagErrors.inside`); the hard rule has 1 there, so rates near 0 are not quite no rates. Targets and masks
   take both, the tag loss no factor above 1: what a yes says beyond "it may be here" the presence loss says, once.
2. **Presence.** ``q = p (1 - d) + (1 - p) e`` gives the share p of crops that hold the class, and Bayes' rule how
   likely they do after a yes, ``p (1 - d) / q``, and after a no, ``p d / (1 - q)``. Expected shares weigh by them.
3. **A yes in a crop** in which the network gives the class the probability pi has the likelihood ``pi (1 - d) +
   (1 - pi) e``, and so up to a constant ``pi + (1 - pi) k`` with ``k = e / (1 - d)``.

That the losses mix what the network says by these numbers, instead of cleaning tags first, is the forward correction
of Patrini et al. (CVPR 2017); over sets of classes of which one is right it is ours. With d = e = 0 all is as with hard
tags. Layer 0: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import ParamsError

Floats = npt.NDArray[np.float64]
MOST: Final = 10.0  # factor of a named class: a class that few crops name is counted on few


@dataclass(frozen=True)
class TagErrors:
    """Stated error rates of tags, and how often each class is tagged.

    Attributes:
        missing_rate: d, of the classes that a crop holds the share that its tags do not name, in [0, 1).
        wrong_rate: e, of the classes that it does not hold the share that they name; ``d + e < 1``.
        tagged: q (C,) in [0, 1], of the crops whose tags say anything of a class the share that name it.
        spoken: (C,) in [0, 1], of the crops with any tag the share whose tags say anything of a class; 0 for a
            background.
    """

    missing_rate: float
    wrong_rate: float
    tagged: Floats
    spoken: Floats

    def __post_init__(self) -> None:
        check_rates(self.missing_rate, self.wrong_rate)

    @property
    def outside(self) -> Floats:
        """How a class counts at a pixel whose tags do not name it, (C,) in [0, 1]: ``min(1, d / (1 - q))``."""
        return np.asarray(np.minimum(1.0, self.missing_rate / np.maximum(1.0 - self.tagged, 1e-6)))

    @property
    def inside(self) -> Floats:
        """The same where they do, (C,) in [1, ``MOST``]: ``(1 - d) / q``.

        Where tags leave a class open in some crops, "no" is what has not been said, yes or nothing: with s = ``spoken``
        ``(s (1 - d) + 1 - s) / (s q + 1 - s)``.
        """
        silent = 1.0 - self.spoken
        likely, usual = self.spoken * (1.0 - self.missing_rate) + silent, self.spoken * self.tagged + silent
        return np.clip(likely / np.maximum(usual, 1e-6), 1.0, MOST)

    @property
    def present(self) -> Floats:
        """Share p of crops that hold each class, (C,): ``(q - e) / (1 - d - e)`` within [0, 1]."""
        return np.clip((self.tagged - self.wrong_rate) / (1.0 - self.missing_rate - self.wrong_rate), 0.0, 1.0)

    @property
    def present_if_named(self) -> Floats:
        """Chance (C,) that a class is in a crop whose tags name it: ``p (1 - d) / q``, 1 without wrong tags."""
        yes, no = self.present * (1.0 - self.missing_rate), (1.0 - self.present) * self.wrong_rate
        return np.where((no > 0) & (self.spoken > 0), yes / np.maximum(yes + no, 1e-12), 1.0)

    @property
    def present_if_not(self) -> Floats:
        """Chance (C,) that a class is in a crop whose tags do not name it: ``p d / (1 - q)``."""
        yes, no = self.present * self.missing_rate, (1.0 - self.present) * (1.0 - self.wrong_rate)
        return np.where(yes > 0, yes / np.maximum(yes + no, 1e-12), 0.0)

    @property
    def chance(self) -> float:
        """``k = e / (1 - d)``: how likely tags name a class that is not there, over how likely one that is."""
        return self.wrong_rate / (1.0 - self.missing_rate)


def check_rates(missing_rate: float, wrong_rate: float) -> None:
    """Refuse (ParamsError) rates outside [0, 1), or tags that say nothing, or the opposite: a sum of 1 or more."""
    if not (0 <= missing_rate < 1 and 0 <= wrong_rate < 1 and missing_rate + wrong_rate < 1):
        raise ParamsError(
            f"tags.missing_rate {missing_rate} and tags.wrong_rate {wrong_rate}",
            expected="0 to below 1 each, together below 1: else a yes is no more likely where the class is",
            cure="state what share of the tags is missing and wrong, or train on untagged",
        )


def estimate_tag_errors(
    missing_rate: float, wrong_rate: float, present: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> TagErrors:
    """The errors of tags, present and known bool (N, C) of N crops; 0 for a class that none speaks of."""
    said, tagged = known.sum(0), known.any(1).sum()
    named = (present & known).sum(0) / np.maximum(said, 1)
    return TagErrors(missing_rate, wrong_rate, named, said / max(1, tagged))
