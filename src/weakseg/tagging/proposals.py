"""Which tag crops a workspace still wants, in which order: what is served where nobody names an order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.core.params import Params, load_params
from weakseg.labels.agreement import disputes_of
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import Crop
from weakseg.labels.crop_order import read_order
from weakseg.labels.opinions import Opinion, known_states, opinions_of
from weakseg.labels.tag_table import RASTERS, raster_sizes, read_tags
from weakseg.labels.tags import TagWindow, Window, window_grid

_SEED: Final = 0  # of the order in which crops of a grid are served
_ABSENT: Final = 5  # so many areas are named


@dataclass(frozen=True)
class Proposal:
    """Crops to be tagged, best first.

    Attributes:
        known: what tags.csv knows of some of them.
        asks: for some of them, the only classes that are asked about.
        said: one sentence on where they come from.
        sizes: height and width by area, px, of all rasters of data/images.
    """

    crops: tuple[Crop, ...]
    known: Mapping[Crop, Opinion]
    sizes: Mapping[str, tuple[int, int]]
    said: str
    asks: Mapping[Crop, tuple[str, ...]] = field(default_factory=dict)


def propose_crops(
    root: Path, *, order: Path | None = None, areas: Sequence[str] = (), size: int | None = None, disputes: bool = False
) -> Proposal:
    """The crops of a workspace that want tags.

    Without ``order`` and ``disputes`` these are the rows of tags.csv with an unknown class, and the windows of a grid
    that overlap no row, in an order that visits all areas early.

    Args:
        order: a CSV of crops (``labels.crop_order``), served as it is.
        areas: restricts the rest to these; else those of N2, or all images where params.yaml names none of them.
        size: side of the grid's crops, px of the raster; that of params.yaml without it.
        disputes: the crops on which the annotators are divided instead.

    Raises:
        DataError: no images, an unknown area, or a bad table or order.
    """
    layout, params = Layout(root), load_params(Layout(root).params)
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    if not sizes:
        raise DataError(f"no images in {layout.images}", expected="imported images", cure="run `weakseg data import`")
    rows = read_tags(layout.tags_csv, scheme, sizes) if layout.tags_csv.is_file() else []
    answers = read_answers(layout.answers, scheme)
    known = {(row.area, row.window): known_states(row, scheme) for row in rows}
    asks: dict[Crop, tuple[str, ...]] = {}
    if order is not None:
        ordered = read_order(order, sizes, scheme)
        crops, asks = list(ordered), {crop: names for crop, names in ordered.items() if names}
        said = f"{len(crops)} crops of {order}"
    elif disputes:
        crops = [one.crop for one in disputes_of(opinions_of(answers))]
        said = f"{len(crops)} crops on which the annotators are divided"
    else:
        crops, said = _wanted(rows, scheme, sizes, params, areas, size, {answer.crop for answer in answers})
    if not crops:
        raise nothing_to_tag(said)
    return Proposal(tuple(crops), known, sizes, said, asks)


def nothing_to_tag(said: str) -> DataError:
    """The error where all crops have their tags."""
    return DataError(
        f"nothing to tag: {said}",
        expected="crops without tags, or with unknown classes",
        cure="name other areas with --areas, or crops with --order",
    )


def _wanted(
    rows: Sequence[TagWindow],
    scheme: ClassScheme,
    sizes: Mapping[str, tuple[int, int]],
    params: Params,
    areas: Sequence[str],
    size: int | None,
    answered: Collection[Crop],
) -> tuple[list[Crop], str]:
    chosen, why = choose_areas(sizes, params, areas)
    side = size or max(1, round(params.tiles.tag_size / params.tiles.scale))
    of_area = []
    for area in chosen:
        mine = [row for row in rows if row.area == area]
        partly = [row.window for row in mine if len(known_states(row, scheme)) < len(scheme.objects)]
        free = free_windows(window_grid(*sizes[area], side), area, {row.window for row in mine}, answered)
        of_area.append([(area, window) for window in dict.fromkeys([*partly, *free])])
    crops = _spread(of_area)
    return crops, f"{len(crops)} crops of {len(chosen)} areas ({why}), grid of {side} px"


def area_crops(
    area: str, size: tuple[int, int], side: int, rows: Iterable[TagWindow], answered: Collection[Crop]
) -> list[Window]:
    """The crops of an area, tagged ones and others: rows of the table, and the windows of a grid that overlap none.

    Args:
        size: height and width of the area, px.
        side: of the grid's crops, px.
        answered: crops that somebody has answered for, whether or not the table has them.
    """
    mine = dict.fromkeys([*(row.window for row in rows if row.area == area), *(w for a, w in answered if a == area)])
    return [*mine, *free_windows(window_grid(*size, side), area, mine, ())]


def free_windows(grid: Sequence[Window], area: str, rows: Iterable[Window], answered: Collection[Crop]) -> list[Window]:
    """Windows of a grid that overlap no row of the table, but for rows that came from answers about the grid itself.

    Those stay, so that a second person gets some of them, and the page counts what has been done.
    """
    own = {window for window in grid if (area, window) in answered}
    others = [window for window in rows if window not in own]
    if not others:
        return list(grid)
    import shapely

    hit = shapely.STRtree(_boxes(others)).query(_boxes(grid))[0]
    taken = set(hit.tolist())
    return [window for index, window in enumerate(grid) if index not in taken]


def _boxes(windows: Sequence[Window]) -> Any:
    """Shapely boxes, a quarter px smaller on each side, so that neighbours do not touch."""
    import shapely

    row, column, height, width = np.array(windows, np.float64).T
    return shapely.box(column + 0.25, row + 0.25, column + width - 0.25, row + height - 0.25)


def choose_areas(sizes: Mapping[str, tuple[int, int]], params: Params, areas: Sequence[str]) -> tuple[list[str], str]:
    unknown = [area for area in areas if area not in sizes]
    if unknown:
        listed = ", ".join([*sizes][:_ABSENT])
        raise DataError(f"area {', '.join(unknown)}", expected=f"areas of data/images: {listed}, ...", cure="mend it")
    if areas:
        return list(areas), "as asked"
    tagged = [area for area in params.tiles.areas.tags if area in sizes]
    if tagged:
        return tagged, "those of tiles.areas.tags"
    return list(sizes), "all images, since tiles.areas.tags of params.yaml names none of them"


def _spread(of_area: Iterable[Sequence[Crop]]) -> list[Crop]:
    """The crops of each area in random order, one of every area in turn: the first hundred are of all of them."""
    rng = np.random.default_rng(_SEED)
    shuffled = [[crops[index] for index in rng.permutation(len(crops))] for crops in of_area]
    longest = max((len(crops) for crops in shuffled), default=0)
    return [crops[turn] for turn in range(longest) for crops in shuffled if turn < len(crops)]


def find_image(images: Path, area: str) -> Path:
    """The raster of a known area."""
    return next(path for suffix in RASTERS if (path := images / f"{area}{suffix}").is_file())
