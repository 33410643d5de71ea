"""What a label file says beside its numbers: compression, colour table, nodata, mask and alpha bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import Colour
from weakseg.core.errors import DataError
from weakseg.raster.band_values import check_as_stored
from weakseg.raster.colour_flags import in_colour_order
from weakseg.raster.mask_readings import Table
from weakseg.raster.masks import Bools, LabelPixels
from weakseg.raster.palette import read_palette

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Bands = Callable[[Sequence[int]], npt.NDArray[Any]]
Turn = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

_ALWAYS_LOSSY: Final = ("JPEG", "YCbCr JPEG")


def check_lossless(path: Path, file: DatasetReader) -> None:
    """Refuse a file whose compression changes values: neither indices nor colours survive it."""
    if how := _lossy(file):
        raise DataError(
            f"{path}: {how}, which changes values",
            expected="a lossless label (PNG, or TIFF with LZW, deflate or no compression)",
            cure="export the label again, or say --lossy-masks (lossy_masks) if every value is still one of the scheme",
        )


def label_pixels(path: Path, file: DatasetReader, *, read: Bands, see: Turn) -> LabelPixels:
    """The values of a label with 1 band, or 3 of colours; a further band is alpha, 0 for pixels without a label.

    Colours are red, green and blue in the order of the file, unless it says by descriptions or flags which is which.

    Args:
        path: for the errors.
        file: the open raster.
        read: band numbers, from 1 -> (bands, H, W), as people see them.
        see: what is stored (H, W) -> as people see it.

    Raises:
        DataError: another number of bands, colours of another depth, half transparent pixels.
    """
    from rasterio.enums import ColorInterp

    alpha = [band for band, kind in enumerate(file.colorinterp, 1) if kind == ColorInterp.alpha]
    bands = [band for band in file.indexes if band not in alpha]
    if len(bands) not in (1, 3) or len(alpha) > 1:
        raise DataError(
            f"{path}: {file.count} bands",
            expected="a label with 1 band of indices or 3 of colours",
            cure="export the label again",
        )
    _check_dtypes(path, file, bands)
    check_as_stored(path, file, bands, "a mask")
    valid = _opaque(path, file, read, alpha[0]) if alpha else _mask_band(file, see)
    bands = in_colour_order(file, bands) if len(bands) == 3 else bands
    values = read(bands)
    if len(bands) == 1:
        return LabelPixels(values[0], _colour_table(file, str(path)), file.nodatavals[bands[0] - 1], valid)
    return LabelPixels(np.ascontiguousarray(np.moveaxis(values, 0, -1)), None, _nodata_colour(file, bands), valid)


def _lossy(file: DatasetReader) -> str | None:
    structure = {key: str(value) for key, value in file.tags(ns="IMAGE_STRUCTURE").items()}
    compression = structure.get("COMPRESSION", "")
    if file.driver == "JPEG":
        return "a JPEG"
    if compression in _ALWAYS_LOSSY:
        return "a TIFF with JPEG compression"
    if structure.get("COMPRESSION_REVERSIBILITY", "").startswith("LOSSY"):
        return f"a lossy {compression or file.driver}"
    if float(structure.get("MAX_Z_ERROR", 0)) > 0:
        return f"a {compression} with an error of {structure['MAX_Z_ERROR']}"
    return None


def _check_dtypes(path: Path, file: DatasetReader, bands: Sequence[int]) -> None:
    dtypes = {file.dtypes[band - 1] for band in bands}
    number = len(bands) == 1 and all(np.dtype(dtype).kind in "iuf" for dtype in dtypes)
    if dtypes != {"uint8"} and not number:
        raise DataError(
            f"{path}: dtype {', '.join(sorted(dtypes))}",
            expected="uint8 (8 bits per band) for colours, whole numbers for one band",
            cure="convert it, e.g. gdal_translate -ot Byte",
        )


def _opaque(path: Path, file: DatasetReader, read: Bands, band: int) -> Bools:
    alpha = read([band])[0]
    full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    half = int(((alpha != 0) & (alpha != full)).sum())
    if half:
        raise DataError(
            f"{path}: an alpha band that is neither 0 nor {full} at {half} px",
            expected="opaque pixels, or fully transparent ones for pixels without a label",
            cure="export the label again, without smoothing",
        )
    return np.asarray(alpha == full)


def _mask_band(file: DatasetReader, see: Turn) -> Bools | None:
    """Validity by a mask inside or beside the file; nodata values are looked at by value."""
    from rasterio.enums import MaskFlags

    flags = file.mask_flag_enums[0]
    if MaskFlags.per_dataset not in flags or MaskFlags.nodata in flags:
        return None
    return np.asarray(see(file.read_masks(1)) != 0)


def _colour_table(file: DatasetReader, name: str) -> Table | None:
    """Value -> (R, G, B, alpha); for grey values of less than 8 bits, the greys that programs show for them."""
    if palette := read_palette(file, name):
        return {value: (r, g, b, a) for value, (r, g, b, a) in enumerate(palette.colours.tolist())}
    bits = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if bits >= 8:
        return None
    greys = [round(255 * value / (2**bits - 1)) for value in range(2**bits)]
    return {value: (grey, grey, grey, 255) for value, grey in enumerate(greys)}


def _nodata_colour(file: DatasetReader, bands: Sequence[int]) -> Colour | None:
    """The colour that means nothing: where all three bands have their nodata value, as PNG's transparent colour."""
    values: Sequence[Any] = [file.nodatavals[band - 1] for band in bands]
    if "NODATA_VALUES" in file.tags():
        named = file.tags()["NODATA_VALUES"].split()
        values = [named[band - 1] if band <= len(named) else None for band in bands]
    if any(value is None or not float(value).is_integer() for value in values):
        return None
    red, green, blue = (int(float(value)) for value in values)
    return red, green, blue
