"""Names and colours of classes in a GeoPackage of polygons, where QGIS looks for them (``labels.layer_styles``)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from weakseg.core.classes import ClassScheme
from weakseg.labels.layer_styles import add_layer_styles


def add_style(package: Path, layer: str, classes: ClassScheme) -> None:
    """Make QGIS show a layer of a GeoPackage by its column ``name`` in the colours of the classes, unasked."""
    add_layer_styles(package, {layer: polygon_style(classes)})


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
