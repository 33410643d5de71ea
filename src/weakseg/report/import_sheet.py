"""The contact sheet of an import: every area with its mask over it, so that a misalignment is seen in a second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.files import atomic_path
from weakseg.data.importing.previews import SIDE, Preview

Picture = npt.NDArray[np.uint8]
GAP: Final = 8  # px
LINE: Final = 18  # px, a line of text
BAR: Final = 12  # px, the class shares
COLUMNS: Final = 3
WIDTH: Final = 2 * SIDE + GAP  # px, of a card
_INK: Final = (20, 20, 20)
_STRIPES: Final = (90, 200)  # grey values, over px that are ignored


def draw_import_sheet(path: Path, previews: Sequence[Preview], scheme: ClassScheme, *, areas: int) -> Path:
    """Write a PNG with a card per area: the image, the mask over it with its outlines, and the share of each class.

    Striped px are ignored. ``areas`` is the number of areas imported, of which ``previews`` may be a part.
    """
    columns = max(1, min(COLUMNS, len(previews)))
    cards = [_card(preview, scheme) for preview in previews]
    rows = [cards[at : at + columns] for at in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) + 2 * GAP for row in rows]
    width = columns * (WIDTH + 2 * GAP) + 2 * GAP
    title = f"{len(previews)} of {areas} areas: image, mask over it, share of each class in the mask"
    head = _legend(scheme, title, width)
    canvas = Image.new("RGB", (width, head.height + sum(heights)), "white")
    canvas.paste(head, (0, 0))
    for number, row in enumerate(rows):
        for column, card in enumerate(row):
            canvas.paste(card, (2 * GAP + column * (WIDTH + 2 * GAP), head.height + sum(heights[:number])))
    with atomic_path(path) as temporary:
        canvas.save(temporary)
    return path


def overlay(image: Picture, mask: Mask, scheme: ClassScheme) -> Picture:
    """Image (h, w, 3) under its mask (h, w): tinted by class, outlines in the full colours, stripes where ignored."""
    colours = scheme.to_colours(mask).astype(np.float32)
    ignored = mask == IGNORE
    colours[ignored] = _stripes(*mask.shape)[ignored]
    mixed = 0.55 * image + 0.45 * colours
    edges = _edges(mask) & ~ignored
    mixed[edges] = colours[edges]
    return np.asarray(mixed, np.uint8)


def share_text(counts: npt.NDArray[np.int64], scheme: ClassScheme) -> str:
    """ "building 60.0 %, tree 40.0 %": classes of a mask by share, those that are not there left out."""
    total = max(int(counts.sum()), 1)
    named = [(int(counts[i]), name) for i, name in [*enumerate(scheme.names), (IGNORE, "ignored")]]
    return ", ".join(
        f"{name} {count / total:.1%}".replace("%", " %") for count, name in sorted(named, reverse=True) if count
    )


def _card(preview: Preview, scheme: ClassScheme) -> Image.Image:
    height, width = preview.shape
    image = _enlarged(preview.image)
    top = LINE + 4
    below = top + image.shape[0] + 4
    card = Image.new("RGB", (WIDTH, below + BAR + 2 + 2 * LINE), "white")
    draw = ImageDraw.Draw(card)
    _text(draw, (0, 0), f"{preview.area}   {width} x {height} px", WIDTH)
    card.paste(Image.fromarray(image), (0, top))
    if preview.mask is None:
        _text(draw, (SIDE + GAP, top), "no label", SIDE)
        return card
    card.paste(Image.fromarray(overlay(image, _enlarged(preview.mask), scheme)), (SIDE + GAP, top))
    card.paste(Image.fromarray(_bar(preview.counts, scheme, WIDTH)), (0, below))
    draw.rectangle((0, below, WIDTH - 1, below + BAR - 1), outline=_INK)
    for number, line in enumerate(_wrap(draw, share_text(preview.counts, scheme), WIDTH)[:2]):
        _text(draw, (0, below + BAR + 2 + number * LINE), line, WIDTH)
    return card


def _legend(scheme: ClassScheme, title: str, width: int) -> Image.Image:
    entries = [*zip(scheme.names, scheme.colours, strict=True), ("ignored", None)]
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, x, y = [], 2 * GAP, LINE + 2 * GAP
    for name, _ in entries:
        length = LINE + 6 + round(ruler.textlength(name, font=_font())) + 3 * GAP
        if x + length > width and x > 2 * GAP:
            x, y = 2 * GAP, y + LINE + 6
        places.append((x, y))
        x += length
    head = Image.new("RGB", (width, y + LINE + 2 * GAP), "white")
    draw = ImageDraw.Draw(head)
    _text(draw, (2 * GAP, GAP), title, width - 4 * GAP)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        swatch = np.full((14, LINE, 3), colour, np.uint8) if colour else _stripes(14, LINE)
        head.paste(Image.fromarray(swatch), (left, top))
        draw.rectangle((left, top, left + LINE - 1, top + 13), outline=_INK)
        _text(draw, (left + LINE + 6, top - 2), name, width)
    return head


def _bar(counts: npt.NDArray[np.int64], scheme: ClassScheme, width: int) -> Picture:
    """The shares of a mask as one bar (BAR, width, 3)."""
    values = np.array([*range(len(scheme)), IGNORE])
    ends = np.cumsum(counts[values]) / max(int(counts[values].sum()), 1) * width
    mask = values[np.searchsorted(ends, np.arange(width) + 0.5).clip(0, len(values) - 1)].astype(np.uint8)
    picture = scheme.to_colours(np.tile(mask, (BAR, 1)))
    picture[:, mask == IGNORE] = _stripes(BAR, width)[:, mask == IGNORE]
    return picture


def _stripes(height: int, width: int) -> Picture:
    rows, columns = np.indices((height, width))
    return np.repeat(np.array(_STRIPES, np.uint8)[((rows + columns) // 4) % 2][..., None], 3, axis=2)


def _edges(mask: Mask) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another class."""
    edges = np.zeros(mask.shape, bool)
    edges[:-1] |= mask[:-1] != mask[1:]
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edges


def _enlarged(pixels: Picture) -> Picture:
    """Rasters smaller than their panel fill it, px by px."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


@cache
def _font() -> Any:
    import matplotlib  # its DejaVu Sans has the letters of most areas' names; cv2 and Pillow's own have ASCII

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 13)


def _text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """One line, cut off with an ellipsis where it is longer than ``width`` px."""
    font, shown = _font(), text
    while shown and draw.textlength(shown, font=font) > width:
        text = text[:-1]
        shown = text + "…"
    draw.text(place, shown, fill=_INK, font=font)


def _wrap(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and draw.textlength(longer, font=_font()) > width:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    return lines
