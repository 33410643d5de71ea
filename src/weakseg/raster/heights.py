"""Heights on the grid of an image: surface models that lie beside it, on grids and in resolutions of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.raster.formats import RASTER_SUFFIXES, reason_of, unreadable
from weakseg.raster.open import RasterInfo, opened
from weakseg.raster.sidecars import place_of

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Heights = npt.NDArray[np.float32]
BESIDE: Final = "height"  # name of the band that comes from rasters beside an image
_NO_CRS: Final = 3857  # any CRS in metres does for two rasters that share one that is not known
_LEAST, _MOST = -500.0, 9000.0  # metres; the Dead Sea's shore and Everest


@dataclass(frozen=True)
class HeightFiles:
    """Where the heights of an image come from.

    Attributes:
        surface: a surface model (DSM), or heights above ground (nDSM).
        terrain: a terrain model (DTM) to take off it, or None.
    """

    surface: Path
    terrain: Path | None = None

    def state(self) -> list[tuple[str, int, int]]:
        """What heights depend on: the files by path, size and time of their last change."""
        files = [path for path in (self.surface, self.terrain) if path is not None]
        return [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def find_heights(given: HeightFiles | None, image: Path, *, alone: bool) -> HeightFiles | None:
    """The files for one image: those given, or of folders the rasters that are named as it is; None without any.

    Raises:
        DataError: a folder without such a raster, where the image is ``alone``; of many, some may lack theirs.
    """
    if given is None:
        return None
    found = [_named_like(path, image, alone=alone) for path in (given.surface, given.terrain) if path is not None]
    if None in found:
        return None
    return HeightFiles(*[path for path in found if path is not None])


def _named_like(path: Path, image: Path, *, alone: bool) -> Path | None:
    if not path.is_dir():
        return path
    found = [
        file for file in sorted(path.iterdir()) if file.stem == image.stem and file.suffix.lower() in RASTER_SUFFIXES
    ]
    if len(found) > 1 or (alone and not found):
        raise DataError(
            f"{path}: {len(found)} rasters named {image.stem}", expected="one", cure="name the raster of heights itself"
        )
    return found[0] if found else None


def read_heights(files: HeightFiles, image: RasterInfo, *, ground: int = 0) -> Heights:
    """Heights of an image's pixels, float32 (H, W), NaN where there are none.

    Each raster is brought to the image's grid by their places on Earth: the mean of what a px covers where its own grid
    is finer, else bilinear. Without a place in both, it must have the image's size.

    Args:
        image: the header of the image.
        ground: px; above 0 the ground under a surface model is a grey opening with such a square (scipy), and what
            stands above it is returned. Buildings that are wider count as ground, and so does what a slope rises by
            within the square.

    Raises:
        DataError: several bands, values that are no heights, a CRS out of reach, another size.
    """
    surface = _on_grid(files.surface, image)
    if files.terrain is not None:
        return surface - _on_grid(files.terrain, image)
    return above_ground(surface, ground) if ground else surface


def above_ground(surface: Heights, side: int) -> Heights:
    """What stands above the ground, float32 (H, W): a surface model's white top-hat with a square of ``side`` px."""
    from scipy.ndimage import grey_opening

    hole = np.isnan(surface)
    if hole.all():
        return surface
    filled = np.where(hole, np.nanmax(surface), surface)  # a hole must not be ground
    return np.where(hole, np.float32(np.nan), filled - grey_opening(filled, size=side, mode="nearest"))


def _on_grid(path: Path, image: RasterInfo) -> Heights:
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
    known = values[np.isfinite(values)]
    if known.size and not _LEAST <= float(known.min()) <= float(known.max()) <= _MOST:
        raise DataError(
            f"{path}: heights from {known.min():g} to {known.max():g}",
            expected=f"metres from {_LEAST:g} to {_MOST:g}, and a nodata value that the file names",
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
        raise unreadable(path, reason_of(error)) from error


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
        raise DataError(
            f"{path}: cannot be brought to the grid of its image ({reason_of(error)})",
            expected="a place that touches the image",
            cure="check the CRS of both",
        ) from error
    return values
