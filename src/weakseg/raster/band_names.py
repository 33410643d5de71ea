"""Which band of a file is which: by the names that a user gives or that the file's descriptions have, never by a guess.

GDAL calls the first three bands of every picture red, green and blue, infrared ones too, so that its colour
interpretation says nothing here; an alpha band is known by it, and colours in another order (``colour_flags``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weakseg.core.bands import COLOURS, HEIGHTS, MOST, Bands
from weakseg.core.errors import DataError, ParamsError
from weakseg.raster.band_values import AS_STORED, METRES, Scaling, scaling_of, scaling_text, unit_of
from weakseg.raster.colour_flags import check_light, flagged_colours, is_flagged_as_picture
from weakseg.raster.formats import reason_of, unreadable
from weakseg.raster.palette import read_palette

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

SKIP: Final = "-"
SOURCE_TAG: Final = "SOURCE"  # of a band of a GeoTIFF: what it was made of
_WITH_ALPHA: Final = frozenset({"PNG", "MBTiles"})
_AT_ONCE: Final = 1 << 24  # px
_SENTINEL_2: Final = ("red_edge1", "red_edge2", "red_edge3", "nir_narrow", "water_vapour")
KNOWN: Final = (
    *(*COLOURS, "nir", "coastal", "red_edge", *_SENTINEL_2),
    *("swir1", "swir2", "pan", "thermal", *HEIGHTS),
)
_ALIASES: Final[Mapping[str, str]] = {
    **{"r": "red", "g": "green", "b": "blue", "ir": "nir", "near_infrared": "nir", "nearinfrared": "nir"},
    **{"infrared": "nir", "near_infra_red": "nir", "rededge": "red_edge", "panchromatic": "pan"},
    **{"normalised_dsm": "ndsm", "normalized_dsm": "ndsm", "heights": "height", "elevation": "height"},
}
_WIDER: Final[Mapping[str, tuple[str, ...]]] = {
    "nir": ("nir_narrow",),
    "red_edge": ("red_edge1", "red_edge2", "red_edge3"),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,29}")


@dataclass(frozen=True)
class BandFacts:
    """What a file says of its bands.

    Attributes:
        dtypes: numpy name per band.
        names: of the descriptions, or flags of colours in another order than red, green, blue; None where a band has
            none, or one that is no name.
        alpha: band numbers from 1 that the file calls alpha.
        palette: its one band holds indices of colours.
        mask: the alpha band can be nothing but a mask; see :func:`alpha_is_mask`.
        sources: where each band came from, as whoever stacked them wrote it into the file; "" else.
        scalings: by what the numbers of each band become what they mean.
        units: of each band; "" for none.
        flagged: names of colours are those of flags.
        picture: no band has a description, and the first three are flagged red, green, blue.
    """

    dtypes: tuple[str, ...]
    names: tuple[str | None, ...]
    alpha: tuple[int, ...]
    palette: bool
    mask: bool = False
    sources: tuple[str, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    units: tuple[str, ...] = ()
    flagged: bool = False
    picture: bool = False

    @property
    def said(self) -> str:
        """How the names are said, for people."""
        return "by their flags" if self.flagged else "by their descriptions"

    @property
    def described(self) -> bool:
        """Whether every band but alpha has a known name of its own."""
        found = [name for number, name in enumerate(self.names, 1) if number not in self.alpha]
        return None not in found and set(found) <= set(KNOWN) and len(set(found)) == len(found)


@dataclass(frozen=True)
class BandChoice:
    """What a user says of the bands.

    Attributes:
        numbers: bands from 1, in the order that is wanted; () for all of them.
        names: one for each of these, or of all bands of the file (``SKIP`` for one that is not wanted); () for none.
    """

    numbers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


def parse_choice(text: str | None) -> BandChoice:
    """``4,1,2``, ``red,green,blue,nir,height`` (``-`` for a band to leave out) or ``nir=4,red=1,green=2``.

    Raises:
        ParamsError: anything else, names or numbers twice, more than 16.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if all(part.isdecimal() for part in parts):
        return _checked(text, BandChoice(tuple(map(int, parts))))
    if all("=" in part for part in parts):
        names, numbers = zip(*(part.split("=", 1) for part in parts), strict=True)
        if all(number.strip().isdecimal() for number in numbers):
            return _checked(text, BandChoice(tuple(map(int, numbers)), tuple(clean_name(name) for name in names)))
    elif not any("=" in part or part.isdecimal() for part in parts):
        return _checked(text, BandChoice((), tuple(part if part == SKIP else clean_name(part) for part in parts)))
    raise _wrong(text)


