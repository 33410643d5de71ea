"""A raster that is open in the page of `weakseg serve`: its pictures, the map as far as it is made, areas in it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.maps.measure import count_inside, outline_area, outline_window, read_layer, read_outline
from weakseg.raster.open import Window
from weakseg.raster.pyramid import TILE, NoTileError, Pyramid, tile_window
from weakseg.raster.stream import Pixels, Source
from weakseg.serving.background import Work
from weakseg.serving.live_windows import SHOWN, ModelWindows

_PER_TILE: Final = 25  # windows that one tile may need, so that a look from far does not run a model over a country
_INSIDE: Final = 64  # windows that one measurement may need
_TILES: Final = 256  # of the map that are kept, 192 kB each
FILES: Final = {"map": ".tif", "confidence": ".tif", "applicability": ".tif", "style": ".qml", "polygons": ".gpkg"}


@dataclass
class Shown:
    """A raster that is open.

    Attributes:
        key: by which it is asked for.
        name: of its file, or its path in the workspace.
        folder: scratch: its preview, its map, and the upload.
        preview, map, polygons: the work on each.
        unlike: share of the whole map that is unlike what the model has seen, where it is made and known.
    """

    key: str
    name: str
    source: Source
    folder: Path
    pyramid: Pyramid
    windows: ModelWindows
    preview: Work = field(default_factory=Work)
    map: Work = field(default_factory=Work)
    polygons: Work = field(default_factory=Work)
    unlike: float | None = None
    tiles: OrderedDict[tuple[int, int, int], Pixels] = field(default_factory=OrderedDict)

    def file(self, kind: str) -> Path:
        """Where a file to save lies, whether it is there or not."""
        return self.folder / ("map.qml" if kind == "style" else kind + FILES[kind])

    @property
    def busy(self) -> bool:
        """Whether something is made of it."""
        return any(work.active for work in (self.preview, self.map, self.polygons))

    @property
    def live_level(self) -> int:
        """The highest level whose tiles are made where somebody looks."""
        levels = range(self.pyramid.levels)
        return max((level for level in levels if self._windows_at(level) <= _PER_TILE), default=-1)

    def _windows_at(self, level: int) -> int:
        side = TILE << level
        height, width = min(side, self.source.height), min(side, self.source.width)
        top, left = (self.source.height - height) // 2, (self.source.width - width) // 2
        return self.windows.needed((top, left, height, width))

    def map_tile(self, level: int, column: int, row: int) -> Pixels:
        """uint8 (h, w, 3): class, confidence, applicability; 255 where there is nothing.

        Raises:
            NoTileError: no such tile, or one from so far that the whole map has to be made first.
        """
        window = tile_window(self.source, level, column, row)
        shape = (-(-window[2] >> level), -(-window[3] >> level))
        if self.map.state == "done":
            return _read_map(self, window, shape)
        if level > self.live_level:
            raise NoTileError("a look from far", expected="a closer one, or the map of all", cure="make the whole map")
        place = (level, column, row)
        if (kept := self.tiles.get(place)) is None:
            kept = shrink_map(self.windows.layers(window), 1 << level)
            self.tiles[place] = kept
            while len(self.tiles) > _TILES:
                self.tiles.popitem(last=False)
        return kept

    def measure(self, corners: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """The area inside corners (column, row), and of each class there.

        Returns:
            ``pixels``, ``square_metres`` (None without a place on Earth), and ``classes``: px of each class, then of
            pixels without data; None where too much of the map would have to be made for it.
        """
        source = self.source
        outline = read_outline(corners, source.height, source.width)
        made = self.map.state == "done"
        counts = None
        if made or self.windows.needed(outline_window(outline)) <= _INSIDE:
            read = (lambda window: read_layer(self.file("map"), window)) if made else self._live_classes
            found = count_inside(outline, read, side=8 * TILE if made else 2 * TILE)
            counts = [int(found[index]) for index in (*range(len(self.windows.predictor.scheme)), IGNORE)]
        area = outline_area(outline, source.profile)
        return {"pixels": float(outline.area), "square_metres": area, "classes": counts}

    def _live_classes(self, window: Window) -> Pixels:
        return np.asarray(self.windows.layers(window)[0])


def _read_map(shown: Shown, window: Window, shape: tuple[int, int]) -> Pixels:
    layers = np.full((*shape, len(SHOWN)), IGNORE, np.uint8)
    for index, kind in enumerate(("map", *SHOWN[1:])):
        if shown.file(kind).is_file():
            layers[..., index] = read_layer(shown.file(kind), window, shape)
    return layers


def shrink_map(layers: Pixels, factor: int) -> Pixels:
    """Layers (3, H, W) of a map -> (h, w, 3): in squares of ``factor`` px the commonest class, the mean of the others.

    Sides are rounded up; what is 255 has no part; squares where that is the commonest are 255.
    """
    if factor == 1:
        return np.moveaxis(layers, 0, -1)
    _, height, width = layers.shape
    edges = ((0, -height % factor), (0, -width % factor))
    size = (-(-width // factor), -(-height // factor))

    def share(values: Any) -> Any:
        return cv2.resize(np.pad(np.asarray(values, np.float32), edges), size, interpolation=cv2.INTER_AREA)

    present = np.unique(layers[0])
    found = [present[np.argmax([share(layers[0] == value) for value in present], axis=0)]]
    for layer in layers[1:]:
        known = layer != IGNORE
        mean = np.rint(share(np.where(known, layer, 0)) / np.maximum(share(known), 1e-6))
        found.append(np.where((found[0] == IGNORE) | (share(known) == 0), IGNORE, mean))
    return np.asarray(np.dstack(found), np.uint8)
