"""Predicting a raster row of windows by row of windows: blended maps leave as soon as no window will add to them.

What is kept of the raster is the rows that two rows of windows share, whatever its length. The windows, their weights
and the order of all sums are those of ``inference.sweep_windows``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from weakseg.data.windows import blend_weights, cover_starts
from weakseg.inference.mapper import Maps, Network
from weakseg.raster.resample import Axis, plan_axis
from weakseg.raster.stream import Pixels, Reader, Source, open_reader

Job = TypeVar("Job")
Result = TypeVar("Result")
Part = tuple[int, int, Maps]
"""Row and column of a window, and its weighted maps (C, h, w)."""

_TINY: Final = np.float32(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Piece:
    """Finished maps of a rectangle of the network's grid.

    Attributes:
        row, column: of its upper left px; ``height``, ``width`` in px.
        maps: (C, height, width); 0 where no window reached; None where none reached any of it.
    """

    row: int
    column: int
    height: int
    width: int
    maps: Maps | None


@dataclass(frozen=True)
class Grid:
    """The network's grid over a raster, and the ways there (``to``) and back, per axis."""

    to_rows: Axis
    to_columns: Axis
    back_rows: Axis
    back_columns: Axis

    @property
    def height(self) -> int:
        return self.to_rows.size_out

    @property
    def width(self) -> int:
        return self.to_columns.size_out


def plan_grid(height: int, width: int, scale: float) -> Grid:
    """The grid of ``scale`` times a raster of ``height`` x ``width`` px, rounded as the tiles stage rounds."""
    rows, columns = (max(1, round(size * scale)) for size in (height, width))
    return Grid(plan_axis(height, rows), plan_axis(width, columns), plan_axis(rows, height), plan_axis(columns, width))


def shared_rows(starts: Sequence[int], height: int) -> int:
    """Rows that two neighbouring windows of ``height`` px have in common, at most."""
    return max((height - (low - high) for high, low in itertools.pairwise(starts)), default=0)


class WindowSweep:
    """The windows of one raster through a network, in order.

    Args:
        network: what makes maps of windows.
        maps: layers that it gives.
        window: side of the windows, px of the network's grid; ``overlap`` is a share of it.

    Attributes:
        count: windows that went through the network so far; those without a valid pixel never do.
    """

    def __init__(
        self,
        network: Network,
        source: Source,
        grid: Grid,
        *,
        maps: int,
        window: int,
        overlap: float,
        batch: int,
    ) -> None:
        self.network, self.source, self.grid = network, source, grid
        self.maps, self.batch = maps, batch
        self.row_starts = cover_starts(grid.height, window, overlap)
        self.column_starts = cover_starts(grid.width, window, overlap)
        self.size = (min(window, grid.height), min(window, grid.width))
        self.weights = blend_weights(*self.size)
        self.count = 0

    def parts(self, first: int) -> Iterator[Part]:
        """Weighted maps of every window with a valid pixel, row by row, from window row ``first``."""
        corners = [(r, c) for r in self.row_starts[first:] for c in self.column_starts]
        group: list[tuple[tuple[int, int], Pixels]] = []
        with open_reader(self.source) as reader:

            def load(corner: tuple[int, int]) -> Pixels | None:
                return read_network_window(reader, self.grid, (*corner, *self.size))

            for corner, image in prefetch(load, corners, depth=2 * self.batch):
                if image is not None:
                    group.append((corner, image))
                if len(group) == self.batch:
                    yield from self._run(group)
                    group = []
            if group:
                yield from self._run(group)

    @property
    def pixels(self) -> int:
        """Px of all windows: what goes through the network in one pass, at most."""
        return len(self.row_starts) * len(self.column_starts) * self.size[0] * self.size[1]

    def sample(self, count: int, side: int) -> Pixels:
        """The upper left ``side`` px of some windows, spread over all, that have data: (up to count, K, h, w)."""
        corners = [(r, c) for r in self.row_starts for c in self.column_starts]
        chosen = sorted({round(index) for index in np.linspace(0, len(corners) - 1, count)})
        size = (min(side, self.size[0]), min(side, self.size[1]))
        with open_reader(self.source) as reader:
            images = [read_network_window(reader, self.grid, (*corners[index], *size)) for index in chosen]
        found = [image for image in images if image is not None]
        return stack_images(found) if found else np.empty((0, 1, *size), np.uint8)

    def _run(self, group: list[tuple[tuple[int, int], Pixels]]) -> Iterator[Part]:
        maps = self.network(stack_images([image for _, image in group]))
        self.count += len(group)
        yield from ((*corner, part * self.weights) for (corner, _), part in zip(group, maps, strict=True))

    def pieces(self, start: int) -> Iterator[Piece]:
        """The maps of the network's grid in rows of pieces from left to right, complete from row ``start`` on.

        Rows above ``start`` that share a window with it may come too, incomplete.
        """
        first = next(i for i, row in enumerate(self.row_starts) if row + self.size[0] > start)
        parts = self.parts(first)
        upcoming = next(parts, None)
        below = _Below(self.maps + 1, shared_rows(self.row_starts, self.size[0]), self.grid.width)
        ends = [*self.row_starts[1:], self.grid.height]
        for row, end in zip(self.row_starts[first:], ends[first:], strict=True):
            window = _Sums(self.maps, self.weights, below)
            for column, right in zip(self.column_starts, [*self.column_starts[1:], self.grid.width], strict=True):
                if upcoming is not None and upcoming[:2] == (row, column):
                    window.add(upcoming[2])
                    upcoming = next(parts, None)
                yield Piece(row, column, end - row, right - column, window.leave(end - row, right - column))
            below.rows = self.size[0] - (end - row)


