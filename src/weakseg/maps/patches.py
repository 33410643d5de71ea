"""The patches of a map file, found block by block: what is held is the patches and the sides of blocks, no raster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.maps.blocks import (
    Block,
    Borders,
    Numbers,
    Patches,
    Sides,
    add_borders,
    count_borders,
    cut_blocks,
    join_groups,
    label_patches,
    merge_small,
    sides_of_pixels,
)
from weakseg.raster.formats import reason_of, unreadable
from weakseg.raster.stream import gdal_settings, open_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SIDE: Final = 2048  # px of a block: bounds the memory, and where a simplified edge has a corner that it need not have


class MapReader:
    """Blocks of an open map of classes and of a layer on the same grid, 0 to 254, 255 where it has no data."""

    def __init__(self, path: Path, file: DatasetReader, layer: DatasetReader | None, side: int) -> None:
        self.path, self.crs, self.transform = path, file.crs, file.transform
        self.height, self.width, self.side = file.height, file.width, side
        self.blocks = cut_blocks(file.height, file.width, side)
        self._file, self._layer = file, layer

    def read(self, block: Block) -> Mask:
        """uint8 (h, w), the classes of a block, 255 where there is no data."""
        return self._read(self._file, block)

    def read_layer(self, block: Block) -> Mask | None:
        """uint8 (h, w), the layer's values; None where there is no layer."""
        return None if self._layer is None else self._read(self._layer, block)

    def _read(self, file: DatasetReader, block: Block) -> Mask:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(block.column, block.row, block.width, block.height)
        try:
            with gdal_settings():
                values: Mask = file.read(1, window=window)
                values[file.read_masks(1, window=window) == 0] = IGNORE
        except RasterioError as error:
            raise unreadable(self.path, reason_of(error)) from error
        return values


@contextmanager
def open_map(path: Path, layer: Path | None, *, side: int = SIDE) -> Iterator[MapReader]:
    """Open a map of classes, and a layer that must lie on its grid.

    Raises:
        DataError: one that is no raster of one band of uint8, or a layer on another grid.
    """
    with open_raster(path) as file:
        _check_band(path, file)
        if layer is None:
            yield MapReader(path, file, None, side)
            return
        with open_raster(layer) as other:
            _check_band(layer, other)
            if (other.shape, other.transform, other.crs) != (file.shape, file.transform, file.crs):
                raise DataError(
                    f"{layer} lies on another grid than {path}",
                    expected="the confidence that was predicted with the map",
                    cure="predict both in one run",
                )
            yield MapReader(path, file, other, side)


def _check_band(path: Path, file: DatasetReader) -> None:
    if file.count != 1 or file.dtypes[0] != "uint8":
        raise DataError(
            f"{path}: {file.count} band(s) of {file.dtypes[0]}", expected="one of uint8", cure="name another file"
        )


@dataclass
class _Pieces:
    """What is known of the pieces of patches, block by block."""

    codes: list[npt.NDArray[np.uint8]]
    sizes: list[Numbers]
    sums: list[npt.NDArray[np.float64]]
    counts: list[Numbers]
    rows: list[npt.NDArray[np.int32]]
    firsts: list[Numbers]
    borders: Borders

    def add(self, reader: MapReader, block: Block, codes: Mask, labels: npt.NDArray[np.int32]) -> None:
        layer = reader.read_layer(block)
        count, flat = len(codes), labels.ravel()
        self.codes.append(codes)
        self.sizes.append(np.bincount(flat, minlength=count))
        known = np.zeros(flat.size, bool) if layer is None else layer.ravel() != IGNORE
        weights = None if layer is None else layer.ravel()[known]
        self.counts.append(np.bincount(flat[known], minlength=count))
        self.sums.append(np.bincount(flat[known], weights, count).astype(float))
        self.rows.append(np.full(count, block.row // reader.side, np.int32))
        first = np.zeros(count, np.int64)
        first[flat[::-1]] = np.arange(flat.size)[::-1]  # of several the last counts
        row, column = np.divmod(first, block.width)
        self.firsts.append((block.row + row) * reader.width + block.column + column)


def find_patches(reader: MapReader, *, smallest: int, smallest_gap: int) -> tuple[Patches, Sides, list[int]]:
    """The patches of a map after small ones went to their neighbours (:func:`weakseg.maps.blocks.merge_small`).

    Returns:
        the patches; the pieces along the sides of all blocks; the number of the first piece of each block.
    """
    sides = Sides(reader.height, reader.width, reader.side)
    pieces = _Pieces([], [], [], [], [], [], Borders(np.zeros((0, 2), np.int64), np.zeros(0, np.int64)))
    starts, count = [], 0
    limit = max(smallest, smallest_gap)
    for block in reader.blocks:
        labels, codes = label_patches(reader.read(block))
        pieces.add(reader, block, codes, labels)
        if limit > 1:
            _add(pieces, _small_only(count_borders(sides_of_pixels(labels)), pieces.sizes[-1], limit), count)
        sides.keep(block, labels + count)
        starts.append(count)
        count += len(codes)
    codes = np.concatenate(pieces.codes)
    facing = sides.facing()
    across = facing[codes[facing[:, 0]] == codes[facing[:, 1]]]
    patches = Patches(
        np.arange(count, dtype=np.int32),
        codes,
        np.concatenate(pieces.sizes),
        np.concatenate(pieces.sums),
        np.concatenate(pieces.counts),
        np.concatenate(pieces.rows),
    )
    groups = _by_first_pixel(join_groups(count, across), np.concatenate(pieces.firsts))
    of_group = np.zeros(int(groups.max()) + 1, np.uint8)
    of_group[groups] = codes
    patches = patches.merged(groups, of_group)
    if limit > 1:
        borders = add_borders(_joined(pieces.borders, count_borders(facing), groups))
        patches = merge_small(patches, borders, smallest=smallest, smallest_gap=smallest_gap)
    return patches, sides, starts


def _by_first_pixel(groups: npt.NDArray[np.int32], firsts: Numbers) -> npt.NDArray[np.int32]:
    """The same groups numbered in the order of their first pixels, so that nothing depends on how blocks lie."""
    upper_left = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(upper_left, groups, firsts)
    ranks = np.empty(len(upper_left), np.int32)
    ranks[np.argsort(upper_left)] = np.arange(len(upper_left))
    return ranks[groups]


def _small_only(borders: Borders, sizes: Numbers, limit: int) -> Borders:
    """Borders with a piece that may be part of a small patch; two large pieces never matter."""
    kept = (sizes[borders.pairs] < limit).any(axis=1)
    return Borders(borders.pairs[kept], borders.lengths[kept])


def _add(pieces: _Pieces, borders: Borders, offset: int) -> None:
    pairs = np.concatenate([pieces.borders.pairs, borders.pairs + offset])
    pieces.borders = Borders(pairs, np.concatenate([pieces.borders.lengths, borders.lengths]))


def _joined(within: Borders, across: Borders, groups: npt.NDArray[np.int32]) -> Borders:
    """Borders of patches, from those of their pieces within and across blocks."""
    pairs = groups[np.concatenate([within.pairs, across.pairs])].astype(np.int64)
    lengths = np.concatenate([within.lengths, across.lengths])
    kept = pairs[:, 0] != pairs[:, 1]
    return Borders(np.sort(pairs[kept], axis=1), lengths[kept])
