"""All rasters that a command names, or their mosaic, to maps: checked first, then predicted one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from weakseg.core.errors import ParamsError
from weakseg.core.numbers import decimals
from weakseg.inference.mapper import Mapper
from weakseg.inference.options import GsdPolicy, Options
from weakseg.inference.run import Summary, Watch, run_predictor
from weakseg.raster.band_names import BandChoice, parse_choice
from weakseg.raster.heights import HeightFiles, find_heights
from weakseg.raster.listing import list_sources
from weakseg.raster.mosaic import Mosaic, plan_mosaic
from weakseg.raster.own_maps import check_free
from weakseg.raster.stream import Source, inspect_source

Watching = Callable[[str], AbstractContextManager[Watch | None]]
"""Name of a raster -> what hears how far it is, see :func:`run_predictor`."""


def unwatched(_: str) -> AbstractContextManager[None]:
    """Nobody hears."""
    return nullcontext()


@dataclass(frozen=True)
class Reading:
    """How rasters are read; ``raster.stream.inspect_source`` says more.

    Attributes:
        heights: rasters for all of them, or folders with one of the name of each, or of any names, by their places.
        skip_unread: leave out the files of a folder that are no rasters by their suffix, instead of a refusal.
    """

    bands: Sequence[int] | BandChoice | None = None
    stretch: tuple[float, float] | None = None
    heights: HeightFiles | None = None
    gsd: GsdPolicy = "auto"
    skip_unread: bool = False


def parse_reading(
    bands: str | None,
    stretch: str | None,
    heights: Path | None,
    terrain: Path | None,
    ground: int,
    gsd: str,
    skip_unread: bool,
) -> Reading:
    """The options of a command line; ParamsError for what they cannot be."""
    if (terrain or ground) and not heights:
        said = "--terrain" if terrain else "--ground"
        raise ParamsError(f"{said} alone", expected="--heights, which it is taken off", cure="name them too")
    if (terrain and ground) or ground < 0:
        raise ParamsError(
            f"--ground {ground}{' and --terrain' if terrain else ''}",
            expected="one of them, px from 1",
            cure="mend it",
        )
    low_high = decimals(stretch)
    if stretch is not None and len(low_high) != 2:
        raise ParamsError(f"--stretch {stretch}", expected="two numbers", cure="write for instance 0,2047")
    return Reading(
        parse_choice(bands),
        (low_high[0], low_high[1]) if low_high else None,
        HeightFiles(heights, terrain, ground) if heights else None,
        gsd,  # type: ignore[arg-type]  # choose_scale refuses others
        skip_unread,
    )


def map_rasters(
    open_mapper: Callable[[], Mapper],
    where: str,
    target: Path,
    reading: Reading,
    options: Options,
    *,
    share: Callable[[list[Source]], Sequence[Source]] = list,
    watching: Watching = unwatched,
) -> list[Summary]:
    """Predict a file into the file ``target``, or a folder or pattern into the folder ``target``, one ``.tif`` each.

    All rasters are checked before the first is predicted. In a folder, ``options.probabilities`` and ``confidence`` are
    folders too, and maps that are already there from the same model and options are left alone.

    Args:
        open_mapper: opens the model, once there is something to predict.
        share: of the rasters those that this process predicts.
    """
    listed = list_sources(where, skip_unread=reading.skip_unread, outputs=options.outputs(target))
    mapper = open_mapper()
    sources = _inspect(listed, mapper, reading)
    if options.tags:
        for source in sources:
            options.tags.of(source, mapper.scheme)  # raises where it does not fit
    single = len(sources) == 1 and Path(where) == sources[0].path
    done = []
    for source in share(sources):
        place, mine = (target, options) if single else options.within(target, f"{source.path.stem}.tif")
        with watching(source.path.name) as watch:
            done.append(run_predictor(mapper, source, place, mine, gsd=reading.gsd, watch=watch))
    return done


def map_mosaic(
    open_mapper: Callable[[], Mapper],
    where: str,
    target: Path,
    reading: Reading,
    options: Options,
    *,
    watching: Watching = unwatched,
) -> tuple[Summary, Mosaic]:
    """Predict all scenes of a folder or pattern into one map ``target``, without seams between them.

    Scenes are in the order of their names. The map has the CRS and pixels of the first; the others may have others.
    Probabilities are blended where scenes overlap, see :mod:`weakseg.inference.mosaic`.
    """
    if options.tags:
        raise ParamsError(
            "--tags with --mosaic",
            expected="rasters one by one: tags count the pixels of each",
            cure="leave one of them out",
        )
    listed = list_sources(where, skip_unread=reading.skip_unread, outputs=options.outputs(target))
    parts = [target.parent / f"{path.stem}.tif" for path in listed]  # of the map, one for each scene
    taken = {path.resolve() for path in listed} & {path.resolve() for path in (*options.outputs(target), *parts)}
    if taken:
        raise ParamsError(
            f"output {taken.pop()} is a scene", expected="a new file", cure="choose another name or folder"
        )
    check_free(parts)
    mapper = open_mapper()
    mosaic = plan_mosaic(Path(where), _inspect(listed, mapper, reading))
    with watching(mosaic.path.name) as watch:
        return run_predictor(mapper, mosaic, target, options, gsd=reading.gsd, watch=watch), mosaic


def _inspect(listed: Sequence[Path], mapper: Mapper, reading: Reading) -> list[Source]:
    beside = find_heights(reading.heights, listed)
    return [
        inspect_source(path, reading.bands, reading.stretch, mapper.bands, files)
        for path, files in zip(listed, beside, strict=True)
    ]
