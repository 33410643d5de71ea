"""What each preset of section ``irnet`` fixes: the published forms and ours. What people set stands in the section.

Sources: Ahn, Cho and Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations"
(CVPR 2019), ``irn_voc``; the NoPeopleAllowed entry of the LID 2020 challenge, ``lid_compat``, which differs in the
optimiser, and that is the project's here, and in the constant of the background; ours for aerial crops, ``aerial``.
No torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from weakseg.core.methods import IrnetParams, IrnetPreset

Views = Literal["none", "flip", "d4"]
Normalise = Literal["none", "global", "per_class"]


@dataclass(frozen=True)
class Walk:
    """One random walk.

    Attributes:
        steps: of the walk (published as 2 ** 8).
        anchor: a in ``x <- a D^-1 W x + (1 - a) x0``; 1 is the plain walk of ``steps`` steps.
        damp: start from scores * (1 - boundary), as published. Without a background every class of a cell falls alike.
        normalise: after the walk: "global" divides by the largest score of all classes (published); "per_class" gives
            each class back the maximum it had before, so that a small class does not fade; "none" leaves the averages.
        radius: cells less than this many cells apart exchange scores in one step of the walk (a cell is 4 px).
        beta: exponent of the affinities; larger lets fewer scores across a weak boundary.
        tile: areas larger than this many cells a side are walked in tiles with halos.
    """

    steps: int
    anchor: float
    damp: bool
    normalise: Normalise
    radius: int = 5
    beta: float = 10.0
    tile: int = 512


@dataclass(frozen=True)
class Form:
    """What a preset fixes of the network, its training and its views.

    Attributes:
        displacement: train the displacement branch too; it serves instances and changes no semantic map.
        background: class 0 is a background with a positive loss term of its own, the others share one (published form).
            False balances over the classes that are present.
        most_single: largest share of training crops that hold one confident class only: they bring no negative pairs,
            so that a network fed on them alone learns "no boundary anywhere". 1 is no limit.
        seeds: constants of a background, a high and a low one: an object that wins against the high one is a label, and
            so is the background where it wins against all with the low one. None, or no background in the scheme:
            labels are as ``label_score`` and ``label_margin`` have them.
        level: constant of the background against walked scores; None: chosen on the hold-out.
        views: views over which boundary logits are averaged: the image alone, with its mirror image, or all 8 flips
            and quarter turns.
    """

    displacement: bool
    background: bool
    most_single: float
    views: Views
    seeds: tuple[float, float] | None = None
    level: float | None = None


PUBLISHED: Final = Form(
    displacement=True, background=True, most_single=1.0, views="flip", seeds=(0.30, 0.05), level=0.25
)
LID: Final = replace(PUBLISHED, level=0.30)  # its own seeds, 0.0075 and 0.24, are swapped: no pixel stays unsure
AERIAL: Final = Form(displacement=False, background=False, most_single=0.3, views="d4")
FORMS: Final[dict[IrnetPreset, Form]] = {"aerial": AERIAL, "irn_voc": PUBLISHED, "lid_compat": LID}
AS_PUBLISHED: Final = {
    "radius": 10,
    "pairs_per_step": 152,  # all
    "walk_steps": (256,),
    "anchors": (1.0,),
    "classes": "all",
    "max_drift": math.inf,  # the walk is never thrown away
}


def in_force(params: IrnetParams) -> IrnetParams:
    """The section; a published preset brings its own pairs and walk, and no limit on the drift."""
    return params if params.preset == "aerial" else params.replaced(**AS_PUBLISHED)


def candidates(params: IrnetParams) -> list[Walk]:
    """Every walk length with every anchor."""
    aerial = params.preset == "aerial"
    return [
        Walk(steps, anchor, damp=not aerial, normalise="per_class" if aerial else "global")
        for steps in params.walk_steps
        for anchor in params.anchors
    ]
