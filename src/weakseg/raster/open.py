"""The pixels of images and labels: GeoTIFF, PNG, JPEG and their like, through rasterio, whole or a window.

``header.opened`` opens them; pixels come as people see them (``orientation``), palettes as their colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.classes import ClassScheme, Mask
from weakseg.core.errors import DataError
from weakseg.raster.band_values import check_as_stored
from weakseg.raster.colour_flags import check_light, flagged_colours
from weakseg.raster.formats import broken_block, check_png_rows, reason_of, unreadable
from weakseg.raster.header import MAX_PIXELS, RasterInfo, info_of, opened, seen_orientation
from weakseg.raster.label_bands import check_lossless, label_pixels
from weakseg.raster.masks import Label, MaskOptions, decode_mask
from weakseg.raster.orientation import seen_shape, stored_window, turn
from weakseg.raster.palette import colour_order, read_palette

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Image = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]


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
        DataError: those of read_image; the file says what its bands are.
    """
    with opened(path, max_pixels) as file:
        check_light(path, file)
        if any(file.descriptions) or flagged_colours(file):
            raise DataError(
                f"{path}: bands {', '.join(map(str, file.descriptions))} by their descriptions, or by flags",
                expected="none",
                cure="name or choose the bands",
            )
        return info_of(path, file), _read_rgb(path, file, bands, None), _valid(path, file, bands, None)


def read_bands(path: Path, bands: Bands, *, window: Window | None = None) -> npt.NDArray[Any]:
    """An image of a workspace, or a window (row, column, height, width) of it: (H, W, K) in the dtype of ``bands``.

    Of three optical bands of 8 bits this is :func:`read_image`, which also reads palettes.

    Raises:
        DataError: those of read_image, or another number of bands or dtype than bands.yaml says.
    """
    if bands.plain:
        return read_image(path) if window is None else read_window(path, window)
    with opened(path, MAX_PIXELS if window is None else None) as file:
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
    or its mask; and a transparent colour of a palette. ``predict`` writes 255 at the same pixels. ``max_pixels`` bounds
    an image that is read whole.
    """
    with opened(path, max_pixels if window is None else None) as file:
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
        rows, columns = seen_shape(file.height, file.width, seen_orientation(path, file))
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
        orientation = seen_orientation(path, file)
        pixels = label_pixels(
            path, file, read=lambda bands: _read(path, file, bands, None), see=lambda mask: turn(mask, orientation)
        )
    try:
        return decode_mask(pixels, classes, options)
    except DataError as error:
        raise DataError(f"{path}: {error.found}", expected=error.expected, cure=error.cure) from error


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
    orientation = seen_orientation(path, file)
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
        place = window if window is not None or orientation != 1 else broken_block(file, read, bands)
        raise unreadable(path, reason_of(error), place) from error


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
    check_as_stored(path, file, chosen, "an image")
    return np.ascontiguousarray(np.moveaxis(_read(path, file, chosen, window, shape=shape), 0, -1))


def _check_dtype(path: Path, file: DatasetReader) -> None:
    if set(file.dtypes) != {"uint8"}:
        raise DataError(
            f"{path}: dtype {', '.join(sorted(set(file.dtypes)))}",
            expected="uint8 (8 bits per band)",
            cure="convert it, e.g. gdal_translate -ot Byte (with -scale for an image)",
        )
