"""Predicting a raster row of windows by row of windows: blended maps leave at the top while windows enter below.

Memory is one window's height of the raster, whatever its length. The windows, their weights and their order are those
of ``inference.sweep_windows``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weakseg.data.resampling import Axis, plan_axis
from weakseg.data.streaming import Pixels, Reader, Source, open_reader
from weakseg.data.tiles import blend_weights, cover_starts

Job = TypeVar("Job")
Result = TypeVar("Result")
Maps = npt.NDArray[np.float32]
Part = tuple[int, int, Maps]
"""Row and column of a window, and its weighted maps (C, h, w)."""

FULL: Final = 254  # pixel value of probability 1; 255 is nodata
_CHUNK: Final = 4096  # columns that are turned into pixels at a time


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


class WindowSweep:
    """The windows of one raster through a network, in order.

    Args:
        forward: uint8 (B, 3, h, w) on ``device`` -> probabilities (B, C, h, w).
        window: side of the windows, px of the network's grid; ``overlap`` is a share of it.

    Attributes:
        count: windows that went through the network so far; those without a valid pixel never do.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        source: Source,
        grid: Grid,
        *,
        classes: int,
        window: int,
        overlap: float,
        batch: int,
        device: torch.device,
    ) -> None:
        self.forward, self.source, self.grid = forward, source, grid
        self.classes, self.batch, self.device = classes, batch, device
        self.row_starts = cover_starts(grid.height, window, overlap)
        self.column_starts = cover_starts(grid.width, window, overlap)
        self.size = (min(window, grid.height), min(window, grid.width))
        self.weights = blend_weights(*self.size)
        self.count = 0

    def parts(self, first: int) -> Iterator[Part]:
        """Weighted maps of every window with a valid pixel, row by row, from window row ``first``."""
        corners = [(r, c) for r in self.row_starts[first:] for c in self.column_starts]
        weights = torch.from_numpy(self.weights).to(self.device)
        group: list[tuple[tuple[int, int], Pixels]] = []
        with open_reader(self.source) as reader:

            def load(corner: tuple[int, int]) -> Pixels | None:
                return read_network_window(reader, self.grid, (*corner, *self.size))

            for corner, image in prefetch(load, corners, depth=2 * self.batch):
                if image is not None:
                    group.append((corner, image))
                if len(group) == self.batch:
                    yield from self._run(group, weights)
                    group = []
            if group:
                yield from self._run(group, weights)

    def _run(self, group: list[tuple[tuple[int, int], Pixels]], weights: Tensor) -> Iterator[Part]:
        images = torch.from_numpy(np.stack([image for _, image in group])).permute(0, 3, 1, 2)
        maps = self.forward(images.to(self.device))
        self.count += len(group)
        weighted = (maps.float() * weights).cpu().numpy()
        yield from ((*corner, part) for (corner, _), part in zip(group, weighted, strict=True))

    def rows(self, start: int) -> Iterator[tuple[int, Maps]]:
        """(first row, probabilities (C, n, W)) on the network's grid, in order, complete from row ``start`` on.

        Rows above ``start`` that share a window with it may come too, incomplete. What is yielded is only valid until
        the next is asked for.
        """
        height, width = self.grid.height, self.grid.width
        rows, columns = self.size
        first = next(i for i, row in enumerate(self.row_starts) if row + rows > start)
        ends = [*self.row_starts[1:], height]
        total = np.zeros((self.classes, rows, width), np.float32)
        mass = np.zeros((rows, width), np.float32)
        at, filled = first, 0  # the buffers are empty from network row ``filled`` on

        def leave() -> tuple[int, Maps]:
            done = ends[at] - self.row_starts[at]
            for part in _used_columns(mass, filled > self.row_starts[at]):
                total[:, :done, part] /= np.maximum(mass[:done, part], np.finfo(np.float32).tiny)
            return self.row_starts[at], total[:, :done]

        def move_up() -> None:
            done = ends[at] - self.row_starts[at]
            for part in _used_columns(mass, filled > self.row_starts[at]):
                for buffer in (*total, mass):
                    buffer[: rows - done, part] = buffer[done:, part]
                    buffer[rows - done :, part] = 0

        for row, column, part in self.parts(first):
            while row > self.row_starts[at]:
                yield leave()
                move_up()
                at += 1
            total[:, :, column : column + columns] += part
            mass[:, column : column + columns] += self.weights
            filled = row + rows
        for _ in range(at, len(ends)):
            yield leave()
            move_up()
            at += 1


