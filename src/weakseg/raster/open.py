"""The only raster reader and writer of weakseg: GeoTIFF, PNG and JPEG with their world files, through rasterio.

What this module settles once, for everybody: the format comes from the bytes (``formats``), the pixel count is
checked before pixels are read, files that end early are refused, pixels come as people see them (``orientation``), the
place on Earth from the file or the files beside it (``sidecars``), and rasterio's warning about rasters without one is
silenced, because such rasters are welcome here.
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

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.errors import DataError
from weakseg.raster.formats import check_png_rows, gdal_sentences, raster_driver, reason_of, unreadable
from weakseg.raster.label_bands import check_lossless, label_pixels
from weakseg.raster.masks import Label, MaskOptions, decode_mask
from weakseg.raster.orientation import ambiguous_place, orientation_of, seen_shape, stored_window, turn
from weakseg.raster.palette import colour_order, read_palette
from weakseg.raster.sidecars import place_of
from weakseg.raster.whole import whole_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Image = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]
Transform = tuple[float, float, float, float, float, float]

MAX_PIXELS: Final = 2_000_000_000
_TILE: Final = 512  # px
_FREELY: Final = 512 << 20  # bytes of pixels that any header may announce
_MOST_PACKED: Final = 4000  # times that pixels may be larger than the file beyond that; deflate reaches 1032
_IN_ONE_FILE: Final = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG")  # the others name further files
_WRITERS: Final = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG"}


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

    Height and width are those of the pixels as :func:`read_image` turns them.
    """
    with opened(path, max_pixels) as file:
        return _info(path, file)


