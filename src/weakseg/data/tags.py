"""Crop tags: which classes occur in a rectangle of an area; from masks, from a CSV, and as rasters.

A tag says present, absent or unknown for every class of one window. Windows may overlap, leave gaps and vary in size.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.classes import IGNORE, ClassScheme, Mask
from weakseg.data.files import atomic_path
from weakseg.errors import DataError, ParamsError

Window = tuple[int, int, int, int]
"""Row, column, height and width in px, row 0 and column 0 at the upper left."""

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
COLUMNS: Final = ("area", "row", "column", "height", "width", "tags", "unknown")
SIZES: Final = (50, 100, 128, 200, 300)
_LISTED = 50


@dataclass(frozen=True)
class TagWindow:
    """One tagged rectangle of an area.

    Attributes:
        area: name of the area.
        row, column, height, width: px.
        present: classes that occur in the window, in scheme order.
        unknown: classes of which the tag says nothing; every other class is absent.

    With both lists empty the window carries no tag at all: a rectangle without any class does not exist in a land-cover
    map (one of nothing but clutter teaches nothing either), while rows that nobody has filled in yet are common.
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
        _check_inside(window, mask.shape[0], mask.shape[1])
    top, left, height, width = np.array(windows, np.intp).reshape(-1, 4).T
    bottom, right = top + height, left + width
    counts = np.empty((len(windows), classes), np.int64)
    for index in range(classes):
        sums = cv2.integral((mask == index).astype(np.uint8))  # (H+1, W+1): any rectangle in four look-ups
        counts[:, index] = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return counts


def _check_inside(window: Window, height: int, width: int) -> None:
    row, column, tall, wide = window
    if min(row, column) < 0 or min(tall, wide) < 1 or row + tall > height or column + wide > width:
        raise DataError(
            f"window at row {row}, column {column}, {tall}x{wide} px",
            expected=f"a rectangle inside {height}x{width} px",
            cure="mend the window or name the right area",
        )


def tags_from_mask(
    mask: Mask, windows: Sequence[Window], classes: int, *, min_share: float = 0.0
) -> tuple[Bools, Bools]:
    """Tags of the windows as a mask implies them.

    A class is present where it covers more than ``min_share`` percent of the window's pixels, ignored ones included; at
    0, the default and the brief's choice, any pixel will do. A class that occurs but does not reach the share is not
    tagged and not known either: were it called absent, the tag would forbid pixels that are there (deviation from the
    brief's authors, who call it absent). A window with no labelled pixel knows nothing.

    Args:
        mask: uint8 (H, W), 255 = ignore.
        windows: N rectangles inside the mask.
        classes: C.
        min_share: percent, 0 to below 100.

    Returns:
        present, known: bool (N, C) each; present is False wherever known is.
    """
    _check_share(min_share)
    counts = count_classes(mask, windows, classes)
    return _threshold(counts, _pixels(windows), min_share)


def _check_share(min_share: float) -> None:
    if not 0 <= min_share < 100:
        raise ParamsError(f"presence share {min_share}", expected="percent, 0 to below 100", cure="use 0 for any pixel")


def _pixels(windows: Sequence[Window]) -> Counts:
    return np.array([height * width for _, _, height, width in windows], np.int64)


def _threshold(counts: Counts, pixels: Counts, min_share: float) -> tuple[Bools, Bools]:
    present = counts * 100 > min_share * pixels[:, None]
    known = (present | (counts == 0)) & (counts.sum(1, keepdims=True) > 0)
    return present, known


def allowed_raster(
    height: int, width: int, windows: Sequence[Window], present: Bools, known: Bools
) -> npt.NDArray[np.int32]:
    """Bit masks of the classes that may occur at each pixel.

    Bit c is set where no window that covers the pixel says that class c is absent: the windows' (present | not known)
    are joined by AND, and all C bits are set where no window lies. Windows that contradict each other, or a window
    whose classes are all known to be absent, give 0: no class fits, which losses and pseudo-masks treat as ignore.

    Args:
        windows: N rectangles inside height x width px.
        present, known: bool (N, C), C <= 31.

    Returns:
        int32 (height, width).
    """
    possible = present | ~known
    classes = possible.shape[1]
    if possible.shape != (len(windows), classes) or classes > 31:
        raise DataError(
            f"{len(windows)} windows and tags {possible.shape}", expected="(N, C), C <= 31", cure="hand in their tags"
        )
    bits = (possible.astype(np.int64) << np.arange(classes)).sum(1)
    raster = np.full((height, width), (1 << classes) - 1, np.int32)
    for window, value in zip(windows, bits, strict=True):
        _check_inside(window, height, width)
        row, column, tall, wide = window
        raster[row : row + tall, column : column + wide] &= np.int32(value)
    return raster


