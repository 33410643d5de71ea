"""Tasks for Label Studio: crops as chips, or as rectangles of their scenes, with what is known as predictions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.labels.answers import Crop
from weakseg.labels.crop_layer import CropRow
from weakseg.labels.label_studio import CLASSES, UNSURE, WINDOW
from weakseg.labels.tags import Window

_LIKELY: Final = 0.5  # a guess from which on a class is marked
_IMAGE: Final = "image"
_KEYS: Final = "123456789qwertyuiopasdfghjkl"

Object = dict[str, Any]


def labelling_config(scheme: ClassScheme, *, regions: bool) -> str:
    """The labelling interface that the tasks need: a project's Settings, Labeling Interface, Code.

    ``regions``: crops are rectangles of their scenes.
    """
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}", zoom="true", zoomControl="true")
    if regions:
        ET.SubElement(view, "Rectangle", name="crop", toName=_IMAGE)
    for control, title in ((CLASSES, "In the crop"), (UNSURE, "Not sure about")):
        ET.SubElement(view, "Header", value=title)
        choices = ET.SubElement(view, "Choices", name=control, toName=_IMAGE, choice="multiple", showInline="true")
        if regions:
            choices.set("perRegion", "true")
        for name, colour, key in zip(scheme.names, scheme.colours, _KEYS, strict=False):
            choice = ET.SubElement(choices, "Choice", value=name, background="#{:02x}{:02x}{:02x}".format(*colour))
            if control == CLASSES:
                choice.set("hotkey", key)
        for name in scheme.names[len(_KEYS) :]:
            ET.SubElement(choices, "Choice", value=name)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def chip_task(row: CropRow, address: str, size: tuple[int, int], model: str) -> Object:
    """A task that shows one crop.

    Args:
        address: of its picture.
        size: height and width of the raster of its area, px.
        model: that made the guesses.
    """
    area, window = row.crop
    data = {_IMAGE: address, "area": area, **dict(zip(WINDOW, window, strict=True))}
    data |= {"area_height": size[0], "area_width": size[1]}
    return {"data": data, "predictions": _predictions([(row, "crop", None)], model)}


def scene_task(rows: Sequence[CropRow], address: str, size: tuple[int, int], model: str) -> Object:
    """A task that shows a whole area, with its crops as rectangles; arguments as for :func:`chip_task`."""
    data = {_IMAGE: address, "area": rows[0].crop[0], "area_height": size[0], "area_width": size[1]}
    placed = [(row, _region(row.crop), rectangle(row.crop[1], size)) for row in rows]
    return {"data": data, "predictions": _predictions(placed, model)}


def _region(crop: Crop) -> str:
    return "crop_" + "_".join(map(str, crop[1]))


def _predictions(placed: Sequence[tuple[CropRow, str, Object | None]], model: str) -> list[Object]:
    """One prediction: what is known of crops, and where nothing is, what a model guesses. Label Studio shows one."""
    results = [result for one in placed for result in _results(*one)]
    sources = {"tags.csv": any(row.states for row, _, _ in placed), model: any(row.guess for row, _, _ in placed)}
    version = " and ".join(name for name, used in sources.items() if used)
    return [{"model_version": version or "crops", "result": results} | _score(placed)] if results else []


def _score(placed: Sequence[tuple[CropRow, str, Object | None]]) -> Object:
    """How sure a model is: the mean over crops and classes of the likelier of yes and no."""
    shares = [max(share, 1 - share) for row, _, _ in placed if not row.states for share in row.guess.values()]
    return {"score": round(sum(shares) / len(shares), 4)} if shares else {}


def _results(row: CropRow, region: str, where: Object | None) -> list[Object]:
    """A rectangle, if any, and the choices of the two controls."""
    present = [name for name, state in row.states.items() if state]
    unsure = [name for name, state in row.states.items() if state is None]
    if not row.states:
        present = [name for name, share in row.guess.items() if share >= _LIKELY]
    place = where or {"value": {}}
    results: list[Object] = []
    if where is not None:
        results.append({"id": region, "type": "rectangle", "from_name": "crop", "to_name": _IMAGE, **where})
    for control, names in ((CLASSES, present), (UNSURE, unsure)):
        if names:
            about = {"id": region, "type": "choices", "from_name": control, "to_name": _IMAGE}
            results.append({**about, **place, "value": {**place["value"], "choices": names}})
    return results


def rectangle(window: Window, size: tuple[int, int]) -> Object:
    """Value and size of a crop as a rectangle of a picture of its whole area, in percent of its sides."""
    row, column, tall, wide = window
    height, width = size
    value: Mapping[str, float] = {
        "x": 100 * column / width,
        "y": 100 * row / height,
        "width": 100 * wide / width,
        "height": 100 * tall / height,
        "rotation": 0,
    }
    return {"original_width": width, "original_height": height, "image_rotation": 0, "value": dict(value)}
