"""Settings of IRNet and its random walk: one frozen record, with the published presets and ours.

Sources: Ahn, Cho and Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations"
(CVPR 2019), `irn_voc`; the NoPeopleAllowed entry of the LID 2020 challenge, `lid_compat`; ours for aerial crops without
a background class, `aerial`. Layer 2, but free of torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from weakseg.core.errors import ParamsError

Views = Literal["none", "flip", "d4"]
Normalise = Literal["none", "global", "per_class"]
PresetName = Literal["aerial", "irn_voc", "lid_compat"]


@dataclass(frozen=True)
class IrnetOptions:
    """All settings of the affinity branch.

    Attributes:
        displacement: train the displacement branch too; it serves instances and changes no semantic map.
        background: class 0 is a background with a positive loss term of its own, the others share one (published form).
            False balances over the classes that are present.
        pair_radius: training pairs lie less than this many grid cells apart (a cell is 4 px).
        pairs_per_step: how many of the offsets a training step uses, drawn anew each step; all where it is larger
            (radius 10 has 152).
        most_single: largest share of training crops that hold one confident class only: they bring no negative pairs,
            so that a network fed on them alone learns "no boundary anywhere". 1 is no limit.
        views: views over which boundary logits are averaged: the image alone, with its mirror image, or all 8 flips
            and quarter turns.
        walk_radius: cells less than this many cells apart exchange scores in one step of the walk.
        beta: exponent of the affinities; larger lets fewer scores across a weak boundary.
        steps: steps of the walk (published as 2 ** 8).
        anchor: a in ``x <- a D^-1 W x + (1 - a) x0``; 1 is the plain walk of ``steps`` steps.
        damp: start from scores * (1 - boundary), as published. Without a background every class of a cell falls alike.
        normalise: after the walk: "global" divides by the largest score of all classes (published); "per_class" gives
            each class back the maximum it had before, so that a small class does not fade; "none" leaves the averages.
        max_drift: the un-walked map stays where a class's area changes by more than this many octaves (1 is double or
            half); infinity never falls back (published).
        tile: areas larger than this many cells a side are walked in tiles with halos.
    """

    displacement: bool
    background: bool
    pair_radius: int
    pairs_per_step: int
    most_single: float
    views: Views
    walk_radius: int
    beta: float
    steps: int
    anchor: float
    damp: bool
    normalise: Normalise
    max_drift: float
    tile: int

    def __post_init__(self) -> None:
        rules = {
            "pair_radius": self.pair_radius >= 2,
            "pairs_per_step": self.pairs_per_step >= 1,
            "most_single": 0 <= self.most_single <= 1,
            "walk_radius": self.walk_radius >= 2,
            "beta": self.beta > 0,
            "steps": self.steps >= 0,
            "anchor": 0 <= self.anchor <= 1,
            "max_drift": self.max_drift > 0,
            "tile": self.tile >= 16,
            "views": self.views in get_args(Views),
            "normalise": self.normalise in get_args(Normalise),
        }
        for key, fine in rules.items():
            if not fine:
                raise ParamsError(
                    f"irnet option {key} = {getattr(self, key)!r}",
                    expected="radii >= 2, pairs_per_step >= 1, shares in [0, 1], beta and max_drift > 0, tile >= 16, "
                    f"views of {get_args(Views)}, normalise of {get_args(Normalise)}",
                    cure=f"mend irnet.{key}",
                )


_IRN_VOC: Final = IrnetOptions(
    displacement=True,
    background=True,
    pair_radius=10,
    pairs_per_step=152,
    most_single=1.0,
    views="flip",
    walk_radius=5,
    beta=10.0,
    steps=256,
    anchor=1.0,
    damp=True,
    normalise="global",
    max_drift=math.inf,
    tile=512,
)


def irnet_preset(name: PresetName) -> IrnetOptions:
    """Options by preset name; an unknown name raises ParamsError.

    `irn_voc` and `lid_compat` have the released defaults: both walk 256 steps with radius 5 and beta 10; they differ in
    the optimiser, which is the project's here. `aerial` has no background, no displacement, a short anchored walk and a
    limit on the drift.
    """
    match name:
        case "irn_voc" | "lid_compat":
            return _IRN_VOC
        case "aerial":
            return IrnetOptions(
                displacement=False,
                background=False,
                pair_radius=10,
                pairs_per_step=40,
                most_single=0.3,
                views="d4",
                walk_radius=5,
                beta=10.0,
                steps=32,
                anchor=0.85,
                damp=False,
                normalise="per_class",
                max_drift=1.0,
                tile=512,
            )
        case _:
            raise ParamsError(
                f"irnet preset {name!r}", expected="aerial, irn_voc or lid_compat", cure="mend irnet.preset"
            )