def window_index(height: int, width: int, windows: Sequence[Window]) -> npt.NDArray[np.int32]:
    """Index of the first window that covers each pixel, or -1: int32 (height, width)."""
    raster = np.full((height, width), -1, np.int32)
    for index, window in reversed(list(enumerate(windows))):
        _check_inside(window, height, width)
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
    rows = []
    for window, here, sure in zip(windows, present, known, strict=True):
        if not here.any() and sure.all():
            raise DataError(
                f"area {area}: window {window} with every class absent",
                expected="some class present or unknown",
                cure="call its classes unknown: an empty row means no tags",
            )
        unknown = ~sure if sure.any() else np.zeros_like(sure)
        rows.append(TagWindow(area, *window, _names(here, classes), _names(unknown, classes)))
    return rows


def _names(chosen: Bools, classes: ClassScheme) -> tuple[str, ...]:
    return tuple(name for name, here in zip(classes.names, chosen, strict=True) if here)


def tag_arrays(rows: Sequence[TagWindow], classes: ClassScheme) -> tuple[Bools, Bools]:
    """present and known, bool (N, C) each, of N tag windows; nothing is known of a window without tags."""
    present, known = np.zeros((2, len(rows), len(classes)), bool)
    for index, row in enumerate(rows):
        known[index] = row.tagged
        present[index, [classes.index(name) for name in row.present]] = True
        known[index, [classes.index(name) for name in row.unknown]] = False
    return present, known


def write_tags(path: Path, rows: Iterable[TagWindow]) -> None:
    """Write a CSV that :func:`read_tags` reads back; class names are joined by spaces."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([row.area, *row.window, " ".join(row.present), " ".join(row.unknown)])


def read_tags(path: Path, classes: ClassScheme, areas: Mapping[str, tuple[int, int]]) -> list[TagWindow]:
    """Read a tag CSV: ``area,row,column,height,width,tags,unknown``, in file order; ``unknown`` may be left out.

    ``tags`` and ``unknown`` hold class names separated by spaces. Both empty: the window carries no tag (count the
    rows with ``not row.tagged`` and report them). ``tags`` empty but not ``unknown``: the other classes are absent.

    Args:
        areas: height and width in px of each known area.

    Raises:
        DataError: one error that lists every problem with its line: missing column, unknown or repeated class, class
            both present and unknown, unknown area, a number that is none, window outside its area, repeated window.
    """
    problems: list[str] = []
    parsed = [_parse(line, record, classes, areas, problems) for line, record in _records(path)]
    rows = [row for row in parsed if row is not None]
    repeats = Counter((row.area, row.window) for row in rows)
    problems += [f"area {area}: window {window} {n} times" for (area, window), n in repeats.items() if n > 1]
    if problems:
        rest = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise DataError(
            f"{path}: {len(problems)} problems: {', '.join(problems[:_LISTED])}{rest}",
            expected=f"windows inside known areas, once each, with classes from {' '.join(classes.names)}",
            cure="mend the lines",
        )
    return rows


def _records(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """(line number, cells by column name) of each row; cells that have no column come under ``further``."""
    if not path.is_file():
        raise DataError(f"no file {path}", expected="a CSV of tags", cure="run `weakseg data tags` or name the file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="further", strict=True)
            missing = [name for name in COLUMNS[:-1] if name not in (reader.fieldnames or ())]
            records = [(reader.line_num, record) for record in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is unreadable ({error})", expected="a CSV in UTF-8", cure="save it again") from error
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}",
            expected=",".join(COLUMNS),
            cure="add a header line with these names",
        )
    return records


def _parse(
    line: int,
    record: Mapping[str, str | None],
    classes: ClassScheme,
    areas: Mapping[str, tuple[int, int]],
    problems: list[str],
) -> TagWindow | None:
    """One row, or None after noting its problems."""
    before = len(problems)
    area = (record["area"] or "").strip()
    if area not in areas:
        problems.append(f"line {line}: unknown area {area!r}")
    try:
        row, column, height, width = (int(record[name] or "") for name in COLUMNS[1:5])
        if area in areas:
            _check_inside((row, column, height, width), *areas[area])
    except ValueError:
        problems.append(f"line {line}: row, column, height and width must be whole numbers")
    except DataError as error:
        problems.append(f"line {line}: {error.found} is not {error.expected}")
    present, unknown = (record.get("tags") or "").split(), (record.get("unknown") or "").split()
    named = Counter(present + unknown)
    problems += [f"line {line}: unknown class {name!r}" for name in named if name not in classes.names]
    problems += [f"line {line}: class {name!r} {count} times" for name, count in named.items() if count > 1]
    if "further" in record:
        problems.append(f"line {line}: more cells than columns")
    if len(problems) > before:
        return None
    order = classes.names.index
    return TagWindow(
        area, row, column, height, width, tuple(sorted(present, key=order)), tuple(sorted(unknown, key=order))
    )


@dataclass(frozen=True)
class TagStatistics:
    """What tags of several crop sizes say.

    Attributes:
        classes: one row per (size, class): ``rate`` of crops that hold it, ``entropy`` of that in bits.
        sizes: one row per size: ``crops`` (with tags), ``pixels`` (mean per crop), ``classes_per_crop``, ``single``
            (share with one class), ``all`` (share with every class), ``mean_entropy`` (over classes, bits),
            ``bits_per_crop`` (sum over classes), ``bits_per_pixel``.
        together: per size a (C, C) table, share of the crops that hold both classes; its diagonal is the rate.
    """

    classes: pd.DataFrame
    sizes: pd.DataFrame
    together: dict[int, pd.DataFrame]


def tag_statistics(
    masks: Iterable[Mask], classes: ClassScheme, *, sizes: Sequence[int] = SIZES, min_share: float = 0.0
) -> TagStatistics:
    """Presence rate, entropy and co-occurrence of the tags that ``masks`` imply, per crop size.

    Crops are those of :func:`window_grid`. A class's rate is over the crops where it is known, co-occurrence over the
    crops where both are; crops without a labelled pixel count nowhere. Each mask is read once.

    Args:
        masks: uint8 (H, W) each.
        sizes: crop sizes in px.
        min_share: as in :func:`tags_from_mask`.
    """
    _check_share(min_share)
    gathered: dict[int, list[tuple[Counts, Counts]]] = {size: [] for size in sizes}
    for mask in masks:
        grids = [window_grid(mask.shape[0], mask.shape[1], size) for size in sizes]
        counts = count_classes(mask, [window for grid in grids for window in grid], len(classes))
        ends = np.cumsum([len(grid) for grid in grids])
        for size, grid, part in zip(sizes, grids, np.split(counts, ends[:-1]), strict=True):
            gathered[size].append((part, _pixels(grid)))
    if not all(gathered.values()):
        raise DataError("no masks or no crop sizes", expected="one of each", cure="import labels first")
    class_rows, size_rows, together = [], [], {}
    for size, parts in gathered.items():
        counts, pixels = (np.concatenate(column) for column in zip(*parts, strict=True))
        present, known = _threshold(counts, pixels, min_share)
        pairs = _rates(present, known)
        entropy = _entropy(np.diagonal(pairs))
        class_rows += [
            {"size": size, "class": name, "rate": pairs[index, index], "entropy": entropy[index]}
            for index, name in enumerate(classes.names)
        ]
        size_rows.append({"size": size, **_summary(present, known, pixels, entropy)})
        together[size] = pd.DataFrame(pairs, index=list(classes.names), columns=list(classes.names))
    return TagStatistics(
        pd.DataFrame(class_rows).set_index(["size", "class"]), pd.DataFrame(size_rows).set_index("size"), together
    )


def _rates(present: Bools, known: Bools) -> npt.NDArray[np.float64]:
    """Share of crops with both classes among those where both are known: (C, C), NaN where there are none."""
    both = present.T.astype(np.int64) @ present.astype(np.int64)
    judged = known.T.astype(np.int64) @ known.astype(np.int64)
    return both / np.where(judged == 0, np.nan, judged)


def _entropy(rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy in bits of yes-or-no tags of these rates; 0 at rates 0 and 1, NaN stays NaN."""
    bits = np.zeros_like(rates)
    for share in (rates, 1 - rates):
        bits -= share * np.log2(np.where(share == 0, 1.0, share))
    return bits


