"""Which raster of heights lies beside which image: by its name, or one raster for all of them by its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Entry, Limits, list_source, local_file
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.pairing import NAMINGS
from weakseg.raster.header import opened
from weakseg.raster.heights import HeightFiles
from weakseg.raster.sidecars import place_of


@dataclass(frozen=True)
class HeightSource:
    """Rasters of heights of one kind.

    Attributes:
        source: as the user named it, for people.
        single: the raster that serves all areas, or the folder of rasters that do by their places; None where each
            area has its own.
        entries: by area.
    """

    source: Path
    single: Path | None
    entries: dict[str, Entry]

    def has(self, area: str) -> bool:
        """Whether a raster may hold heights of an area."""
        return self.single is not None or area in self.entries


def list_heights(
    source: Path, areas: Sequence[str], limits: Limits, pattern: NamePattern | None, problems: list[str]
) -> HeightSource:
    """A raster, or the rasters of a folder or zip by the areas they belong to; what is wrong goes to ``problems``.

    Rasters of a folder of which none is named like an area serve all areas by their places on Earth.
    """
    if source.is_file() and source.suffix.lower() != ".zip":
        return HeightSource(source, source, {})
    listing = list_source(source, limits)
    problems += listing.problems
    rasters = pattern.select(listing.rasters) if pattern else list(listing.rasters)
    tries = [_by_area(rasters, naming, areas) for naming in ([pattern] if pattern else NAMINGS)]
    found = max(tries, key=len)
    by_place = source.is_dir() and not pattern and not found
    if rasters and by_place and all(_placed(source / entry.name) for entry in rasters):
        return HeightSource(source, source, {})
    if rasters and not found:
        problems.append(
            str(
                DataError(
                    f"{source}: none of {len(rasters)} rasters is named like an area, the first: {rasters[0]}",
                    expected=f"names such as {areas[0]}, or a folder of rasters that all know their place on Earth"
                    if areas
                    else "names of areas",
                    cure="say which part of the name is the area's, --height-pattern 'dsm_{area}', or name one raster",
                )
            )
        )
    return HeightSource(source, None, found)


def _placed(path: Path) -> bool:
    with opened(path, None) as file:
        return place_of(path, file)[1] is not None


def _by_area(rasters: Sequence[Entry], naming: object, areas: Sequence[str]) -> dict[str, Entry]:
    named = {naming(entry): entry for entry in rasters}  # type: ignore[operator]
    return {area: named[area] for area in areas if area in named}


@contextmanager
def height_files(
    surface: HeightSource, terrain: HeightSource | None, area: str, scratch: Path
) -> Iterator[HeightFiles | None]:
    """The files of an area, unpacked where they lie in a zip; None where one of them is missing."""
    sources = [surface] if terrain is None else [surface, terrain]
    if not all(source.has(area) for source in sources):
        yield None
        return
    with ExitStack() as stack:
        paths = [
            source.single or stack.enter_context(local_file(source.entries[area], scratch / str(number)))
            for number, source in enumerate(sources)
        ]
        yield HeightFiles(paths[0], paths[1] if terrain else None)
