"""What names and colours the classes of a map in GIS programs: files beside the raster, written from its classes.

GeoTIFF itself keeps a colour table but no class names, so GDAL reads them from ``NAME.tif.aux.xml``; QGIS applies
``NAME.qml`` to ``NAME.tif`` unasked; ArcGIS takes ``NAME.clr`` as a colormap.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.raster.stream import raster_colours, raster_tags

CLASS_TAG: Final = "CLASS_"  # metadata tags of a map: CLASS_0=road
_COLUMNS: Final = (  # of GDAL's raster attribute table: name, type (0 integer, 2 text), usage by GDAL's numbers
    *(("Value", 0, 5), ("Class", 2, 2)),
    *(("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8)),
)


def read_legend(raster: Path) -> ClassScheme:
    """The classes that a map of weakseg names in its metadata and colours in its table.

    Raises:
        DataError: it names none.
    """
    tags = raster_tags(raster)
    names = [tags[f"{CLASS_TAG}{index}"] for index in range(len(tags)) if f"{CLASS_TAG}{index}" in tags]
    colours = raster_colours(raster)
    if not names or any(index not in colours for index in range(len(names))):
        raise DataError(
            f"{raster} does not name its classes",
            expected="a map of classes that `weakseg predict` wrote",
            cure="name the map, not its confidence or probabilities, or predict it again",
        )
    return ClassScheme(tuple(names), tuple(colours[index] for index in range(len(names))))


def legend_files(raster: Path) -> list[Path]:
    """What :func:`write_legend` writes for a raster."""
    return [raster.with_name(f"{raster.name}.aux.xml"), raster.with_suffix(".qml"), raster.with_suffix(".clr")]


def write_legend(raster: Path, classes: ClassScheme) -> list[Path]:
    """Write the three files beside a map; those that are there are replaced."""
    paths = legend_files(raster)
    for path, text in zip(paths, (_gdal_sidecar(classes), _qgis_style(classes), _arcgis_colours(classes)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths


def _gdal_sidecar(classes: ClassScheme) -> str:
    """Category names and a raster attribute table of the first band, as GDAL's persistent auxiliary metadata."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    add_categories(band, classes)
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(column, tag).text = str(value)
    for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        row = ET.SubElement(table, "Row", index=str(index))
        for value in (index, name, *colour):
            ET.SubElement(row, "F").text = str(value)
    return _text(root)


def add_categories(band: ET.Element, classes: ClassScheme) -> None:
    """Class names as GDAL's XML of a band has them."""
    categories = ET.SubElement(band, "CategoryNames")
    for name in classes.names:
        ET.SubElement(categories, "Category").text = name


def _qgis_style(classes: ClassScheme) -> str:
    """A paletted renderer: every class with its name and colour, nodata left out."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for index, (name, (red, green, blue)) in enumerate(zip(classes.names, classes.colours, strict=True)):
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        ET.SubElement(palette, "paletteEntry", value=str(index), label=name, color=colour, alpha="255")
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def _arcgis_colours(classes: ClassScheme) -> str:
    rows = (f"{index} {red} {green} {blue}" for index, (red, green, blue) in enumerate(classes.colours))
    return "\n".join(rows) + "\n"


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
