"""A raster seen from any distance: tiles of pictures at 1, 1/2, 1/4 ... of its resolution, read window by window.

From near they are means over windows of the file. From far the file's own overviews are read, or, where it has none, a
preview at an eighth of its resolution that is written once, beside nothing of the user's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from weakseg.core.errors import DataError
from weakseg.raster.formats import reason_of, unreadable
from weakseg.raster.open import Window
from weakseg.raster.stream import Pixels, Source, gdal_settings, open_raster, open_reader
from weakseg.raster.whole import whole_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

TILE: Final = 256  # px, side of a tile
NEAR: Final = 3  # levels up to this one are cut from the file itself: windows of at most 2048 px


class NoTileError(DataError):
    """There is nothing to show at this place or zoom; HTTP's status 404."""


class NotReadyError(DataError):
    """What is asked for is being made; HTTP's status 503."""


def count_levels(height: int, width: int) -> int:
    """How many levels there are until all of a raster is in one tile; level 0 has its own pixels."""
    return max(0, (max(height, width) - 1) // TILE).bit_length() + 1


def tile_window(source: Source, level: int, column: int, row: int) -> Window:
    """The pixels (row, column, height, width) of a raster that a tile of a level shows.

    Raises:
        NoTileError: there is no such tile.
    """
    side = TILE << level if 0 <= level < count_levels(source.height, source.width) else 0
    top, left = row * side, column * side
    if not (side and 0 <= top < source.height and 0 <= left < source.width):
        raise NoTileError(
            f"tile {level}/{column}/{row}", expected="one of this raster", cure="ask for its size and levels"
        )
    return top, left, min(side, source.height - top), min(side, source.width - left)


class Pyramid:
    """The pictures of one raster; may be asked from many threads.

    Args:
        source: how the raster is read.
        preview: a GeoTIFF that :meth:`write_preview` may write.
    """

    def __init__(self, source: Source, preview: Path) -> None:
        self.source, self.preview = source, preview
        self.levels = count_levels(source.height, source.width)
        self._overviews = source.wanted.plain and _has_overviews(source, self.levels)

    @property
    def lacks_preview(self) -> bool:
        """Whether tiles from far need :meth:`write_preview` first."""
        return self.levels > NEAR + 1 and not self._overviews and not self.preview.is_file()

    def tile(self, level: int, column: int, row: int) -> Pixels:
        """uint8 (h, w, 4) of at most ``TILE`` px a side: red, green, blue, and 0 where there is no data.

        Raises:
            NoTileError: there is no such tile.
            NotReadyError: it is seen from far and the preview is not written yet.
        """
        window = tile_window(self.source, level, column, row)
        if level <= NEAR:
            return self._near(window, 1 << level)
        if self._overviews:
            return _read_far(self.source.path, list(self.source.bands), window, 1 << level)
        if not self.preview.is_file():
            raise NotReadyError("the preview is being made", expected="a look from near", cure="come again in 1 s")
        return _read_far(self.preview, [1, 2, 3], _at_preview(window), 1 << (level - NEAR))

    def write_preview(self, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read all of the raster once, in windows, for what is seen from far; ``watch`` gets the tiles done and all."""
        import rasterio
        from rasterio.enums import ColorInterp, Resampling

        height, width = (-(-side >> NEAR) for side in (self.source.height, self.source.width))
        layout = {"driver": "GTiff", "count": 4, "dtype": "uint8", "height": height, "width": width, "tiled": True}
        layout |= {"compress": "deflate", "zlevel": 1, "BIGTIFF": "IF_SAFER", "photometric": "RGB", "alpha": "YES"}
        places = list(itertools.product(range(0, height, TILE), range(0, width, TILE)))
        with (
            whole_raster(self.preview) as temporary,
            gdal_settings(sidecars=False),
            rasterio.open(temporary, "w+", **layout) as file,
        ):
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            for done, (top, left) in enumerate(places):
                watch(done, len(places))
                part = self.tile(NEAR, left // TILE, top // TILE)
                box = rasterio.windows.Window(left, top, part.shape[1], part.shape[0])
                file.write(np.moveaxis(part, -1, 0), window=box)
            file.build_overviews([1 << level for level in range(1, self.levels - NEAR)], Resampling.average)
        watch(len(places), len(places))

    def _near(self, window: Window, factor: int) -> Pixels:
        with open_reader(self.source) as reader:
            image, valid = self.source.wanted.picture(reader.pixels(window)), reader.valid(window)
        if valid is None:
            valid = np.ones(image.shape[:2], bool)
        return shrink_picture(image, valid, factor)


def _at_preview(window: Window) -> Window:
    top, left, height, width = (-(-at >> NEAR) for at in window)
    return top, left, height, width


def shrink_picture(image: Pixels, valid: Any, factor: int) -> Pixels:
    """The mean over squares of ``factor`` px: uint8 (H, W, 3) and bool (H, W) -> uint8 (h, w, 4), sides rounded up.

    Pixels without data have no part in colours; a square is transparent where half of it or more has none.
    """
    edges = ((0, -image.shape[0] % factor), (0, -image.shape[1] % factor))
    weights = np.pad(valid.astype(np.float32), edges)
    colours = np.pad(image, (*edges, (0, 0)), mode="edge") * weights[..., None]
    size = (weights.shape[1] // factor, weights.shape[0] // factor)
    share = cv2.resize(weights, size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(colours, size, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
    covered = np.where(share >= np.minimum(0.5, _cover(valid.shape, factor, size) / 2), 255, 0)
    return np.dstack([np.rint(mean), covered]).astype(np.uint8)


def _cover(shape: tuple[int, ...], factor: int, size: tuple[int, int]) -> Any:
    """Share of every square that lies on the raster: less than 1 at its right and lower edge."""
    rows, columns = (
        np.minimum(factor, side - factor * np.arange(count)) / factor
        for side, count in zip(shape, size[::-1], strict=True)
    )
    return np.outer(rows, columns)


def _has_overviews(source: Source, levels: int) -> bool:
    """Whether the file itself can be looked at from far: plain colours with overviews down to a few tiles."""
    if source.palette or source.stretch is not None or source.orientation != 1:
        return False
    with open_raster(source.path) as file:
        factors: list[int] = file.overviews(source.bands[0])
        return max(factors, default=1) >= 1 << max(0, levels - 3)


def _read_far(path: Path, bands: list[int], window: Window, factor: int) -> Pixels:
    """A window at 1/``factor`` of the resolution, from overviews: uint8 (h, w, 4)."""
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as Box

    with open_raster(path) as file, gdal_settings():
        top, left = window[:2]
        box = Box(left, top, min(window[3], file.width - left), min(window[2], file.height - top))
        shape = (len(bands), -(-int(box.height) // factor), -(-int(box.width) // factor))
        try:
            image = file.read(bands, window=box, out_shape=shape, resampling=Resampling.average)
            masks = _masks(file, bands, box, shape)
        except RasterioError as error:
            raise unreadable(path, reason_of(error)) from error
    return np.asarray(np.moveaxis(np.concatenate([image, masks]), 0, -1), np.uint8)


def _masks(file: DatasetReader, bands: list[int], box: Any, shape: tuple[int, int, int]) -> Any:
    """(1, h, w), 255 where any of the bands has data."""
    masks = file.read_masks(bands, window=box, out_shape=shape)
    return np.where(masks.max(0, keepdims=True) > 127, 255, 0)