def _summary(present: Bools, known: Bools, pixels: Counts, entropy: npt.NDArray[np.float64]) -> dict[str, float]:
    tagged = known.any(1) | present.any(1)
    held = present[tagged].sum(1)
    crops = int(tagged.sum())
    mean_pixels = float(pixels[tagged].mean()) if crops else float("nan")
    bits = float(np.nansum(entropy))
    return {
        "crops": crops,
        "pixels": mean_pixels,
        "classes_per_crop": float(held.mean()) if crops else float("nan"),
        "single": float((held == 1).mean()) if crops else float("nan"),
        "all": float((held == present.shape[1]).mean()) if crops else float("nan"),
        "mean_entropy": bits / present.shape[1],
        "bits_per_crop": bits,
        "bits_per_pixel": bits / mean_pixels,
    }


def best_size(statistics: TagStatistics, by: Literal["crop", "pixel"] = "crop") -> int:
    """Crop size whose tags say most; the larger one of equals.

    ``crop``, recommended: bits per crop, that is per tag decision paid for. It falls for large crops, where every class
    is everywhere, and for small ones, where the rare class is nowhere. Near its top it is flat, so read the table too:
    of sizes that say about as much per crop, a smaller one says it about fewer pixels. ``pixel``: bits per pixel, that
    is per area tagged; it nearly always names the smallest size, so it is the choice only where tags cost nothing
    (derived from an existing map, say). Both add the classes' entropies as if classes were independent: an upper limit.
    """
    column = {"crop": "bits_per_crop", "pixel": "bits_per_pixel"}.get(by)
    if column is None:
        raise ParamsError(f"criterion {by!r}", expected="crop or pixel", cure="use crop")
    bits = statistics.sizes[column].sort_index(ascending=False)
    return int(bits.index[int(bits.to_numpy().argmax())])
