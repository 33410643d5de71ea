"""What the numbers of a band stand for: scale, offset and unit that a file names, which GDAL does not apply.

A height is brought to metres by them, and heights that are used together must say alike what they are. Classes have
none, and images only one for all: elsewhere they are compared, and what could be read with them and without is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weakseg.core.errors import DataError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Scaling = tuple[float, float]
"""Scale and offset: the value is scale x number + offset."""
AS_STORED: Final[Scaling] = (1.0, 0.0)
LEAST, MOST = -500.0, 9000.0  # metres that a height may have; the Dead Sea's shore and Everest
METRES: Final = frozenset(("", "m", "metre", "metres", "meter", "meters"))
_DATUM: Final = re.compile(r'(?:VERT_DATUM|VDATUM|VERTICALDATUM)\["([^"]+)"')
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


def vertical_datum(file: DatasetReader) -> str:
    """The surface above which a raster's CRS counts heights; "" where it names none."""
    found = _DATUM.search(file.crs.to_wkt()) if file.crs else None
    return found[1] if found else ""


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


@dataclass
class HeightsTogether:
    """Rasters of heights that are used together: what some of them say of their numbers and others do not.

    A raster that says nothing is in metres and has no holes, unless another one shows that it may be otherwise.
    """

    _first: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    _datum: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: Path | str, file: DatasetReader) -> None:
        """One more; ``name`` is for people.

        Raises:
            DataError: one of two rasters alone names a unit, a scale (both of whole numbers, or of broken ones), or a
                nodata value that could be a height; they name two vertical datums.
        """
        if datum := vertical_datum(file):
            first, known = self._datum.setdefault("", (str(name), datum))
            if datum != known:
                raise DataError(
                    f"{first}: heights above {known}, and {name}: above {datum}",
                    expected="heights above one surface, as they are compared and taken off each other",
                    cure="bring one to the vertical datum of the other, gdalwarp -t_srs with both CRS in full",
                )
        unit, scaling = unit_of(file, 1), scaling_of(file, 1)
        if not unit:
            self._compare("unit", name, "", "")
        elif unit.lower() not in METRES:
            self._compare("unit", name, f"in {unit}", "")
        kind = "whole" if file.dtypes[0].startswith(("int", "uint")) else "broken"
        self._compare("scale", name, "" if scaling == AS_STORED else f"with {scaling_text(scaling)}", kind)
        nodata = file.nodatavals[0]
        if nodata is None:
            self._compare("nodata", name, "", "")
        elif _could_be_height(nodata, scaling, unit):
            self._compare("nodata", name, f"with nodata {nodata:g}", "")

    def _compare(self, what: str, name: Path | str, said: str, kind: str) -> None:
        self._first.setdefault((what, kind, "said" if said else "silent"), (str(name), said))
        told, silent = (self._first.get((what, kind, side)) for side in ("said", "silent"))
        if told is not None and silent is not None:
            raise DataError(
                f"{told[0]}: heights {told[1]}, and {silent[0]} names no {what}",
                expected=f"a {what} in both, or in none",
                cure=_CURES[what],
            )


_CURES: Final[Mapping[str, str]] = {
    "unit": "name that of the other raster too, gdal_edit.py -units UNIT (m for metres)",
    "scale": "name that of the other raster too, gdal_edit.py -scale S -offset O, or write the heights themselves "
    "where one is named, gdal_translate -unscale -ot Float32",
    "nodata": "say which value means none in the other raster too, gdal_edit.py -a_nodata VALUE",
}


def _could_be_height(nodata: float, scaling: Scaling, unit: str) -> bool:
    """Whether a value that means none would pass for a height where nobody says that it does."""
    metres = (nodata * scaling[0] + scaling[1]) * _UNITS.get(unit.lower(), 1.0)
    return LEAST <= metres <= MOST
