"""One picture per area and method: image, truth, the map of every class, and the pseudo-mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weakseg.data.store import open_array
from weakseg.errors import StageError
from weakseg.figures import Picture, draw_sheet, heat, legend
from weakseg.layout import Layout
from weakseg.stages.context import open_context
from weakseg.weak.scores import load_scores


def draw_area_sheet(root: Path, method: str, area: str) -> Path:
    """Write out/sheets/<method>/<area>.png; what has not been made yet is left out of the sheet."""
    context = open_context(root)
    layout, scheme = context.layout, context.scheme
    if area not in context.pixel_areas() + context.tag_areas():
        raise StageError(
            f"area {area}", expected="an area of N1 or N2", cure=f"choose from {layout.tiles / 'areas.csv'}"
        )
    image = np.asarray(open_array(layout.tiles / "images", area))
    first = [("image", image)]
    for caption, folder in (("truth", _truth_folder(layout, area)), (f"pseudo-mask {method}", layout.pseudo(method))):
        if (folder / f"{area}.npy").is_file():
            first.append((caption, scheme.to_colours(np.asarray(open_array(folder, area)))))
    first.append(("", legend(scheme, 200)))
    rows = [first]
    for name in dict.fromkeys([method, *(["cam"] if method == "crf" else [])]):
        rows.append(_score_row(layout.scores(name) / f"{area}.npz", name, scheme.names))
    boundary = layout.scores("irnet") / "boundaries" / f"{area}.npy"
    if method == "irnet" and boundary.is_file():
        rows[0].insert(2, ("boundary", heat(np.load(boundary).astype(np.float32))))
    return draw_sheet(layout.sheets(method) / f"{area}.png", rows)


def _truth_folder(layout: Layout, area: str) -> Path:
    hidden = layout.hidden / f"{area}.npy"
    return layout.hidden if hidden.is_file() else layout.tiles / "labels"


def _score_row(path: Path, name: str, classes: tuple[str, ...]) -> list[tuple[str, Picture]]:
    maps = load_scores(path)
    return [(f"{name}: {label}", heat(scores)) for label, scores in zip(classes, maps.scores, strict=True)]
