"""The workspace of one budget of `weakseg label-cost`: links to the rasters, and the labels that the budget buys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np

from weakseg.core.bands import FILE
from weakseg.core.classes import ClassScheme
from weakseg.core.config import save_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES
from weakseg.core.params import BudgetParams, Params, load_params
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import BoxTable, boxes_from_mask, join_boxes, write_boxes
from weakseg.labels.tag_table import read_tags, write_tags
from weakseg.labels.tags import TagWindow, tags_from_mask, to_tag_windows, window_grid
from weakseg.raster.open import read_mask, read_valid
from weakseg.raster.partial import is_partly_labelled
from weakseg.stages.tiles import SUFFIXES, find_raster, raw_sizes
from weakseg.studies.label_cost import Labels

Item = TypeVar("Item")
ORDER_SEED: Final = 0  # of the order in which crops and areas get their labels: a larger budget holds the smaller ones
Sizes = dict[str, tuple[int, int]]


def prepare_workspace(
    layout: Layout, place: Layout, params: Params, budget: BudgetParams, scheme: ClassScheme, steps: int | None
) -> Labels:
    """Write params.yaml and data/ of the budget's workspace: links to rasters, and the labels that it buys."""
    pixel, rest = split_areas(layout, params, budget)
    labelled = [area for area in rest if area in params.tiles.areas.tags]
    sizes = raw_sizes(layout)
    place.data.mkdir(parents=True)
    for source in (layout.images, layout.labels, layout.classes, layout.data / FILE):
        if source.exists():
            (place.data / source.name).symlink_to(source.resolve())
    crops = _share(tag_rows(layout, params, labelled, scheme, sizes), budget.tags, f"{budget.name}: tag crops")
    write_tags(place.tags_csv, crops, scheme, sizes)
    boxes = BoxTable()
    if budget.boxes > 0:
        table = box_table(layout, params, labelled, scheme, sizes)
        areas = _share(sorted(table.searched), budget.boxes, f"{budget.name}: N2 areas with boxes")
        boxes = table.select(areas, params.boxes.classes)
        write_boxes(place.box_file, boxes, scheme, sizes)
    save_yaml(place.params, budget_params(params, pixel, rest, budget, steps))
    load_params(place.params)
    pixels = sum(sizes[area][0] * sizes[area][1] for area in pixel)
    return Labels(len(pixel), pixels, len(crops), boxes.count())


def split_areas(layout: Layout, params: Params, budget: BudgetParams) -> tuple[list[str], list[str]]:
    """(areas with pixel labels, all others of N1 and N2): the first of N1, then the first of N2 that have masks."""
    areas = params.tiles.areas
    masked = [area for area in areas.tags if _has_mask(layout, area)]
    candidates = [*areas.pixel, *masked]
    if budget.pixel > len(candidates):
        raise ParamsError(
            f"budget {budget.name!r}: {budget.pixel} pixel areas",
            expected=f"at most {len(candidates)}, the areas of N1 and those of N2 with masks",
            cure="lower it in label_cost.budgets",
        )
    pixel = candidates[: budget.pixel]
    return pixel, [area for area in (*areas.pixel, *areas.tags) if area not in pixel]


def _share(items: Sequence[Item], share: float, what: str) -> list[Item]:
    """The first part of the items in an order drawn once, one at least; none for a share of 0."""
    if share == 0:
        return []
    if not items:
        raise ParamsError(
            f"budget {what}: none", expected="some to choose from", cure="lower the share to 0, or add some"
        )
    order = np.random.default_rng(ORDER_SEED).permutation(len(items))
    return [items[index] for index in sorted(order[: max(1, round(share * len(items)))])]


def _has_mask(layout: Layout, area: str) -> bool:
    return any((layout.labels / f"{area}{suffix}").is_file() for suffix in SUFFIXES)


def _is_partly(layout: Layout, area: str) -> bool:
    return is_partly_labelled(find_raster(layout.labels, area))


def tag_rows(
    layout: Layout, params: Params, areas: Sequence[str], scheme: ClassScheme, sizes: Sizes
) -> list[TagWindow]:
    """The tagged crops of these areas in px of the raw rasters: the user's, or what the masks imply."""
    tiles = params.tiles
    if tiles.tag_source == "csv":
        rows = read_tags(layout.tags_csv, scheme, sizes)
    else:
        rows, size = [], max(1, round(tiles.tag_size / tiles.scale))
        for area in areas:
            if _has_mask(layout, area):
                mask = read_mask(find_raster(layout.labels, area), scheme)
                windows = window_grid(mask.shape[0], mask.shape[1], size)
                valid = read_valid(find_raster(layout.images, area))
                present, known = tags_from_mask(
                    mask,
                    windows,
                    len(scheme),
                    min_share=tiles.tag_min_share,
                    valid=valid,
                    background=scheme.background_index,
                    partly=_is_partly(layout, area),
                )
                rows += to_tag_windows(area, windows, present, known, scheme)
    return [row for row in rows if row.area in areas and row.tagged]


def box_table(layout: Layout, params: Params, areas: Sequence[str], scheme: ClassScheme, sizes: Sizes) -> BoxTable:
    """The boxes of these areas in px of the raw rasters: the user's, or what the masks imply."""
    boxes = params.boxes
    if boxes.source == "file":
        return read_boxes(layout.box_file, scheme, sizes).select(areas, boxes.classes)
    least = max(1, round(boxes.min_pixels / params.tiles.scale**2))
    tables = []
    for area in areas:
        if _has_mask(layout, area):
            mask = read_mask(find_raster(layout.labels, area), scheme)
            found = boxes_from_mask(area, mask, scheme, boxes.classes, min_pixels=least)
            tables.append(BoxTable(found.boxes) if _is_partly(layout, area) else found)
    return join_boxes(tables)


def budget_params(
    params: Params, pixel: list[str], rest: list[str], budget: BudgetParams, steps: int | None
) -> dict[str, Any]:
    """params.yaml of the budget's workspace. Boxes, where there are some, constrain all sources as tags do."""
    raw: dict[str, Any] = params.model_dump(mode="json")
    raw["tiles"]["tag_source"] = "csv"
    raw["tiles"]["areas"] |= {"pixel": pixel, "tags": rest}
    if budget.tags == 0 and ENTRIES[budget.source].gives == "all":
        raw["fused"]["experts"] = []  # they learn from tags alone
    if budget.boxes > 0:
        raw["boxes"] |= {"source": "file", "constrain": True}
    else:
        raw["boxes"] |= {"source": "masks", "classes": [], "complete": [], "constrain": False}
    for section in raw.values():
        plan = section.get("optimiser") if isinstance(section, dict) else None
        if plan is None:
            continue
        plan["steps"] = min(plan["steps"], steps or plan["steps"])
        plan["report_every"] = min(plan["report_every"], plan["steps"])
    return raw
