"""Outlines of COCO annotations, polygons and run lengths, and the rectangle around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from weakseg.core.errors import DataError

_LONGEST = 60  # bits of a run length
Edges = tuple[float, float, float, float]


def outline_edges(segmentation: Any, size: tuple[int, int]) -> Edges | None:
    """Left, upper, right and lower edge, px, of a segmentation; None where there is none.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, or run lengths ``{"size": [height, width], "counts": ...}``
            with a list of counts or the compressed text of pycocotools.
        size: height and width of the image, px.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        height, width = _size_of(segmentation)
        if (height, width) != size:
            raise DataError(
                f"run lengths of {width}x{height} px (width x height)",
                expected=f"{size[1]}x{size[0]} px, the raster's",
                cure="export at the original size",
            )
        return run_edges(read_counts(segmentation.get("counts")), height, width)
    rings = segmentation if isinstance(segmentation, list) and isinstance(segmentation[0], list) else [segmentation]
    if not all(isinstance(ring, list) and len(ring) % 2 == 0 and all(map(is_finite, ring)) for ring in rings):
        raise _no_outline()
    numbers: list[float] = [float(number) for ring in rings for number in ring]
    if len(numbers) < 6:
        raise _no_outline()
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _no_outline() -> DataError:
    return DataError("a segmentation that is none", expected="polygons or run lengths", cure="export it again")


def run_edges(counts: Sequence[int], height: int, width: int) -> Edges | None:
    """Edges of run lengths in column order, zeros first; None where nothing is set."""
    if sum(counts) != height * width or min(counts) < 0:  # as Python counts, without an end
        raise DataError(
            f"run lengths of {float(sum(counts)):.10g} px" if abs(sum(counts)) < 1 << 63 else "endless run lengths",
            expected=f"{height * width} px of {width}x{height}",
            cure="export it again",
        )
    ends = np.cumsum(np.asarray(counts, np.int64))
    starts, stops = ends[0 : len(ends) - 1 : 2], ends[1::2]  # of the runs that are set
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return None
    first, last = starts // height, (stops - 1) // height  # columns
    wraps = first != last  # from the last row of one column to the first of the next
    top = 0 if wraps.any() else int((starts % height).min())
    bottom = height if wraps.any() else int(((stops - 1) % height).max()) + 1
    return float(first.min()), float(top), float(last.max() + 1), float(bottom)


def read_counts(counts: Any) -> list[int]:
    """Run lengths from a list, or from the text of pycocotools: 5 bits a character, differences to the last but one."""
    if isinstance(counts, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in counts):
        return list(counts)
    if not isinstance(counts, str) or not counts.isascii():
        raise DataError("counts that are none", expected="a list of numbers or a text", cure="export it again")
    found: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"counts with {letter!r}", expected="characters from '0' to 'o'", cure="export it again")
        value |= (bits & 31) << shift
        shift += 5
        if shift > _LONGEST:
            raise DataError("counts with a number of more than 60 bits", expected="pixels", cure="export it again")
        if not bits & 32:  # the last character of a number
            signed = value - (1 << shift) if bits & 16 else value
            found.append(signed + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError("counts that end early", expected="whole numbers", cure="export it again")
    return found


def turned_edges(edges: Edges, degrees: float) -> Edges:
    """Edges around a rectangle that is turned about its middle (CVAT's ``rotation``)."""
    left, top, right, bottom = edges
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = right - left, bottom - top
    across, down = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - across, y - down, x + across, y + down


def is_finite(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size_of(segmentation: dict[str, Any]) -> tuple[int, int]:
    size = segmentation.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise DataError(f"run lengths of size {size}", expected="[height, width]", cure="export it again")
    return size[0], size[1]
