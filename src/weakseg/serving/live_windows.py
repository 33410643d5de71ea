"""A model applied to the part of a raster that somebody looks at: the pixels of the map that `predict` would write.

The windows are those of ``weakseg predict``, each run when it is first needed and blended as always. The last ones are
kept, so the next look at the same place costs nothing.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE
from weakseg.inference.encode import Kind, encode_maps
from weakseg.inference.mapper import Mapper, Maps
from weakseg.inference.options import Options, choose_scale
from weakseg.inference.sweep import WindowSweep, plan_grid, read_network_window, stack_images
from weakseg.raster.open import Window
from weakseg.raster.stream import Pixels, Source, open_reader

SHOWN: Final[tuple[Kind, ...]] = ("classes", "confidence", "applicability")
MOST_BYTES: Final = 1 << 28  # of windows that are kept; one of 512 px and 6 layers has 6 MiB
Place = tuple[object, int, int]


class WindowCache:
    """What a network said of the last windows, of any raster; used by who holds the turn."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._kept: OrderedDict[Place, Maps | None] = OrderedDict()
        self._most, self._bytes = most, 0

    def __contains__(self, place: Place) -> bool:
        return place in self._kept

    def put(self, place: Place, maps: Maps | None) -> None:
        """Keep a window and let the oldest go."""
        self._kept[place] = maps
        self._bytes += _size(maps)
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])

    def get(self, place: Place) -> Maps | None:
        """A window that is kept; it is then the newest."""
        self._kept.move_to_end(place)
        return self._kept[place]

    def forget(self, owner: object) -> None:
        """Let all windows of a raster go."""
        for place in [place for place in self._kept if place[0] is owner]:
            self._bytes -= _size(self._kept.pop(place))


def _size(maps: Maps | None) -> int:
    return 0 if maps is None else maps.nbytes


class ModelWindows:
    """A model applied to a raster; may be asked from many threads and runs one window at a time.

    Args:
        cache: shared by the rasters that are open.
        turn: who holds it predicts.
        index: with the index of applicability, where the model has it.
    """

    def __init__(
        self,
        predictor: Mapper,
        source: Source,
        *,
        turn: threading.Lock | None = None,
        cache: WindowCache | None = None,
        index: bool = False,
    ) -> None:
        self.predictor, self.source = predictor, source
        self.turn, self._cache = turn or threading.Lock(), cache or WindowCache()
        options = Options()
        self.grid = plan_grid(source.height, source.width, choose_scale(predictor, source, "auto"))
        self.sweep = WindowSweep(
            predictor.network(index=index),
            source,
            self.grid,
            maps=len(predictor.scheme) + (index and predictor.applicable),
            window=options.window,
            overlap=options.overlap,
            batch=1,
        )

    def count(self, rows: slice, columns: slice) -> int:
        """How many windows a part of the network's grid needs."""
        return len(self._starts(rows, columns))

    def needed(self, window: Window) -> int:
        """How many windows a part of the raster needs."""
        return self.count(*self._part(window))

    def maps(self, rows: slice, columns: slice) -> Maps:
        """(maps, n, m) of a part of the network's grid, as ``WindowSweep`` blends them; 0 where there is no data."""
        sweep, (high, wide) = self.sweep, self.sweep.size
        sums = np.zeros((sweep.maps + 1, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        with self.turn:
            for top, left in self._starts(rows, columns):
                maps = self._window(top, left)
                if maps is None:
                    continue
                inner = _common(rows, top, high), _common(columns, left, wide)
                here = _moved(inner[0], top), _moved(inner[1], left)
                there = _moved(inner[0], rows.start), _moved(inner[1], columns.start)
                sums[:-1, *there] += maps[:, *here] * sweep.weights[here]
                sums[-1, *there] += sweep.weights[here]
        return np.asarray(sums[:-1] / np.maximum(sums[-1], np.finfo(np.float32).tiny))

    def layers(self, window: Window) -> Pixels:
        """uint8 (3, h, w) of a part of the raster: :data:`SHOWN`, 255 without data or (the last) without an index."""
        top, left, height, width = window
        rows, columns = self._part(window)
        maps = self.grid.back_rows.apply(self.maps(rows, columns), 1, top, top + height, rows.start)
        maps = self.grid.back_columns.apply(maps, 2, left, left + width, columns.start)
        classes = len(self.predictor.scheme)
        kinds = SHOWN if len(maps) > classes else SHOWN[:-1]
        layers = np.full((len(SHOWN), height, width), IGNORE, np.uint8)
        layers[: len(kinds)] = encode_maps(maps, kinds, classes=classes, temperatures=self.predictor.temperatures)
        with open_reader(self.source) as reader:
            valid = reader.valid(window)
        if valid is not None:
            layers[:, ~valid] = IGNORE
        return layers

    def valid(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """bool (n, m): which px of a part of the network's grid have data."""
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

    def forget(self) -> None:
        """Let the windows go that are kept."""
        with self.turn:
            self._cache.forget(self)

    def _part(self, window: Window) -> tuple[slice, slice]:
        """What of the network's grid a part of the raster needs."""
        top, left, height, width = window
        rows = self.grid.back_rows.needs(top, top + height)
        return slice(*rows), slice(*self.grid.back_columns.needs(left, left + width))

    def _starts(self, rows: slice, columns: slice) -> list[tuple[int, int]]:
        high, wide = self.sweep.size
        tops = [row for row in self.sweep.row_starts if row < rows.stop and row + high > rows.start]
        lefts = [at for at in self.sweep.column_starts if at < columns.stop and at + wide > columns.start]
        return list(itertools.product(tops, lefts))

    def _window(self, top: int, left: int) -> Maps | None:
        """What the network says of one window (maps, h, w), None where the raster has no data there."""
        place = (self, top, left)
        if place not in self._cache:
            with open_reader(self.source) as reader:
                image = read_network_window(reader, self.grid, (top, left, *self.sweep.size))
            found = None if image is None else self.sweep.network(stack_images([image]))[0]
            self._cache.put(place, found)
        return self._cache.get(place)


def _common(span: slice, start: int, length: int) -> slice:
    """What a span shares with one of ``length`` from ``start``."""
    return slice(max(span.start, start), min(span.stop, start + length))


def _moved(span: slice, start: int) -> slice:
    """The same span counted from ``start``."""
    return slice(span.start - start, span.stop - start)
