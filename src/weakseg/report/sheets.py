"""One picture per area and method: image, truth, pseudo-mask, and the class maps before and after the method."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weakseg.core.bands import load_bands
from weakseg.core.class_sets import Allowed
from weakseg.core.classes import ClassScheme, Mask
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, WEAK_SOURCES
from weakseg.data.store import open_allowed, open_array
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import ScoreMaps, load_scores
from weakseg.pipeline.context import Context, open_context
from weakseg.report.figures import Picture, draw_sheet, heat, legend, shrink

SIDE = 192  # px of a panel
LEGEND = 150  # px


def draw_area_sheet(root: Path, method: str, area: str) -> Path:
    """Write out/sheets/<method>/<area>.jpg; what has not been made yet is left out of the sheet."""
    context = open_context(root)
    if area not in context.pixel_areas() + context.tag_areas():
        raise StageError(
            f"area {area}",
            expected="an area of N1 or N2",
            cure=f"choose from {context.layout.tiles / 'areas.csv'}",
        )
    return draw_sheet_of(context, method, area, after=True)


def draw_sheet_of(context: Context, method: str, area: str, *, after: bool) -> Path:
    """The same for an area that exists; ``after`` adds what another method made of this one's scores.

    First row: image, truth, pseudo-mask, the boundary map of a method that has one, class colours. Then a row for what
    the method starts from and one for the method: the scores of every class, and the class that wins, the tags applied.
    """
    layout, scheme = context.layout, context.scheme
    chain = [_start_of(method), method, next((m for m in WEAK_SOURCES if after and _start_of(m) == method), None)]
    rows = [_first_row(layout, scheme, method, area)]
    rows += [_score_row(layout, scheme, name, area) for name in chain if name and _stored(layout, name, area).is_file()]
    return draw_sheet(layout.sheets(method) / f"{area}.jpg", rows, side=SIDE)


def _start_of(method: str) -> str | None:
    """The one method whose scores this one refines, None where it starts from several or from none."""
    entry = ENTRIES.get(method)
    return entry.after[0] if entry and len(entry.after) == 1 and entry.after[0] in WEAK_SOURCES else None


def _first_row(layout: Layout, scheme: ClassScheme, method: str, area: str) -> list[tuple[str, Picture]]:
    picture = load_bands(layout.tiles).picture(np.asarray(open_array(layout.tiles / "images", area)))
    row = [("image", picture)]
    for caption, folder in (("truth", _truth_folder(layout, area)), (f"pseudo-mask {method}", layout.pseudo(method))):
        if (folder / f"{area}.npy").is_file():
            row.append((caption, _colours(scheme, np.asarray(open_array(folder, area)))))
    boundaries = layout.scores(method) / "boundaries"
    if (boundaries / f"{area}.npy").is_file():
        row.append(("boundary", heat(np.asarray(open_array(boundaries, area), np.float32))))
    return [*row, ("", legend(scheme, LEGEND))]


def _score_row(layout: Layout, scheme: ClassScheme, name: str, area: str) -> list[tuple[str, Picture]]:
    maps = load_scores(_stored(layout, name, area))
    panels = [
        (f"{name}: {label}", heat(shrink(scores, SIDE)))
        for label, scores in zip([scheme.names[index] for index in maps.classes], maps.scores, strict=True)
    ]
    winner = _winner(maps, open_allowed(layout.tiles, area))
    return [*panels, (f"{name}: winner", _colours(scheme, winner))]


def _winner(maps: ScoreMaps, allowed: Allowed) -> Mask:
    return pseudo_mask(maps, allowed, min_score=0.0, min_margin=0.0)


def _colours(scheme: ClassScheme, mask: Mask) -> Picture:
    step = max(1, max(mask.shape) // SIDE)  # colours of large masks are looked up for what will be seen
    return scheme.to_colours(np.ascontiguousarray(mask[step // 2 :: step, step // 2 :: step]))


def _stored(layout: Layout, name: str, area: str) -> Path:
    return layout.scores(name) / f"{area}.npz"


def _truth_folder(layout: Layout, area: str) -> Path:
    hidden = layout.hidden / f"{area}.npy"
    return layout.hidden if hidden.is_file() else layout.tiles / "labels"
