"""Which raster of heights lies beside which image: by its name, or one raster for all of them by its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Entry, Limits, list_source, local_file
from weakseg.data.importing.image_bands import HeightChoice
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.pairing import NAMINGS
from weakseg.raster.band_values import HeightsTogether
from weakseg.raster.header import opened
from weakseg.raster.heights import HeightFiles, check_together
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


@dataclass(frozen=True)
class Beside:
    """Rasters of heights beside the images.

    Attributes:
        surface: a raster, folder or zip of surface models, or of heights above ground.
        terrain: the same of terrain models, which are taken off them.
        pattern: which part of their names is the area's.
        ground: px of the ground filter's square, 0 for none.
    """

    surface: Path
    terrain: Path | None = None
    pattern: str | None = None
    ground: int = 0

    @property
    def choice(self) -> HeightChoice:
        """What is made of them."""
        return HeightChoice(self.terrain is not None or self.ground > 0, self.ground)


@dataclass(frozen=True)
class HeightModels:
    """Surface and terrain models of all areas, and what is made of them; ``checked`` knows those that were used."""

    surface: HeightSource
    terrain: HeightSource | None
    choice: HeightChoice
    checked: HeightsTogether = field(default_factory=HeightsTogether)
    _whole: set[Path] = field(default_factory=set)

    def check(self, names: Mapping[Path, str]) -> None:
        """Refuse (DataError) rasters, by path with their names, that say other things than those so far."""
        new = {path: name for path, name in names.items() if path not in self._whole}
        check_together(new, self.checked, new)
        singles = [source.single for source in (self.surface, self.terrain) if source is not None]
        self._whole.update(path for path in singles if path is not None and path in new)


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


def list_models(
    beside: Beside | None, areas: Sequence[str], limits: Limits, problems: list[str]
) -> HeightModels | None:
    """The models that :class:`Beside` names, by area; what is wrong with them goes to ``problems``."""
    if beside is None:
        return None
    pattern = NamePattern(beside.pattern) if beside.pattern else None
    surface = list_heights(beside.surface, areas, limits, pattern, problems)
    terrain = list_heights(beside.terrain, areas, limits, pattern, problems) if beside.terrain else None
    return HeightModels(surface, terrain, beside.choice)


def _placed(path: Path) -> bool:
    with opened(path, None) as file:
        return place_of(path, file)[1] is not None


def _by_area(rasters: Sequence[Entry], naming: object, areas: Sequence[str]) -> dict[str, Entry]:
    named = {naming(entry): entry for entry in rasters}  # type: ignore[operator]
    return {area: named[area] for area in areas if area in named}


@contextmanager
def height_files(models: HeightModels, area: str, scratch: Path) -> Iterator[HeightFiles | None]:
    """The files of an area, unpacked where they lie in a zip; None where one of them is missing.

    Raises:
        DataError: they do not say what their numbers mean where others do, see ``HeightsTogether``.
    """
    sources = [source for source in (models.surface, models.terrain) if source is not None]
    if not all(source.has(area) for source in sources):
        yield None
        return
    with ExitStack() as stack:
        paths = [
            source.single or stack.enter_context(local_file(source.entries[area], scratch / str(number)))
            for number, source in enumerate(sources)
        ]
        shown = [str(source.single or source.entries[area]) for source in sources]
        models.check(dict(zip(paths, shown, strict=True)))
        yield HeightFiles(paths[0], paths[1] if models.terrain else None)
