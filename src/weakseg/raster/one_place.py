"""Whether all that says where a raster lies says the same: the file, GDAL's ``.aux.xml``, world files, a ``.prj``.

GDAL takes the first of them and is silent about the others, and so two programs put one raster at two places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from weakseg.core.errors import DataError

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS

_NEAR: Final = 0.1  # px, as far as a label may lie off its image
_ROUNDED: Final = 5e-11  # world files have ten decimals
_CLOSE: Final = 2.0  # m; realisations of a datum are within, other datums and zones far beyond
_DEGREE: Final = 111_320.0  # m
_LEAST_PX: Final = 1e-4  # of a projection's units; px in degrees are at most a few 1e-6 for 10 cm
_MOST_DEGREES: Final = (541.0, 101.0)  # a world map that begins anywhere, in gon, and its half px beyond the pole
_CURE: Final = "mend the wrong one, or move it away"


@dataclass(frozen=True)
class Statement:
    """What one source says: ``name`` is for people, ``tied`` a file with a tie point, ``world`` a world file.

    Programs differ in whether the tie point of a GeoTIFF and the numbers of a world file mean a px's corner or its
    centre: where both have the same grid but for that, the file's own tags count, as GDAL reads them.
    """

    name: str
    crs: CRS | None = None
    transform: Affine | None = None
    tied: bool = False
    world: bool = False


def contradiction(path: object, statements: Sequence[Statement], height: int, width: int) -> DataError | None:
    """What is wrong with a raster of which two statements differ by more than a tenth of a px, or in their CRS."""
    placed = [one for one in statements if one.transform is not None]
    for one in placed[1:]:
        if fault := _transforms_differ(path, placed[0], one, height, width):
            return fault
    if not placed or placed[0].transform is None:
        return None
    middle = placed[0].transform @ (width / 2, height / 2)
    named = [one for one in statements if one.crs is not None]
    for one in named[1:]:
        first, crs = named[0].crs, one.crs
        if first is not None and crs is not None and not same_crs(first, crs, middle):
            return DataError(
                f"{path}: in {crs_name(first)} by {named[0].name}, in {crs_name(crs)} by {one.name}",
                expected="one CRS",
                cure=_CURE,
            )
    return None


def _transforms_differ(path: object, first: Statement, other: Statement, height: int, width: int) -> DataError | None:
    if first.transform is None or other.transform is None:
        return None
    shifts = list(_shifts(first.transform, other.transform, height, width))
    far = max(math.hypot(*shift) for shift in shifts)
    rounding = _ROUNDED * (height + width) / math.sqrt(abs(first.transform.determinant) or math.inf)
    if far <= _NEAR + rounding:
        return None
    centred = [abs(abs(right) - 0.5) + abs(right - down) for right, down in shifts]
    if first.tied and other.world and max(centred) <= _NEAR + rounding:
        return None
    (x, y), (u, v) = first.transform @ (0, 0), other.transform @ (0, 0)
    return DataError(
        f"{path}: its upper left corner lies at {x:.12g}, {y:.12g} by {first.name} and at {u:.12g}, {v:.12g} by "
        f"{other.name}, corners up to {far:.3g} px apart",
        expected="one place",
        cure=_CURE,
    )


def _shifts(one: Affine, other: Affine, height: int, width: int) -> Iterable[tuple[float, float]]:
    """Where the corners lie by ``other``, in px (right, down) from where they lie by ``one``."""
    a, b, c, d, e, f, *_ = (there - here for here, there in zip(one, other, strict=True))
    right, sheared, _, turned, down, *_ = one
    if not (area := right * down - sheared * turned):
        yield math.inf, math.inf
        return
    for column, row in ((0, 0), (width, 0), (0, height), (width, height)):  # with plain floats: headers are read often
        x, y = a * column + b * row + c, d * column + e * row + f
        yield (down * x - sheared * y) / area, (right * y - turned * x) / area


def check_units(path: object, crs: CRS, transform: Affine, height: int, width: int) -> None:
    """Refuse (DataError) degrees in a CRS of metres or feet, and metres in one of degrees, by which px are measured."""
    a, b, c, d, e, f = tuple(transform)[:6]
    far = max(abs(c), abs(c + a * width + b * height)), max(abs(f), abs(f + d * width + e * height))
    tiny = abs(a * e - b * d) < _LEAST_PX**2
    large = far[0] > _MOST_DEGREES[0] or far[1] > _MOST_DEGREES[1]
    if (tiny and crs.is_projected) or (large and crs.is_geographic):
        side = math.sqrt(abs(a * e - b * d))
        raise DataError(
            f"{path}: its corner at {c:.12g}, {f:.12g} and px of {side:.3g} units in {crs_name(crs)}",
            expected="degrees, as its CRS counts" if large else "metres or feet, as its CRS counts",
            cure="name the CRS that the numbers are of, gdal_edit.py -a_srs",
        )


def same_crs(one: CRS, other: CRS, point: tuple[float, float]) -> bool:
    """Whether two CRS put a point of the one at the same place, however they are spelt.

    A CRS that is no place on Earth (a local one, an unknown one) contradicts nothing.
    """
    from rasterio.warp import transform

    if one is other or _alike(one.to_wkt(), other.to_wkt()):
        return True
    try:
        (x,), (y,) = transform(one, other, [point[0]], [point[1]])[:2]
    except Exception:  # PROJ's refusals have no public class in rasterio
        return False
    metre = 1 / _DEGREE if other.is_geographic else 1 / other.linear_units_factor[1]
    return math.hypot(x - point[0], y - point[1]) <= _CLOSE * metre  # infinite where the CRS does not reach


@lru_cache(256)
def _alike(one: str, other: str) -> bool:
    """Of two WKT, without a look at a place; many rasters have the same two."""
    from rasterio.crs import CRS

    first, second = CRS.from_wkt(one), CRS.from_wkt(other)
    local = [crs for crs in (first, second) if not (crs.is_geographic or crs.is_projected)]
    return bool(local) or first == second


def crs_name(crs: CRS) -> str:
    """For people: its code, else its name."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt().split('"')[1]
