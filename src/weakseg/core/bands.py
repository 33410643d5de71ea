"""The bands of a workspace's images: names, units, depths, ranges, holes. ``bands.yaml`` has one reader, this module.

``data/bands.yaml`` is written by ``weakseg data import``; the tiles stage copies it to ``out/tiles`` with the
statistics of N1, and a model file carries that copy. Without the file there are three bands of 8 bits. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.errors import DataError

FILE: Final = "bands.yaml"
MOST: Final = 16
DTYPES: Final = ("uint8", "uint16", "int16", "float32")
COLOURS: Final = ("red", "green", "blue")
HEIGHTS: Final = ("height", "ndsm", "dsm", "dtm")
PERCENTILES: Final = (2, 25, 50, 75, 98)
_KEYS: Final = ("name", "unit", "source", "dtype", "range", "nodata", "augment", "statistics")
_SCALING: Final = ("scale", "offset")  # written where the numbers are not what they mean
Shown = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Statistics:
    """Of a band over the pixels of N1 that have data and no hole: mean, deviation, ``PERCENTILES``; in its unit."""

    mean: float
    std: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Band:
    """One band.

    Attributes:
        name: lower case, such as red, green, blue, nir, height.
        unit: such as m; empty for digital numbers.
        source: which file and band it came from, for people.
        dtype: one of ``DTYPES``.
        low, high: values that are shown black and white; 0 and 255 of 8 bits.
        nodata: the value of a hole; NaN is one in any float band.
        colour: whether colour jitter may touch it.
        drop: whether an image may lack it, and training may leave it out (``segment.augment.drop_band``).
        statistics: of N1, None before the tiles stage.
        scale, offset: what the files say their numbers stand for, scale x number + offset; nothing is computed with it.
    """

    name: str
    unit: str = ""
    source: str = ""
    dtype: str = "uint8"
    low: float = 0.0
    high: float = 255.0
    nodata: float | None = None
    colour: bool = True
    drop: bool = False
    statistics: Statistics | None = None
    scale: float = 1.0
    offset: float = 0.0

    def holes(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Where values of this band are none, bool of the same shape."""
        empty = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        return empty if self.nodata is None else empty | (values == self.nodata)


