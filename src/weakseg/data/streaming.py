"""Rasters too large for memory: pixels window by window, results band of rows by band of rows.

``raster.py`` opens what a workspace imports; this module also opens virtual rasters and any other format that GDAL
reads, because the user names the file on the command line.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.data.formats import RASTER_SUFFIXES, raster_driver, unreadable
from weakseg.data.raster import Window
from weakseg.errors import DataError, ParamsError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Pixels = npt.NDArray[np.uint8]
IN_MEMORY: Final = Path("/vsimem")  # GDAL's name for files in memory; those here come from ``uploads``
UPLOAD_DRIVERS: Final[Mapping[str, str | None]] = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}
BLOCK: Final = 256  # px, side of the tiles of what is written; a row band is one row of tiles
_CACHE: Final = 128 << 20  # bytes, as rasterio takes them; GDAL's own default is 5 % of the machine's memory


@dataclass(frozen=True)
class Source:
    """A raster to predict, as far as its header tells.

    Attributes:
        bands: the three that are read, from 1.
        masked: some pixels may be invalid: nodata value, mask or alpha band.
        gsd: metres per px, None where the file does not tell (no CRS, or one in degrees).
        stretch: pixel values that become 0 and 255, None where pixels are uint8 and stay as they are.
        profile: crs, transform and ground control points, as rasterio takes them.
        tags: metadata of the file.
    """

    path: Path
    height: int
    width: int
    bands: tuple[int, int, int]
    masked: bool
    gsd: float | None
    profile: Mapping[str, Any]
    tags: Mapping[str, str]
    stretch: tuple[float, float] | None = None


class Reader:
    """An open raster; to be used from one thread at a time."""

    def __init__(self, file: DatasetReader, source: Source) -> None:
        self._file = file
        self._source = source

    def pixels(self, window: Window) -> Pixels:
        """uint8 (height, width, 3) of a window (row, column, height, width)."""
        values = np.moveaxis(np.asarray(self._read(self._file.read, window)), 0, -1)
        return values if self._source.stretch is None else stretch_values(values, self._source.stretch)

    def valid(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """bool (height, width): valid in at least one of the three bands; None where all of the file is valid."""
        if not self._source.masked:
            return None
        masks: Pixels = self._read(self._file.read_masks, window)
        return np.asarray((masks != 0).any(axis=0), bool)

    def _read(self, method: Any, window: Window) -> Any:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as Box

        row, column, height, width = window
        try:
            with gdal_settings():
                return method(list(self._source.bands), window=Box(column, row, width, height))
        except RasterioError as error:
            raise unreadable(self._source.path, reason_of(error)) from error


@contextmanager
def gdal_settings() -> Iterator[None]:
    """A bounded block cache, cut-off JPEGs as errors, and no warning about rasters without a place on Earth."""
    import rasterio
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("ignore", NodataShadowWarning)  # nodata wins over alpha, as everywhere in GDAL
        with rasterio.Env(GDAL_CACHEMAX=_CACHE, GDAL_ERROR_ON_LIBJPEG_WARNING=True, GDAL_PAM_ENABLED=False):
            yield


@contextmanager
def open_reader(source: Source) -> Iterator[Reader]:
    """Open the file for reading windows."""
    with _opened(source.path) as file:
        yield Reader(file, source)


def stretch_values(values: npt.NDArray[Any], stretch: tuple[float, float]) -> Pixels:
    """Values of any real dtype -> uint8, ``stretch`` to 0..255, what lies outside cut off; NaN becomes 0."""
    low, high = stretch
    scaled = (values.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)), np.uint8)


def inspect_source(path: Path, bands: Sequence[int] | None, stretch: tuple[float, float] | None = None) -> Source:
    """Read the header of a raster and check that it can be predicted.

    Args:
        bands: three bands from 1, needed where the raster has not exactly 3.
        stretch: values that become 0 and 255, for rasters of other than 8 bits; the same for all bands, as the
            training images were converted.

    Raises:
        DataError: no such file, not a raster, not uint8 and no ``stretch``, or not three bands and no ``bands``.
        ParamsError: a stretch whose ends are not in order.
    """
    if stretch is not None and not stretch[0] < stretch[1]:
        raise ParamsError(f"stretch {stretch[0]:g},{stretch[1]:g}", expected="LOW,HIGH with LOW < HIGH", cure="mend it")
    with _opened(path) as file:
        from rasterio.enums import MaskFlags

        chosen = _choose_bands(path, file, bands)
        kinds = {file.dtypes[band - 1] for band in chosen}
        if kinds != {"uint8"} and (stretch is None or any(kind.startswith("complex") for kind in kinds)):
            raise DataError(
                f"{path}: dtype {', '.join(sorted(kinds))}",
                expected="uint8 (8 bits per band), scaled as the training images were",
                cure="pass --stretch LOW,HIGH, or convert it with gdal_translate -ot Byte -scale LOW HIGH 0 255",
            )
        masked = any(MaskFlags.all_valid not in file.mask_flag_enums[band - 1] for band in chosen)
        place, tags = _place(file), file.tags()
        return Source(path, file.height, file.width, chosen, masked, _gsd(file), place, tags, stretch)


def _choose_bands(path: Path, file: DatasetReader, bands: Sequence[int] | None) -> tuple[int, int, int]:
    chosen = (1, 2, 3) if bands is None and file.count == 3 else tuple(bands or ())
    if len(chosen) != 3 or not all(1 <= band <= file.count for band in chosen):
        raise DataError(
            f"{path}: {file.count} band(s)" + (f", --bands {','.join(map(str, bands))}" if bands else ""),
            expected=f"3 bands, or three numbers from 1 to {file.count} to choose them",
            cure="name the bands in the order of the training images, e.g. --bands 4,1,2 for IRRG",
        )
    return chosen[0], chosen[1], chosen[2]


def _gsd(file: DatasetReader) -> float | None:
    """Metres per px: the root of the area of a px, so that rotation does not matter."""
    if file.crs is None or not file.crs.is_projected or file.transform.is_identity:
        return None
    return float(file.crs.linear_units_factor[1]) * math.sqrt(abs(file.transform.determinant))


def _place(file: DatasetReader) -> dict[str, Any]:
    points, points_crs = file.gcps
    if points:
        return {"gcps": points, "crs": points_crs}
    place: dict[str, Any] = {"crs": file.crs} if file.crs else {}
    return place if file.transform.is_identity else {**place, "transform": file.transform}


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    import rasterio
    from rasterio.errors import RasterioError

    # the formats of raster.py by their bytes, with its checks for cut-off files; the rest is left to GDAL
    if path.is_relative_to(IN_MEMORY):
        driver = UPLOAD_DRIVERS[path.suffix]
    else:
        driver = raster_driver(path) if path.suffix.lower() in RASTER_SUFFIXES or not path.is_file() else None
    try:
        with gdal_settings():
            file = rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise DataError(
            f"{path}: cannot be opened ({reason_of(error)})",
            expected="a raster that GDAL reads",
            cure="check the file, or convert it with gdal_translate",
        ) from error
    with file:
        yield file


def reason_of(error: Exception) -> str:
    """GDAL's own words on one line: rasterio keeps them in the cause."""
    return " ".join(str(error.__cause__ or error).split())


def list_sources(where: str) -> list[Path]:
    """The rasters that a path names: a file, all rasters of a folder, or a pattern such as ``tiles/*.tif``, sorted."""
    path = Path(where)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in RASTER_SUFFIXES | {".vrt"})
    elif path.exists() or not any(mark in where for mark in "*?["):
        return [path]
    else:
        found = sorted(p for p in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if p.is_file())
    if not found:
        raise DataError(f"no raster at {where}", expected="a file, folder or pattern", cure="check the path")
    twice = sorted({p.stem for p in found if sum(q.stem == p.stem for q in found) > 1})
    if twice:
        raise DataError(
            f"{where}: several rasters named {', '.join(twice)}",
            expected="names that differ",
            cure="predict one by one",
        )
    return found
