"""Many scenes as one raster: a grid over all of them, and readers that lay them on top of each other.

Scenes are in the order of their names, and the first one covers the next. The grid is that of the first scene: its CRS
and size of pixels. Scenes on the same pixels are read as they are, others are warped to it as they are read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.raster.georeference import moved
from weakseg.raster.open import Window
from weakseg.raster.stream import Pixels, Reader, Source, gdal_settings, open_file, open_raster

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

Shares = npt.NDArray[np.float32]
_SAME: Final = 0.01  # px by which a scene may lie beside the grid and count as on it
_OPEN: Final = 64  # files that are open at a time
_LEAST: Final = 1e-3  # weight of a scene at its very border, so that it counts where nothing else lies


@dataclass(frozen=True)
class Scene:
    """A scene of a mosaic: rows [row, row + source.height), columns [column, ...) of the grid.

    Attributes:
        source: its size, place and validity on the grid of the mosaic.
        warped: it is read through GDAL's warper, because it lies on other pixels.
    """

    source: Source
    row: int
    column: int
    warped: bool

    def part(self, window: Window) -> tuple[Window, tuple[slice, slice]] | None:
        """What of the scene lies in a window of the mosaic: there, and as rows and columns of the window."""
        top, left = max(window[0], self.row), max(window[1], self.column)
        bottom = min(window[0] + window[2], self.row + self.source.height)
        right = min(window[1] + window[3], self.column + self.source.width)
        if top >= bottom or left >= right:
            return None
        inside = slice(top - window[0], bottom - window[0]), slice(left - window[1], right - window[1])
        return (top - self.row, left - self.column, bottom - top, right - left), inside


@dataclass(frozen=True)
class Mosaic(Source):
    """A raster that is made of scenes; ``path`` is where they lie."""

    scenes: tuple[Scene, ...] = field(default=())

    @contextmanager
    def opened(self) -> Iterator[MosaicReader]:
        """Its reader; files are opened as they are needed."""
        reader = MosaicReader(self)
        try:
            yield reader
        finally:
            reader.close()

    @property
    def lacking(self) -> tuple[str, ...]:
        """Names of the model's bands that some scene lacks."""
        lost = {name for scene in self.scenes for name in scene.source.lacking}
        return tuple(name for name in self.wanted.names if name in lost)

    def state(self) -> tuple[Any, ...]:
        """What its pixels depend on."""
        return tuple((scene.source.state(), scene.row, scene.column, scene.warped) for scene in self.scenes)


class MosaicReader(Reader):
    """The open scenes of a mosaic; to be used from one thread at a time."""

    def __init__(self, mosaic: Mosaic) -> None:
        self._mosaic = mosaic
        self._readers: OrderedDict[int, tuple[Reader, list[Any]]] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._close_oldest()

    def pixels(self, window: Window, *, top: int | None = None) -> Pixels:
        """(height, width, K) of a window, 0 where no scene has data; scene ``top`` covers all others."""
        wanted = self._mosaic.wanted
        values = np.zeros((*window[2:], len(wanted)), wanted.dtype)
        order = [*reversed(range(len(self._mosaic.scenes))), *([] if top is None else [top])]
        for index in order:
            part = self._mosaic.scenes[index].part(window)
            if part is not None:
                reader, (place, inside) = self._reader(index), part
                valid, pixels = reader.valid(place), reader.pixels(place)
                values[inside] = pixels if valid is None else np.where(valid[..., None], pixels, values[inside])
        return values

    def valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """bool (height, width): any scene has data."""
        found = np.zeros(window[2:], bool)
        for index in self.scenes_in(window):
            found |= self.valid_of(index, window)
        return found

    def scenes_in(self, window: Window) -> list[int]:
        """The scenes whose rectangles meet a window."""
        return [index for index, scene in enumerate(self._mosaic.scenes) if scene.part(window) is not None]

    def valid_of(self, index: int, window: Window) -> npt.NDArray[np.bool_]:
        """bool (height, width): where one scene has data."""
        found = np.zeros(window[2:], bool)
        part = self._mosaic.scenes[index].part(window)
        if part is not None:
            place, inside = part
            valid = self._reader(index).valid(place)
            found[inside] = True if valid is None else valid
        return found

    def shares(self, window: Window, margin: int) -> dict[int, Shares]:
        """How much each scene says about every pixel of a window: float32 (height, width), sums of 1 over the scenes.

        Where several have data, each counts by its distance to where its own data end, up to ``margin`` px: so none
        begins or ends with a step. Where one has data it says all; where none has, all say the same.

        Returns:
            the scenes that say anything; one alone where no two overlap, because then the order does not matter.
        """
        indices = self.scenes_in(window)
        masks = {index: self.valid_of(index, window) for index in indices}
        if not any((masks[a] & masks[b]).any() for at, a in enumerate(indices) for b in indices[at + 1 :]):
            return {indices[0]: np.ones(window[2:], np.float32)} if indices else {}
        row, column, height, width = window
        wide = (row - margin, column - margin, height + 2 * margin, width + 2 * margin)
        weights = {}
        for index in indices:
            distance = cv2.distanceTransform(self.valid_of(index, wide).view(np.uint8), cv2.DIST_L2, 5)
            inner = distance[margin : margin + height, margin : margin + width] / max(1, margin)
            weights[index] = np.where(masks[index], np.clip(inner, _LEAST, 1), 0).astype(np.float32)
        total = np.sum(list(weights.values()), axis=0)
        none = total == 0
        return {
            index: np.where(none, 1 / len(weights), weight / np.where(none, 1, total)).astype(np.float32)
            for index, weight in weights.items()
            if weight.any()
        }

    def _close_oldest(self) -> None:
        _, (_, files) = self._readers.popitem(last=False)
        for file in files:
            file.close()

    def _reader(self, index: int) -> Reader:
        if index in self._readers:
            self._readers.move_to_end(index)
            return self._readers[index][0]
        if len(self._readers) >= _OPEN:
            self._close_oldest()
        scene = self._mosaic.scenes[index]
        file = open_file(scene.source.path)
        warped = _warp(file, scene, self._mosaic) if scene.warped else None
        reader = Reader(warped or file, scene.source)
        self._readers[index] = reader, [part for part in (warped, file) if part is not None]
        return reader


