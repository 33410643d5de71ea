"""What a segmentation network says of N1 and N2 areas, held to the tags: ScoreMaps, and masks under a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import Mask
from weakseg.core.tag_errors import TagErrors, estimate_tag_errors
from weakseg.data.areas import open_area
from weakseg.data.store import open_array
from weakseg.evaluation.holdout import require_blocks
from weakseg.evaluation.metrics import mean_iou
from weakseg.inference.scene import DIHEDRAL, View, predict_scene
from weakseg.methods.fusion import CLAIM_FLOOR, align_scores, claim_missing, constrain_scores, possible_classes
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import ScoreMaps
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context
from weakseg.pipeline.holdout_choice import (
    allowed_classes,
    best_weights,
    candidate_weights,
    choose_on_holdout,
    count_winners,
    with_experts,
)
from weakseg.training.segment import typical_shares

WINDOW_OVERLAP, WINDOW_BATCH = 0.34, 4  # of predictions inside the pipeline; evaluate has its own params


def predict(
    context: Context, model: Segmenter, image: npt.NDArray[np.uint8], views: Sequence[View]
) -> npt.NDArray[np.float32]:
    """Probabilities (C, H, W) of a piece of an area, in windows of twice the training crop."""
    return predict_scene(
        model,
        image,
        preprocessing=model.preprocessing,
        window=2 * context.params.segment.crop,
        overlap=WINDOW_OVERLAP,
        batch=WINDOW_BATCH,
        views=views,
        machine=context.machine,
    )


def tag_errors(context: Context) -> TagErrors | None:
    """The errors of N2's tags that the section tags states, None where it states none."""
    rates = context.params.tags
    if rates.missing_rate == rates.wrong_rate == 0:
        return None
    crops = context.crops()
    weak = crops.take(np.flatnonzero(np.array(crops.splits) == "tags"))
    return estimate_tag_errors(rates.missing_rate, rates.wrong_rate, weak.present, weak.known)


def network_scores(
    context: Context, model: Segmenter, area: str, *, tagged: bool = True, errors: TagErrors | None = None
) -> tuple[ScoreMaps, int]:
    """Probabilities of one area, held to its tags, its shares aligned, and how many missing classes claimed pixels.

    Without ``tagged`` no tag is read: every class is allowed, shares are those that N1 lets expect, nothing is claimed.
    With ``errors`` the tags are evidence; a class claims pixels only where its tag is rather right than wrong.
    """
    layout = context.layout
    model.to(context.machine.torch_device())
    image = np.asarray(open_array(layout.tiles / "images", area))
    allowed = allowed_classes(context, area, tagged=tagged)
    maps = constrain_scores(predict(context, model, image, DIHEDRAL), allowed, errors)
    maps = align_scores(maps, allowed, _typical_shares(context), errors)
    if not tagged:
        return maps, 0
    crops = context.crops().select(area=area)
    floor = CLAIM_FLOOR if errors is None else max(CLAIM_FLOOR, errors.chance / (1 + errors.chance))
    return claim_missing(maps, crops.windows, crops.present, allowed=allowed, floor=floor)


def _typical_shares(context: Context) -> npt.NDArray[np.float32]:
    """:func:`typical_shares` of N1 without its hold-out, float32 (C,): one look at N1 serves all areas of a stage."""
    tiles = context.layout.tiles
    written = (tiles / "areas.csv").stat().st_mtime_ns
    return _measured_shares(
        tiles, written, tuple(context.pixel_areas()), len(context.scheme), context.params.tiles.tag_size
    )


@lru_cache(maxsize=1)
def _measured_shares(
    tiles: Path, written: int, areas: tuple[str, ...], classes: int, size: int
) -> npt.NDArray[np.float32]:
    """``written``: when the tiles were, so that tiles that are made anew are measured anew."""
    labelled = [open_area(tiles, area, masks=tiles / "labels") for area in areas]
    return typical_shares(labelled, classes, size).numpy()


@dataclass(frozen=True)
class Choice:
    """How a network's scores become masks, chosen on the hold-out of N1 with a network that never saw it.

    Attributes:
        tagged: the scores are held to the tags.
        weights: of ``fused.experts``; none without tags.
        min_score, min_margin: thresholds per class (C,).
        holdout_miou: of the masks on the hold-out, inside their coverage.
    """

    tagged: bool
    weights: tuple[float, ...]
    min_score: tuple[float, ...]
    min_margin: tuple[float, ...]
    holdout_miou: float

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Choice:
        """From what JSON keeps of it."""
        lists = {name: tuple(stored[name]) for name in ("weights", "min_score", "min_margin")}
        return cls(tagged=stored["tagged"], holdout_miou=stored["holdout_miou"], **lists)


def choose(context: Context, model: Segmenter, *, tagged: bool) -> Choice:
    """Weights and thresholds for masks of this network, which must not have trained on the hold-out."""
    blocks = require_blocks(context.layout.tiles)
    errors = tag_errors(context) if tagged else None
    own = {area: network_scores(context, model, area, tagged=tagged, errors=errors)[0] for area in blocks}
    candidates = candidate_weights(context) if tagged else ()
    return choose_by(context, own, blocks, tagged=tagged, candidates=candidates, errors=errors)


def choose_by(
    context: Context,
    own: Mapping[str, ScoreMaps],
    truths: Mapping[str, Mask],
    *,
    tagged: bool,
    candidates: Sequence[tuple[float, ...]],
    errors: TagErrors | None = None,
) -> Choice:
    """Weights and thresholds for masks of the networks behind ``own``.

    Args:
        own: their maps of N1 areas. truths: uint8 (H, W) by area, 255 where a network has seen it.
        candidates: weights of the experts to choose among; none: no experts.
    """
    tables = count_winners(context, own, truths, candidates, errors)
    weights = best_weights({one: float(mean_iou(table)) for one, table in tables.items()}) if candidates else ()
    found = choose_on_holdout(
        context,
        (
            (
                with_experts(context, own[area], area, weights, errors),
                possible_classes(allowed_classes(context, area, tagged=tagged), errors),
                truth,
            )
            for area, truth in truths.items()
        ),
    )
    return Choice(tagged, weights, found.min_score, found.min_margin, found.miou)


def make_mask(context: Context, model: Segmenter, area: str, choice: Choice) -> Mask:
    """The mask uint8 (H, W) of an area that this network and the experts agree to under a choice, 255 where unsure."""
    errors = tag_errors(context) if choice.tagged else None
    maps, _ = network_scores(context, model, area, tagged=choice.tagged, errors=errors)
    maps = with_experts(context, maps, area, choice.weights, errors)
    allowed = possible_classes(allowed_classes(context, area, tagged=choice.tagged), errors)
    return pseudo_mask(maps, allowed, min_score=choice.min_score, min_margin=choice.min_margin)
