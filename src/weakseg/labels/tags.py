"""Crop tags: which classes occur in a rectangle of an area; from masks and as rasters.

A tag says present, absent or unknown for every class of one window. Windows may overlap, leave gaps and vary in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.class_sets import Allowed, SetTable
from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.errors import DataError, ParamsError

Window = tuple[int, int, int, int]
"""Row, column, height and width in px, row 0 and column 0 at the upper left."""

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TagWindow:
    """One tagged rectangle of an area.

    Attributes:
        area: name of the area.
        row, column, height, width: px.
        present: classes that occur in the window, in scheme order.
        unknown: classes of which the tag says nothing; every other class is absent.

    With both lists empty the window carries no tag at all: a rectangle without any class does not exist in a land-cover
    map (one of nothing but clutter teaches nothing either), while rows that nobody has filled in yet are common. With a
    background such rectangles are common: there ``present`` names the background alone, beside objects it says nothing.
    """

    area: str
    row: int
    column: int
    height: int
    width: int
    present: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """(row, column, height, width)."""
        return self.row, self.column, self.height, self.width

    @property
    def tagged(self) -> bool:
        """False where the window says nothing about any class."""
        return bool(self.present or self.unknown)


def window_grid(height: int, width: int, size: int) -> list[Window]:
    """Cover an area exactly and without overlap by windows of nearly ``size`` px.

    A side of L px is cut into ``max(1, round(L / size))`` parts (halves round up) that differ by at most 1 px, so parts
    measure 2/3 to 3/2 of ``size``, or L where L is smaller; no strip is left over. Row by row.
    """
    if min(height, width, size) < 1:
        raise ParamsError(f"{height}x{width} px in {size} px", expected="1 px or more each", cure="mend the crop size")
    rows, columns = _edges(height, size), _edges(width, size)
    return [
        (top, left, bottom - top, right - left) for top, bottom in pairwise(rows) for left, right in pairwise(columns)
    ]


def _edges(length: int, size: int) -> list[int]:
    parts = max(1, (2 * length + size) // (2 * size))
    return [index * length // parts for index in range(parts + 1)]


def count_classes(mask: Mask, windows: Sequence[Window], classes: int) -> Counts:
    """Pixels of each class in each window: int64 (N, C), ignored pixels in no column.

    Args:
        mask: uint8 (H, W), classes 0..C-1 or 255; another label, or a window outside, raises DataError.
    """
    if ((mask >= classes) & (mask != IGNORE)).any():
        raise DataError(
            f"mask label {mask[(mask >= classes) & (mask != IGNORE)][0]}",
            expected=f"0..{classes - 1} or {IGNORE}",
            cure="use the class scheme that the mask was made with",
        )
    for window in windows:
        check_inside(window, mask.shape[0], mask.shape[1])
    top, left, height, width = np.array(windows, np.intp).reshape(-1, 4).T
    bottom, right = top + height, left + width
    counts = np.empty((len(windows), classes), np.int64)
    for index in range(classes):
        sums = cv2.integral((mask == index).astype(np.uint8))  # (H+1, W+1): any rectangle in four look-ups
        counts[:, index] = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return counts


def check_inside(window: Window, height: int, width: int) -> None:
    """Refuse (DataError) a window that is empty or leaves a raster of height x width px."""
    row, column, tall, wide = window
    if min(row, column) < 0 or min(tall, wide) < 1 or row + tall > height or column + wide > width:
        raise DataError(
            f"window at row {row}, column {column}, {tall}x{wide} px",
            expected=f"a rectangle inside {height}x{width} px",
            cure="mend the window or name the right area",
        )


def tags_from_mask(
    mask: Mask,
    windows: Sequence[Window],
    classes: int,
    *,
    min_share: float = 0.0,
    valid: Bools | None = None,
    background: int | None = None,
    partly: bool = False,
) -> tuple[Bools, Bools]:
    """Tags of the windows as a mask implies them.

    A class is present where it covers more than ``min_share`` percent of the window's pixels, ignored ones included but
    not those without image data; at 0, the default and the brief's choice, any pixel will do. A class that occurs but
    does not reach the share is not tagged and not known either: were it called absent, the tag would forbid pixels that
    are there (deviation from the brief's authors, who call it absent). A window with no labelled pixel knows nothing.

    Args:
        mask: uint8 (H, W), 255 = ignore.
        windows: N rectangles inside the mask.
        classes: C.
        min_share: percent, 0 to below 100.
        valid: bool (H, W), where the image has data, None: everywhere; the mask is 255 elsewhere.
        background: index of the class that no tag speaks of, see :func:`without_background`.
        partly: 255 is where nobody has looked, not what is of no class: a class that does not occur is absent only from
            windows that are labelled throughout.

    Returns:
        present, known: bool (N, C) each; present is False wherever known is.
    """
    check_share(min_share)
    counts = count_classes(mask, windows, classes)
    pixels = window_pixels(windows) if valid is None else valid_pixels(valid, windows)
    present, known = tags_from_counts(counts, pixels, min_share)
    if partly:
        known &= present | (counts.sum(1) >= pixels)[:, None]
    return without_background(present, known, background)


def without_background(present: Bools, known: Bools, background: int | None) -> tuple[Bools, Bools]:
    """Tags (N, C) each that say nothing of the class ``background``: it is never tagged and never absent."""
    if background is None:
        return present, known
    spoken_of = np.arange(present.shape[1]) != background
    return present & spoken_of, known & spoken_of


def says_something(present: Bools, known: Bools, classes: ClassScheme) -> Bools:
    """Which windows carry a tag, bool (N,), from present and known, bool (N, C) each.

    Where some class covers every pixel a window has to hold one of them; beside a background it may hold no object.
    """
    return np.asarray(known.any(1) if classes.background else present.any(1))


def check_share(min_share: float) -> None:
    """Refuse (ParamsError) what is no percentage below 100."""
    if not 0 <= min_share < 100:
        raise ParamsError(f"presence share {min_share}", expected="percent, 0 to below 100", cure="use 0 for any pixel")


def window_pixels(windows: Sequence[Window]) -> Counts:
    """Pixels of each window: int64 (N,)."""
    return np.array([height * width for _, _, height, width in windows], np.int64)


def valid_pixels(valid: Bools, windows: Sequence[Window]) -> Counts:
    """Pixels with image data in each window: int64 (N,); ``valid`` bool (H, W)."""
    return count_classes(np.where(valid, np.uint8(0), np.uint8(IGNORE)), windows, 1)[:, 0]


def tags_from_counts(counts: Counts, pixels: Counts, min_share: float) -> tuple[Bools, Bools]:
    """present and known, bool (N, C) each, from :func:`count_classes` and the windows' pixels (N,)."""
    present = counts * 100 > min_share * pixels[:, None]
    known = (present | (counts == 0)) & (counts.sum(1, keepdims=True) > 0)
    return present, known


def allowed_raster(height: int, width: int, windows: Sequence[Window], present: Bools, known: Bools) -> Allowed:
    """Which classes may occur at each pixel of height x width px.

    A class may where no window that covers the pixel says that it is absent: the windows' (present | not known) are
    intersected, and all classes may occur where no window lies. Windows that contradict each other, or a window whose
    classes are all known to be absent, leave none: losses and pseudo-masks treat that as ignore.

    Args:
        windows: N rectangles inside height x width px.
        present, known: bool (N, C).
    """
    possible = present | ~known
    if possible.ndim != 2 or len(possible) != len(windows):
        raise DataError(
            f"{len(windows)} windows and tags {possible.shape}", expected="(N, C)", cure="hand in their tags"
        )
    table, allowed = SetTable(possible.shape[1]), Allowed.everywhere(height, width, possible.shape[1])
    for window, here in zip(windows, possible, strict=True):
        check_inside(window, height, width)
        row, column, tall, wide = window
        part = allowed.numbers[row : row + tall, column : column + wide]
        before = np.unique(part)  # rarely more than one: windows of a grid do not overlap
        after = [table.number(table[number] & here) for number in before]
        part[:] = np.array(after, np.int32)[np.searchsorted(before, part)]
    return Allowed(allowed.numbers, table.sets)


def window_index(height: int, width: int, windows: Sequence[Window]) -> npt.NDArray[np.int32]:
    """Index of the first window that covers each pixel, or -1: int32 (height, width)."""
    raster = np.full((height, width), -1, np.int32)
    for index, window in reversed(list(enumerate(windows))):
        check_inside(window, height, width)
        row, column, tall, wide = window
        raster[row : row + tall, column : column + wide] = index
    return raster


def windows_inside(
    ids: npt.NDArray[np.int32], pixels: Counts, *, min_share: float = 1.0
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    """Which tag windows a crop holds whole, renumbered for `losses.presence_loss`.

    Args:
        ids: int32 (h, w), a crop of :func:`window_index` before any scaling.
        pixels: int64 (N,), pixels of each window in the whole of :func:`window_index`.
        min_share: part of a window that the crop must hold, in (0, 1].

    Returns:
        local: int32 (h, w), 0..W-1, or -1 outside the kept windows.
        kept: (W,), the area's window number of each local one, rising.
    """
    here = np.bincount(ids[ids >= 0], minlength=pixels.size)
    kept = np.flatnonzero((here > 0) & (here >= min_share * pixels))
    renumber = np.full(pixels.size + 1, -1, np.int32)  # the last entry serves id -1
    renumber[kept] = np.arange(kept.size)
    return renumber[ids], kept


def to_tag_windows(
    area: str, windows: Sequence[Window], present: Bools, known: Bools, classes: ClassScheme
) -> list[TagWindow]:
    """Name the tags of :func:`tags_from_mask`; a row with nothing known becomes a window without tags."""
    rows, objects = [], classes.objects
    for window, here, sure in zip(windows, present, known, strict=True):
        empty = not here.any() and sure[objects].all()
        if empty and classes.background:
            rows.append(TagWindow(area, *window, (classes.background,)))
            continue
        if empty:
            raise DataError(
                f"area {area}: window {window} with every class absent",
                expected="some class present or unknown",
                cure="call its classes unknown: an empty row means no tags",
            )
        unknown = ~sure if sure.any() else np.zeros_like(sure)
        unknown[[name == classes.background for name in classes.names]] = False
        rows.append(TagWindow(area, *window, _names(here, classes), _names(unknown, classes)))
    return rows


def _names(chosen: Bools, classes: ClassScheme) -> tuple[str, ...]:
    return tuple(name for name, here in zip(classes.names, chosen, strict=True) if here)


def tag_arrays(rows: Sequence[TagWindow], classes: ClassScheme) -> tuple[Bools, Bools]:
    """present and known, bool (N, C) each, of N tag windows; nothing is known of a background or without tags."""
    present, known = np.zeros((2, len(rows), len(classes)), bool)
    for index, row in enumerate(rows):
        known[index] = row.tagged
        present[index, [classes.index(name) for name in row.present]] = True
        known[index, [classes.index(name) for name in row.unknown]] = False
    return without_background(present, known, classes.background_index)