def _warp(file: DatasetReader, scene: Scene, mosaic: Mosaic) -> WarpedVRT:
    """A scene on the grid of the mosaic."""
    from rasterio.enums import MaskFlags, Resampling
    from rasterio.vrt import WarpedVRT

    plain = all(MaskFlags.all_valid in flags for flags in file.mask_flag_enums)
    how = Resampling.nearest if scene.source.palette else Resampling.bilinear
    grid = {"crs": mosaic.profile["crs"], "transform": scene.source.profile["transform"]}
    size = {"width": scene.source.width, "height": scene.source.height}
    with gdal_settings():
        return WarpedVRT(file, resampling=how, add_alpha=plain, **grid, **size)


def plan_mosaic(where: Path, sources: Sequence[Source]) -> Mosaic:
    """One raster of scenes, in their order.

    Raises:
        DataError: a scene without a place on Earth, or out of reach of the first one's CRS.
    """
    for source in sources:
        if source.profile.get("crs") is None or ("transform" not in source.profile and "gcps" not in source.profile):
            raise DataError(
                f"{source.path}: no place on Earth",
                expected="scenes with a CRS and a transform, to lay them beside each other",
                cure="predict it by itself, or give it a place with gdal_translate -a_srs -a_ullr",
            )
    crs, transform = _common_grid(sources[0])
    boxes = [_box(source, crs, transform) for source in sources]
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom, right = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    scenes = [_place(source, box, (top, left), crs, transform) for source, box in zip(sources, boxes, strict=True)]
    first = sources[0]
    origin = transform @ type(transform).translation(left, top)
    return Mosaic(
        where, bottom - top, right - left, first.bands, True, first.gsd, {"crs": crs, "transform": origin}, {},
        wanted=first.wanted, scenes=tuple(scenes),
    )  # fmt: skip


def _common_grid(first: Source) -> tuple[CRS, Affine]:
    """CRS and transform of the first scene; GDAL's upright ones where it is turned or has control points only."""
    from rasterio.warp import calculate_default_transform

    crs, transform = first.profile["crs"], first.profile.get("transform")
    if transform is not None and transform.b == transform.d == 0:
        return crs, transform
    with open_raster(first.path) as file:
        place = {"gcps": file.gcps[0]} if file.gcps[0] else dict(zip(_SIDES, file.bounds, strict=True))
    return crs, calculate_default_transform(crs, crs, first.width, first.height, **place)[0]


_SIDES: Final = ("left", "bottom", "right", "top")


def _box(source: Source, crs: CRS, transform: Affine) -> tuple[int, int, int, int]:
    """Row, column, height and width of a scene on a grid that may begin elsewhere."""
    from rasterio.transform import from_gcps

    own = source.profile.get("transform") or from_gcps(source.profile["gcps"])
    share = np.linspace(0, 1, 22)
    rim = [(x, y) for x in (0, 1) for y in share] + [(x, y) for y in (0, 1) for x in share]
    points = np.array([own @ (x * source.width, y * source.height) for x, y in rim])
    if source.profile["crs"] != crs:
        points = moved(points, source.profile["crs"], crs)
    if not np.isfinite(points).all():
        raise DataError(
            f"{source.path}: lies where the CRS of the first scene does not reach",
            expected="scenes that lie beside each other",
            cure="predict it by itself, or mend its CRS or transform",
        )
    columns, rows = (np.array(axis) for axis in zip(*(~transform @ tuple(point) for point in points), strict=True))
    low = [int(np.floor(axis.min() + _SAME)) for axis in (rows, columns)]
    high = [int(np.ceil(axis.max() - _SAME)) for axis in (rows, columns)]
    return low[0], low[1], high[0] - low[0], high[1] - low[1]


def _place(
    source: Source, box: tuple[int, int, int, int], corner: tuple[int, int], crs: CRS, transform: Affine
) -> Scene:
    row, column, height, width = box
    origin = transform @ type(transform).translation(column, row)
    own = source.profile.get("transform")
    pixel = abs(transform.determinant) ** 0.5
    same = (
        own is not None
        and source.profile["crs"] == crs
        and (height, width) == (source.height, source.width)
        and own.almost_equals(origin, precision=_SAME * pixel)
        and _ends_agree(own, origin, source, pixel)
    )
    placed = source
    if not same:
        placed = replace(source, height=height, width=width, masked=True, profile={"crs": crs, "transform": origin})
    return Scene(placed, row - corner[0], column - corner[1], not same)


def _ends_agree(own: Affine, origin: Affine, source: Source, pixel: float) -> bool:
    """Whether the lower right corner, too, lies on the grid."""
    ends = [np.array(grid @ (source.width, source.height)) for grid in (own, origin)]
    return bool(np.abs(ends[0] - ends[1]).max() <= _SAME * pixel)
