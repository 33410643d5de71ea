"""Heights on the grid of an image: surface models that lie beside it, on grids and in resolutions of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.raster.band_values import AS_STORED, LEAST, MOST, HeightsTogether, metres_of
from weakseg.raster.formats import FURTHER_SUFFIXES, RASTER_SUFFIXES, broken_block, reason_of, unreadable
from weakseg.raster.header import RasterInfo, opened
from weakseg.raster.sidecars import place_of

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Heights = npt.NDArray[np.float32]
Window = tuple[int, int, int, int]
Box = tuple[float, float, float, float]
"""West, south, east, north."""
BESIDE: Final = "height"  # name of the band that comes from rasters beside an image
_NO_CRS: Final = 3857  # any CRS in metres does for two rasters that share one that is not known


@dataclass(frozen=True)
class HeightFiles:
    """Where the heights of an image come from; a folder stands for all rasters in it, by their places on Earth.

    Attributes:
        surface: a surface model (DSM), or heights above ground (nDSM).
        terrain: a terrain model (DTM) to take off it, or None.
        ground: px of the ground filter's square, 0 for none, see :func:`read_heights`.
    """

    surface: Path
    terrain: Path | None = None
    ground: int = 0

    def state(self) -> list[tuple[str, int, int]]:
        """What heights depend on: the files by path, size and time of their last change."""
        given = [path for path in (self.surface, self.terrain) if path is not None]
        files = [file for path in given for file in rasters_of(path)]
        found = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return [*found, ("ground", self.ground, 0)] if self.ground else found


def rasters_of(path: Path) -> list[Path]:
    """The rasters of a folder by name, or the file itself."""
    if not path.is_dir():
        return [path]
    suffixes = RASTER_SUFFIXES | FURTHER_SUFFIXES
    return [file for file in sorted(path.iterdir()) if file.suffix.lower() in suffixes and file.is_file()]


def find_heights(given: HeightFiles | None, images: Sequence[Path]) -> list[HeightFiles | None]:
    """The files for each image; None for one without any, where others have theirs.

    Of a folder these are the rasters that are named as the images are; where none is, the folder itself stands for all
    that is in it, and an image that none of them touches has none.

    Raises:
        DataError: a folder without rasters for any image, or with two of one name; see :func:`check_together`.
    """
    if given is None:
        return [None] * len(images)
    surface = _for_images(given.surface, images)
    terrain = surface if given.terrain is None else _for_images(given.terrain, images)
    check_together([path for path in (given.surface, given.terrain) if path is not None], HeightsTogether())
    return [
        None if high is None or low is None else HeightFiles(high, low if given.terrain else None, given.ground)
        for high, low in zip(surface, terrain, strict=True)
    ]


def check_together(paths: Iterable[Path], known: HeightsTogether, names: Mapping[Path, str] | None = None) -> None:
    """Refuse (DataError) rasters, or folders of them, of which some alone say what their numbers mean.

    All of a folder: it is one delivery, whichever raster an image needs. What cannot be opened is left to its reader.

    Args:
        known: those that are used together with them.
        names: of paths, for people.
    """
    for raster in (raster for path in paths for raster in rasters_of(path)):
        with ExitStack() as stack:
            try:
                file = stack.enter_context(opened(raster, None))
            except DataError:
                continue
            if file.count == 1:
                known.add((names or {}).get(raster, raster), file)


def _for_images(path: Path, images: Sequence[Path]) -> list[Path | None]:
    if not path.is_dir():
        return [path] * len(images)
    rasters = rasters_of(path)
    named: list[Path | None] = []
    for image in images:
        found = [file for file in rasters if file.stem == image.stem]
        if len(found) > 1:
            raise DataError(
                f"{path}: {len(found)} rasters named {image.stem}",
                expected="one",
                cure="name the raster of heights itself",
            )
        named.append(found[0] if found else None)
    if any(named):
        return named
    touching = [path if any(touches(file, _spot(image)) for file in rasters) else None for image in images]
    if not any(touching):
        raise DataError(
            f"{path}: none of {len(rasters)} rasters is named {images[0].stem} or lies where it lies",
            expected="a raster named like the image, or rasters whose places touch it",
            cure="name the raster of heights itself, or give them their transform and CRS",
        )
    return touching


def _spot(image: Path) -> RasterInfo:
    """The size and place of an image."""
    with opened(image, None) as file:
        crs, transform = place_of(image, file)
        place = tuple(transform)[:6] if transform else None
        return RasterInfo(file.height, file.width, file.count, "", crs.to_wkt() if crs else None, place)


def touches(path: Path, image: RasterInfo) -> bool:
    """Whether a raster and an image share some of the Earth, by the rectangles around them; both must have a place."""
    from rasterio.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    if image.transform is None or (there := _bounds(path, path.stat().st_mtime_ns)) is None:
        return False
    wkt, box = there
    here = _box(image.transform, image.height, image.width)
    if wkt is not None and image.crs is not None and wkt != image.crs:
        try:
            box = transform_bounds(CRS.from_wkt(wkt), CRS.from_wkt(image.crs), *box)
        except RasterioError:
            return False
    return box[0] < here[2] and here[0] < box[2] and box[1] < here[3] and here[1] < box[3]


@lru_cache(4096)
def _bounds(path: Path, _changed: int) -> tuple[str | None, Box] | None:
    """CRS and bounds of a raster with a place."""
    with opened(path, None) as file:
        crs, transform = place_of(path, file)
        if transform is None:
            return None
        return (crs.to_wkt() if crs else None), _box(tuple(transform)[:6], file.height, file.width)


def _box(transform: Sequence[float], height: int, width: int) -> Box:
    a, b, c, d, e, f = transform
    corners = [(a * x + b * y + c, d * x + e * y + f) for x in (0, width) for y in (0, height)]
    east, north = zip(*corners, strict=True)
    return min(east), min(north), max(east), max(north)


def read_heights(files: HeightFiles, image: RasterInfo) -> Heights:
    """Heights of an image's pixels, float32 (H, W), NaN where there are none.

    Each raster is brought to the image's grid by their places on Earth: the mean of what a px covers where its own grid
    is finer, else bilinear. Without a place in both, it must have the image's size.

    Args:
        files: a folder stands for all rasters in it; of two that overlap the first by name counts.
            With ``ground``, px, the ground under a surface model is a grey opening with such a square (scipy), and
            what stands above it is returned. Buildings that are wider count as ground, and so does what a slope rises
            by within the square. It depends on the pixels up to ``ground`` px away.
        image: the header of the image.

    Raises:
        DataError: several bands, values that are no heights, a CRS out of reach, another size.
    """
    surface = _on_grid(files.surface, image)
    if files.terrain is not None:
        return surface - _on_grid(files.terrain, image)
    return above_ground(surface, files.ground) if files.ground else surface


def window_heights(
    files: HeightFiles, window: Window, size: tuple[int, int], info: Callable[[Window], RasterInfo]
) -> Heights:
    """:func:`read_heights` of a window (row, column, height, width) of an image of ``size``, as if of the whole image.

    ``info`` gives the header of any window of the image.
    """
    row, column, height, width = window
    top, left = max(0, row - files.ground), max(0, column - files.ground)
    bottom, right = (min(s, o + n + files.ground) for s, o, n in zip(size, window[:2], window[2:], strict=True))
    found = read_heights(files, info((top, left, bottom - top, right - left)))
    return found[row - top : row - top + height, column - left : column - left + width]


def above_ground(surface: Heights, side: int) -> Heights:
    """What stands above the ground, float32 (H, W): a surface model's white top-hat with a square of ``side`` px."""
    from scipy.ndimage import grey_opening

    hole = np.isnan(surface)
    if hole.all():
        return surface
    filled = np.where(hole, np.nanmax(surface), surface)  # a hole must not be ground
    return np.where(hole, np.float32(np.nan), filled - grey_opening(filled, size=side, mode="nearest"))


