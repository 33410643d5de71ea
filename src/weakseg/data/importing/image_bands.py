"""Which bands the images of an import have, and reading them: one list for all areas, some of which may lack some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import COLOURS, DTYPES, HEIGHTS, PLAIN, Band, Bands, known_band
from weakseg.core.errors import DataError
from weakseg.core.portals import Portal
from weakseg.data.band_statistics import BandMeter
from weakseg.data.importing.delivery import check_delivery
from weakseg.raster.band_names import BandChoice, BandFacts, check_heights, facts_of, name_bands, numbers_of
from weakseg.raster.band_values import AS_STORED, Scaling, scaling_text
from weakseg.raster.header import RasterInfo, opened
from weakseg.raster.heights import BESIDE, HeightFiles, read_heights
from weakseg.raster.open import read_image, read_layers, read_valid

Pixels = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HeightChoice:
    """What the user says of rasters of heights beside the images.

    Attributes:
        above_ground: a terrain model is taken off them, or a ground filter.
        ground: px of the ground filter's square, 0 for none.
    """

    above_ground: bool = False
    ground: int = 0


_SILENT: Final = BandFacts((), (), (), palette=False)


@dataclass(frozen=True)
class FileBands:
    """The bands of one image that are used: (number, name) in the order of its file or of the user, and its dtypes.

    ``sources`` says what each was made of, ``scalings`` what its numbers stand for, where the file does.
    """

    named: tuple[tuple[int, str], ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    sources: tuple[str, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    facts: BandFacts = _SILENT

    def scaling(self, name: str) -> Scaling:
        """Of a band of this image."""
        labels = [label for _, label in self.named]
        return self.scalings[labels.index(name)] if self.scalings else AS_STORED


@dataclass(frozen=True)
class BandPlan:
    """The bands of all images of an import.

    Attributes:
        bands: without ranges, and without the areas that lack some.
        choice: of the user, for the bands of the files.
        beside: whether the last band comes from rasters beside the images.
        refused: images that are not to be read, because their bands are among the problems.
        reordered: images whose files have the bands in another order.
        named: bands that the numbers of the user stand for, and in which file, once one says so.
    """

    bands: Bands
    choice: BandChoice
    beside: bool = False
    refused: frozenset[str] = frozenset()
    reordered: tuple[str, ...] = ()
    named: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def pictures(self) -> bool:
        """Three bands of 8 bits without names, read as they always were."""
        return self.bands == PLAIN

    def read(self, path: Path, limit: int) -> tuple[Pixels, Valid | None, tuple[str, ...]]:
        """An image (H, W, K), where it has data, and the bands that its file lacks, of which all px are 0."""
        if self.pictures:
            numbers = self._picture_numbers(path)
            return (
                read_image(path, bands=numbers, max_pixels=limit),
                read_valid(path, bands=numbers, max_pixels=limit),
                (),
            )
        found = file_bands(path, self.choice)
        places = {name: number for number, name in found.named}
        layers = read_layers(path, list(places.values()), max_pixels=limit)
        image = np.zeros((*layers.shape[:2], len(self.bands)), self.bands.dtype)
        for index, name in enumerate(self.bands.names):
            if name in places:
                image[..., index] = layers[..., list(places).index(name)]
        colours = [self.bands.names.index(n) for n in places if n not in HEIGHTS] or list(range(len(self.bands)))
        marked = [places[self.bands.names[index]] for index in colours if self.bands.names[index] in places]
        valid = read_valid(path, bands=marked, max_pixels=limit)
        if image.dtype.kind == "f" and not (finite := np.isfinite(image[..., colours]).all(-1)).all():
            valid = np.asarray(finite if valid is None else valid & finite)
        own = self.bands.names[:-1] if self.beside else self.bands.names
        return image, valid, tuple(name for name in own if name not in places)

    def _picture_numbers(self, path: Path) -> tuple[int, ...] | None:
        """The numbers of the user, or of three bands beside alpha; None where there are no others.

        Raises:
            DataError: the file names its bands, where those of other images have no names, or other ones where the user
                gives numbers; its flags put colours in another order than those of other pictures are in.
        """
        numbers = self.choice.numbers
        with opened(path, None) as file:
            facts = facts_of(file, str(path), look=not numbers)
        if facts.palette:
            return numbers or None
        if facts.flagged or (facts.described and not self.choice.names and not numbers):
            raise _some_described(path, facts)
        if numbers and facts.described:
            self._check_numbers(path, facts)
        _check_order(path, facts, self.named)
        return numbers or (None if not facts.mask else (1, 2, 3))

    def _check_numbers(self, path: Path, facts: BandFacts) -> None:
        """One list of numbers reads the same bands of all images that say what theirs are."""
        mine = tuple(str(facts.names[number - 1]) for number in self.choice.numbers if number <= len(facts.names))
        first, names = self.named.setdefault("numbers", (str(path), mine))
        if mine != names:
            raise DataError(
                f"{path}: --bands {','.join(map(str, self.choice.numbers))} are {', '.join(mine)} {facts.said}",
                expected=f"{', '.join(names)} like {first}",
                cure="bring all to one order, gdal_translate -b 3 -b 2 -b 1, or import these images apart",
            )

    def add_heights(
        self, image: Pixels, info: RasterInfo, files: HeightFiles | None, choice: HeightChoice
    ) -> tuple[str, ...]:
        """Fill the last band of an image (H, W, K) in place; its name where no px of it has a height."""
        if not self.beside:
            return ()
        heights = None if files is None else read_heights(replace(files, ground=choice.ground), info)
        if heights is None or not np.isfinite(heights).any():
            return (BESIDE,)
        image[..., -1] = heights
        return ()


def plan_bands(
    files: Iterable[tuple[str, AbstractContextManager[Path]]],
    choice: BandChoice,
    problems: list[str],
    *,
    beside: HeightChoice | None,
    portal: Portal | None = None,
) -> BandPlan:
    """The bands of all images, from the headers of their files.

    Three bands of 8 bits without names in the first file, none given by the user and nothing beside them: all are taken
    to be such, without a look at the others.

    Args:
        files: for each image its name and, opened in turn, its file.
        problems: what is wrong is added there.
        beside: of rasters of heights beside the images, None without any.
        portal: what the images must not contradict.
    """
    found: list[tuple[str, FileBands]] = []
    faults: dict[str, str] = {}
    orders: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, opening in files:
        with opening as path:
            try:
                if portal is not None:
                    check_delivery(path, portal)
                mine = file_bands(path, choice)
                if choice.names or not mine.facts.described:
                    _check_order(name, mine.facts, orders)
            except DataError as error:
                faults[name] = str(error).replace(str(path), name)
                continue
        if not found and beside is None and not choice.names and _unnamed(mine):
            problems += faults.values()
            return BandPlan(PLAIN, choice, refused=frozenset(faults))
        found.append((name, mine))
    pictures = all(len(mine.named) == 3 and set(mine.dtypes) == {"uint8"} for _, mine in found)
    if found and pictures and beside is None and any(_unnamed(mine) for _, mine in found):
        problems += faults.values()
        if not choice.numbers:
            one, mine = next((one, mine) for one, mine in found if not _unnamed(mine))
            problems.append(str(_some_described(one, mine.facts)))
        return BandPlan(PLAIN, choice, refused=frozenset(faults))
    differences = _differences(found) or _mixed_flags(found, choice)
    problems += [*faults.values(), *differences]
    if faults or differences or not found:
        return BandPlan(PLAIN, choice, refused=frozenset(faults) | {name for name, _ in found})
    members = _members(max((mine for _, mine in found), key=lambda mine: len(mine.named)))
    if beside is not None:
        unit = "above ground" if beside.above_ground else "heights"
        unit += f" by a square of {beside.ground} px" if beside.ground else ""
        members.append(known_band(BESIDE, dtype="float32", source=f"{unit}, raster beside the image"))
    bands = Bands(tuple(members))
    reordered = tuple(name for name, mine in found if _in_another_order(mine, bands.names))
    return BandPlan(bands, choice, beside is not None, reordered=reordered)


def file_bands(path: Path, choice: BandChoice) -> FileBands:
    """The bands of an image that are used; DataError where they may be one thing or another."""
    with opened(path, None) as file:
        facts = facts_of(file, str(path), look=not (choice.names or choice.numbers))
        if facts.palette:
            return FileBands(tuple((n, f"band_{n}") for n in (1, 2, 3)), ("uint8",) * 3, (None,) * 3)
        named = name_bands(path, facts, choice)
        check_heights(path, facts, named)
        nodata = tuple(file.nodatavals[number - 1] for number in numbers_of(named))
    dtypes = tuple(facts.dtypes[number - 1] for number in numbers_of(named))
    strange = sorted(set(dtypes) - set(DTYPES))
    if strange:
        raise DataError(
            f"{path}: dtype {', '.join(strange)}",
            expected=" | ".join(DTYPES),
            cure=f"convert it, e.g. gdal_translate -ot {'Float32' if 'float64' in strange else 'UInt16'}",
        )
    sources = tuple(facts.sources[number - 1] for number in numbers_of(named))
    scalings = tuple(facts.scalings[number - 1] for number in numbers_of(named))
    return FileBands(tuple(named), dtypes, nodata, sources, scalings, facts)


def rank_ranges(bands: Bands, meter: BandMeter) -> Bands:
    """The bands with the range that people see: of 8 bits 0 to 255, else the percentiles 2 to 98 of all images."""
    members = []
    for band, found in zip(bands.members, meter.statistics(), strict=True):
        low, high = (0.0, 255.0) if band.dtype == "uint8" else (found.percentiles[0], found.percentiles[-1])
        members.append(replace(band, low=low, high=high if high > low else low + 1))
    return replace(bands, members=tuple(members))


def _check_order(name: Path | str, facts: BandFacts, seen: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    """Refuse descriptions that nobody goes by, such as b2 and nir1, where an image has the same in another order."""
    mine = tuple(label or "" for label in facts.names)
    if len(set(mine)) < 2:
        return
    first, names = seen.setdefault("\n".join(sorted(mine)), (str(name), mine))
    if names != mine:
        raise DataError(
            f"{name}: bands {', '.join(mine)} {facts.said}",
            expected=f"{', '.join(names)} like {first}",
            cure="bring all to one order, gdal_translate -b 3 -b 2 -b 1",
        )


def _some_described(name: Path | str, facts: BandFacts) -> DataError:
    names = [band for band in facts.names if band]
    if facts.flagged:
        return DataError(
            f"{name}: bands {', '.join(names)} {facts.said}, while other images are in no such order",
            expected="images in one order of bands",
            cure="bring all to one order, gdal_translate -b 3 -b 2 -b 1 (flags go along), or import these apart",
        )
    return DataError(
        f"{name}: bands {', '.join(names)} {facts.said}, while other images have none",
        expected="images whose bands are all described, or none",
        cure=f"say what the bands of all are, e.g. --bands {','.join(names)}, or which to read, e.g. --bands 1,2,3",
    )


def _unnamed(found: FileBands) -> bool:
    return [name for _, name in found.named] == list(PLAIN.names) and set(found.dtypes) == {"uint8"}


def _members(found: FileBands) -> list[Band]:
    """Bands by their names; infrared and other ones beside red, green and blue may be missing too."""
    names = [name for _, name in found.named]
    whole = set(COLOURS) <= set(names)
    members = []
    sources = found.sources or ("",) * len(found.named)
    for (number, name), dtype, nodata, source in zip(found.named, found.dtypes, found.nodata, sources, strict=True):
        band = known_band(name, dtype=dtype, source=source or f"image, band {number}")
        height = name in HEIGHTS
        drop, (scale, offset) = height or (whole and name not in COLOURS), found.scaling(name)
        members.append(replace(band, nodata=nodata if height else None, drop=drop, scale=scale, offset=offset))
    return members


def _differences(found: Sequence[tuple[str, FileBands]]) -> list[str]:
    """What keeps images from having one list of bands: those of the image that has most."""
    if not found:
        return []
    like, most = max(found, key=lambda one: len(one[1].named))
    members = {band.name: band for band in _members(most)}
    return [str(fault) for name, mine in found if (fault := _difference(name, mine, members, like))]


def _mixed_flags(found: Sequence[tuple[str, FileBands]], choice: BandChoice) -> list[str]:
    """Images flagged blue, green, red beside images flagged red, green, blue, of which the user names all alike."""
    flagged = [(name, mine.facts) for name, mine in found if mine.facts.flagged]
    if not choice.names or not flagged or not any(mine.facts.picture for _, mine in found):
        return []
    return [str(_some_described(*flagged[0]))]


def _in_another_order(mine: FileBands, names: Sequence[str]) -> bool:
    labels = [label for _, label in mine.named]
    return labels != [name for name in names if name in labels]


def _difference(name: str, mine: FileBands, members: Mapping[str, Band], like: str) -> DataError | None:
    kinds = {label: (kind, empty) for (_, label), kind, empty in zip(mine.named, mine.dtypes, mine.nodata, strict=True)}
    lost = [label for label, band in members.items() if label not in kinds and not band.drop]
    if lost or not kinds.keys() <= members.keys():
        return DataError(
            f"{name}: bands {', '.join(kinds)}",
            expected=f"{', '.join(members)} like {like}; heights, and others beside red, green, blue, may be missing",
            cure="describe the bands alike, or import these images apart",
        )
    for label, (kind, empty) in kinds.items():
        band = members[label]
        if kind != band.dtype:
            return DataError(
                f"{name}: band {label} of {kind}", expected=f"{band.dtype} like {like}", cure="convert one"
            )
        if mine.scaling(label) != (band.scale, band.offset):
            return DataError(
                f"{name}: band {label} with {scaling_text(mine.scaling(label))}",
                expected=f"{scaling_text((band.scale, band.offset))} like {like}",
                cure="bring one to the numbers of the other, gdal_calc.py, or mend what it says, gdal_edit.py -scale",
            )
        if label in HEIGHTS and empty != band.nodata and not (empty != empty and band.nodata != band.nodata):
            return DataError(
                f"{name}: nodata {empty} of {label}", expected=f"{band.nodata} like {like}", cure="convert one"
            )
    return None