@dataclass(frozen=True)
class Bands:
    """The bands of all images, in the order of the arrays.

    Attributes:
        members: 1 to 16 bands with names of their own.
        missing: names of the bands that an area's image lacks, by area; its pixels are holes there.
    """

    members: tuple[Band, ...]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [band.name for band in self.members]
        if not 1 <= len(names) <= MOST or len(set(names)) != len(names):
            raise DataError(f"bands {names}", expected=f"1 to {MOST} bands, each name once", cure=f"mend {FILE}")
        may = [band.name for band in self.members if band.drop]
        never = sorted({name for lacking in self.missing.values() for name in lacking} - set(may))
        if never:
            raise DataError(
                f"areas that lack {', '.join(never)}",
                expected=f"that they lack none but {', '.join(may) or 'no band'} (augment: drop)",
                cure=f"give them the band, or mend {FILE}",
            )

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.members)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the arrays: that of all bands, or float32 where they differ, which holds every value of the others."""
        kinds = {band.dtype for band in self.members}
        return np.dtype(kinds.pop() if len(kinds) == 1 else "float32")

    @property
    def plain(self) -> bool:
        """Three optical bands of 8 bits: treated as pictures always were, whatever their names are."""
        return len(self) == 3 and all(band.dtype == "uint8" and band.colour for band in self.members)

    @property
    def shown(self) -> tuple[int, int, int]:
        """The three bands that are shown as red, green and blue.

        These three where they are named; else the first three that colours may be made of; else the first, or first
        ones, again.
        """
        if self.plain:
            return 0, 1, 2
        if all(name in self.names for name in COLOURS):
            red, green, blue = (self.names.index(name) for name in COLOURS)
            return red, green, blue
        optical = [index for index, band in enumerate(self.members) if band.colour] or list(range(len(self)))
        first = (optical * 3)[:3] if len(optical) < 3 else optical[:3]
        return first[0], first[1], first[2]

    def picture(self, image: npt.NDArray[Any]) -> Shown:
        """An image (H, W, K) as people, dense CRF and PAMR see it: uint8 (H, W, 3), ``low`` to ``high`` as 0 to 255."""
        return image if self.plain else self.shown_values(image[..., list(self.shown)])

    def shown_values(self, values: npt.NDArray[Any]) -> Shown:
        """Values (..., 3) of the bands :attr:`shown` -> uint8; a hole is 0."""
        members = [self.members[index] for index in self.shown]
        if all(band.dtype == "uint8" and (band.low, band.high) == (0, 255) for band in members):
            return np.ascontiguousarray(values, np.uint8)
        low, high = (np.array([getattr(band, end) for band in members], np.float32) for end in ("low", "high"))
        scaled = (values.astype(np.float32) - low) * (255 / np.maximum(high - low, np.finfo(np.float32).tiny))
        return np.asarray(np.rint(np.clip(np.nan_to_num(scaled), 0, 255)), np.uint8)

    def filled(self, image: npt.NDArray[Any], area: str = "") -> npt.NDArray[Any]:
        """An image (H, W, K) whose holes have the mean of N1, which a network sees as 0; itself where it has none.

        All of a band is a hole where :attr:`missing` says that the image of ``area`` lacks it.
        """
        for index, band in enumerate(self.members):
            lacking = band.name in self.missing.get(area, ())
            empty = np.ones(image.shape[:2], bool) if lacking else band.holes(image[..., index])
            if empty.any():
                image = image if image.flags.writeable and image.base is None else image.copy()
                image[..., index][empty] = self.fill_value(index)
        return image

    def fill_value(self, index: int) -> float:
        """What stands in holes of a band: the mean of N1, rounded where the arrays hold whole numbers."""
        statistics = self.members[index].statistics
        if statistics is None:
            raise DataError(
                f"no statistics of band {self.names[index]}", expected="those of N1", cure="run `dvc repro tiles`"
            )
        return round(statistics.mean) if self.dtype.kind in "iu" else statistics.mean

    def with_statistics(self, found: Iterable[Statistics]) -> Bands:
        """The same bands with their statistics."""
        members = tuple(replace(b, statistics=s) for b, s in zip(self.members, found, strict=True))
        return replace(self, members=members)

    def content(self) -> dict[str, Any]:
        """As plain data, for YAML and model files."""
        table: dict[str, Any] = {"bands": [_band_content(band) for band in self.members]}
        return table | ({"missing": {a: list(names) for a, names in self.missing.items()}} if self.missing else {})

    def save(self, path: Path) -> None:
        """Write the file."""
        save_yaml(path, self.content())


PLAIN: Final = Bands((Band("band_1"), Band("band_2"), Band("band_3")))
"""What a workspace without bands.yaml has."""


def load_bands(folder: Path) -> Bands:
    """``bands.yaml`` of ``data/`` or ``out/tiles``; :data:`PLAIN` where there is none."""
    path = folder / FILE
    return parse_bands(load_yaml(path), str(path)) if path.is_file() else PLAIN


def parse_bands(content: Any, origin: str) -> Bands:
    """What :meth:`Bands.content` gave; anything else raises DataError that names ``origin``."""
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("bands"), list)
        or set(content) - {"bands", "missing"}
    ):
        raise DataError(f"{origin}: no list of bands", expected="bands: and a list", cure="import again")
    members = tuple(_parse_band(entry, f"{origin}, band {n}") for n, entry in enumerate(content["bands"], 1))
    missing = content.get("missing") or {}
    if not isinstance(missing, dict) or not all(_are_names(names) for names in missing.values()):
        raise DataError(f"{origin}: missing {missing}", expected="lists of bands by area", cure="import again")
    return Bands(members, {str(area): tuple(names) for area, names in missing.items()})


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def known_band(name: str, **values: Any) -> Band:
    """A band by its name: heights are metres that no colour jitter touches, and may be missing; so may infrared."""
    height = name in HEIGHTS
    usual = {"unit": "m" if height else "", "colour": not height, "drop": height}
    return Band(name, **{**usual, **values})


def _band_content(band: Band) -> dict[str, Any]:
    found = band.statistics
    augment = [word for word, on in (("colour", band.colour), ("drop", band.drop)) if on]
    statistics = None
    if found is not None:
        places = {str(p): v for p, v in zip(PERCENTILES, found.percentiles, strict=True)}
        statistics = {"mean": found.mean, "std": found.std, "percentiles": places}
    values = (band.name, band.unit, band.source, band.dtype, [band.low, band.high], band.nodata, augment, statistics)
    scaling = dict(zip(_SCALING, (band.scale, band.offset), strict=True))
    return dict(zip(_KEYS, values, strict=True)) | (scaling if (band.scale, band.offset) != (1.0, 0.0) else {})


def _parse_band(entry: Any, origin: str) -> Band:
    def refuse(found: str, expected: str) -> DataError:
        return DataError(f"{origin}: {found}", expected=expected, cure="mend the file, or import again")

    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or set(entry) - {*_KEYS, *_SCALING}:
        raise refuse(f"{entry!r}", f"name and some of {', '.join(_KEYS[1:])}")
    dtype, augment = entry.get("dtype", "uint8"), entry.get("augment", ["colour"])
    ends, nodata = entry.get("range") or [0, 255], entry.get("nodata")
    unit, source = ("" if entry.get(key) is None else entry[key] for key in ("unit", "source"))
    if dtype not in DTYPES:
        raise refuse(f"dtype {dtype}", " | ".join(DTYPES))
    if not (isinstance(unit, str) and isinstance(source, str)):
        raise refuse(f"unit and source {[unit, source]}", "texts")
    if not _are_names(augment) or set(augment) - {"colour", "drop"}:
        raise refuse(f"augment {augment}", "a list of colour, drop, or none")
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(is_number, ends)) or not ends[0] < ends[1]:
        said = " to ".join(map(str, ends)) if isinstance(ends, list) else ends
        raise refuse(f"range {said}", "two numbers, the lower first")
    if nodata is not None and not (is_number(nodata) or (isinstance(nodata, float) and math.isnan(nodata))):
        raise refuse(f"nodata {nodata!r}", "a number, or none")
    scaling = entry.get("scale", 1.0), entry.get("offset", 0.0)
    if not all(map(is_number, scaling)):
        raise refuse(f"scale and offset {list(scaling)}", "numbers")
    statistics = _parse_statistics(entry.get("statistics"))
    if statistics is None and entry.get("statistics"):
        raise refuse(f"statistics {entry['statistics']}", f"numbers: mean, std, percentiles {PERCENTILES}")
    return Band(
        entry["name"], unit, source, dtype, float(ends[0]), float(ends[1]),
        None if nodata is None else float(nodata), "colour" in augment, "drop" in augment, statistics,
        *map(float, scaling),
    )  # fmt: skip


def _parse_statistics(found: Any) -> Statistics | None:
    """None where there are none, or not the numbers that there should be."""
    try:
        numbers = [found["mean"], found["std"], *(found["percentiles"][str(place)] for place in PERCENTILES)]
    except (KeyError, TypeError, IndexError):
        return None
    if not all(map(is_number, numbers)) or numbers[1] < 0:
        return None
    mean, std, *places = map(float, numbers)
    return Statistics(mean, std, tuple(places))


def is_number(value: Any) -> bool:
    """Whether a value of YAML or JSON is a number that a float can hold; yes and no are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
