"""STAC items (version 1.1): what a map or an exported model is, for catalogues; JSON beside the file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.files import atomic_path
from weakseg.raster.footprint import Footprint, read_footprint
from weakseg.raster.stream import open_raster

STAC_VERSION: Final = "1.1.0"
_SCHEMAS: Final = "https://stac-extensions.github.io"
PROJECTION: Final = f"{_SCHEMAS}/projection/v2.0.0/schema.json"
RASTER: Final = f"{_SCHEMAS}/raster/v2.0.0/schema.json"
CLASSIFICATION: Final = f"{_SCHEMAS}/classification/v2.0.0/schema.json"
_GEOTIFF: Final = "image/tiff; application=geotiff"
_KINDS: Final = {".qml": "application/xml", ".xml": "application/xml", ".clr": "text/plain"}


def item_path(path: Path) -> Path:
    """Where the STAC item of a file or folder lies: ``map.tif`` has ``map.stac.json``."""
    return path.with_name(f"{path.stem if path.suffix else path.name}.stac.json")


def write_map_item(raster: Path, classes: ClassScheme, *, legend: Sequence[Path], layers: Sequence[Path]) -> Path:
    """Write the item of a map beside it; returns its path.

    The time of the item is when the map was made: rasters seldom say when their picture was taken.
    """
    place = read_footprint(raster)
    item = new_item(raster.stem, place.outline)
    item["stac_extensions"] = [CLASSIFICATION, RASTER, *([PROJECTION] if place.crs else [])]
    item["properties"] |= {"title": f"Land cover of {raster.stem}"} | _projection(place)
    band = {"name": "class", "data_type": "uint8", "nodata": IGNORE, "classification:classes": class_objects(classes)}
    item["assets"]["map"] = _asset(raster, raster, _GEOTIFF, "data") | {"bands": [band]}
    for layer in layers:
        item["assets"][layer.stem] = _asset(layer, raster, _GEOTIFF, "data") | {"bands": _layer_bands(layer)}
    for path in legend:
        item["assets"][path.suffix.removeprefix(".")] = _asset(path, raster, _KINDS[path.suffix], "metadata")
    return save_item(item, item_path(raster))


def new_item(name: str, outline: Sequence[tuple[float, float]] | None) -> dict[str, Any]:
    """An item without assets; ``outline`` is a ring of (longitude, latitude), None where the place is unknown."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    item: dict[str, Any] = {"type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": [], "id": name}
    item["geometry"] = None
    if outline:
        xs, ys = zip(*outline, strict=True)
        item["geometry"] = {"type": "Polygon", "coordinates": [[list(place) for place in outline]]}
        item["bbox"] = [min(xs), min(ys), max(xs), max(ys)]
    return item | {"properties": {"datetime": now, "created": now}, "links": [], "assets": {}}


def save_item(item: dict[str, Any], path: Path) -> Path:
    """Write an item as JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(item, indent=1) + "\n", encoding="utf-8")
    return path


def class_objects(classes: ClassScheme) -> list[dict[str, Any]]:
    """The classes as the classification extension has them: plain names, real ones as title, colours in hexadecimal."""
    plain = [re.sub(r"[^0-9A-Za-z_-]", "_", name) for name in classes.names]
    if len(set(plain)) < len(plain):
        plain = [f"class_{index}" for index in range(len(plain))]
    return [
        {"value": index, "name": plain[index], "title": name, "color_hint": f"{red:02X}{green:02X}{blue:02X}"}
        for index, (name, (red, green, blue)) in enumerate(zip(classes.names, classes.colours, strict=True))
    ]


def _layer_bands(layer: Path) -> list[dict[str, Any]]:
    """The bands of a layer, with the number that its pixel values are multiplied by."""
    with open_raster(layer) as file:
        pairs = enumerate(zip(file.descriptions, file.scales, strict=True), 1)
        named = [(name or f"band {at}", scale) for at, (name, scale) in pairs]
    known = {"data_type": "uint8", "nodata": IGNORE}
    return [{"name": name, **known, **({} if scale == 1 else {"raster:scale": scale})} for name, scale in named]


def _projection(place: Footprint) -> dict[str, Any]:
    if place.crs is None:
        return {}
    shape = {"proj:shape": [place.height, place.width]}
    return {"proj:code": place.code} | ({} if place.code else {"proj:wkt2": place.crs}) | shape | place.transform


def _asset(path: Path, beside: Path, kind: str, role: str) -> dict[str, Any]:
    """An asset by its place relative to the item; another folder is named in full."""
    href = f"./{path.name}" if path.resolve().parent == beside.resolve().parent else path.resolve().as_posix()
    return {"href": href, "type": kind, "roles": [role]}