class _Below:
    """Sums of the rows that the windows above have in common with those below; the last layer is the weights.

    Attributes:
        sums: float32 (C + 1, rows, W).  used: bool (W,), columns where any of them is not 0.
        rows: how many rows count.
    """

    def __init__(self, layers: int, rows: int, width: int) -> None:
        self.sums = np.zeros((layers, rows, width), np.float32)
        self.used = np.zeros(width, bool)
        self.rows = 0


class _Sums:
    """Weighted sums over the px of one window, which moves from left to right along a row of windows."""

    def __init__(self, maps: int, weights: Maps, below: _Below) -> None:
        self.weights, self.below = weights, below
        self.sums = np.zeros((maps + 1, *weights.shape), np.float32)
        self.column = 0
        self.filled = 0  # the sums are 0 from this column of the raster on
        self._enter(weights.shape[1])

    def add(self, part: Maps) -> None:
        """Add the weighted maps (C, h, w) of the window that lies here."""
        self.sums[:-1] += part
        self.sums[-1] += self.weights
        self.filled = self.column + self.weights.shape[1]

    def leave(self, height: int, width: int) -> Maps | None:
        """The first ``height`` rows of the first ``width`` columns, divided by the weights; then move on past them."""
        column = self.column
        maps: Maps | None = None
        place = slice(column, column + width)
        self.below.used[place] = self.filled > column
        if self.filled > column:
            gone = self.sums[:, :, :width]
            self.below.sums[:, : gone.shape[1] - height, place] = gone[:, height:]
            maps = np.asarray(gone[:-1, :height] / np.maximum(gone[-1, :height], _TINY), np.float32)
            self.sums[:, :, :-width] = self.sums[:, :, width:]
            self.sums[:, :, -width:] = 0
        self.column += width
        self._enter(width)
        return maps

    def _enter(self, width: int) -> None:
        """Take over what the windows above left in the last ``width`` columns."""
        right = self.column + self.weights.shape[1]
        place = slice(right - width, right)
        if self.below.used[place].any():
            self.sums[:, : self.below.rows, -width:] = self.below.sums[:, : self.below.rows, place]
            self.filled = right


def read_network_window(reader: Reader, grid: Grid, window: tuple[int, int, int, int]) -> Pixels | None:
    """Pixels (h, w, K) of a window of the network's grid; None where none of its pixels is valid."""
    row, column, height, width = window
    top, bottom = grid.to_rows.needs(row, row + height)
    left, right = grid.to_columns.needs(column, column + width)
    place = (top, left, bottom - top, right - left)
    valid = reader.valid(place)
    if valid is not None and not valid.any():
        return None
    pixels = reader.pixels(place)
    if grid.to_rows.matrix is None and grid.to_columns.matrix is None:
        return pixels
    return to_dtype(resize_to_network(pixels, grid, window), pixels.dtype)


def stack_images(images: Sequence[Pixels]) -> Pixels:
    """Images (h, w, K) of one size -> (B, K, h, w), channels last in memory, where torch convolves them faster."""
    return np.stack(images).transpose(0, 3, 1, 2)


def to_dtype(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> Pixels:
    """Mixed values back in the dtype of pixels, whole numbers rounded and within its limits."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max), dtype)


def resize_to_network(values: npt.NDArray[Any], grid: Grid, window: tuple[int, int, int, int]) -> npt.NDArray[Any]:
    """Values (H, W, C) of exactly the raster's pixels that a window of the network's grid needs -> (h, w, C) there."""
    row, column, height, width = window
    top, _ = grid.to_rows.needs(row, row + height)
    left, _ = grid.to_columns.needs(column, column + width)
    resized = grid.to_rows.apply(values, 0, row, row + height, top)
    return grid.to_columns.apply(resized, 1, column, column + width, left)


def prefetch(load: Callable[[Job], Result], jobs: Iterable[Job], *, depth: int) -> Iterator[tuple[Job, Result]]:
    """(job, its result) in order, while one thread works up to ``depth`` jobs ahead; its errors are raised here."""
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[tuple[Job, Future[Result]]] = deque()
        try:
            for job in jobs:
                ahead.append((job, pool.submit(load, job)))
                if len(ahead) > depth:
                    ready, future = ahead.popleft()
                    yield ready, future.result()
            for ready, future in ahead:
                yield ready, future.result()
        finally:
            for _, future in ahead:
                future.cancel()
