"""Label rasters of any kind as index masks: indices, ids, colours, colour tables, nodata; lossless or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme, Colour, Mask, pack_colour
from weakseg.core.errors import DataError
from weakseg.raster.mask_readings import Holds, Reading, Table, colour_of, out_of_range, possible_readings

Numbers = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

_EXACT: Final = 2**53  # whole numbers up to here are exact in every float


@dataclass(frozen=True)
class MaskOptions:
    """What the user says about label files, where these can be read in more than one way.

    Attributes:
        holds: what the values of one-band files are; None: what fits, if only one reading does.
        ignore_values: values of one-band files that mean ignore, e.g. the id of "unlabelled".
        lossy: take files whose compression changes values; unknown values and colours are refused all the same.
        nodata_is_class: values that the header calls nodata are values like others.
    """

    holds: Holds | None = None
    ignore_values: tuple[int, ...] = ()
    lossy: bool = False
    nodata_is_class: bool = False


@dataclass(frozen=True)
class LabelPixels:
    """A label raster as its file has it.

    Attributes:
        values: (H, W) of any whole or float dtype, or uint8 (H, W, 3).
        table: value -> (R, G, B, alpha) of a one-band file with a colour table.
        nodata: what the header calls nodata: a value, or a colour of three bands.
        valid: (H, W), False where a mask or alpha band says that there is nothing; None: everywhere something.
    """

    values: Numbers
    table: Table | None = None
    nodata: float | Colour | None = None
    valid: Bools | None = None


@dataclass(frozen=True)
class Label:
    """An index mask, uint8 (H, W), and what the file held: None where its colour table says so or readings agree."""

    mask: Mask
    holds: Holds | None


def decode_mask(pixels: LabelPixels, classes: ClassScheme, options: MaskOptions | None = None) -> Label:
    """Turn the pixels of a label raster into an index mask: class index or 255 (``IGNORE``).

    Three bands are colours of ``classes``; what one band holds is settled by ``mask_readings``. Pixels that the file
    marks as empty (nodata, mask, alpha, a transparent colour, NaN) become ignore.

    Raises:
        DataError: an unknown colour or a value out of range, with its count and first place; fractions; values that
            can be read two ways; nodata or an ignore value that is a class.
    """
    options = options or MaskOptions()
    values, valid = pixels.values, pixels.valid
    if values.ndim == 3:
        if options.holds in (None, "colours") or not (values == values[..., :1]).all():
            return Label(_decode_colours(pixels, classes, options), "colours")
        values = np.ascontiguousarray(values[..., 0])  # a grey picture in three equal bands
    values, valid = _whole_numbers(values, valid, pixels.nodata)
    empty = set() if options.nodata_is_class else _empty_values(pixels)
    counts = _count(values, valid)
    used = [value for value in counts if value not in empty]
    readings = possible_readings(
        used,
        classes,
        pixels.table,
        holds=options.holds,
        ignored=options.ignore_values,
        picture=pixels.values.dtype == np.uint8,
    )
    reading = readings[0]
    if not reading.covers(used):
        raise _unknown(values, valid, used, reading, classes, pixels.table)
    for value in empty & counts.keys():
        _check_empty(value, counts[value], readings, classes)
    mask = _look_up(values, {value: reading.codes[value] for value in used})
    if valid is not None:
        mask[~valid] = IGNORE
    return Label(mask, reading.holds if pixels.table is None and len(readings) == 1 else None)


def _decode_colours(pixels: LabelPixels, classes: ClassScheme, options: MaskOptions) -> Mask:
    ignored = None if pixels.valid is None else ~pixels.valid
    if isinstance(pixels.nodata, tuple) and not options.nodata_is_class:
        here = (pixels.values == np.array(pixels.nodata)).all(axis=-1)
        code = classes.colour_codes().get(pixels.nodata, IGNORE)
        if code != IGNORE and here.any():
            raise _nodata_is_class(f"{pixels.nodata}", int(here.sum()), classes.names[code])
        ignored = here if ignored is None else ignored | here
    return classes.to_indices(pixels.values, ignored=ignored)


def _whole_numbers(values: Numbers, valid: Bools | None, nodata: float | Colour | None) -> tuple[Numbers, Bools | None]:
    """Values as integers; NaN is no value. GIS programs write class rasters as float32, nodata often as its lowest."""
    if values.dtype.kind != "f":
        return values, valid
    empty = np.isnan(values)
    if isinstance(nodata, float) and abs(nodata) > _EXACT:
        empty |= values == nodata
    valid = ~empty if valid is None else valid & ~empty
    whole = np.where(valid, values, 0)
    broken = ~np.isfinite(whole) | (whole != np.rint(whole)) | (np.abs(whole) > _EXACT)
    if broken.any():
        row, column = np.argwhere(broken)[0]
        raise DataError(
            f"{int(broken.sum())} px of values that are no whole numbers, first {values[row, column]} "
            f"at row {row}, column {column}",
            expected="classes as whole numbers",
            cure="export the label again, without resampling or scaling",
        )
    return whole.astype(np.int64), valid


def _empty_values(pixels: LabelPixels) -> set[int]:
    """Values that the file marks as nothing: nodata of the header, fully transparent colours of the table."""
    empty = {value for value, (*_, alpha) in (pixels.table or {}).items() if alpha == 0}
    if isinstance(pixels.nodata, float) and pixels.nodata.is_integer():
        empty.add(int(pixels.nodata))
    return empty


def _count(values: Numbers, valid: Bools | None) -> dict[int, int]:
    """Value -> px, ascending."""
    chosen = values.ravel() if valid is None else values[valid]
    if values.dtype in (np.uint8, np.uint16):
        counts = np.bincount(chosen)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    found, numbers = np.unique(chosen, return_counts=True)
    return {int(value): int(number) for value, number in zip(found, numbers, strict=True)}


def _look_up(values: Numbers, codes: dict[int, int]) -> Mask:
    """Codes of values; ``IGNORE`` for values without one."""
    if values.dtype in (np.uint8, np.uint16):
        table = np.full(np.iinfo(values.dtype).max + 1, IGNORE, np.uint8)
        table[list(codes)] = list(codes.values())
        return table[values]
    mask = np.full(values.shape, IGNORE, np.uint8)
    for value, code in codes.items():
        mask[values == value] = code
    return mask


def _unknown(
    values: Numbers,
    valid: Bools | None,
    used: Sequence[int],
    reading: Reading,
    classes: ClassScheme,
    table: Table | None,
) -> DataError:
    strays = [value for value in used if value not in reading.codes]
    unknown = np.isin(values, strays) if valid is None else np.isin(values, strays) & valid
    if reading.holds == "colours":
        codes = np.zeros(values.shape, np.int64)
        for value in strays:
            codes[values == value] = pack_colour(*colour_of(value, table))
        return classes.unknown_colours(codes, unknown)
    row, column = np.argwhere(unknown)[0]
    place = f"{int(unknown.sum())} px of values out of range, first {values[row, column]} at row {row}, column {column}"
    return out_of_range(place, reading, classes)


def _check_empty(value: int, count: int, readings: Sequence[Reading], classes: ClassScheme) -> None:
    for reading in readings:
        code = reading.codes.get(value, IGNORE)
        if code != IGNORE:
            raise _nodata_is_class(f"{value}", count, f"{classes.names[code]} among {reading.holds}")


def _nodata_is_class(value: str, count: int, name: str) -> DataError:
    return DataError(
        f"{count} px of {value}, which is nodata by the file and {name}",
        expected="nodata that is no class",
        cure="give each class its id in the files as `value:` in classes.yaml, or say --nodata-is-class "
        "(nodata_is_class)",
    )
