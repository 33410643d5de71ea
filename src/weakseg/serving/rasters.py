"""The rasters that are open in the page of `weakseg serve`: their pictures, their maps, and the files to save.

Nothing is written but to a scratch folder of the server's own, which goes when it ends. A map is made where somebody
looks, or wholly in the background; memory grows with neither the raster nor the number of those that look.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.options import Options
from weakseg.inference.predict import run_predictor
from weakseg.maps.deliver import Delivery, deliver_map
from weakseg.maps.measure import count_inside, outline_area, outline_window, read_layer, read_outline
from weakseg.maps.polygons import write_polygons
from weakseg.raster.formats import RASTER_SUFFIXES, plain_driver
from weakseg.raster.open import Window
from weakseg.raster.pyramid import TILE, NoTileError, Pyramid, tile_window
from weakseg.raster.stream import Pixels, Source, inspect_source
from weakseg.serving.service import MapService, TooLargeError
from weakseg.serving.windows import SHOWN, ModelWindows, WindowCache
from weakseg.serving.work import BusyError, Work, Worker

MOST_OPEN: Final = 8
_LISTED: Final = 300  # rasters of the workspace that are offered
_LOOKED_AT: Final = 20_000  # entries of its folders, until looking ends
_PER_TILE: Final = 25  # windows that one tile may need, so that a look from far does not run a model over a country
_INSIDE: Final = 64  # windows that one measurement may need
_TILES: Final = 256  # of the map that are kept, 192 kB each
_SUFFIXES: Final = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg"}
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


class Rasters:
    """All that are open; may be asked from many threads.

    Args:
        service: the network and its limits.
        root: of the workspace whose rasters may be opened by path; None opens uploads alone.
    """

    def __init__(self, service: MapService, root: Path | None = None) -> None:
        self.service, self.root = service, None if root is None else root.resolve()
        self._scratch = tempfile.TemporaryDirectory(prefix="weakseg-serve-")
        self._open: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()
        self._cache = WindowCache()
        self._maps, self._previews = Worker(4), Worker(MOST_OPEN)

    def close(self) -> None:
        """End all work and delete what was made."""
        for worker in (self._maps, self._previews):
            worker.close()
        self._scratch.cleanup()

    def folder(self) -> Path:
        """A new folder of the scratch."""
        return Path(tempfile.mkdtemp(dir=self._scratch.name))

    # ---- opening --------------------------------------------------------------------------------------------------

    def list_paths(self) -> list[str]:
        """Rasters of the workspace, some hundreds at most; folders whose names begin with a dot are left out."""
        return [] if self.root is None else sorted(_found_below(self.root))

    def open_path(self, text: str, bands: Sequence[int] = (), stretch: Sequence[float] = ()) -> Shown:
        """Open a raster of the workspace; one that is open already, and has not changed, is given again.

        Raises:
            DataError: nothing of this workspace, or no raster that can be predicted.
            BusyError: too many are open and at work.
        """
        path = self._inside(text)
        source = self._inspect(path, bands, stretch)
        with self._lock:
            for shown in self._open.values():
                if shown.source.state() == source.state():
                    self._open.move_to_end(shown.key)
                    return shown
        assert self.root is not None
        return self._add(str(path.relative_to(self.root)), source, self.folder())

    def open_upload(self, upload: Path, name: str, bands: Sequence[int] = (), stretch: Sequence[float] = ()) -> Shown:
        """Open a file that lies alone in a folder of :meth:`folder`; errors call it ``name`` and delete the folder."""
        try:
            path = upload.rename(upload.with_suffix(_SUFFIXES[plain_driver(upload)]))
            return self._add(name, self._inspect(path, bands, stretch), upload.parent)
        except (DataError, ParamsError, BusyError) as error:
            shutil.rmtree(upload.parent, ignore_errors=True)
            found = error.found
            for suffix in (*_SUFFIXES.values(), ""):
                found = found.replace(str(upload.with_suffix(suffix)), name)
            raise type(error)(found, expected=error.expected, cure=error.cure) from error

    def get(self, key: str) -> Shown:
        """An open raster.

        Raises:
            NoTileError: it is open no more.
        """
        with self._lock:
            if key not in self._open:
                raise NoTileError("no such raster is open", expected="one that is", cure="open it again")
            self._open.move_to_end(key)
            return self._open[key]

    def _inside(self, text: str) -> Path:
        """The file of the workspace that a path names, its links followed; nothing is told of what lies outside."""
        root, path = self.root, None
        if root is not None and "\0" not in text:
            path = (root / text).resolve()
        if root is None or path is None or not path.is_relative_to(root) or not path.is_file():
            raise DataError(
                f"{text[:200]}: no raster of this workspace",
                expected="a path inside it",
                cure="choose one of the list, or upload the file",
            )
        if path.suffix.lower() not in RASTER_SUFFIXES:
            raise DataError(f"{text[:200]}", expected="a .tif, .png or .jpg", cure="convert it with gdal_translate")
        plain_driver(path)  # by its bytes: a virtual raster would read files elsewhere
        return path

    def _inspect(self, path: Path, bands: Sequence[int], stretch: Sequence[float]) -> Source:
        if len(stretch) not in (0, 2):
            raise ParamsError(f"stretch of {len(stretch)} number(s)", expected="two", cure="write for instance 0,2047")
        low_high = (stretch[0], stretch[1]) if stretch else None
        return inspect_source(path, bands or None, low_high, self.service.predictor.bands)

    def _add(self, name: str, source: Source, folder: Path) -> Shown:
        if plain_driver(source.path) != "GTiff":
            _check_picture(source, self.service.limits.pixels, name)
        pyramid = Pyramid(source, folder / "preview.tif")
        turn, predictor = self.service.turn, self.service.predictor
        windows = ModelWindows(predictor, source, turn=turn, cache=self._cache, index=True)
        shown = Shown(secrets.token_urlsafe(9), name, source, folder, pyramid, windows)
        with self._lock:
            while len(self._open) >= MOST_OPEN:
                self._close_oldest()
            self._open[shown.key] = shown
        if pyramid.lacks_preview:
            shown.preview = self._previews.start(lambda work: pyramid.write_preview(work.watch))
        return shown

    def _close_oldest(self) -> None:
        idle = next((shown for shown in self._open.values() if not shown.busy), None)
        if idle is None:
            raise BusyError(
                f"{MOST_OPEN} rasters are open and at work", expected="fewer", cure="wait until a map is done"
            )
        del self._open[idle.key]
        idle.windows.forget()
        shutil.rmtree(idle.folder, ignore_errors=True)

    # ---- looking --------------------------------------------------------------------------------------------------

    def map_tile(self, shown: Shown, level: int, column: int, row: int) -> Pixels:
        """uint8 (h, w, 3): class, confidence, applicability; 255 where there is nothing.

        Raises:
            NoTileError: no such tile, or one from so far that the whole map has to be made first.
        """
        window = tile_window(shown.source, level, column, row)
        shape = (-(-window[2] >> level), -(-window[3] >> level))
        if shown.map.state == "done":
            return _read_map(shown, window, shape)
        if level > shown.live_level:
            raise NoTileError("a look from far", expected="a closer one, or the map of all", cure="make the whole map")
        place = (level, column, row)
        if (kept := shown.tiles.get(place)) is None:
            kept = shrink_map(shown.windows.layers(window), 1 << level)
            shown.tiles[place] = kept
            while len(shown.tiles) > _TILES:
                shown.tiles.popitem(last=False)
        return kept

    def measure(self, shown: Shown, corners: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """The area inside corners (column, row), and of each class there.

        Returns:
            ``pixels``, ``square_metres`` (None without a place on Earth), and ``classes``: px of each class, then of
            pixels without data; None where too much of the map would have to be made for it.
        """
        source = shown.source
        outline = read_outline(corners, source.height, source.width)
        made = shown.map.state == "done"
        counts = None
        if made or shown.windows.needed(outline_window(outline)) <= _INSIDE:
            read = (lambda window: read_layer(shown.file("map"), window)) if made else _live_classes(shown)
            found = count_inside(outline, read, side=8 * TILE if made else 2 * TILE)
            counts = [int(found[index]) for index in (*range(len(self.service.predictor.scheme)), IGNORE)]
        area = outline_area(outline, source.profile)
        return {"pixels": float(outline.area), "square_metres": area, "classes": counts}

    # ---- making ---------------------------------------------------------------------------------------------------

    def make_map(self, shown: Shown) -> None:
        """Have the map of the whole raster made, as cloud optimized files; again after it failed or was stopped."""
        with self._lock:
            if shown.map.state not in ("waiting", "running", "done"):
                shown.map = self._maps.start(lambda work: self._make_map(shown, work))

    def make_polygons(self, shown: Shown) -> None:
        """Have the polygons of the whole map made.

        Raises:
            DataError: there is no map yet.
        """
        if shown.map.state != "done":
            raise DataError("no map of the whole raster", expected="one", cure="make it first")
        with self._lock:
            if shown.polygons.state not in ("waiting", "running", "done"):
                shown.polygons = self._maps.start(lambda _: _make_polygons(shown))

    def _make_map(self, shown: Shown, work: Work) -> None:
        """Between two batches of windows the turn is given away, so that those who look go on looking."""
        predictor = self.service.predictor
        shared = replace(predictor, forward=self._in_turn(predictor.forward))
        options = Options(confidence=shown.file("confidence"))
        if predictor.with_index is not None:
            shared = replace(shared, with_index=self._in_turn(predictor.with_index))
            options = replace(options, applicability=shown.file("applicability"))
        done = run_predictor(shared, shown.source, shown.file("map"), options, watch=work.watch)
        deliver_map(done.target, Delivery(), layers=done.layers)
        shown.unlike = done.unlike
        shown.tiles.clear()

    def _in_turn(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(images: Tensor) -> Tensor:
            with self.service.turn:
                return forward(images)

        return run


def _make_polygons(shown: Shown) -> None:
    write_polygons(shown.file("map"), shown.file("polygons"), confidence=shown.file("confidence"))


def _check_picture(source: Source, most: int, name: str) -> None:
    """PNG and JPEG files can be read only from their beginning, so that every window of a large one takes long."""
    if source.height * source.width > most:
        raise TooLargeError(
            f"{name}: {source.height} x {source.width} px",
            expected=f"at most {most} px in a PNG or JPEG, which cannot be read in parts",
            cure="convert it with gdal_translate -co TILED=YES to a GeoTIFF, which may have any size",
        )


def _found_below(root: Path) -> Iterator[str]:
    """Rasters below a folder by their names, links to other places not followed."""
    count = looked = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        looked += len(names) + len(folders)
        for name in sorted(names):
            if Path(name).suffix.lower() in RASTER_SUFFIXES and not name.startswith("."):
                count += 1
                yield str((Path(folder) / name).relative_to(root))
            if count >= _LISTED:
                return
        if looked >= _LOOKED_AT:
            return


def _live_classes(shown: Shown) -> Callable[[Window], Pixels]:
    def read(window: Window) -> Pixels:
        return np.asarray(shown.windows.layers(window)[0])

    return read


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
