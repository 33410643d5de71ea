"""The rasters that are open in the page of `weakseg serve`: their pictures, their maps, and the files to save.

Nothing is written but to a scratch folder of the server's own, which goes when it ends. A map is made where somebody
looks, or wholly in the background; memory grows with neither the raster nor the number of those that look.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import Tensor

from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.maps.deliver import Delivery, deliver_map
from weakseg.maps.polygons import write_polygons
from weakseg.raster.formats import plain_driver
from weakseg.raster.pyramid import NoTileError, Pyramid
from weakseg.raster.stream import Source, inspect_source
from weakseg.serving.background import BusyError, Work, Worker
from weakseg.serving.live_windows import ModelWindows, WindowCache
from weakseg.serving.service import MapService, TooLargeError
from weakseg.serving.shown import Shown
from weakseg.serving.workspace_paths import find_inside, rasters_below

MOST_OPEN: Final = 8
_SUFFIXES: Final = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg"}


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
        return [] if self.root is None else sorted(rasters_below(self.root))

    def open_path(self, text: str, bands: Sequence[int] = (), stretch: Sequence[float] = ()) -> Shown:
        """Open a raster of the workspace; one that is open already, and has not changed, is given again.

        Raises:
            DataError: nothing of this workspace, or no raster that can be predicted.
            BusyError: too many are open and at work.
        """
        path = find_inside(self.root, text)
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
