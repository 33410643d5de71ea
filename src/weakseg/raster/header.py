"""What a raster file says about itself, and whether it is safe to open: GeoTIFF, PNG, JPEG and their like.

What this module settles once, for everybody: the format comes from the bytes (``formats``), the pixel count is checked
before pixels are read, files that end early are refused, the place on Earth comes from the file or the files beside it
(``sidecars``), and rasterio's warning about rasters without one is silenced, because such rasters are welcome here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from weakseg.core.errors import DataError
from weakseg.raster.formats import gdal_sentences, raster_driver, reason_of, unreadable
from weakseg.raster.orientation import ambiguous_place, orientation_of, seen_shape
from weakseg.raster.sidecars import place_of

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Transform = tuple[float, float, float, float, float, float]

MAX_PIXELS: Final = 2_000_000_000
_FREELY: Final = 512 << 20  # bytes of pixels that any header may announce
_MOST_PACKED: Final = 4000  # times that pixels may be larger than the file beyond that; deflate reaches 1032
_IN_ONE_FILE: Final = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG")  # the others name further files


@dataclass(frozen=True)
class RasterInfo:
    """What a raster file says about itself; plain values, so that it pickles and needs no rasterio.

    Attributes:
        height, width: px.
        bands: number of bands.
        dtype: numpy name of the pixel type; of the first band, or "mixed".
        crs: coordinate reference system as WKT, None where the file names none.
        transform: (a, b, c, d, e, f) with x = a*column + b*row + c and y = d*column + e*row + f at the upper left
            corner of a pixel, in units of the crs; rotated and sheared ones included. None: no place on Earth.
        nodata: the value that means "nothing here", None where the file names none.
        orientation: the EXIF orientation, 1 to 8, by which the pixels are turned when they are read.
    """

    height: int
    width: int
    bands: int
    dtype: str
    crs: str | None = None
    transform: Transform | None = None
    nodata: float | None = None
    orientation: int = 1

    @property
    def georeferenced(self) -> bool:
        """Whether the file says where it lies."""
        return self.crs is not None or self.transform is not None


def read_info(path: Path, *, max_pixels: int = MAX_PIXELS) -> RasterInfo:
    """Read the header of a raster (sidecars included) without its pixels; the errors are those of read_image.

    Height and width are those of the pixels as :func:`weakseg.raster.open.read_image` turns them.
    """
    with opened(path, max_pixels) as file:
        return info_of(path, file)


def info_of(path: Path, file: DatasetReader) -> RasterInfo:
    """:func:`read_info` of a raster that is open."""
    orientation = seen_orientation(path, file)
    height, width = seen_shape(file.height, file.width, orientation)
    crs, transform = place_of(path, file)
    if transform is None and (file.gcps[0] or file.rpcs):
        by = f"{len(file.gcps[0])} ground control points" if file.gcps[0] else "rational polynomials (RPC)"
        raise DataError(
            f"{path}: lies on Earth by {by}",
            expected="pixels on a grid, which labels and boxes can share",
            cure="warp the image to its CRS (gdalwarp -r near) and draw on that, or remove them",
        )
    return RasterInfo(
        height=height,
        width=width,
        bands=file.count,
        dtype=file.dtypes[0] if len(set(file.dtypes)) == 1 else "mixed",
        crs=crs.to_wkt() if crs else None,
        transform=tuple(transform)[:6] if transform else None,
        nodata=file.nodata,
        orientation=orientation,
    )


def seen_orientation(path: Path, file: DatasetReader) -> int:
    """1 to 8; with a place on Earth none but 1, because programs disagree which pixels the place is meant for."""
    orientation = orientation_of(path)
    if orientation != 1 and any(place_of(path, file)):
        raise ambiguous_place(path, orientation)
    return orientation


def quiet_process() -> None:
    """Silence rasterio's warnings of :func:`quiet` for good, where many threads read: filters are the process's."""
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    warnings.filterwarnings("ignore", category=NodataShadowWarning)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence rasterio where a raster lies nowhere on Earth, or has a nodata value and an alpha band."""
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)  # nodata wins over alpha, as everywhere in GDAL
        yield


@contextmanager
def opened(path: Path, max_pixels: int | None) -> Iterator[DatasetReader]:
    """An open raster, its format known by its bytes; DataError for what is none, or has more pixels than allowed."""
    import rasterio
    from rasterio.errors import RasterioError

    driver = raster_driver(path)
    try:
        with quiet(), rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True):
            file = rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise unreadable(path, reason_of(error)) from error
    with file:
        if max_pixels is not None:
            _check_size(path, file, max_pixels)
        with gdal_sentences(path):
            yield file


def _check_size(path: Path, file: DatasetReader, max_pixels: int) -> None:
    """Refuse a raster that is read whole, and whose header announces more than its pixels can be."""
    if file.height * file.width > max_pixels:
        raise DataError(
            f"{path}: {file.height}x{file.width} px",
            expected=f"at most {max_pixels} px, against decompression bombs",
            cure="cut the raster into parts, or raise max_pixels if it is right",
        )
    announced = file.height * file.width * sum(np.dtype(kind).itemsize for kind in file.dtypes)
    if file.driver in _IN_ONE_FILE and announced > _FREELY and announced > _MOST_PACKED * path.stat().st_size:
        raise DataError(
            f"{path}: {file.height}x{file.width} px of {file.count} band(s) in {path.stat().st_size} bytes",
            expected=f"at most {_MOST_PACKED} times the file, against decompression bombs",
            cure="write it again without gaps (gdal_translate -co COMPRESS=DEFLATE), or cut it",
        )