def _used_columns(mass: Maps, any_used: bool) -> list[slice]:
    """Runs of columns that windows have added to; large rasters are often empty for the most part."""
    if not any_used:
        return []
    runs = (slice(left, left + _CHUNK) for left in range(0, mass.shape[1], _CHUNK))
    return [run for run in runs if mass[:, run].any()]


def read_network_window(reader: Reader, grid: Grid, window: tuple[int, int, int, int]) -> Pixels | None:
    """uint8 (h, w, 3) of a window of the network's grid; None where none of its pixels is valid."""
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
    resized = grid.to_rows.apply(pixels, 0, row, row + height, top)
    resized = grid.to_columns.apply(resized, 1, column, column + width, left)
    return np.asarray(np.clip(np.rint(resized), 0, 255), np.uint8)


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


def back_to_raster(
    rows: Iterable[tuple[int, Maps]], grid: Grid, start: int, encode: Callable[[Maps], Pixels]
) -> Iterator[Pixels]:
    """Rows of the network's grid -> encoded rows (K, n, W) of the raster's grid, from its row ``start`` to its end."""
    done, low = start, grid.back_rows.needs(start, start + 1)[0]
    kept: Maps | None = None  # rows from ``low`` on that later rows of the raster need again
    for first, maps in rows:
        fresh = maps[:, max(0, low - first) :] if kept is None else maps
        block = fresh if kept is None or kept.shape[1] == 0 else np.concatenate([kept, fresh], axis=1)
        if block.shape[1] == 0:
            continue
        ready = grid.back_rows.reach(low + block.shape[1])
        if ready > done:
            yield _encode_chunks(block, grid, (done, ready, low), encode)
            done = ready
        if done == grid.back_rows.size_out:
            return
        keep = grid.back_rows.needs(done, done + 1)[0]
        kept, low = block[:, keep - low :].copy(), keep


def _encode_chunks(block: Maps, grid: Grid, span: tuple[int, int, int], encode: Callable[[Maps], Pixels]) -> Pixels:
    """Raster rows [first, last) of network rows that begin at ``low``, a few thousand columns at a time."""
    first, last, low = span
    pieces = []
    for left in range(0, grid.back_columns.size_out, _CHUNK):
        right = min(left + _CHUNK, grid.back_columns.size_out)
        begin, end = grid.back_columns.needs(left, right)
        maps = grid.back_rows.apply(block[:, :, begin:end], 1, first, last, low)
        pieces.append(encode(grid.back_columns.apply(maps, 2, left, right, begin)))
    return np.concatenate(pieces, axis=2)


def encode_maps(maps: Maps, *, confidence: bool, probabilities: bool) -> Pixels:
    """Probabilities (C, n, m) -> layers uint8 (K, n, m): classes, then the largest probability, then all of them.

    Probabilities are stored as 0 to 254; they are divided by their sum first, which is below 1 next to pixels without
    data in a resampled raster.
    """
    layers = [_best_class(maps)[None]]
    if confidence or probabilities:
        shares = maps / np.maximum(maps.sum(0), np.finfo(np.float32).tiny)
        stored = np.rint(shares * FULL).astype(np.uint8)
        layers += [stored.max(0)[None]] if confidence else []
        layers += [stored] if probabilities else []
    return np.concatenate(layers)


def _best_class(maps: Maps) -> Pixels:
    """argmax over the first axis, uint8; numpy's own takes three times as long along an outer axis."""
    best, classes = maps[0].copy(), np.zeros(maps.shape[1:], np.uint8)
    if maps.any():
        for index, layer in enumerate(maps[1:], start=1):
            np.copyto(classes, np.uint8(index), where=layer > best)
            np.maximum(best, layer, out=best)
    return classes


def in_bands(rows: Iterable[Pixels], size: int) -> Iterator[Pixels]:
    """The same rows (K, n, W) in bands of ``size`` rows, the last one shorter."""
    waiting: list[Pixels] = []
    for piece in rows:
        waiting.append(piece)
        if sum(part.shape[1] for part in waiting) >= size:
            block = np.concatenate(waiting, axis=1)
            whole = block.shape[1] // size * size
            yield from (block[:, at : at + size].copy() for at in range(0, whole, size))
            waiting = [block[:, whole:]]
    rest: Sequence[Pixels] = [part for part in waiting if part.shape[1]]
    if rest:
        yield np.concatenate(rest, axis=1)