def read_image(path: Path, *, bands: Sequence[int] | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a whole image as uint8 (H, W, 3), channels in the order of the file or of ``bands``.

    Pixels come as people see them: turned as the file's EXIF orientation says.

    Args:
        path: a GeoTIFF, PNG or JPEG with 8 bits per band; a palette raster is read as its colours.
        bands: three band numbers counted from 1, as GIS tools count; needed where the file has not exactly 3 bands.
        max_pixels: the largest height x width that is opened at all.

    Raises:
        DataError: no such file, not a raster, too many pixels, cut short, not uint8, not 3 bands and no choice, or both
            an orientation and a place on Earth.
    """
    with opened(path, max_pixels) as file:
        return _read_rgb(path, file, bands, None)


def read_picture(
    path: Path, *, bands: Sequence[int] | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[RasterInfo, Image, npt.NDArray[np.bool_] | None]:
    """Header, :func:`read_image` and :func:`read_valid` with one opening: a third of the time for small files.

    Raises:
        DataError: those of read_image; the file describes its bands, and none are chosen.
    """
    with opened(path, max_pixels) as file:
        if not bands and any(file.descriptions):
            raise DataError(
                f"{path}: bands {', '.join(map(str, file.descriptions))} by their descriptions",
                expected="none",
                cure="name or choose the bands",
            )
        return _info(path, file), _read_rgb(path, file, bands, None), _valid(path, file, bands, None)


def read_bands(path: Path, bands: Bands, *, window: Window | None = None) -> npt.NDArray[Any]:
    """An image of a workspace, or a window (row, column, height, width) of it: (H, W, K) in the dtype of ``bands``.

    Of three optical bands of 8 bits this is :func:`read_image`, which also reads palettes.

    Raises:
        DataError: those of read_image, or another number of bands or dtype than bands.yaml says.
    """
    if bands.plain:
        return read_image(path) if window is None else read_window(path, window)
    with opened(path, MAX_PIXELS) as file:
        found = f"{file.count} band(s) of {', '.join(sorted(set(file.dtypes)))}"
        if file.count != len(bands) or set(file.dtypes) != {bands.dtype.name}:
            raise DataError(
                f"{path}: {found}",
                expected=f"{len(bands)} of {bands.dtype} ({', '.join(bands.names)}), as bands.yaml says",
                cure="import the images again",
            )
        layers = _read(path, file, file.indexes, window)
    return np.ascontiguousarray(np.moveaxis(layers, 0, -1))


def read_filled(path: Path, bands: Bands, area: str, *, window: Window | None = None) -> npt.NDArray[Any]:
    """:func:`read_bands` as a network sees it: holes, and bands that ``area`` lacks, have the mean of N1."""
    image = read_bands(path, bands, window=window)
    return image if bands.plain else bands.filled(image, area)


def read_layers(path: Path, numbers: Sequence[int], *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[Any]:
    """These bands (from 1) of a raster of any depth, (H, W, bands), turned as :func:`read_image` turns it."""
    with opened(path, max_pixels) as file:
        return np.ascontiguousarray(np.moveaxis(_read(path, file, numbers, None), 0, -1))


def read_overview(path: Path, side: int, bands: Bands = PLAIN) -> Image:
    """A small picture of a whole image, as ``Bands.picture`` shows it: uint8 (h, w, 3), the longer side ``side`` px.

    GDAL reads block by block, and uses the overviews of the file where it has some: memory is that of the picture.
    """
    with opened(path, None) as file:
        factor = max(1.0, max(file.height, file.width) / side)
        shape = tuple(max(1, round(n / factor)) for n in file.shape)
        if bands.plain:
            return _read_rgb(path, file, None, None, shape=shape)
        layers = _read(path, file, [index + 1 for index in bands.shown], None, shape=shape)
    return bands.shown_values(np.moveaxis(layers, 0, -1))


def read_valid(
    path: Path,
    *,
    bands: Sequence[int] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> npt.NDArray[np.bool_] | None:
    """Where an image has data, bool (H, W), turned as :func:`read_image` turns it; None where it has data everywhere.

    ``window`` (row, column, height, width; px), inside the raster, asks for that part alone.

    No data is what the file marks so in all of the three bands (``bands`` as there): by its nodata value, an alpha of 0
    or its mask; and a transparent colour of a palette. ``predict`` writes 255 at the same pixels.
    """
    with opened(path, max_pixels) as file:
        return _valid(path, file, bands, window)


def _valid(
    path: Path, file: DatasetReader, bands: Sequence[int] | None, window: Window | None
) -> npt.NDArray[np.bool_] | None:
    from rasterio.enums import MaskFlags

    palette = read_palette(file, str(path))
    transparent = palette is not None and palette.transparent
    if not transparent and all(MaskFlags.all_valid in flags for flags in file.mask_flag_enums):
        return None
    chosen = [1] if palette is not None else [band for band in bands or (1, 2, 3) if band <= file.count]
    valid = (_read(path, file, chosen, window, masks=True) != 0).any(0)
    if palette is not None and transparent:
        valid &= palette.opaque(_read(path, file, [1], window)[0])
    return None if valid.all() else np.ascontiguousarray(valid)


def read_window(
    path: Path, window: Window, *, bands: Sequence[int] | None = None, max_pixels: int = MAX_PIXELS
) -> Image:
    """Read the window (row, column, height, width; px) of an image as uint8 (height, width, 3).

    ``max_pixels`` bounds the window, not the file. A window that is empty or leaves the raster raises DataError;
    other errors as for read_image.
    """
    row, column, height, width = window
    with opened(path, None) as file:
        rows, columns = seen_shape(file.height, file.width, _orientation(path, file))
        inside = row >= 0 and column >= 0 and row + height <= rows and column + width <= columns
        if not inside or height < 1 or width < 1 or height * width > max_pixels:
            raise DataError(
                f"{path}: window at row {row}, column {column} of {height}x{width} px",
                expected=f"1 to {max_pixels} px inside the raster of {rows}x{columns} px",
                cure="clip the window",
            )
        return _read_rgb(path, file, bands, window)


def read_mask(path: Path, classes: ClassScheme, *, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read a label raster as an index mask: uint8 (H, W), class index or 255 (``IGNORE``); see read_label."""
    return read_label(path, classes, max_pixels=max_pixels).mask


def read_label(
    path: Path, classes: ClassScheme, options: MaskOptions | None = None, *, max_pixels: int = MAX_PIXELS
) -> Label:
    """Read a label raster as an index mask: uint8 (H, W), class index or 255 (``IGNORE``), and what the file held.

    Three bands are colours, one band is indices, ids or colours; a further band may be alpha. ``masks.decode_mask``
    has the rules. The errors are those of read_image and of decode_mask, with the path; a file that was compressed
    with loss is one, unless ``options`` allow it.
    """
    options = options or MaskOptions()
    with opened(path, max_pixels) as file:
        if not options.lossy:
            check_lossless(path, file)
        orientation = _orientation(path, file)
        pixels = label_pixels(
            path, file, read=lambda bands: _read(path, file, bands, None), see=lambda mask: turn(mask, orientation)
        )
    try:
        return decode_mask(pixels, classes, options)
    except DataError as error:
        raise DataError(f"{path}: {error.found}", expected=error.expected, cure=error.cure) from error


def write_raster(
    path: Path,
    array: npt.NDArray[Any],
    info: RasterInfo | None = None,
    *,
    colours: ClassScheme | None = None,
    compress: bool = False,
    valid: npt.NDArray[np.bool_] | None = None,
    names: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a ``.tif`` or ``.png``, whole or not at all.

    Args:
        path: the file; its suffix chooses the format. An existing file is replaced.
        array: (H, W) or (H, W, bands), a dtype that the format knows.
        info: where to take crs, transform and nodata from, usually that of the image the array belongs to; its size
            must fit, its bands and dtype do not matter.
        colours: give an index mask (H, W) uint8 the colours of these classes, as a colour table, and nodata 255.
        compress: ``.tif`` only: 512 px tiles, or one strip where no more is needed, and lossless compression.
        valid: ``.tif`` only: bool (H, W), where there is data, for the file's own mask; it replaces a nodata value.
        names: ``.tif`` only: descriptions of the bands.
        tags: ``.tif`` only: metadata of the file.

    Raises:
        DataError: shape and ``info`` disagree, an unknown suffix, a place on Earth that a PNG cannot hold, or the
            file cannot be written.
    """
    import rasterio
    from rasterio.crs import CRS

    layers = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    _check_writable(path, array, info, colours)
    profile: dict[str, Any] = {"count": layers.shape[0], "height": layers.shape[1], "width": layers.shape[2]}
    if info is not None:
        profile |= {"crs": CRS.from_wkt(info.crs) if info.crs else None, "nodata": _fitting(info.nodata, array.dtype)}
        profile |= {"transform": rasterio.Affine(*info.transform)} if info.transform else {}
    if colours is not None:
        profile["nodata"] = IGNORE  # its colour may be that of a class
    if valid is not None:
        profile["nodata"] = None  # programs disagree which of two marks counts
    if compress:
        predictor = 3 if array.dtype.kind == "f" else 2
        profile |= {"compress": "deflate", "predictor": predictor}
        # a small image is one strip: a tile would be filled up to its whole size, which takes five times as long
        small = max(layers.shape[1:]) <= _TILE
        profile |= (
            {"blockysize": layers.shape[1]} if small else {"tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
        )
        profile["zlevel"] = 1  # measured on aerial images: half the time of the usual level 6, 6 % larger
    # no .aux.xml beside the temporary name: it would be left behind
    settings = rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_TIFF_INTERNAL_MASK=True)
    with whole_raster(path) as temporary, _quiet(), settings:
        driver = _WRITERS[path.suffix.lower()]
        with rasterio.open(temporary, "w", driver=driver, dtype=array.dtype.name, **profile) as file:
            file.write(layers)
            if names:
                file.descriptions = tuple(names)
            if tags is not None:
                file.update_tags(**tags)
            if valid is not None:
                file.write_mask(valid)
            if colours is not None:
                file.write_colormap(1, colours.colour_table())


def quiet_process() -> None:
    """Silence rasterio's warnings of :func:`_quiet` for good, where many threads read: filters are the process's."""
    from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    warnings.filterwarnings("ignore", category=NodataShadowWarning)


@contextmanager
def _quiet() -> Iterator[None]:
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
        with _quiet(), rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True):
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


def _info(path: Path, file: DatasetReader) -> RasterInfo:
    orientation = _orientation(path, file)
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


def _orientation(path: Path, file: DatasetReader) -> int:
    """1 to 8; with a place on Earth none but 1, because programs disagree which pixels the place is meant for."""
    orientation = orientation_of(path)
    if orientation != 1 and any(place_of(path, file)):
        raise ambiguous_place(path, orientation)
    return orientation


def _read(
    path: Path,
    file: DatasetReader,
    bands: Sequence[int],
    window: Window | None,
    *,
    masks: bool = False,
    shape: tuple[int, ...] | None = None,
) -> npt.NDArray[Any]:
    """(bands, H, W) in the file's dtype, turned as people see them; the window is one of the turned raster.

    ``masks``: not the pixels but GDAL's masks of them, 0 where there is no data. ``shape``: height and width, before
    they are turned, of pixels that are means of those of the file, or some of them where they are indices.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as Box

    check_png_rows(path, file.driver)
    orientation = _orientation(path, file)
    box = None
    if window is not None:
        row, column, height, width = stored_window(window, file.height, file.width, orientation)
        box = Box(column, row, width, height)
    try:
        with rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True):
            how = Resampling.nearest if shape is None or read_palette(file, str(path)) else Resampling.average
            size = None if shape is None else (len(bands), *shape)
            read = file.read_masks if masks else file.read
            layers = read(list(bands), window=box, out_shape=size, resampling=how)
            return turn(np.asarray(layers), orientation)
    except RasterioError as error:
        raise unreadable(path, reason_of(error), window) from error


def _read_rgb(
    path: Path,
    file: DatasetReader,
    bands: Sequence[int] | None,
    window: Window | None,
    *,
    shape: tuple[int, ...] | None = None,
) -> Image:
    _check_dtype(path, file)
    palette = read_palette(file, str(path))
    if palette is not None:
        order = [band - 1 for band in colour_order(path, bands)]
        return np.ascontiguousarray(palette.expand(_read(path, file, [1], window, shape=shape)[0])[..., order])
    if bands is None and file.count != 3:
        raise DataError(
            f"{path}: {file.count} band(s)", expected="3 bands", cure="choose three with bands, e.g. 4 1 2 for IRRG"
        )
    chosen = (1, 2, 3) if bands is None else tuple(bands)
    if len(chosen) != 3 or not all(1 <= band <= file.count for band in chosen):
        raise DataError(
            f"{path}: bands {chosen} of {file.count}",
            expected=f"three numbers from 1 to {file.count}",
            cure="mend bands",
        )
    return np.ascontiguousarray(np.moveaxis(_read(path, file, chosen, window, shape=shape), 0, -1))


def _check_dtype(path: Path, file: DatasetReader) -> None:
    if set(file.dtypes) != {"uint8"}:
        raise DataError(
            f"{path}: dtype {', '.join(sorted(set(file.dtypes)))}",
            expected="uint8 (8 bits per band)",
            cure="convert it, e.g. gdal_translate -ot Byte (with -scale for an image)",
        )


def _check_writable(path: Path, array: npt.NDArray[Any], info: RasterInfo | None, colours: ClassScheme | None) -> None:
    suffix, shape = path.suffix.lower(), array.shape
    if suffix not in _WRITERS:
        raise DataError(f"{path}: suffix {suffix!r}", expected=f"one of {', '.join(_WRITERS)}", cure="rename it")
    if suffix == ".png" and info is not None and info.georeferenced:
        raise DataError(f"{path}: a PNG keeps no CRS", expected="a .tif", cure="write a .tif, or pass no info")
    if array.ndim not in (2, 3) or 0 in shape or (info is not None and shape[:2] != (info.height, info.width)):
        wanted = "(H, W) or (H, W, bands)" if info is None else f"{info.height}x{info.width} px like its raster"
        raise DataError(f"{path}: array of shape {shape}", expected=wanted, cure="pass the array of this raster")
    if colours is not None and (array.ndim != 2 or array.dtype != np.uint8):
        raise DataError(
            f"{path}: {array.dtype} array of shape {shape} with class colours",
            expected="an index mask, uint8 (H, W)",
            cure="pass no colours",
        )


def _fitting(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """``nodata`` if ``dtype`` can hold it; a value it cannot hold marks no pixel, so nothing is lost without it."""
    if nodata is None or dtype.kind not in "iu":
        return nodata
    limits = np.iinfo(dtype)
    return nodata if math.isfinite(nodata) and limits.min <= nodata <= limits.max else None
