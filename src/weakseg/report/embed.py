"""Small pictures for the page: JPEG for images, palette PNG for class maps, as bytes that a page can embed."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.errors import DataError

SIDE: Final = 640  # px, longest side of a picture
_QUALITY = 82  # JPEG


def encode_image(image: npt.NDArray[np.uint8], *, side: int = SIDE) -> bytes:
    """RGB (H, W, 3) -> JPEG, at most ``side`` px long."""
    return _jpeg(_limit(Image.fromarray(np.ascontiguousarray(image)), side))


def encode_map(mask: Mask, scheme: ClassScheme, *, side: int = SIDE) -> bytes:
    """Class map (H, W), 255 for no label -> PNG with the scheme's colours as its palette, at most ``side`` px long.

    Shrinking takes the nearest pixel: no colour arises that is no class.
    """
    indices = np.where(mask == IGNORE, len(scheme), mask).astype(np.uint8)
    if int(indices.max(initial=0)) > len(scheme):
        raise DataError(
            f"class {indices.max()} in a map",
            expected=f"0..{len(scheme) - 1} or {IGNORE}",
            cure="use the data's scheme",
        )
    picture = _limit(Image.fromarray(indices), side)
    picture.putpalette([value for colour in (*scheme.colours, scheme.ignored_colour) for value in colour])
    return _png(picture)


def shrink(data: bytes, side: int) -> bytes:
    """The same picture in the same format, at most ``side`` px long; unchanged where it is that small."""
    with Image.open(io.BytesIO(data)) as picture:
        if max(picture.size) <= side:
            return data
        small = _limit(picture, side)
    return _png(small) if small.mode == "P" else _jpeg(small)


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) in px."""
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


def data_uri(data: bytes) -> str:
    """``data:image/...;base64,...`` of a JPEG or PNG."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _limit(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    is_map = picture.mode in ("P", "L")
    return picture.resize(size, Image.Resampling.NEAREST if is_map else Image.Resampling.LANCZOS)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