def clean_name(text: str) -> str:
    """A name as bands.yaml has it: lower case, blanks as underscores, the usual other names as the known ones."""
    name = re.sub(r"[\s\-]+", "_", text.strip().lower())
    return _ALIASES.get(name, name)


def facts_of(file: DatasetReader, name: str, *, look: bool = False) -> BandFacts:
    """What an open raster says of its bands; ``name`` is for errors.

    Bands of another colour space raise DataError.

    ``look``: at the pixels of an alpha band too, where it takes these to tell whether it is one.
    """
    from rasterio.enums import ColorInterp

    check_light(name, file)
    described = [clean_name(text) if text else "" for text in file.descriptions]
    flagged = {} if any(described) else flagged_colours(file)
    described = [flagged.get(number, text) for number, text in enumerate(described, 1)]
    alpha = tuple(band for band, kind in enumerate(file.colorinterp, 1) if kind == ColorInterp.alpha)
    return BandFacts(
        tuple(file.dtypes),
        tuple(text if _NAME.fullmatch(text) else None for text in described),
        alpha,
        read_palette(file, name) is not None,
        look and alpha_is_mask(file, name, alpha),
        tuple(str(file.tags(band).get(SOURCE_TAG, "")) for band in file.indexes),
        tuple(scaling_of(file, band) for band in file.indexes),
        tuple(unit_of(file, band) for band in file.indexes),
        bool(flagged),
        not any(file.descriptions) and is_flagged_as_picture(file),
    )


def check_heights(path: Path | str, facts: BandFacts, named: Iterable[tuple[int, str]]) -> None:
    """Refuse bands of heights (number, name) that are no metres as they are stored."""
    for number, name in named:
        scaling, unit = facts.scalings[number - 1], facts.units[number - 1]
        if name in HEIGHTS and (scaling != AS_STORED or unit.lower() not in METRES):
            raise DataError(
                f"{path}: {name} in band {number} with {scaling_text(scaling)}" + f", in {unit}" * bool(unit),
                expected="metres, as they are stored",
                cure="write them to a raster of their own and name it with --heights, which reads scale and unit",
            )


def alpha_is_mask(file: DatasetReader, name: str, alpha: Sequence[int]) -> bool:
    """Whether the fourth of four bands of 8 bits, flagged as alpha, is a mask and no infrared.

    PNG and MBTiles have no other fourth band. GDAL flags that of every GeoTIFF so which is written without a word, so
    that there its values decide: those of a mask are 0 and 255 alone. They are read only where the bands have no names.
    """
    from rasterio.errors import RasterioError

    if tuple(alpha) != (4,) or file.count != 4 or set(file.dtypes) != {"uint8"}:
        return False
    if file.driver in _WITH_ALPHA:
        return True
    if file.descriptions[3]:
        return False
    try:
        return all(bool((file.read(4, window=window) % 255 == 0).all()) for window in _strips(file))
    except RasterioError as error:
        raise unreadable(name, reason_of(error)) from error


