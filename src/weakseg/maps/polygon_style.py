"""Names and colours of classes in a GeoPackage of polygons, where QGIS looks for them: the table ``layer_styles``.

A ``.qml`` beside the file would take the name of the map's own. GDAL lists the table as a second layer, as it does
where QGIS itself has put a style into a GeoPackage; the layer of the polygons comes first.
"""

from __future__ import annotations

import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path

from weakseg.core.classes import ClassScheme

_TABLE = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT,
styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))"""


def add_style(package: Path, layer: str, classes: ClassScheme) -> None:
    """Make QGIS show a layer of a GeoPackage by its column ``name`` in the colours of the classes, unasked."""
    with closing(sqlite3.connect(package)) as database, database:
        (column,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
        ).fetchone()
        database.execute(_TABLE)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'classes', ?, '', 1, '', '')",
            (layer, column, polygon_style(classes)),
        )


def polygon_style(classes: ClassScheme) -> str:
    """QGIS' XML of a renderer with a colour for each class."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="name", symbollevels="0")
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        ET.SubElement(categories, "category", symbol=str(index), value=name, label=name, render="true")
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=str(index), alpha="1", clip_to_extent="1")
        fill = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        options = ET.SubElement(fill, "Option", type="Map")
        said = {"color": ",".join(map(str, (*colour, 255))), "style": "solid", "outline_style": "no"}
        for key, value in said.items():
            ET.SubElement(options, "Option", type="QString", name=key, value=value)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode") + "\n"
