"""How a raster is predicted: what the user may choose, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from weakseg.core.errors import DataError, ParamsError
from weakseg.data.windows import cover_starts
from weakseg.inference.encode import KINDS, Kind
from weakseg.inference.mapper import Mapper
from weakseg.inference.sweep import Grid, shared_rows
from weakseg.raster.gsd import GSD_TOLERANCE
from weakseg.raster.own_maps import check_free
from weakseg.raster.stream import Source

if TYPE_CHECKING:
    from weakseg.inference.held_tags import TagTable

GsdPolicy = Literal["auto", "resample", "refuse", "ignore"]
COARSEST: Final = 8  # times the training's m per px: of a car, and most roofs, nothing is left to be seen
FINEST: Final = 64  # times finer: a mistake in the units, such as mm or feet for m of a whole scene
MAX_BUFFER: Final = 1 << 29  # bytes of float rows under way, so that the whole stays under 2 GB


@dataclass(frozen=True)
class Options:
    """How to cut and what to write beside the classes.

    Attributes:
        window: side of the windows at the network's resolution, px; ``overlap`` is a share of it.
        batch: windows per forward pass on a GPU; a CPU takes 512 x 512 px at a time, with less memory and no slower.
        probabilities, confidence, entropy, margin, applicability: files for further layers, see ``encode.KINDS``.
        max_unlike: largest share of a raster that may be unlike what the model has seen; 1 takes all.
        tags: of the rasters themselves, to which their maps are held.
    """

    window: int = 512
    overlap: float = 0.25
    batch: int = 4
    probabilities: Path | None = None
    confidence: Path | None = None
    resume: bool = True
    entropy: Path | None = None
    margin: Path | None = None
    applicability: Path | None = None
    max_unlike: float = 1.0
    tags: TagTable | None = None

    def files(self, target: Path) -> dict[Kind, Path]:
        """All files of a prediction into ``target`` by what they hold, in the order of their layers."""
        given: dict[Kind, Path | None] = {kind: target if kind == "classes" else getattr(self, kind) for kind in KINDS}
        return {kind: path for kind, path in given.items() if path is not None}

    def outputs(self, target: Path) -> list[Path]:
        """All files of a prediction into ``target``."""
        return list(self.files(target).values())

    def with_layer(self, kind: Kind, path: Path) -> Options:
        """The same with a file for one more layer; the map itself has one anyway."""
        return self if kind == "classes" else replace(self, **{kind: path})  # type: ignore[arg-type]  # kinds are fields

    def within(self, folder: Path, name: str) -> tuple[Path, Options]:
        """Where the map ``name`` goes in a folder of maps, and its options there: every file is then a folder."""
        files = {kind: path / name for kind, path in self.files(folder).items()}
        target = files.pop("classes")
        return target, replace(self, **files)  # type: ignore[arg-type]  # the kinds are fields


def choose_scale(mapper: Mapper, source: Source, policy: GsdPolicy) -> float:
    """Network px per raster px, from the scale of the training and, as the policy says, the two sampling distances."""
    if policy not in ("auto", "resample", "refuse", "ignore"):
        raise ParamsError(f"gsd {policy}", expected="auto, resample, refuse or ignore", cure="name one of them")
    trained, here = mapper.gsd, source.gsd
    if policy == "ignore" or (policy == "auto" and (trained is None or here is None)):
        return mapper.scale
    if trained is None or here is None:
        who = "the model" if trained is None else str(source.path)
        raise DataError(
            f"{who}: no ground sampling distance in metres",
            expected="one in the model and one in the raster (a projected CRS)",
            cure="reproject with gdalwarp, or pass --gsd ignore",
        )
    if abs(here / trained - 1) <= GSD_TOLERANCE:
        return mapper.scale
    if policy == "auto" and not 1 / FINEST <= here / trained <= COARSEST:
        raise DataError(
            f"{source.path}: {here:.4g} m per px, {max(here / trained, trained / here):.3g} times "
            f"{'coarser' if here > trained else 'finer'} than the {trained:.4g} m of the training",
            expected=f"px at most {COARSEST} times coarser and {FINEST} times finer: others show other things",
            cure="mend its CRS or transform, pass --gsd resample if it is meant, or --gsd ignore",
        )
    if policy == "refuse":
        raise DataError(
            f"{source.path}: {here:.4g} m per px",
            expected=f"{trained:.4g} m as in training, within 5 %",
            cure="pass --gsd resample or --gsd ignore",
        )
    return mapper.scale * here / trained


def check_options(mapper: Mapper, source: Source, target: Path, options: Options, grid: Grid) -> None:
    """Refuse, before anything runs, outputs that would overwrite something and windows too large for the memory."""
    outputs = options.outputs(target)
    places = [path.resolve() for path in (source.path, *outputs)]
    if len(set(places)) < len(places) or any(p.suffix.lower() not in (".tif", ".tiff") for p in outputs):
        raise ParamsError(
            f"outputs {', '.join(map(str, outputs))} of {source.path}",
            expected="different files that end in .tif, none of them the input",
            cure="choose other names",
        )
    check_free(outputs)
    if not mapper.applicable and (options.applicability or options.max_unlike < 1):
        raise ParamsError(
            "a model that does not know what it was trained on",
            expected="one of a weakseg from 2026-11-28 on, or without --applicability and --max-unlike",
            cure="train it again (`dvc repro`)",
        )
    if not 0 <= options.max_unlike <= 1:
        raise ParamsError(f"max-unlike {options.max_unlike}", expected="a share from 0 to 1", cure="mend it")
    if options.batch < 1:
        raise ParamsError(f"batch {options.batch}", expected=">= 1", cure="mend it")
    rows = shared_rows(cover_starts(grid.height, options.window, options.overlap), min(options.window, grid.height))
    maps = len(mapper.scheme) + mapper.applicable
    needed = 4 * (maps + 1) * rows * grid.width
    if needed > MAX_BUFFER:
        raise ParamsError(
            f"{rows} shared rows over {grid.width} columns and {maps} maps: {needed / 2**20:.0f} MiB",
            expected=f"at most {MAX_BUFFER / 2**20:.0f} MiB of rows in memory",
            cure="take a smaller --window or --overlap, or cut the raster into strips with gdal_translate -srcwin",
        )
