"""What the numbers of a band stand for: scale, offset and unit that a file names, which GDAL does not apply.

A height is brought to metres by them. Classes have none, and images only one for all: elsewhere they are compared, and
what could be read with them and without is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weakseg.core.errors import DataError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Scaling = tuple[float, float]
"""Scale and offset: the value is scale x number + offset."""
AS_STORED: Final[Scaling] = (1.0, 0.0)
METRES: Final = frozenset(("", "m", "metre", "metres", "meter", "meters"))
_FOOT, _SURVEY_FOOT = 0.3048, 1200 / 3937
_UNITS: Final[Mapping[str, float]] = {
    **dict.fromkeys(METRES, 1.0),
    **dict.fromkeys(("dm", "decimetre", "decimeter"), 0.1),
    **dict.fromkeys(("cm", "centimetre", "centimeter", "centimetres", "centimeters"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimeter", "millimetres", "millimeters"), 0.001),
    **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), _FOOT),
    **dict.fromkeys(("us survey foot", "us survey feet", "us-ft", "ftus", "foot_us", "us foot"), _SURVEY_FOOT),
}


def scaling_of(file: DatasetReader, band: int) -> Scaling:
    """What a file says of a band, from 1; :data:`AS_STORED` where it says nothing."""
    return float(file.scales[band - 1]), float(file.offsets[band - 1])


def scaling_text(scaling: Scaling) -> str:
    """In words.

    >>> scaling_text((0.0001, -0.1)), scaling_text((1.0, 0.0))
    ('scale 0.0001 and offset -0.1', 'no scale')
    """
    return "no scale" if scaling == AS_STORED else f"scale {scaling[0]:g} and offset {scaling[1]:g}"


def unit_of(file: DatasetReader, band: int) -> str:
    """The unit that a file names for a band, by itself or by its vertical CRS; "" for none."""
    return str(file.units[band - 1] or "").strip()


def metres_of(path: Path | str, file: DatasetReader, band: int) -> Scaling:
    """By what heights in a band become metres: its unit times its scale and offset.

    Raises:
        DataError: a unit that is none of length, or none that is known here.
    """
    unit, (scale, offset) = unit_of(file, band), scaling_of(file, band)
    if (metres := _UNITS.get(unit.lower())) is None:
        raise DataError(
            f"{path}: heights in {unit}",
            expected="metres, or feet, dm, cm, mm",
            cure="convert them to metres, gdal_calc.py, or mend the unit that the file names",
        )
    return scale * metres, offset * metres


def check_as_stored(path: Path | str, file: DatasetReader, bands: Sequence[int], what: str) -> None:
    """Refuse bands that a file names a scale or an offset for, where ``what`` is read as it is stored."""
    for band in bands:
        if (scaling := scaling_of(file, band)) != AS_STORED:
            raise DataError(
                f"{path}: {what} of band {band} with {scaling_text(scaling)}, stored one way and meant another",
                expected="numbers that are what they mean",
                cure="write what is meant, gdal_translate -unscale, or take it off, gdal_edit.py -scale 1 -offset 0",
            )
