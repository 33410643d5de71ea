"""What to label next as a GeoPackage, to be looked at over the images in QGIS."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.files import atomic_path
from weakseg.labels.crop_style import order_style
from weakseg.labels.layer_styles import add_layer_styles
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.whole import vector_errors
from weakseg.studies.acquisition.suggest import Kind, Suggestion
from weakseg.tagging.proposals import find_image

COLUMNS: Final = ("rank", "area", "row", "column", "height", "width", "points", "seconds", "per_hour", "asks", "reason")
IN_PIXELS: Final = "_in_pixels"
"""Ends the name of a layer of images without a place: x is the column, y minus the row, as QGIS shows such an image."""


def write_layers(path: Path, found: Mapping[Kind, Sequence[Suggestion]], images: Path) -> list[str]:
    """Write a GeoPackage with a layer per kind of label, and per CRS of the images where there are several, and styles.

    Returns:
        Names of the layers: the kind, with a number from the second CRS on.
    """
    infos = {one.area: read_info(find_image(images, one.area)) for each in found.values() for one in each}
    names: list[str] = []
    styles: dict[str, str] = {}
    with vector_errors(path), atomic_path(path) as temporary:
        for kind, suggestions in found.items():
            ranks = {one: rank for rank, one in enumerate(suggestions, 1)}
            placed = [crs for crs in dict.fromkeys(_crs(infos[one.area]) for one in suggestions) if crs is not None]
            for number, crs in enumerate([*placed, None]):
                mine = [one for one in suggestions if _crs(infos[one.area]) == crs]
                if not mine:
                    continue
                name = kind + (IN_PIXELS if crs is None else f"_{number + 1}" * (number > 0))
                frame = _frame(mine, ranks, infos, crs)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "'crs' was not provided")  # images without a place have none
                    frame.to_file(temporary, driver="GPKG", layer=name, mode="a" if names else "w", engine="pyogrio")
                names.append(name)
                styles[name] = order_style(len(suggestions))
        if styles:
            add_layer_styles(temporary, styles)
    return names


def _crs(info: RasterInfo) -> str | None:
    return info.crs if info.transform is not None else None


def _frame(
    suggestions: Sequence[Suggestion], ranks: Mapping[Suggestion, int], infos: Mapping[str, RasterInfo], crs: str | None
) -> Any:
    import geopandas

    rows = [
        (ranks[one], one.area, *one.window, one.gain, one.seconds, one.per_hour, " ".join(one.asks), one.reason)
        for one in suggestions
    ]
    shapes = [outline(one, infos[one.area]) for one in suggestions]
    table = {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}
    return geopandas.GeoDataFrame(table, geometry=shapes, crs=crs)


def outline(one: Suggestion, info: RasterInfo) -> Any:
    """The polygon of a window where its raster lies, or in its pixels."""
    import shapely

    row, column, height, width = one.window
    corners = np.array([(column, row), (column + width, row), (column + width, row + height), (column, row + height)])
    if _crs(info) is None or info.transform is None:
        return shapely.Polygon(corners * (1, -1))
    a, b, c, d, e, f = info.transform
    x, y = corners.T
    return shapely.Polygon(np.column_stack([a * x + b * y + c, d * x + e * y + f]))
