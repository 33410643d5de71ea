"""The contact sheet of what to label next: the first crops in their surroundings, each with why it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from weakseg.core.bands import load_bands
from weakseg.core.files import atomic_path
from weakseg.labels.tags import Window
from weakseg.raster.open import read_bands, read_overview
from weakseg.studies.acquisition.suggest import Kind, Suggestion
from weakseg.tagging.proposals import find_image

Picture = npt.NDArray[np.uint8]
CROPS: Final = 24
IMAGES: Final = 6  # per other kind
COLUMNS: Final = 6
SIDE: Final = 220  # px of a picture
GAP: Final = 10
LINE: Final = 16
TEXT_LINES: Final = 5
SURROUNDINGS: Final = 0.35  # on each side, as a share of the crop's longer side, as the page shows them
_INK: Final = (20, 20, 20)
_HEADS: Final = {
    "tags": "tag these crops",
    "boxes": "draw boxes in these images",
    "pixels": "label these images' pixels",
}


def draw_sheet(
    path: Path, found: Mapping[Kind, Sequence[Suggestion]], images: Path, sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Write a PNG: the first crops to tag, then the first images for boxes and for pixel labels."""
    parts: list[Image.Image] = []
    for kind, suggestions in found.items():
        shown = suggestions[: CROPS if kind == "tags" else IMAGES]
        if shown:
            parts.append(_line(f"{_HEADS[kind]}: the first {len(shown)} of {len(suggestions)}"))
            cards = [_card(rank, one, images, sizes) for rank, one in enumerate(shown, 1)]
            parts += [_row(cards[at : at + COLUMNS]) for at in range(0, len(cards), COLUMNS)]
    parts = parts or [_line("nothing is left to label")]
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def dim_surroundings(image: Picture, inside: Window) -> Picture:
    """The picture with what lies outside the window at half its light."""
    row, column, height, width = inside
    shown = image // 2
    here = (slice(row, row + height), slice(column, column + width))
    shown[here] = image[here]
    return shown


def _card(rank: int, one: Suggestion, images: Path, sizes: Mapping[str, tuple[int, int]]) -> Image.Image:
    card = Image.new("RGB", (SIDE, SIDE + TEXT_LINES * LINE + 4), "white")
    picture = _crop(one, images, sizes[one.area]) if one.kind == "tags" else _whole(one, images)
    factor = SIDE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    how = cv2.INTER_NEAREST_EXACT if factor > 1 else cv2.INTER_AREA
    card.paste(Image.fromarray(np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)), (0, 0))
    draw = ImageDraw.Draw(card)
    place = f"  row {one.window[0]}, column {one.window[1]}" if one.kind == "tags" else ""
    cost = f"{one.gain:.2g} points, {_time(one.seconds)}"
    lines = [f"{rank}  {one.area}{place}", cost, *_wrap(one.reason, draw.textlength)]
    for number, line in enumerate(lines[:TEXT_LINES]):
        draw.text((0, SIDE + 4 + number * LINE), line, fill=_INK, font=_font())
    return card


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _crop(one: Suggestion, images: Path, size: tuple[int, int]) -> Picture:
    row, column, height, width = one.window
    margin = round(SURROUNDINGS * max(height, width))
    top, left = max(0, row - margin), max(0, column - margin)
    bottom, right = min(size[0], row + height + margin), min(size[1], column + width + margin)
    bands = load_bands(images.parent)
    image = read_bands(find_image(images, one.area), bands, window=(top, left, bottom - top, right - left))
    return dim_surroundings(bands.picture(image), (row - top, column - left, height, width))


def _whole(one: Suggestion, images: Path) -> Picture:
    return read_overview(find_image(images, one.area), SIDE, load_bands(images.parent))


def _row(cards: Sequence[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, cards[0].height + GAP), "white")
    for number, card in enumerate(cards):
        row.paste(card, (GAP + number * (SIDE + GAP), 0))
    return row


def _line(text: str) -> Image.Image:
    line = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, LINE + 2 * GAP), "white")
    ImageDraw.Draw(line).text((GAP, GAP), text, fill=_INK, font=_font())
    return line


@cache
def _font() -> Any:
    import matplotlib  # its DejaVu Sans has the letters of most areas' names; Pillow's own has ASCII

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 12)


def _wrap(text: str, length: Callable[..., float]) -> list[str]:
    """Words in lines that fit below a picture."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and length(longer, font=_font()) > SIDE:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
