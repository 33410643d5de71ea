"""Whether an image is what its portal delivers: bands, depth, CRS and size of a px, from its header alone.

What a file does not say is no contradiction: JPEG with a world file has no CRS. Two CRS are one where they put the
centre of the image at the same place, so that spellings, heights beside it and realisations of a datum do not matter.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from weakseg.core.errors import DataError
from weakseg.core.portals import Portal
from weakseg.raster.band_names import KNOWN, BandFacts, facts_of
from weakseg.raster.georeference import moved
from weakseg.raster.header import opened
from weakseg.raster.sidecars import place_of

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS

_CLOSE: Final = 2.0  # m; realisations of a datum are within, other datums and zones far beyond
_ROUNDED: Final = 0.01  # of a px size; headers round it


def check_delivery(path: Path, portal: Portal) -> None:
    """Refuse (DataError) an image that contradicts its portal: in one sentence, with all that it contradicts."""
    with opened(path, None) as file:
        facts = facts_of(file, str(path))
        crs, transform = place_of(path, file)
        centre = file.width / 2, file.height / 2
    differences = [*_bands(facts, portal), *_place(crs, transform, centre, portal)]
    if differences:
        found, expected = zip(*differences, strict=True)
        raise DataError(
            f"{path}: {', '.join(found)}",
            expected=f"{', '.join(expected)}, as {portal.name} delivers",
            cure="leave --portal out and name the bands with --bands",
        )


def _bands(facts: BandFacts, portal: Portal) -> Iterator[tuple[str, str]]:
    """(found, expected) of number, names and dtype of the bands."""
    names, count = portal.bands.split(","), len(facts.dtypes)
    numbers = [number for number in range(1, count + 1) if len(names) == count or number not in facts.alpha]
    if len(names) != len(numbers):
        yield f"{count} band(s)", f"{len(names)} ({portal.bands})"
    else:
        for number, name in zip(numbers, names, strict=True):
            if (described := facts.names[number - 1]) in KNOWN and described != name:
                yield f"band {number} {described} by its {'flag' if facts.flagged else 'description'}", name
    if set(facts.dtypes) != {portal.dtype}:
        yield ", ".join(sorted(set(facts.dtypes))), portal.dtype


def _place(
    crs: CRS | None, transform: Affine | None, centre: tuple[float, float], portal: Portal
) -> Iterator[tuple[str, str]]:
    """The same of CRS and size of a px, where the file has a place; px in another CRS are of other units."""
    if transform is None:
        return
    if crs is not None and not _is_one_of(crs, transform @ centre, portal.crs):
        yield f"in {_name(crs)}", " or ".join(portal.crs)
        return
    size = math.sqrt(abs(transform.determinant))
    if not any(abs(size - known) <= _ROUNDED * known for known in portal.resolution):
        yield f"px of {size:.4g} m", " or ".join(f"{known:g} m" for known in portal.resolution)


def _is_one_of(crs: CRS, point: tuple[float, float], patterns: tuple[str, ...]) -> bool:
    code = crs.to_epsg()
    if code is not None and any(fnmatch.fnmatchcase(f"EPSG:{code}", pattern) for pattern in patterns):
        return True
    return any(_same_place(crs, known, point) for known in itertools.chain.from_iterable(map(_codes, patterns)))


def _codes(pattern: str) -> Iterator[CRS]:
    """The CRS that a pattern stands for."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    for digits in itertools.product("0123456789", repeat=pattern.count("?")):
        code = pattern.replace("?", "{}").format(*digits)
        try:
            yield CRS.from_string(code)
        except CRSError:  # no zone has this number
            continue


def _same_place(crs: CRS, known: CRS, point: tuple[float, float]) -> bool:
    places = np.array([point], np.float64)
    with np.errstate(invalid="ignore"):  # a place that the other CRS does not have is infinite
        return bool(np.hypot(*(moved(places, crs, known) - places)[0]) <= _CLOSE)


def _name(crs: CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt().split('"')[1]
