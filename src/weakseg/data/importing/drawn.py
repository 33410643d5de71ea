"""Layers of polygons drawn by hand become masks of part of an area, all of them or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weakseg.core.bands import load_bands
from weakseg.core.classes import IGNORE, ClassScheme, Mask, load_classes
from weakseg.core.errors import DataError, ImportProblems
from weakseg.core.layout import Layout
from weakseg.data.importing.previews import Preview, choose_previews, make_preview
from weakseg.labels.box_reading import BoxReading, shorten
from weakseg.labels.class_map import ClassMap, read_class_map
from weakseg.labels.drawn_masks import check_order, draw_mask, polygon_names
from weakseg.labels.geojson import polygons_of
from weakseg.labels.layer_tags import place_shapes, read_features
from weakseg.labels.tag_table import RASTERS
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_bands, read_valid
from weakseg.raster.partial import PARTLY
from weakseg.raster.write import write_raster


@dataclass(frozen=True)
class DrawnMasks:
    """What was drawn.

    Attributes:
        said: a line per area and note.
        previews: of some areas.
        areas: how many got a mask.
    """

    said: tuple[str, ...]
    previews: tuple[Preview, ...]
    areas: int


@dataclass
class _Area:
    """Polygons of one area, px, with their names."""

    shapes: list[object]
    names: list[str]


def import_drawn(
    root: Path,
    files: Sequence[Path],
    *,
    field: str | None = None,
    layer: str | None = None,
    names: Path | None = None,
    on_top: Sequence[str] = (),
    replace: bool = False,
) -> DrawnMasks:
    """Write ``data/labels/AREA.tif`` for every area with a polygon: 255, unknown, where there is none.

    Args:
        field: column with the classes; ``class``, ``label``, ``category`` or ``name`` without it.
        layer: of a GeoPackage; all of them without it.
        names: a file that says which class a name is.
        on_top: classes that cover others where polygons overlap, the topmost first.
        replace: give up masks that the areas have.

    Raises:
        ImportProblems: anything wrong with the layers; nothing has been written.
        DataError: an area has a mask, and ``replace`` is off; classes that are none.
    """
    layout = Layout(root)
    scheme = load_classes(layout.classes)
    check_order(on_top, scheme)
    areas = _infos(layout)
    class_map = read_class_map(names, scheme)
    found: dict[str, _Area] = {}
    notes, problems = list[str](), list[str]()
    for file in files:
        reading = BoxReading(scheme, areas)
        try:
            _collect(file, reading, class_map, field, layer, found)
        except DataError as error:
            problems.append(str(error))
        notes += reading.notices
        problems += reading.problems
    masks = dict(_draw(found, areas, scheme, on_top, notes, problems))
    if not masks and not problems:
        problems.append(str(DataError("no polygon in an area", expected="one at least", cure="name a layer with some")))
    if problems:
        raise ImportProblems(problems)
    _check_free(layout, masks, replace)
    return _write(layout, masks, areas, scheme, notes)


def _infos(layout: Layout) -> dict[str, RasterInfo]:
    folder = layout.images
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in RASTERS) if folder.is_dir() else []
    if not paths:
        raise DataError(f"no image in {folder}", expected="imported images", cure="run `weakseg data import` first")
    return {path.stem: read_info(path) for path in paths}


def _collect(
    file: Path,
    reading: BoxReading,
    names: ClassMap,
    field: str | None,
    layer: str | None,
    found: dict[str, _Area],
) -> None:
    """Add the polygons of a file to the areas that they lie in."""
    source = read_features(file, reading, layer, polygons_of)
    if reading.problems:
        return
    classes = polygon_names(source, names, field)
    wanted = [number for number, name in enumerate(classes) if name is not None]
    placed: set[int] = set()
    for area, numbers, shapes, _ in place_shapes(source, wanted, reading.areas):
        mine = found.setdefault(area, _Area([], []))
        for number, shape in zip(numbers, shapes, strict=True):
            name = classes[number]
            if name is not None and shape.area > 0:
                placed.add(number)
                mine.shapes.append(shape)
                mine.names.append(name)
    if wanted and not placed:
        reading.refuse(
            f"{file}: all {len(wanted)} polygons lie outside the images",
            expected="a place inside an image",
            cure="check the CRS of the layer and the order of its coordinates (x or longitude first)",
        )
    elif len(placed) < len(wanted):
        reading.notices.append(f"{file}: {len(wanted) - len(placed)} polygon(s) outside the images skipped")
    if len(wanted) < len(classes):
        reading.notices.append(f"{file}: {len(classes) - len(wanted)} polygon(s) left out by the map")


def _draw(
    found: Mapping[str, _Area],
    areas: Mapping[str, RasterInfo],
    scheme: ClassScheme,
    on_top: Sequence[str],
    notes: list[str],
    problems: list[str],
) -> Iterator[tuple[str, Mask]]:
    for area, mine in sorted(found.items()):
        if not mine.shapes:
            continue
        size = areas[area].height, areas[area].width
        try:
            drawn = draw_mask(size, np.array(mine.shapes, object), mine.names, scheme, on_top=on_top)
        except DataError as error:
            problems.append(f"{area}: {error}")
            continue
        if drawn.missed:
            names = shorten(mine.names[index] for index in drawn.missed)
            notes.append(f"{area}: {len(drawn.missed)} polygon(s) smaller than a px label nothing ({names})")
        if drawn.labelled:
            yield area, drawn.mask


def _check_free(layout: Layout, masks: Mapping[str, Mask], replace: bool) -> None:
    there = [area for area in masks if _mask_files(layout, area)]
    if there and not replace:
        raise DataError(
            f"{layout.labels} has masks of {shorten(there)}",
            expected="areas without a mask",
            cure="say --replace to give them up, or take their polygons out of the layer",
        )


def _mask_files(layout: Layout, area: str) -> list[Path]:
    return [path for suffix in RASTERS if (path := layout.labels / f"{area}{suffix}").is_file()]


def _write(
    layout: Layout, masks: Mapping[str, Mask], areas: Mapping[str, RasterInfo], scheme: ClassScheme, notes: list[str]
) -> DrawnMasks:
    shown = choose_previews(list(masks))
    said, previews, bands = [], [], load_bands(layout.data)
    for area, mask in masks.items():
        image = next(path for suffix in RASTERS if (path := layout.images / f"{area}{suffix}").is_file())
        valid = read_valid(image)
        whole = mask if valid is None else np.where(valid, mask, np.uint8(IGNORE))
        target = layout.labels / f"{area}.tif"
        info = dataclasses.replace(areas[area], nodata=IGNORE)
        write_raster(target, whole, info, colours=scheme, compress=True, tags=PARTLY)
        for other in _mask_files(layout, area):
            if other != target:
                other.unlink()
        counts = np.bincount(whole.ravel(), minlength=256)
        shares = [f"{name} {counts[index]:,} px" for index, name in enumerate(scheme.names) if counts[index]]
        labelled = 1 - counts[IGNORE] / whole.size
        said.append(f"{area}: {labelled:.1%} labelled: {', '.join(shares) or 'ignored classes alone'}")
        if area in shown:
            previews.append(make_preview(area, bands.picture(read_bands(image, bands)), whole))
    return DrawnMasks((*said, *(f"note: {note}" for note in notes)), tuple(previews), len(masks))
