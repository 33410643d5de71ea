"""XYZ tiles in Web Mercator, for QGIS and pages with maps: of a map that is there, or of a model applied as one looks.

A model's tiles are cut from the map that ``weakseg predict`` would write: its windows, each run when a tile first needs
it, blended as always. The last few windows are kept, so the next tile of the same place costs nothing.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.inference.encode import encode_maps
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options, choose_scale
from weakseg.inference.sweep import WindowSweep, plan_grid, read_network_window
from weakseg.maps.legend import CLASS_TAG, read_legend
from weakseg.maps.mercator import (
    SIDE,
    Bounds,
    NoTileError,
    check_place,
    part_in_tile,
    read_tile,
    scaled,
    shifted,
    warp_to_tile,
)
from weakseg.raster.stream import Pixels, inspect_source, open_raster, open_reader
from weakseg.serving.service import MapService

_KEPT: Final = 24  # windows; of 512 px and 6 layers 6 MiB each
_MOST: Final = 36  # windows that one tile may need, so that a look from far does not run a model over a country


def open_tiles(path: Path, service: MapService, bands: Sequence[int] = ()) -> MapTiles | ModelTiles:
    """Tiles of a map that names its classes, or of the service's model applied to any other raster."""
    with open_raster(path) as file:
        is_map = file.count == 1 and f"{CLASS_TAG}0" in file.tags()
    if is_map:
        return MapTiles(path)
    return ModelTiles(service.predictor, path, tuple(bands), turn=service.turn)


class MapTiles:
    """Tiles of a map of classes; far away GDAL reads its overviews, in which every px is a class of the map."""

    def __init__(self, path: Path) -> None:
        self.path, self.scheme = path, read_legend(path)
        with open_raster(path) as file:
            check_place(file.profile, path)

    def classes(self, bounds: Bounds) -> Pixels:
        """uint8 (SIDE, SIDE) of class indices, 255 where there is nothing."""
        return read_tile(self.path, bounds)


class ModelTiles:
    """Tiles of a model applied to a raster; may be asked from many threads and runs one window at a time."""

    def __init__(
        self, predictor: Predictor, path: Path, bands: tuple[int, ...] = (), *, turn: threading.Lock | None = None
    ) -> None:
        self.predictor, self.scheme = predictor, predictor.scheme
        self.source = inspect_source(path, bands or None)
        check_place(self.source.profile, path)
        options = Options()
        self.grid = plan_grid(self.source.height, self.source.width, choose_scale(predictor, self.source, "auto"))
        wide, high = self.source.width / self.grid.width, self.source.height / self.grid.height
        self.transform = scaled(self.source.profile["transform"], wide, high)  # of the network's grid
        self.sweep = WindowSweep(
            predictor.forward,
            self.source,
            self.grid,
            maps=len(self.scheme),
            window=options.window,
            overlap=options.overlap,
            batch=1,
            device=predictor.device,
        )
        self._windows: OrderedDict[tuple[int, int], npt.NDArray[np.float32] | None] = OrderedDict()
        self._turn = turn or threading.Lock()

    def classes(self, bounds: Bounds) -> Pixels:
        """uint8 (SIDE, SIDE) of class indices, 255 where there is nothing.

        Raises:
            NoTileError: so much of the raster lies in the tile that it would take too long.
        """
        part = self._part(bounds)
        if part is None:
            return np.full((SIDE, SIDE), IGNORE, np.uint8)
        with self._turn:
            classes = self._read(*part)
        rows, columns = part
        there = shifted(self.transform, columns.start, rows.start)
        return warp_to_tile(classes, there, self.source.profile["crs"], bounds)

    def _part(self, bounds: Bounds) -> tuple[slice, slice] | None:
        """Rows and columns of the network's grid that a tile shows, None where it shows none of the raster."""
        return part_in_tile(bounds, self.transform, self.source.profile["crs"], self.grid.height, self.grid.width)

    def _read(self, rows: slice, columns: slice) -> Pixels:
        """Class indices of a part of the network's grid, 255 where the raster has no data."""
        sweep, (high, wide) = self.sweep, self.sweep.size
        tops = [row for row in sweep.row_starts if row < rows.stop and row + high > rows.start]
        lefts = [column for column in sweep.column_starts if column < columns.stop and column + wide > columns.start]
        if len(tops) * len(lefts) > _MOST:
            raise NoTileError(
                f"a tile of {rows.stop - rows.start} x {columns.stop - columns.start} px of the network",
                expected="a closer look, or a map that is there",
                cure="zoom in, or predict the raster and serve its map",
            )
        sums = np.zeros((len(self.scheme) + 1, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for top, left in itertools.product(tops, lefts):
            maps = self._window(top, left)
            if maps is None:
                continue
            inner = _common(rows, top, high), _common(columns, left, wide)
            here = _moved(inner[0], top), _moved(inner[1], left)
            there = _moved(inner[0], rows.start), _moved(inner[1], columns.start)
            sums[:-1, *there] += maps[:, *here] * sweep.weights[here]
            sums[-1, *there] += sweep.weights[here]
        shares = sums[:-1] / np.maximum(sums[-1], np.finfo(np.float32).tiny)
        classes = encode_maps(shares, ("classes",), classes=len(self.scheme))[0]
        classes[~self._valid(rows, columns)] = IGNORE
        return np.asarray(classes)

    def _window(self, top: int, left: int) -> npt.NDArray[np.float32] | None:
        """What the network says of one window (C, h, w), None where the raster has no data there."""
        place = (top, left)
        if place not in self._windows:
            with open_reader(self.source) as reader:
                image = read_network_window(reader, self.grid, (top, left, *self.sweep.size))
            found = None
            if image is not None:
                pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self.predictor.device)
                found = self.predictor.forward(pixels)[0].float().cpu().numpy()
            self._windows[place] = found
            if len(self._windows) > _KEPT:
                self._windows.popitem(last=False)
        self._windows.move_to_end(place)
        return self._windows[place]

    def _valid(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        high, wide = self.source.height / self.grid.height, self.source.width / self.grid.width
        top, left = math.floor(rows.start * high), math.floor(columns.start * wide)
        bottom, right = (
            min(length, math.ceil(end))
            for length, end in ((self.source.height, rows.stop * high), (self.source.width, columns.stop * wide))
        )
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        with open_reader(self.source) as reader:
            valid = reader.valid((top, left, bottom - top, right - left))
        if valid is None:
            return np.ones(shape, bool)
        return np.asarray(cv2.resize(valid.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) != 0)


def coloured(classes: Pixels, scheme: ClassScheme) -> bytes:
    """A PNG with the colours of the classes, transparent where there is no class."""
    table = np.zeros((256, 4), np.uint8)
    table[: len(scheme), :3] = np.array(scheme.colours)[:, ::-1]
    table[: len(scheme), 3] = 255
    return bytes(cv2.imencode(".png", table[classes], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])


def _common(span: slice, start: int, length: int) -> slice:
    """What a span shares with one of ``length`` from ``start``."""
    return slice(max(span.start, start), min(span.stop, start + length))


def _moved(span: slice, start: int) -> slice:
    """The same span counted from ``start``."""
    return slice(span.start - start, span.stop - start)
