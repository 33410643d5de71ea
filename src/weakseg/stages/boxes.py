"""Stage boxes: ScoreMaps from bounding boxes on top of the teacher's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import intersect
from weakseg.core.classes import IGNORE
from weakseg.data.store import open_allowed, open_array
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import BoxTable, allowed_by_boxes
from weakseg.methods.boxes import fill_boxes
from weakseg.methods.fusion import claim_missing, fuse, silence_ignored
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.context import Context, open_context, tracked, write_report


def run(root: Path) -> None:
    """Write out/scores/boxes/<area>.npz and reports/boxes.json."""
    context = open_context(root)
    layout, machine = context.layout, context.machine
    areas = context.pixel_areas() + context.tag_areas()
    layout.scores("boxes").mkdir(parents=True, exist_ok=True)
    with tracked(context, "boxes", context.params.boxes) as log:
        table = open_boxes(context, areas)
        rows = dict(
            zip(areas, machine.gather([map_area(context, table, a) for a in machine.shard(areas)]), strict=True)
        )
        if not machine.is_main:
            return
        report = describe(context, table, rows)
        write_report(layout.report("boxes"), report)
        log.log_metrics({key: float(report[key]) for key in ("boxes", "kept_whole", "contradicted", "claims")})
        log.log_metrics({f"holdout/fill_iou/{name}": value for name, value in report["holdout_fill_iou"].items()})


def open_boxes(context: Context, areas: list[str]) -> BoxTable:
    """The boxes that the tiles stage wrote."""
    sizes = {}
    for area in areas:
        height, width = open_array(context.layout.tiles / "images", area).shape[:2]
        sizes[area] = (height, width)
    return read_boxes(context.layout.boxes / "boxes.json", context.scheme, sizes)


def map_area(context: Context, table: BoxTable, area: str) -> dict[str, Any]:
    """Write the scores of one area; returns what :func:`describe` sums up.

    A box whose class no tag allows anywhere in it contradicts the tags: they win, and the box is counted.
    """
    layout, params, scheme = context.layout, context.params.boxes, context.scheme
    image = context.bands.picture(np.array(open_array(layout.tiles / "images", area)))
    height, width = image.shape[:2]
    mine = table.of(area)
    complete = [name for name in table.searched.get(area, ()) if name in params.complete]
    tagged = open_allowed(layout.tiles, area)
    allowed = intersect(tagged, allowed_by_boxes(height, width, mine, complete, scheme))
    planes = allowed.planes()
    drawn = [(box.window, scheme.index(box.name)) for box in mine if not box.crowd]
    usable = [
        (window, label)
        for window, label in drawn
        if _inside(planes[label] | (allowed.nothing & ~tagged.nothing), window).any()
    ]
    windows, labels = [window for window, _ in usable], [label for _, label in usable]
    filled = fill_boxes(
        image, windows, labels, len(scheme), refiner=params.refiner, colour=context.params.crf.bilateral_srgb
    )
    base = load_scores(layout.scores("teacher") / f"{area}.npz")
    maps = fuse(base, [filled.maps], [1.0], allowed)
    present = np.eye(len(scheme), dtype=bool)[np.array(labels, np.int64)]
    maps, claims = claim_missing(maps, np.array(windows, np.int64).reshape(-1, 4), present, allowed=tagged)
    save_scores(layout.scores("boxes") / f"{area}.npz", silence_ignored(maps, tagged))
    overlaps = _holdout_overlap(context, area, filled.maps)
    counts = {"kept_whole": filled.kept_whole, "contradicted": len(drawn) - len(usable), "claims": claims}
    return counts | {"overlaps": overlaps}


def _inside(plane: npt.NDArray[np.bool_], window: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    row, column, height, width = window
    return plane[row : row + height, column : column + width]


def _holdout_overlap(context: Context, area: str, maps: ScoreMaps) -> list[tuple[int, int]] | None:
    """Per class: pixels that filled boxes and truth share, and that either has, on the hold-out block of an N1 area."""
    tiles = context.layout.tiles
    if not (tiles / "holdout" / f"{area}.npy").is_file():  # N2
        return None
    truth = np.asarray(open_array(tiles / "holdout", area))
    scored = truth != IGNORE
    pairs = []
    for index in range(len(context.scheme)):
        mine, real = maps.over(np.array([index]))[0] >= 0.5, truth == index
        pairs.append((int((mine & real & scored).sum()), int(((mine | real) & scored).sum())))
    return pairs


def describe(context: Context, table: BoxTable, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """reports/boxes.json: boxes per class, how many were settled, and how well filled boxes fit the hold-out of N1."""
    scheme, params = context.scheme, context.params.boxes
    held = [row["overlaps"] for row in rows.values() if row["overlaps"] is not None]
    fits = {}
    for name in params.classes:
        shared, either = np.array([pairs[scheme.index(name)] for pairs in held]).reshape(-1, 2).sum(0)
        fits[name] = float(shared / either) if either else float("nan")
    tags = context.tag_areas()
    return {
        **{key: sum(row[key] for row in rows.values()) for key in ("kept_whole", "contradicted", "claims")},
        "boxes": table.count(),
        "boxes_n2": table.count(tags),
        "per_class": {name: sum(box.name == name and not box.crowd for box in table.boxes) for name in params.classes},
        "crowd_regions": sum(box.crowd for box in table.boxes),
        "areas_searched_n2": sum(bool(table.searched.get(area)) for area in tags),
        "holdout_fill_iou": fits,
    }
