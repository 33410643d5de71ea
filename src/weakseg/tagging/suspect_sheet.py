"""The contact sheet of `weakseg labels suspects`: each crop in a frame, with the tag in question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from weakseg.core.layout import Layout
from weakseg.labels.answers import Crop
from weakseg.labels.tag_table import raster_sizes
from weakseg.report.figures import Picture, draw_sheet
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.suspects import Suspect

_PANELS: Final = 6  # in a row
_SIDE: Final = 210  # px of a panel
_FRAME: Final = (255, 0, 160)


def draw_suspects(root: Path, path: Path, suspects: Sequence[Suspect]) -> Path:
    """Write a contact sheet: each crop in a frame in its surroundings, with the tag in question."""
    layout = Layout(root)
    pictures = CropPictures(layout.images, raster_sizes(layout.images), root / ".weakseg" / "overviews")
    panels = [(describe_suspect(number, one), _framed(pictures, one.crop)) for number, one in enumerate(suspects, 1)]
    rows = [panels[at : at + _PANELS] for at in range(0, len(panels), _PANELS)]
    return draw_sheet(path, rows, side=_SIDE)


def describe_suspect(number: int, one: Suspect) -> str:
    """ "3 no car? 97 %": the tag in question, and how likely the model finds the class."""
    said = {"present": one.name, "absent": f"no {one.name}", "disputed": f"{one.name} disputed"}[one.tag]
    return f"{number} {said}? {100 * one.model:.0f} %"


def _framed(pictures: CropPictures, crop: Crop) -> Picture:
    frame = pictures.frame(crop)
    image = pictures.shown(crop[0], frame)
    factor = max(1, round(_SIDE / max(image.shape[:2])))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    row, column, height, width = crop[1]
    top, left = factor * (row - frame[0]), factor * (column - frame[1])
    corner = (left + factor * width - 1, top + factor * height - 1)
    thick = max(1, max(image.shape[:2]) // _SIDE)
    drawn = cv2.rectangle(np.ascontiguousarray(image), (left, top), corner, _FRAME, thick)
    side = max(drawn.shape[:2])  # panels of one width: captions have room
    below, right = side - drawn.shape[0], side - drawn.shape[1]
    return np.asarray(np.pad(drawn, ((0, below), (0, right), (0, 0)), constant_values=255), np.uint8)
