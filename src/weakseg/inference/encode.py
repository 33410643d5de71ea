"""From maps on the network's grid to rows of pixels on the raster's own, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal

import numpy as np

from weakseg.evaluation.calibration import calibrate
from weakseg.inference.mapper import Maps
from weakseg.inference.sweep import Grid, Piece
from weakseg.raster.resample import Axis
from weakseg.raster.stream import Pixels

FULL: Final = 254  # pixel value of probability 1; 255 is nodata
LIMIT: Final = 100  # pixel value of an index at its limit; at 2.54 times it and above 254
Kind = Literal["classes", "confidence", "entropy", "margin", "applicability", "probabilities"]
KINDS: Final[dict[Kind, float]] = {  # of layers, and what a pixel value of 1 means
    "classes": 1.0,
    "confidence": 1 / FULL,  # calibrated probability of the winner
    "entropy": 1 / FULL,  # of the classes, over that of equally likely ones
    "margin": 1 / FULL,  # probability of the winner less that of the second
    "applicability": 1 / LIMIT,  # dissimilarity index over its limit: above 1 nothing like it was seen
    "probabilities": 1 / FULL,  # a band per class
}
Strip = tuple[int, int, Maps | None]
"""Columns [left, right) of the raster's grid and their maps (C, n, right - left); None where they are all 0."""


def back_to_raster(
    pieces: Iterable[Piece],
    grid: Grid,
    start: int,
    *,
    maps: int,
    layers: int,
    encode: Callable[[Maps, int, int], Pixels],
) -> Iterator[Pixels]:
    """Encoded rows of the raster's grid, from its row ``start`` to its end.

    Args:
        pieces: of ``WindowSweep.pieces``, from the network row that raster row ``start`` needs first.
        encode: maps (maps, n, m), and the row and column of the raster where they begin -> uint8 (layers, n, m); what
            no window reached becomes 0 unasked.

    Yields:
        uint8 (layers, n, W), one block for each row of pieces that completes any row of the raster.
    """
    axis, width = grid.back_rows, grid.back_columns.size_out
    done, low = start, axis.needs(start, start + 1)[0]
    kept = np.zeros((maps, 0, width), np.float32)  # network rows from ``low`` on that later rows need again
    for (first, height), row in groupby(pieces, key=lambda piece: (piece.row, piece.height)):
        bottom = first + height
        if bottom <= low:
            continue
        skipped = 0 if kept.shape[1] else low - first
        ready = axis.reach(bottom)
        keep = axis.needs(ready, ready + 1)[0] if ready < axis.size_out else bottom
        block = np.zeros((layers, ready - done, width), np.uint8)
        after = np.zeros((maps, bottom - keep, width), np.float32)
        for left, right, strip in _to_columns(row, grid.back_columns, maps, skipped):
            part = _below(kept[:, :, left:right], strip, height - skipped)
            if part is not None and right > left:
                after[:, :, left:right] = part[:, keep - low :]
                if ready > done:
                    block[:, :, left:right] = encode(axis.apply(part, 1, done, ready, low), done, left)
        if ready > done:
            yield block
        done, low, kept = ready, keep, after


def _below(above: Maps, maps: Maps | None, height: int) -> Maps | None:
    """Maps (C, height, m) under the rows (C, k, m) kept from before; None where both are all 0."""
    if maps is None:
        if not above.any():
            return None
        maps = np.zeros((above.shape[0], height, above.shape[2]), np.float32)
    return np.concatenate([above, maps], axis=1) if above.shape[1] else maps


def _to_columns(row: Iterable[Piece], axis: Axis, classes: int, skipped: int) -> Iterator[Strip]:
    """One row of pieces, without its first ``skipped`` rows, as strips of the raster's columns, from left to right."""
    done, low = 0, 0
    kept: Maps | None = None  # network columns from ``low`` on that later columns of the raster need again
    for piece in row:
        maps, end = piece.maps if piece.maps is None else piece.maps[:, skipped:], piece.column + piece.width
        if axis.matrix is None:
            yield piece.column, end, maps
            continue
        ready = axis.reach(end)
        empty = maps is None and (kept is None or not kept.any())
        if maps is None:
            maps = np.zeros((classes, piece.height - skipped, piece.width), np.float32)
        block = maps if kept is None else np.concatenate([kept, maps], axis=2)
        yield done, ready, None if empty or ready == done else axis.apply(block, 2, done, ready, low)
        keep = axis.needs(ready, ready + 1)[0] if ready < axis.size_out else end
        kept = block[:, :, keep - low :].copy()
        done, low = ready, keep


def encode_maps(maps: Maps, kinds: Sequence[Kind], *, classes: int, temperatures: Sequence[float] = ()) -> Pixels:
    """What a network says -> layers uint8 (K, n, m), as :data:`KINDS` has them.

    Args:
        maps: probabilities (classes, n, m), and below them the dissimilarity index over its limit, where it is known.
            They are divided by their sum first, which is below 1 next to pixels without data in a resampled raster.
        kinds: what to encode, in this order.
        temperatures: of calibrated probabilities; without them they are taken as they are. Classes never depend on it.
    """
    probabilities = maps[:classes]
    winners = best_class(probabilities)
    total = np.maximum(probabilities.sum(0), np.finfo(np.float32).tiny)
    shares = probabilities
    if set(kinds) - {"classes", "applicability"}:
        shares = calibrate(probabilities, temperatures) if temperatures else probabilities / total
    layers = {
        "classes": lambda: winners[None],
        "confidence": lambda: _stored(shares.max(0))[None],
        "entropy": lambda: _stored(_entropy(shares))[None],
        "margin": lambda: _stored(_margin(shares))[None],
        "applicability": lambda: _stored(maps[classes] / total, LIMIT)[None],
        "probabilities": lambda: _stored(shares),
    }
    return np.concatenate([layers[kind]() for kind in kinds])


def _stored(values: Maps, unit: int = FULL) -> Pixels:
    return np.asarray(np.minimum(np.rint(values * unit), FULL), np.uint8)


def _entropy(shares: Maps) -> Maps:
    """Entropy of the classes over the largest that there is: 0 where one is certain, 1 where all are equally likely."""
    if len(shares) == 1:
        return np.zeros_like(shares[0])
    terms = shares * np.log(np.maximum(shares, np.finfo(np.float32).tiny))
    return np.asarray(np.clip(-terms.sum(0) / math.log(len(shares)), 0, 1))


def _margin(shares: Maps) -> Maps:
    """Probability of the winner less that of the second: 0 where two are as likely."""
    if len(shares) == 1:
        return np.asarray(shares[0])
    second, first = np.partition(shares, len(shares) - 2, axis=0)[-2:]
    return np.asarray(first - second)


def best_class(maps: Maps) -> Pixels:
    """argmax over the first axis, uint8, the first of equals; numpy's own takes ten times as long along it."""
    best, classes = maps[0].copy(), np.zeros(maps.shape[1:], np.uint8)
    for index, layer in enumerate(maps[1:], start=1):
        np.maximum(classes, (layer > best).view(np.uint8) * np.uint8(index), out=classes)
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
