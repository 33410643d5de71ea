"""Import aerial images and their labels into the layout of ``data/``, all of them or none.

Sources are the ISPRS Vaihingen archives as they are distributed, or any folders or zips whose images and labels pair by
name. Every pair is checked and all problems come in one report. The result is staged beside the target and moved there
at the end, so that a target is never half-written.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.classes import IGNORE, ISPRS, ClassScheme
from weakseg.data.archives import Entry, Limits, Listing, list_source, local_file
from weakseg.data.pairing import Pair, choose_entries, pair_up
from weakseg.data.raster import RasterInfo, read_image, read_info, read_mask, write_raster
from weakseg.data.tag_table import check_kept_tags, raster_sizes
from weakseg.errors import DataError

Pixels = npt.NDArray[np.uint8]

_OWNED: Final = ("images", "labels", "labels_eroded", "classes.yaml")


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

    def __str__(self) -> str:
        """For people: what came in, the share of each class, and what was left out."""
        total = max(sum(count for _, count in self.class_pixels), 1)
        shares = ", ".join(f"{name} {count / total:.1%}" for name, count in self.class_pixels)
        lines = [f"{len(self.areas)} areas, {self.pixels:,} px", f"masks: {shares}"]
        if self.eroded:
            lines.append(f"{len(self.eroded)} areas also with eroded boundaries")
        if self.unlabelled:
            lines.append(f"without a label: {', '.join(self.unlabelled)}")
        if self.unused:
            lines.append(f"{len(self.unused)} files not used, the first: {self.unused[0]}")
        return "\n".join(lines)


class ImportProblems(DataError):  # noqa: N818 - it holds problems
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


@dataclass(frozen=True)
class _Loaded:
    entry: Entry
    info: RasterInfo | None
    pixels: Pixels | None


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
    from rich.console import Console
    from rich.progress import Progress

    settings = _Settings(classes or ISPRS, bands, ignore_values, limits or Limits())
    _check_target([images, *labels], target, may_replace=replace)
    pairs, unused, problems = _collect(images, labels, settings.limits, allow_unlabelled)
    counts, pixels = np.zeros(256, np.int64), 0
    with _staging_folder(target) as staging:
        with Progress(console=Console(stderr=True), disable=not progress) as bar:
            for pair in bar.track(pairs, description="importing"):
                label_counts, image_pixels = _import_pair(pair, staging, settings, problems)
                counts, pixels = counts + label_counts, pixels + image_pixels
        if problems:
            raise ImportProblems(problems)
        check_kept_tags(
            target / "tags" / "tags.csv", raster_sizes(target / "images"), raster_sizes(staging / "data" / "images")
        )
        settings.classes.save(staging / "data" / "classes.yaml")
        _publish(staging, target)
    names = (*settings.classes.names, "ignore")
    indices = (*range(len(settings.classes)), IGNORE)
    return ImportReport(
        areas=tuple(pair.area for pair in pairs),
        unlabelled=tuple(pair.area for pair in pairs if pair.label is None),
        eroded=tuple(pair.area for pair in pairs if pair.eroded is not None),
        pixels=pixels,
        class_pixels=tuple((name, int(counts[index])) for name, index in zip(names, indices, strict=True)),
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
    both = sorted(str(entry) for entry in set(image_entries) & set(label_entries))
    if both:
        twice = DataError(
            f"{len(both)} file(s) are image and label at once, first {both[0]}",
            expected="images and labels in sources of their own",
            cure="put them into two folders",
        )
        return [], (), [*problems, str(twice)]
    problems += lonely if all(listing.rasters for listing in sources.values()) else []
    used = {*image_entries, *label_entries}
    unused = [str(entry) for listing in sources.values() for entry in listing.rasters if entry not in used]
    unused += [name for listing in sources.values() for name in listing.unused]
    return pairs, tuple(sorted(unused)), problems


def _import_pair(
    pair: Pair, staging: Path, settings: _Settings, problems: list[str]
) -> tuple[npt.NDArray[np.int64], int]:
    """Check one area and stage it, unless there are problems by now; px per label value (256,), px of the image."""

    def read_label(path: Path) -> Pixels:
        classes, limit = settings.classes, settings.limits.pixels
        return read_mask(path, classes, ignore_values=settings.ignore_values, max_pixels=limit)

    def read_picture(path: Path) -> Pixels:
        return read_image(path, bands=settings.bands, max_pixels=settings.limits.pixels)

    scratch = staging / "scratch"
    image = _load(pair.image, read_picture, scratch, settings.limits, problems)
    masks = {
        folder: _load(entry, read_label, scratch, settings.limits, problems)
        for folder, entry in (("labels", pair.label), ("labels_eroded", pair.eroded))
        if entry is not None
    }
    for mask in masks.values():
        problems += _disagreements(image, mask)
    counts = np.zeros(256, np.int64)
    if problems or image.pixels is None or image.info is None:
        return counts, 0
    info = _place([image, *masks.values()])
    write_raster(staging / "data" / "images" / f"{pair.area}.tif", image.pixels, info, compress=True)
    for folder, mask in masks.items():
        if mask.pixels is not None:
            path, label_info = staging / "data" / folder / f"{pair.area}.tif", dataclasses.replace(info, nodata=IGNORE)
            write_raster(path, mask.pixels, label_info, colours=settings.classes, compress=True)
    if "labels" in masks and masks["labels"].pixels is not None:
        counts = np.bincount(masks["labels"].pixels.ravel(), minlength=256)
    return counts, image.info.height * image.info.width


def _load(entry: Entry, read: Callable[[Path], Pixels], scratch: Path, limits: Limits, problems: list[str]) -> _Loaded:
    """Header and pixels of an entry; where either cannot be had it is None, and the reason is among the problems."""
    info = pixels = None
    try:
        with local_file(entry, scratch) as path:
            info = read_info(path, max_pixels=limits.pixels)
            pixels = read(path)
    except DataError as error:
        problems.append(str(error).replace(str(scratch / PurePosixPath(entry.name).name), str(entry)))
    return _Loaded(entry, info, pixels)


def _disagreements(image: _Loaded, label: _Loaded) -> list[str]:
    """Problems of a label with its image: another size, or another place on Earth (by more than a pixel)."""
    if image.info is None or label.info is None:
        return []
    size, wanted = (f"{info.height}x{info.width} px" for info in (label.info, image.info))
    if size != wanted:
        cure = "export the label again, on the grid of the image"
        return [str(DataError(f"{label.entry}: {size}", expected=f"{wanted} like {image.entry}", cure=cure))]
    shift = _shift(image.info, label.info)
    if shift > 1:
        far = DataError(
            f"{label.entry}: lies {shift:.1f} px off {image.entry}",
            expected="the place of its image",
            cure="mend the transform or world file of one of them",
        )
        return [str(far)]
    return []


def _shift(image: RasterInfo, label: RasterInfo) -> float:
    """Largest distance of the corners of two rasters, in px of the image; 0 where one has no place on Earth."""
    if image.transform is None or label.transform is None:
        return 0.0
    corners = np.array([[x, y, 1] for x in (0, image.width) for y in (0, image.height)], np.float64)
    here, there = (np.array(info.transform).reshape(2, 3) for info in (image, label))
    offsets = corners @ (there - here).T @ np.linalg.pinv(here[:, :2]).T
    return float(np.hypot(offsets[:, 0], offsets[:, 1]).max())


def _place(rasters: Sequence[_Loaded]) -> RasterInfo:
    """The image's header, crs and transform taken from its labels where it has none itself."""
    infos = [raster.info for raster in rasters if raster.info is not None]
    crs = next((info.crs for info in infos if info.crs is not None), None)
    transform = next((info.transform for info in infos if info.transform is not None), None)
    return dataclasses.replace(infos[0], crs=crs, transform=transform)


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A folder on the file system of the target (which may be a mount of its own), gone at the end whatever happens."""
    parent = next(path for path in (target, *target.absolute().parents) if path.exists())
    try:
        staging = Path(tempfile.mkdtemp(prefix=".import-", dir=parent))
        try:
            (staging / "data").mkdir()
            yield staging
        finally:
            shutil.rmtree(staging)
    except OSError as error:
        raise DataError(
            f"import into {target} stopped ({error})",
            expected="readable sources and a target folder with room and permission",
            cure="make room, or choose another target",
        ) from error


def _publish(staging: Path, target: Path) -> None:
    """Move what was staged into the target, what it replaces into the staging folder; all moves or none."""
    old = staging / "old"
    old.mkdir()
    target.mkdir(parents=True, exist_ok=True)
    moves: list[tuple[Path, Path]] = []
    try:
        for name in _OWNED:
            for origin, goal in ((target / name, old / name), (staging / "data" / name, target / name)):
                if origin.exists():
                    moves.append((origin, goal))
                    os.replace(origin, goal)
    except BaseException:
        for origin, goal in reversed(moves):
            if goal.exists() and not origin.exists():
                os.replace(goal, origin)
        raise