def _strips(file: DatasetReader) -> Iterator[Window]:
    """Windows of all columns and some rows of blocks, small enough for memory."""
    from rasterio.windows import Window as Box

    rows = max(file.block_shapes[3][0], 1)
    rows *= max(1, _AT_ONCE // (rows * file.width))
    for row in range(0, file.height, rows):
        yield Box(0, row, file.width, min(rows, file.height - row))


def name_bands(path: Path | str, facts: BandFacts, choice: BandChoice) -> list[tuple[int, str]]:
    """(number, name) of the bands to import, in their order; names ``band_1`` ... where three of 8 bits have none.

    Raises:
        DataError: bands that may be one thing or another, other numbers of bands than names.
    """
    count = len(facts.dtypes)
    if choice.names:
        return _by_user(path, facts, choice)
    if not choice.numbers and (torn := [band for band in facts.alpha if facts.names[band - 1] in KNOWN]):
        raise DataError(
            f"{path}: band {torn[0]} is {facts.names[torn[0] - 1]} by its description and alpha by its flag",
            expected="one of the two",
            cure="name all bands, e.g. --bands red,green,blue,nir, or give the numbers of those that are none",
        )
    numbers = choice.numbers or tuple(band for band in range(1, count + 1) if band not in facts.alpha)
    if any(not 1 <= number <= count for number in numbers):
        raise DataError(
            f"{path}: bands {numbers} of {count}", expected=f"numbers from 1 to {count}", cure="mend --bands"
        )
    if facts.described:
        return [(number, str(facts.names[number - 1])) for number in numbers]
    if (
        len(numbers) == 3
        and {facts.dtypes[number - 1] for number in numbers} == {"uint8"}
        and (choice.numbers or not facts.alpha or facts.mask)
    ):
        return [(number, f"band_{place}") for place, number in enumerate(numbers, 1)]
    raise ambiguous_bands(path, facts)


def ambiguous_bands(path: Path | str, facts: BandFacts) -> DataError:
    """The error for bands that nobody names."""
    count, kinds = len(facts.dtypes), ", ".join(sorted(set(facts.dtypes)))
    what = ", of which the fourth may be alpha or near infrared" if count == 4 else ""
    example = {1: "pan", 2: "pan,-", 4: "red,green,blue,nir"}.get(count, "red,green,blue,nir,height")
    return DataError(
        f"{path}: {count} band(s) of {kinds} without names{what}",
        expected="3 bands of 8 bits, or bands whose names are known",
        cure=f"name them as the file has them, e.g. --bands {example}, or choose three of 8 bits, e.g. --bands 4,1,2",
    )


def _by_user(path: Path | str, facts: BandFacts, choice: BandChoice) -> list[tuple[int, str]]:
    count = len(facts.dtypes)
    if choice.numbers:
        if max(choice.numbers) > count:
            raise DataError(
                f"{path}: {count} band(s), --bands names band {max(choice.numbers)}",
                expected=f"numbers from 1 to {count}",
                cure="mend --bands",
            )
        return _checked_against(path, facts, list(zip(choice.numbers, choice.names, strict=True)))
    own = [band for band in range(1, count + 1) if band not in facts.alpha]
    bands = list(range(1, count + 1)) if len(choice.names) == count else own
    if len(choice.names) != len(bands):
        raise DataError(
            f"{path}: {count} band(s), {len(choice.names)} names in --bands",
            expected="a name for each band, - for one to leave out",
            cure="mend --bands, or give numbers too, e.g. nir=4,red=1,green=2",
        )
    named = [(band, name) for band, name in zip(bands, choice.names, strict=True) if name != SKIP]
    return _checked_against(path, facts, named)


def _checked_against(path: Path | str, facts: BandFacts, named: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The names of the user, unless the file says others (DataError); flags say only in which order colours are."""
    colours = {name for _, name in named} >= set(COLOURS)
    for number, name in named:
        said = facts.names[number - 1]
        if said not in KNOWN or (facts.flagged and not colours) or _fits(name, str(said)):
            continue
        how = "flag" if facts.flagged else "description"
        raise DataError(
            f"{path}: band {number} {said} by its {how}, --bands names it {name}",
            expected="one name for it",
            cure="mend --bands, or leave it out where all bands are described; descriptions and flags that are wrong "
            "go with gdal_translate -co PROFILE=GeoTIFF",
        )
    return named


def _fits(name: str, said: str) -> bool:
    """Whether a name is another word, or a wider one, for what a file says."""
    return name == said or name not in KNOWN or (name in HEIGHTS and said in HEIGHTS) or said in _WIDER.get(name, ())


def _checked(text: str | None, choice: BandChoice) -> BandChoice:
    named = [name for name in choice.names if name != SKIP]
    fit = all(_NAME.fullmatch(name) for name in named) and len(set(named)) == len(named)
    numbers = all(number >= 1 for number in choice.numbers) and len(choice.numbers) <= MOST
    if not fit or not numbers or len(named) > MOST or (choice.names and not named):
        raise _wrong(text)
    return choice


def _wrong(text: str | None) -> ParamsError:
    return ParamsError(
        f"--bands {text}",
        expected=f"1 to {MOST} numbers from 1, or names, each once, or both as nir=4,red=1",
        cure="write for instance 4,1,2 or red,green,blue,nir,height",
    )


def numbers_of(named: Sequence[tuple[int, str]]) -> list[int]:
    """The band numbers of :func:`name_bands`."""
    return [number for number, _ in named]


def bands_for(
    path: Path | str, facts: BandFacts, choice: BandChoice, wanted: Bands, beside: str = ""
) -> tuple[int, ...]:
    """Which band of a raster is each band that a model wants; 0 for one that it lacks and may, or that lies beside it.

    By the names that the user gives or the file has; without any, a raster of just as many bands has them in order.

    Args:
        beside: name of the band that comes from another raster.

    Raises:
        DataError: a band that the model cannot do without is missing, bands of another dtype than it was trained on.
    """
    places = _places(path, facts, choice, [name for name in wanted.names if name != beside])
    known = bool(choice.names) or facts.described  # else a band without a name may be the one that is missing
    lost = [
        band.name
        for band in wanted.members
        if not (places.get(band.name) or band.name == beside or (known and band.drop))
    ]
    if lost:
        example = ",".join(f"{name}={number}" for number, name in enumerate(wanted.names, 1))
        raise DataError(
            f"{path}: no band {', '.join(lost)} ({_described(facts)})",
            expected=f"{', '.join(wanted.names)} as the model was trained on",
            cure=f"say which bands the raster has, e.g. --bands {example}",
        )
    for band in wanted.members:
        number = places.get(band.name, 0)
        if number and facts.dtypes[number - 1] != band.dtype:
            raise DataError(
                f"{path}: band {number} ({band.name}) of {facts.dtypes[number - 1]}",
                expected=f"{band.dtype}, scaled as the training images were",
                cure="convert it with gdal_translate -ot, and -scale where its values mean something else",
            )
        if number and facts.scalings[number - 1] != (band.scale, band.offset):
            raise DataError(
                f"{path}: band {number} ({band.name}) with {scaling_text(facts.scalings[number - 1])}",
                expected=f"{scaling_text((band.scale, band.offset))} as the training images had",
                cure="where its numbers mean the same as theirs, gdal_edit.py "
                f"-scale {band.scale:g} -offset {band.offset:g}; else convert it to them",
            )
    check_heights(path, facts, [(number, name) for name, number in places.items() if number])
    return tuple(places.get(name, 0) for name in wanted.names)


def _places(path: Path | str, facts: BandFacts, choice: BandChoice, names: Sequence[str]) -> dict[str, int]:
    if choice.names:
        return {name: number for number, name in _by_user(path, facts, choice) if name in names}
    if choice.numbers:
        if len(choice.numbers) != len(names) or max(choice.numbers) > len(facts.dtypes):
            raise DataError(
                f"{path}: {_described(facts)}, --bands {','.join(map(str, choice.numbers))}",
                expected=f"{len(names)} numbers from 1 to {len(facts.dtypes)}: {', '.join(names)}",
                cure="mend --bands, or say nir=4,red=1 and so on",
            )
        return dict(zip(names, choice.numbers, strict=True))
    named = {name: number for number, name in enumerate(facts.names, 1) if name in names}
    if facts.described or (named and len(named) == sum(name in names for name in facts.names)):
        return {str(name): number for name, number in named.items()}  # none of them: these are other bands, in no order
    own = [number for number in range(1, len(facts.dtypes) + 1) if number not in facts.alpha]
    if facts.alpha and len(facts.dtypes) == len(names):
        raise DataError(
            f"{path}: band {facts.alpha[0]} is alpha by its flag, and no band has a name",
            expected=f"{', '.join(names)} as the model was trained on",
            cure=f"say what they are, --bands {','.join(names)} if that is all of them in order",
        )
    return dict(zip(names, own, strict=True)) if len(own) == len(names) else {}


def _described(facts: BandFacts) -> str:
    names = ", ".join(name for name in facts.names if name)
    return f"{len(facts.dtypes)} band(s)" + (f", {names}" if names else " without names")
