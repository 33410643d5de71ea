"""A map in square blocks, and its patches: connected pixels of one class, whole across the borders of blocks.

Blocks are labelled one by one; what remains of each is the labels along its four sides. Pieces that touch there and
have one class are one patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from weakseg.core.classes import IGNORE, Mask

Labels = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]

OUTSIDE: Final = -1  # label of what lies outside of the raster


@dataclass(frozen=True)
class Block:
    """Rows [row, row + height) and columns [column, column + width) of a map; ``number`` counts from the upper left."""

    number: int
    row: int
    column: int
    height: int
    width: int


def cut_blocks(height: int, width: int, side: int) -> list[Block]:
    """The blocks of a map, row by row."""
    corners = [(row, column) for row in range(0, height, side) for column in range(0, width, side)]
    return [
        Block(number, row, column, min(side, height - row), min(side, width - column))
        for number, (row, column) in enumerate(corners)
    ]


def label_patches(values: Mask) -> tuple[Labels, Mask]:
    """Number the patches of a mask (H, W), 255 included; neighbours share a side of a pixel.

    Returns:
        labels int32 (H, W) from 0, and uint8 (patches,), the class of each.
    """
    labels = np.empty(values.shape, np.int32)
    codes: list[npt.NDArray[np.uint8]] = []
    count = 0
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256)):
        here = values == value
        found, numbers = cv2.connectedComponents(here.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        np.copyto(labels, numbers + (count - 1), where=here)
        codes.append(np.full(found - 1, value, np.uint8))
        count += found - 1
    return labels, np.concatenate(codes)


@dataclass
class Sides:
    """The labels along the sides of all blocks of a map: of each row and column of blocks the outer lines."""

    height: int
    width: int
    side: int
    lines: dict[str, Labels] = field(init=False)

    def __post_init__(self) -> None:
        rows, columns = -(-self.height // self.side), -(-self.width // self.side)
        across, along = (rows, self.width), (columns, self.height)
        self.lines = {
            name: np.full(shape, OUTSIDE, np.int32)
            for name, shape in {"top": across, "bottom": across, "left": along, "right": along}.items()
        }

    def keep(self, block: Block, labels: Labels) -> None:
        """Remember the four sides of a block."""
        at, beside = block.row // self.side, block.column // self.side
        columns, rows = slice(block.column, block.column + block.width), slice(block.row, block.row + block.height)
        self.lines["top"][at, columns], self.lines["bottom"][at, columns] = labels[0], labels[-1]
        self.lines["left"][beside, rows], self.lines["right"][beside, rows] = labels[:, 0], labels[:, -1]

    def facing(self) -> Numbers:
        """(pairs, 2): labels on both sides of all borders between blocks, pixel by pixel."""
        lines = self.lines
        pairs = [(lines["bottom"][:-1], lines["top"][1:]), (lines["right"][:-1], lines["left"][1:])]
        found = [np.stack([first.ravel(), second.ravel()], axis=1) for first, second in pairs]
        return np.concatenate(found).astype(np.int64)

    def surround(self, block: Block, inner: Labels, table: Labels) -> Labels:
        """The block's labels (h, w) with one pixel of its neighbours all around, (h + 2, w + 2).

        ``table`` turns the labels of the sides into those of ``inner``; outside of the raster is ``OUTSIDE``.
        """
        at, beside = block.row // self.side, block.column // self.side
        framed = np.full((block.height + 2, block.width + 2), OUTSIDE, np.int32)
        framed[1:-1, 1:-1] = inner
        if at:
            framed[0] = self._part("bottom", at - 1, block.column, block.width, table)
        if block.row + block.height < self.height:
            framed[-1] = self._part("top", at + 1, block.column, block.width, table)
        if beside:
            framed[1:-1, 0] = self._part("right", beside - 1, block.row, block.height, table)[1:-1]
        if block.column + block.width < self.width:
            framed[1:-1, -1] = self._part("left", beside + 1, block.row, block.height, table)[1:-1]
        return framed

    def _part(self, name: str, index: int, start: int, length: int, table: Labels) -> Labels:
        """``length`` labels of a line from ``start`` on and one more at either end."""
        line = self.lines[name][index]
        part = np.full(length + 2, OUTSIDE, np.int32)
        low, high = max(0, start - 1), min(len(line), start + length + 1)
        part[low - start + 1 : high - start + 1] = table[line[low:high]]
        return part


@dataclass(frozen=True)
class Patches:
    """The patches of a whole map.

    Attributes:
        of_piece: int32 (pieces,), the patch of every piece, pieces being counted block by block.
        codes: uint8 (patches,), their class.  sizes: int64 (patches,), px.
        sums: float64 (patches,), of a layer over their px, and ``counts`` int64, over how many.
        last: int32 (patches,), the last row of blocks that they reach into.
    """

    of_piece: Labels
    codes: Mask
    sizes: Numbers
    sums: npt.NDArray[np.float64]
    counts: Numbers
    last: Labels

    def merged(self, groups: Labels, codes: Mask) -> Patches:
        """The same with patches made one; ``groups`` (patches,) are numbered from 0 and ``codes`` is their class."""
        count = len(codes)
        last = np.zeros(count, np.int32)
        np.maximum.at(last, groups, self.last)
        return Patches(
            groups[self.of_piece],
            codes,
            np.bincount(groups, self.sizes, count).astype(np.int64),
            np.asarray(np.bincount(groups, self.sums, count), np.float64),
            np.bincount(groups, self.counts, count).astype(np.int64),
            last,
        )


def join_groups(count: int, pairs: Numbers) -> Labels:
    """int32 (count,): the group of every member, from 0, when the members of each pair (n, 2) are in one."""
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


@dataclass(frozen=True)
class Borders:
    """Which patches touch, and over how many sides of pixels: ``pairs`` int64 (n, 2), ``lengths`` int64 (n,)."""

    pairs: Numbers
    lengths: Numbers


def count_borders(pairs: Numbers) -> Borders:
    """Borders from the two labels of every side of a pixel; pairs of one label are left out."""
    ordered = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return add_borders(Borders(ordered, np.ones(len(ordered), np.int64)))


def add_borders(borders: Borders) -> Borders:
    """The same with every pair once, its lengths added up."""
    if not len(borders.pairs):
        return borders
    order = np.lexsort((borders.pairs[:, 1], borders.pairs[:, 0]))
    pairs, lengths = borders.pairs[order], borders.lengths[order]
    first = np.flatnonzero(np.concatenate([[True], (pairs[1:] != pairs[:-1]).any(axis=1)]))
    return Borders(pairs[first], np.add.reduceat(lengths, first))


def sides_of_pixels(labels: Labels) -> Numbers:
    """(n, 2): the two labels at every side between two pixels where they differ."""
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    first = np.concatenate([labels[:-1][down], labels[:, :-1][right]])
    second = np.concatenate([labels[1:][down], labels[:, 1:][right]])
    return np.stack([first, second], axis=1).astype(np.int64)


def merge_small(patches: Patches, borders: Borders, *, smallest: int, smallest_gap: int) -> Patches:
    """Give small patches to the neighbour that they touch along most sides of pixels, until none is left.

    Of neighbours touched equally the larger takes it, then the one that comes first. A patch that touches nothing but
    pixels without data stays, whatever its size.

    Args:
        borders: of all patches below the limits, at least.
        smallest: px; patches of a class with less go.
        smallest_gap: likewise for patches without data (255); 0 and 1 keep them all.
    """
    borders = add_borders(Borders(np.sort(borders.pairs, axis=1), borders.lengths))
    while True:
        limits = np.where(patches.codes == IGNORE, smallest_gap, smallest)
        chosen = _choices(patches, borders, patches.sizes < limits)
        if not len(chosen):
            return patches
        patches, groups = _merge(patches, chosen)
        borders = _regroup(borders, groups)
        same = patches.codes[borders.pairs[:, 0]] == patches.codes[borders.pairs[:, 1]]
        if same.any():
            patches, groups = _merge(patches, borders.pairs[same])
            borders = _regroup(borders, groups)


def _choices(patches: Patches, borders: Borders, small: npt.NDArray[np.bool_]) -> Numbers:
    """(n, 2): every small patch that has a neighbour of a class, and which of these takes it."""
    pairs = np.concatenate([borders.pairs, borders.pairs[:, ::-1]])
    lengths = np.concatenate([borders.lengths, borders.lengths])
    usable = small[pairs[:, 0]] & (patches.codes[pairs[:, 1]] != IGNORE)
    pairs, lengths = pairs[usable], lengths[usable]
    order = np.lexsort((pairs[:, 1], -patches.sizes[pairs[:, 1]], -lengths, pairs[:, 0]))
    pairs = pairs[order]
    return np.asarray(pairs[np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))], np.int64)


def _merge(patches: Patches, pairs: Numbers) -> tuple[Patches, Labels]:
    """Patches with those of each pair made one; the largest of a class gives the class."""
    groups = join_groups(len(patches.codes), pairs)
    weight = np.where(patches.codes == IGNORE, -1, patches.sizes)
    order = np.lexsort((np.arange(len(groups)), -weight, groups))
    winners = order[np.flatnonzero(np.diff(groups[order], prepend=-1))]
    return patches.merged(groups, patches.codes[winners]), groups


def _regroup(borders: Borders, groups: Labels) -> Borders:
    pairs = groups[borders.pairs].astype(np.int64)
    kept = pairs[:, 0] != pairs[:, 1]
    return add_borders(Borders(np.sort(pairs[kept], axis=1), borders.lengths[kept]))


def rows_of_blocks(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks of one row of blocks after the other."""
    row: list[Block] = []
    for block in blocks:
        if row and block.row != row[0].row:
            yield row
            row = []
        row.append(block)
    yield row
