"""How QGIS is to show layers of a GeoPackage: the table ``layer_styles``, whose default styles it applies unasked.

A ``.qml`` beside the file would take the name of the map's own. GDAL lists the table as a second layer, as it does
where QGIS itself has put a style into a GeoPackage; the layers with places come first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

_TABLE: Final = """
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT,
styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))"""
_CONTENTS: Final = """
INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('layer_styles', 'attributes', 'layer_styles')"""
_ROW: Final = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'classes', ?, '', 1, '', '')"""


def add_layer_styles(package: Path, styles: Mapping[str, str]) -> None:
    """Put QML of layers, by their names, into a GeoPackage that has no styles yet."""
    with closing(sqlite3.connect(package)) as database, database:
        database.execute(_TABLE)
        database.execute(_CONTENTS)
        for layer, style in styles.items():
            (column,) = database.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
            ).fetchone()
            database.execute(_ROW, (layer, column, style))
