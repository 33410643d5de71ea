"""Import aerial images and their labels into the layout of ``data/``, all of them or none.

Sources are the ISPRS Vaihingen archives as they are distributed, or any folders or zips whose images and labels pair by
name. Every pair is checked and all problems come in one report. The result is staged beside the target and moved there
at the end, so that a target is never half-written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from weakseg.classes import IGNORE, ISPRS, ClassScheme
from weakseg.data.archives import Entry, Limits, Listing, list_source, local_file
from weakseg.data.pairing import Pair, choose_entries, pair_up
from weakseg.data.raster import RasterInfo, read_image, read_info, read_mask, write_raster
from weakseg.errors import DataError

_OWNED: Final = ("images", "labels", "labels_eroded", "classes.yaml")
_T = TypeVar("_T")


@dataclass(frozen=True)
class ImportReport:
    """What an import has written.

    Attributes:
        areas: names of the areas, sorted.
        unlabelled: those without a label.
        eroded: those with a label with eroded boundaries.
        pixels: of all images.
        class_pixels: (name, labelled px) per class in index order, then ("ignore", px).
        unused: files of the sources that were not imported and are no known companions of rasters.
    """

    areas: tuple[str, ...]
    unlabelled: tuple[str, ...]
    eroded: tuple[str, ...]
    pixels: int
    class_pixels: tuple[tuple[str, int], ...]
    unused: tuple[str, ...]


class ImportProblems(DataError):
    """Everything that is wrong with the sources of an import; its text has one line per problem.

    Attributes:
        problems: the lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problem(s)", expected="none", cure="mend the sources and import again")

    def __str__(self) -> str:
        return "\n".join(self.problems)

    def __reduce__(self) -> tuple[object, ...]:
        return ImportProblems, (self.problems,)


@dataclass(frozen=True)
class _Settings:
    classes: ClassScheme
    bands: tuple[int, ...] | None
    ignore_values: tuple[int, ...]
    limits: Limits


def import_dataset(
    images: Path,
    labels: Sequence[Path],
    target: Path,
    *,
    classes: ClassScheme | None = None,
    bands: tuple[int, ...] | None = None,
    ignore_values: tuple[int, ...] = (),
    allow_unlabelled: bool = False,
    replace: bool = False,
    limits: Limits | None = None,
    progress: bool = True,
) -> ImportReport:
    """Write ``images/AREA.tif``, ``labels/AREA.tif``, ``labels_eroded/AREA.tif`` if given, and ``classes.yaml``.

    Images become uint8 (H, W, 3), labels index masks (H, W) uint8 with 255 for ignore and the class colours as colour
    table; both keep crs and transform, and take them from each other where only one has them. Files are compressed
    without loss, and equal input gives equal bytes. One area is in memory at a time.

    Args:
        images: a folder or zip. Of the ISPRS archive, only ``top/`` is read.
        labels: folders or zips; files named ``*_noBoundary`` are labels with eroded boundaries.
        target: usually ``data/``; made if missing.
        classes: names and colours of the labels; ISPRS by default.
        bands: three bands of the images, counted from 1; needed where they have not exactly three.
        ignore_values: values of index masks, besides 255, that mean ignore.
        allow_unlabelled: accept images without a label, for areas whose tags come from a table.
        replace: give up the images, labels and classes.yaml that ``target`` has; its tags stay.
        limits: guards against decompression bombs.
        progress: show a progress bar on stderr.

    Raises:
        ImportProblems: anything wrong with the sources; nothing has been written.
        DataError: ``target`` has data and ``replace`` is off, a source lies in what is to be replaced, or the disk
            refuses; nothing has been written.
    """
    settings = _Settings(classes or ISPRS, bands, ignore_values, limits or Limits())
    _check_target([images, *labels], target, may_replace=replace)
    pairs, unused, problems = _collect(images, labels, settings.limits, allow_unlabelled)
    with _staging_folder(target) as staging:
        counts = np.zeros(256, np.int64)
        pixels = 0
        for pair in _with_progress(pairs, progress):
            found = _import_pair(pair, staging, settings, problems)
            counts, pixels = counts + found[0], pixels + found[1]
        if problems:
            raise ImportProblems(problems)
        settings.classes.save(staging / "data" / "classes.yaml")
        _publish(staging, target)
    names = [*settings.classes.names, "ignore"]
    totals = [int(count) for count in (*counts[: len(names) - 1], counts[IGNORE])]
    return ImportReport(
        areas=tuple(pair.area for pair in pairs),
        unlabelled=tuple(pair.area for pair in pairs if pair.label is None),
        eroded=tuple(pair.area for pair in pairs if pair.eroded is not None),
        pixels=pixels,
        class_pixels=tuple(zip(names, totals, strict=True)),
        unused=unused,
    )


def _check_target(sources: Sequence[Path], target: Path, *, may_replace: bool) -> None:
    owned = [target / name for name in _OWNED]
    full = [path for path in owned if path.is_file() or (path.is_dir() and any(path.iterdir()))]
    if full and not may_replace:
        raise DataError(
            f"{target} has data already ({', '.join(path.name for path in full)})",
            expected="a target without data",
            cure="choose another target, or say that it may be replaced",
        )
    for source in sources:
        if any(source.resolve().is_relative_to(path.resolve()) for path in owned):
            raise DataError(
                f"source {source} lies in the data of the target {target}",
                expected="sources outside the target, which an import replaces",
                cure="move the source, or choose another target",
            )


def _collect(
    images: Path, labels: Sequence[Path], limits: Limits, allow_unlabelled: bool
) -> tuple[list[Pair], tuple[str, ...], list[str]]:
    """The pairs, the files that no pair uses, and the problems so far."""
    sources: dict[Path, Listing] = {source: list_source(source, limits) for source in [images, *labels]}
    image_entries = choose_entries(sources[images].rasters, "image")
    label_entries = [entry for source in labels for entry in choose_entries(sources[source].rasters, "label")]
    problems = [problem for listing in sources.values() for problem in listing.problems]
    # a source that cannot be listed would make every file of the others look lonely
    pairs, lonely = pair_up(image_entries, label_entries, allow_unlabelled=allow_unlabelled)
    problems += lonely if all(listing.rasters for listing in sources.values()) else []
    used = {*image_entries, *label_entries}
    unused = [str(entry) for listing in sources.values() for entry in listing.rasters if entry not in used]
    unused += [name for listing in sources.values() for name in listing.unused]
    return pairs, tuple(sorted(unused)), problems


def _import_pair(
    pair: Pair, staging: Path, settings: _Settings, problems: list[str]
) -> tuple[npt.NDArray[np.int64], int]:
    """Check one area and stage it, unless a problem was found here or before; label counts (256,) and image pixels."""
    counts = np.zeros(256, np.int64)
    label_info = mask_info = None
    before = len(problems)
    image = _load(pair.image, staging, settings, problems, _read_image)
    masks = {
        folder: _load(entry, staging, settings, problems, _read_mask)
        for folder, entry in (("labels", pair.label), ("labels_eroded", pair.eroded))
        if entry is not None
    }
    return counts, before
