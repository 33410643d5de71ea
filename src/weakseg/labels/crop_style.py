"""How QGIS draws crops: with a square per class that is present and a form to change them, or by what comes first."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Final

from weakseg.core.classes import ClassScheme

_STEP: Final = 2.4  # mm from square to square
_SIDE: Final = 2.0  # mm of a square
_STEPS: Final = ((0.1, "213,94,0,255", 0.8), (0.5, "230,159,0,255", 0.5), (1.0, "255,255,255,255", 0.3))
"""Up to which share of an order, in which colour (Okabe and Ito: safe for all eyes), how wide in mm."""
_DOCTYPE: Final = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def crop_style(scheme: ClassScheme, columns: Mapping[str, str], words: Sequence[str]) -> str:
    """The QML of a layer of crops.

    Args:
        scheme: names and colours.
        columns: the column of each class that people tag.
        words: what such a column may hold; the first means present.
    """
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology|Fields|Forms")
    renderer = ET.SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0", forceraster="0")
    rules = ET.SubElement(renderer, "rules", key="{crops}")
    symbols = ET.SubElement(renderer, "symbols")
    ET.SubElement(rules, "rule", key="{crop}", symbol="0", label="crop")
    _outline(symbols, "0", "255,255,255,255", 0.3)
    colours = dict(zip(scheme.names, scheme.colours, strict=True))
    for number, name in enumerate(columns, 1):
        column = columns[name].replace('"', '""')
        present = f"\"{column}\" = '{words[0]}'"
        ET.SubElement(rules, "rule", key=f"{{class {number}}}", symbol=str(number), label=name, filter=present)
        _square(symbols, number, colours[name], _place(number - 1, len(columns)))
    _form(root, list(columns.values()), words)
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def order_style(count: int) -> str:
    """The QML of a layer with a column ``rank``, 1 to ``count``: the first tenth thick and red, then ever thinner."""
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0", forceraster="0")
    rules = ET.SubElement(renderer, "rules", key="{order}")
    symbols = ET.SubElement(renderer, "symbols")
    first = 1
    for number, (part, colour, width) in enumerate(_STEPS):
        if (last := math.ceil(part * count)) < first:
            continue
        ranks = f'"rank" >= {first} AND "rank" <= {last}'
        ET.SubElement(
            rules, "rule", key=f"{{order {number}}}", symbol=str(number), label=f"{first} to {last}", filter=ranks
        )
        _outline(symbols, str(number), colour, width)
        first = last + 1
    ET.indent(root)
    return _DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _place(index: int, count: int) -> tuple[float, float]:
    """Offset in mm of a square from the middle of its crop."""
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    row, column = divmod(index, across)
    return (column - (across - 1) / 2) * _STEP, (row - (down - 1) / 2) * _STEP


def _options(parent: ET.Element, values: Mapping[str, str]) -> None:
    options = ET.SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        ET.SubElement(options, "Option", name=name, type="QString", value=value)


def _symbol(parent: ET.Element, name: str, kind: str, layer: str, values: Mapping[str, str]) -> ET.Element:
    symbol = ET.SubElement(parent, "symbol", name=name, type=kind, alpha="1", force_rhr="0", clip_to_extent="1")
    found = ET.SubElement(symbol, "layer", {"class": layer, "enabled": "1", "locked": "0", "pass": "0"})
    _options(found, values)
    return found


def _outline(symbols: ET.Element, name: str, colour: str, width: float) -> None:
    line = {"style": "no", "outline_style": "solid", "outline_color": colour, "outline_width": f"{width:g}"}
    _symbol(symbols, name, "fill", "SimpleFill", line)


def _square(symbols: ET.Element, number: int, colour: tuple[int, int, int], place: tuple[float, float]) -> None:
    layer = _symbol(symbols, str(number), "fill", "CentroidFill", {"point_on_all_parts": "1", "point_on_surface": "0"})
    marker = {
        "name": "square",
        "color": ",".join(map(str, (*colour, 255))),
        "outline_color": "0,0,0,255",
        "outline_width": "0.2",
        "size": str(_SIDE),
        "size_unit": "MM",
        "offset": f"{place[0]:g},{place[1]:g}",
        "offset_unit": "MM",
    }
    _symbol(layer, f"@{number}@0", "marker", "SimpleMarker", marker)


def _form(root: ET.Element, columns: Sequence[str], words: Sequence[str]) -> None:
    """A list to choose from for every column of a class."""
    fields = ET.SubElement(root, "fieldConfiguration")
    for column in columns:
        field = ET.SubElement(fields, "field", name=column, configurationFlags="None")
        widget = ET.SubElement(field, "editWidget", type="ValueMap")
        options = ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
        choices = ET.SubElement(options, "Option", name="map", type="List")
        for word in words:
            choice = ET.SubElement(choices, "Option", type="Map")
            ET.SubElement(choice, "Option", name=word, type="QString", value=word)