def _on_grid(path: Path, image: RasterInfo) -> Heights:
    """Of a folder, each px from the first raster that has a height there."""
    if not path.is_dir():
        return _one_on_grid(path, image)
    found = np.full((image.height, image.width), np.nan, np.float32)
    for file in rasters_of(path):
        empty = np.isnan(found)
        if empty.any() and touches(file, image):
            found = np.where(empty, _one_on_grid(file, image), found)
    return found


def _one_on_grid(path: Path, image: RasterInfo) -> Heights:
    with opened(path, None) as file:
        if file.count != 1 or np.dtype(file.dtypes[0]).kind not in "iuf":
            raise DataError(
                f"{path}: {file.count} band(s) of {file.dtypes[0]}",
                expected="heights in one band",
                cure="write that band alone, gdal_translate -b 1",
            )
        crs, transform = place_of(path, file)
        if transform is None or image.transform is None:
            values = _same_size(path, file, image)
        else:
            values = _warped(path, file, crs, transform, image)
        if (to_metres := metres_of(path, file, 1)) != AS_STORED:
            values = (values.astype(np.float64) * to_metres[0] + to_metres[1]).astype(np.float32)
    known = values[np.isfinite(values)]
    if known.size and not LEAST <= float(known.min()) <= float(known.max()) <= MOST:
        raise DataError(
            f"{path}: heights from {known.min():g} to {known.max():g}",
            expected=f"metres from {LEAST:g} to {MOST:g}, and a nodata value that the file names",
            cure="say which value means none, gdal_edit.py -a_nodata VALUE, or scale it to metres",
        )
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _same_size(path: Path, file: DatasetReader, image: RasterInfo) -> Heights:
    if file.shape != (image.height, image.width):
        raise DataError(
            f"{path}: {file.height}x{file.width} px, and no place on Earth in both of it and its image",
            expected=f"{image.height}x{image.width} px like its image, or a place in both",
            cure="give both their transform and CRS",
        )
    return _masked(path, file)


def _masked(path: Path, file: DatasetReader) -> Heights:
    from rasterio.errors import RasterioError

    try:
        values = file.read(1).astype(np.float32)
        return np.where(file.read_masks(1) != 0, values, np.float32(np.nan))
    except RasterioError as error:
        raise unreadable(path, reason_of(error), broken_block(file, file.read, [1])) from error


def _warped(path: Path, file: DatasetReader, crs: Any, transform: Any, image: RasterInfo) -> Heights:
    import rasterio
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.vrt import WarpedVRT

    here = CRS.from_wkt(image.crs) if image.crs else crs or CRS.from_epsg(_NO_CRS)
    grid = rasterio.Affine(*image.transform) if image.transform else rasterio.Affine.identity()
    finer = abs(transform.determinant) < 0.7 * abs(grid.determinant) and (crs or here) == here
    options: dict[str, Any] = {"crs": here, "transform": grid, "width": image.width, "height": image.height}
    how = Resampling.average if finer else Resampling.bilinear
    try:
        with WarpedVRT(
            file, src_crs=crs or here, src_transform=transform, resampling=how, dtype="float32", nodata=np.nan,
            add_alpha=False, **options,
        ) as warped:  # fmt: skip
            values: Heights = warped.read(1)
    except RasterioError as error:
        if place := broken_block(file, file.read, [1]):
            raise unreadable(path, reason_of(error), place) from error
        raise DataError(
            f"{path}: cannot be brought to the grid of its image ({reason_of(error)})",
            expected="a place that touches the image",
            cure="check the CRS of both",
        ) from error
    return values
