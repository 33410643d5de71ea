"""XYZ tiles in Web Mercator, for GIS programs: of a map that is there, or of a model applied as somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.inference.encode import encode_maps
from weakseg.inference.model import Predictor
from weakseg.maps.legend import CLASS_TAG, read_legend
from weakseg.maps.mercator import SIDE, Bounds, check_place, part_in_tile, read_tile, scaled, shifted, warp_to_tile
from weakseg.raster.pyramid import NoTileError
from weakseg.raster.stream import Pixels, inspect_source, open_raster
from weakseg.serving.live_windows import ModelWindows
from weakseg.serving.service import MapService

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
        self.scheme = predictor.scheme
        self.source = inspect_source(path, bands or None, wanted=predictor.bands)
        check_place(self.source.profile, path)
        self.windows = ModelWindows(predictor, self.source, turn=turn)
        self.grid = self.windows.grid
        wide, high = self.source.width / self.grid.width, self.source.height / self.grid.height
        self.transform = scaled(self.source.profile["transform"], wide, high)  # of the network's grid

    def classes(self, bounds: Bounds) -> Pixels:
        """uint8 (SIDE, SIDE) of class indices, 255 where there is nothing.

        Raises:
            NoTileError: so much of the raster lies in the tile that it would take too long.
        """
        part = part_in_tile(bounds, self.transform, self.source.profile["crs"], self.grid.height, self.grid.width)
        if part is None:
            return np.full((SIDE, SIDE), IGNORE, np.uint8)
        rows, columns = part
        if self.windows.count(rows, columns) > _MOST:
            raise NoTileError(
                f"a tile of {rows.stop - rows.start} x {columns.stop - columns.start} px of the network",
                expected="a closer look, or a map that is there",
                cure="zoom in, or predict the raster and serve its map",
            )
        classes = encode_maps(self.windows.maps(rows, columns), ("classes",), classes=len(self.scheme))[0]
        classes[~self.windows.valid(rows, columns)] = IGNORE
        there = shifted(self.transform, columns.start, rows.start)
        return warp_to_tile(classes, there, self.source.profile["crs"], bounds)


def coloured(classes: Pixels, scheme: ClassScheme) -> bytes:
    """A PNG with the colours of the classes, transparent where there is no class."""
    table = np.zeros((256, 4), np.uint8)
    table[: len(scheme), :3] = np.array(scheme.colours)[:, ::-1]
    table[: len(scheme), 3] = 255
    return bytes(cv2.imencode(".png", table[classes], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])
