"""Small pictures for the page of the report, drawn by the stages that may see the truth: evaluate and audit.

A folder of them holds ``maps/<area>.png``, ``images/<area>.jpg`` and ``truth/<area>.png``; those of evaluate also
``worst/<n>-{image.jpg,truth.png,map.png}``, the crops of ``worst.json``. evaluate writes images and truth, which are
the same for every source, with task (i) alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.files import atomic_path
from weakseg.data.areas import Area, Image
from weakseg.evaluation.metrics import confusion_matrix
from weakseg.report.embed import encode_image, encode_map
from weakseg.report.safe_colours import safe_scheme

WORST = 6  # crops per source
_SCORED = 0.5  # least share of a crop that has truth


@dataclass(frozen=True)
class WorstCrop:
    """A crop of an area and what is wrong there.

    Attributes:
        row, column, side: its window, px.
        error: share of its labelled pixels that are wrong.
        truth, taken_for: the most frequent confusion, class names; "" where nothing is wrong.
    """

    area: str
    row: int
    column: int
    side: int
    error: float
    truth: str = ""
    taken_for: str = ""


def write_pictures(
    folder: Path, areas: Mapping[str, Area], maps: Mapping[str, Mask], scheme: ClassScheme, *, side: int, shared: bool
) -> None:
    """Write the pictures of one source.

    Args:
        areas: validation areas with their truth.  maps: predictions uint8 (H, W), by area name.
        side: of the crops on whose grid the worst are looked for, px.
        shared: whether to write images and truth as well.
    """
    colours = safe_scheme(scheme)
    for name, area in areas.items():
        write_area(folder, name, maps[name], scheme, image=area.image if shared else None, truth=area.mask)
    crops = worst_crops({n: _truth(a) for n, a in areas.items()}, maps, scheme, side=side)
    for number, crop in enumerate(crops):
        here = np.s_[crop.row : crop.row + crop.side, crop.column : crop.column + crop.side]
        area = areas[crop.area]
        stem = folder / "worst" / str(number)
        _write(stem.with_name(f"{number}-image.jpg"), encode_image(np.asarray(area.image[here])))
        _write(stem.with_name(f"{number}-truth.png"), encode_map(_truth(area)[here], colours))
        _write(stem.with_name(f"{number}-map.png"), encode_map(maps[crop.area][here], colours))
    _write(folder / "worst.json", (json.dumps([asdict(crop) for crop in crops], indent=1) + "\n").encode())


def write_area(
    folder: Path, name: str, labels: Mask, scheme: ClassScheme, *, image: Image | None, truth: Mask | None
) -> None:
    """Write the map ``labels`` of one area and, where there is an image, this and the truth, all (H, W)."""
    colours = safe_scheme(scheme)
    _write(folder / "maps" / f"{name}.png", encode_map(labels, colours))
    if image is not None:
        _write(folder / "images" / f"{name}.jpg", encode_image(np.asarray(image)))
        if truth is not None:
            _write(folder / "truth" / f"{name}.png", encode_map(np.asarray(truth), colours))


def worst_crops(
    truths: Mapping[str, Mask], maps: Mapping[str, Mask], scheme: ClassScheme, *, side: int, count: int = WORST
) -> list[WorstCrop]:
    """The ``count`` crops with the largest share of wrong pixels, worst first, on a grid of ``side`` px.

    Strips at the lower and right edge that are no whole crop are left out, and so are crops of which less than half is
    labelled; areas smaller than a crop are one crop of the size of their shorter side.
    """
    found = []
    for name, truth in truths.items():
        step = min(side, *truth.shape)
        known = truth != IGNORE
        wrong = known & (truth != maps[name])
        for row in range(0, truth.shape[0] - step + 1, step):
            for column in range(0, truth.shape[1] - step + 1, step):
                here = np.s_[row : row + step, column : column + step]
                labelled = int(known[here].sum())
                if labelled >= _SCORED * step * step:
                    found.append(WorstCrop(name, row, column, step, float(wrong[here].sum()) / labelled))
    found.sort(key=lambda crop: -crop.error)
    return [_explain(crop, truths[crop.area], maps[crop.area], scheme) for crop in found[:count]]


def _explain(crop: WorstCrop, truth: Mask, guess: Mask, scheme: ClassScheme) -> WorstCrop:
    here = np.s_[crop.row : crop.row + crop.side, crop.column : crop.column + crop.side]
    confusion = confusion_matrix(np.ascontiguousarray(truth[here]), np.ascontiguousarray(guess[here]), len(scheme))
    np.fill_diagonal(confusion, 0)
    if not confusion.any():
        return crop
    true, predicted = np.unravel_index(int(confusion.argmax()), confusion.shape)
    return WorstCrop(**{**asdict(crop), "truth": scheme.names[int(true)], "taken_for": scheme.names[int(predicted)]})


def _truth(area: Area) -> Mask:
    return np.asarray(area.mask, np.uint8)


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
