"""Import aerial images and their labels into the layout of ``data/``, all of them or none.

Sources are the ISPRS Vaihingen archives as they are distributed, or any folders or zips whose images and labels pair by
name. Every pair is checked and all problems come in one report. The result is staged beside the target and moved there
at the end, so that a target is never half-written.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import FILE, Bands
from weakseg.core.classes import IGNORE, ISPRS, ClassScheme
from weakseg.core.errors import DataError, ImportProblems
from weakseg.core.portals import Portal
from weakseg.data.band_statistics import BandMeter
from weakseg.data.importing.alignment import align_label
from weakseg.data.importing.archives import Entry, Limits, Listing, list_source, local_file
from weakseg.data.importing.height_pairing import HeightSource, height_files, list_heights
from weakseg.data.importing.image_bands import BandPlan, HeightChoice, plan_bands, rank_ranges
from weakseg.data.importing.image_tags import ImageTags, TagSource, choose_format, merge_copies, tags_of_images
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.outcome import ImportReport
from weakseg.data.importing.pairing import Pair, choose_entries, pair_up
from weakseg.data.importing.previews import Preview, choose_previews, make_preview
from weakseg.data.importing.publishing import (
    TAGS,
    check_no_tags,
    check_target,
    publish,
    scratch_folder,
    staging_folder,
)
from weakseg.labels.box_table import check_kept_boxes
from weakseg.labels.image_tags import TagFormat
from weakseg.labels.tag_table import check_kept_tags, raster_sizes, write_tags
from weakseg.raster.band_names import BandChoice
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.mask_readings import Holds, describe_codes, ignored_objects, mixed_readings
from weakseg.raster.masks import MaskOptions
from weakseg.raster.open import read_label, read_picture
from weakseg.raster.partial import PARTLY, is_partly_labelled
from weakseg.raster.write import write_raster

Pixels = npt.NDArray[Any]


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
        return HeightChoice(self.terrain is not None or self.ground > 0, self.ground)


@dataclass(frozen=True)
class _Heights:
    surface: HeightSource
    terrain: HeightSource | None


@dataclass(frozen=True)
class _Settings:
    classes: ClassScheme
    plan: BandPlan
    beside: Beside | None
    masks: MaskOptions
    limits: Limits
    resample: bool
    dry: bool
    partly: bool


@dataclass
class _Tally:
    """What has been imported so far; ``readings`` are of labels that no colour table explains, with a first file."""

    counts: npt.NDArray[np.int64]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    blank: dict[str, int] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)
    partly: set[str] = field(default_factory=set)
    resampled: list[str] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    readings: dict[Holds, str] = field(default_factory=dict)
    meter: BandMeter | None = None
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Collected:
    """The pairs, the files that no pair uses, and which tags there are, see ``image_tags``."""

    pairs: list[Pair]
    unused: tuple[str, ...] = ()
    chosen: tuple[TagFormat, list[Path]] | None = None
    copies: Mapping[str, list[str]] = field(default_factory=dict)

    def read_tags(self, tags: TagSource | None, allow_unlabelled: bool, problems: list[str]) -> ImageTags:
        if tags is None or self.chosen is None:
            return ImageTags({})
        return tags_of_images(
            tags,
            self.chosen,
            {pair.area: pair.image for pair in self.pairs},
            self.copies,
            masked={pair.area for pair in self.pairs if pair.label is not None},
            allow_untagged=allow_unlabelled,
            problems=problems,
        )


@dataclass(frozen=True)
class _Loaded:
    entry: Entry
    info: RasterInfo | None
    pixels: Pixels | None
    valid: npt.NDArray[np.bool_] | None = None  # where an image has data, None: everywhere
    lacking: tuple[str, ...] = ()  # bands that an image lacks


def import_dataset(
    images: Path,
    labels: Sequence[Path],
    target: Path,
    *,
    classes: ClassScheme | None = None,
    bands: BandChoice | tuple[int, ...] | None = None,
    portal: Portal | None = None,
    heights: Beside | None = None,
    ignore_values: tuple[int, ...] = (),
    masks_hold: Holds | None = None,
    lossy_masks: bool = False,
    nodata_is_class: bool = False,
    allow_unlabelled: bool = False,
    partly_labelled: bool = False,
    replace: bool = False,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    resample: bool = False,
    tags: TagSource | None = None,
    dry_run: bool = False,
    limits: Limits | None = None,
    progress: bool = True,
) -> ImportReport:
    """Write ``images/AREA.tif``, ``labels/AREA.tif``, ``labels_eroded/AREA.tif`` if given, and ``classes.yaml``.

    Images become uint8 (H, W, 3), or of other bands and depths, as ``bands.yaml`` then says; labels index masks (H, W)
    uint8 with 255 for ignore and the class colours as colour table. Both keep crs and transform, and take them from
    each other where only one has them. Files are compressed without loss, and equal input gives equal bytes. One area
    is in memory at a time.

    Args:
        images: a folder or zip. Of the ISPRS archive, only ``top/`` is read.
        labels: folders or zips; files named ``*_noBoundary`` are labels with eroded boundaries.
        target: usually ``data/``; made if missing.
        classes: names and colours of the labels; ISPRS by default.
        bands: numbers and names of the images' bands; needed where they are not three of 8 bits and have no names.
        portal: where the images come from; they must have its depth.
        heights: rasters of heights beside the images, which become a band of theirs.
        ignore_values: values of one-band labels that mean ignore.
        masks_hold: what the values of one-band labels are ("indices", "values" of classes.yaml, "colours"); needed
            where a file can be read in two ways.
        lossy_masks: take labels whose compression changes values, if each value is still one of the scheme.
        nodata_is_class: values that a label's header calls nodata are values like others.
        allow_unlabelled: accept images without a label, for areas whose tags come from a table.
        partly_labelled: 255 in labels is where nobody has looked, not what is of no class (``raster.partial``); labels
            that say so themselves need no option.
        replace: give up the images, labels and classes.yaml that ``target`` has; its tags stay.
        image_pattern, label_pattern: which files of the sources count and which part of their names is the area's
            (``name_patterns``); by default all, and the name without endings and prefixes such as ``_mask``.
        resample: bring labels from other grids to that of their image (``alignment``) instead of refusing them.
        tags: where the tags of the images stand, each of which is one tag crop then: ``tags/tags.csv`` is written too.
            An image needs a label or tags, unless ``allow_unlabelled``.
        dry_run: check everything and write nothing.
        limits: guards against decompression bombs.
        progress: show a progress bar on stderr.

    Raises:
        ImportProblems: anything wrong with the sources; nothing has been written.
        DataError: ``target`` has data and ``replace`` is off, a source lies in what is to be replaced, or the disk
            refuses; nothing has been written.
    """
    from rich.console import Console
    from rich.progress import Progress

    masks = MaskOptions(masks_hold, ignore_values, lossy=lossy_masks, nodata_is_class=nodata_is_class)
    choice = bands if isinstance(bands, BandChoice) else BandChoice(tuple(bands or ()))
    limits = limits or Limits()
    besides = [source for source in (heights and heights.surface, heights and heights.terrain) if source]
    check_target([images, *labels, *besides], target, may_replace=replace)
    patterns = [NamePattern(text) if text else None for text in (image_pattern, label_pattern)]
    if tags is not None:
        check_no_tags(target)
    found, problems = _collect(images, labels, limits, patterns, allow_unlabelled, tags)
    pairs, tagged = found.pairs, found.read_tags(tags, allow_unlabelled, problems)
    shown = choose_previews([pair.area for pair in pairs])
    tally = _Tally(np.zeros(256, np.int64))
    with scratch_folder() if dry_run else staging_folder(target) as staging:
        files = ((str(pair.image), local_file(pair.image, staging / "scratch")) for pair in pairs)
        plan = plan_bands(files, choice, problems, beside=heights.choice if heights else None)
        if portal is not None and not problems:
            portal.check(plan.dtypes)
        settings = _Settings(classes or ISPRS, plan, heights, masks, limits, resample, dry_run, partly_labelled)
        tally.meter = None if plan.pictures else BandMeter(plan.bands)
        models = _list_models(heights, [pair.area for pair in pairs], limits, problems)
        with Progress(console=Console(stderr=True), disable=not progress) as bar:
            for pair in bar.track(pairs, description="importing"):
                _import_pair(pair, staging, settings, models, problems, tally, show=pair.area in shown)
        if not masks_hold:
            problems += mixed_readings(tally.readings)
            problems += ignored_objects(tally.readings, tally.counts, settings.classes)
        if problems:
            raise ImportProblems(problems)
        check_kept_tags(target / "tags" / "tags.csv", raster_sizes(target / "images"), tally.sizes)
        bands_found = _found_bands(plan, tally)
        boxes = check_kept_boxes(target / "boxes" / "boxes.json", tally.sizes)
        if not dry_run:
            settings.classes.by_index().save(staging / "data" / "classes.yaml")
            if bands_found is not None:
                bands_found.save(staging / "data" / FILE)
            if tags is not None:
                write_tags(staging / "data" / TAGS, tagged.rows(tally.sizes), settings.classes, tally.sizes)
            publish(staging, target)
    names = (*settings.classes.names, "ignore")
    indices = (*range(len(settings.classes)), IGNORE)
    return ImportReport(
        areas=tuple(pair.area for pair in pairs),
        unlabelled=tuple(pair.area for pair in pairs if pair.label is None),
        eroded=tuple(pair.area for pair in pairs if pair.eroded is not None),
        pixels=sum(height * width for height, width in tally.sizes.values()),
        class_pixels=tuple((name, int(tally.counts[index])) for name, index in zip(names, indices, strict=True)),
        codes=describe_codes(tally.readings, settings.classes),
        unused=found.unused,
        blank=tuple(tally.blank.items()),
        turned=tuple(tally.turned),
        resampled=tuple(tally.resampled),
        previews=tuple(_shown(preview, bands_found) for preview in tally.previews),
        bands=bands_found,
        portal=str(portal or ""),
        boxes=boxes,
        tags=tagged.describe(settings.classes) if tags is not None else (),
    )


def _collect(
    images: Path,
    labels: Sequence[Path],
    limits: Limits,
    patterns: Sequence[NamePattern | None],
    allow_unlabelled: bool,
    tags: TagSource | None,
) -> tuple[_Collected, list[str]]:
    """What the sources hold, and the problems so far."""
    sources: dict[Path, Listing] = {source: list_source(source, limits) for source in [images, *labels]}
    for_images, for_labels = patterns
    image_entries = choose_entries(sources[images].rasters, "image", for_images)
    label_entries = [
        entry for source in labels for entry in choose_entries(sources[source].rasters, "label", for_labels)
    ]
    problems = [problem for listing in sources.values() for problem in listing.problems]
    chosen, singles = None, image_entries
    copies: dict[str, list[str]] = {}
    if tags is not None and not problems:
        chosen = choose_format(tags, images, image_entries)
        if chosen[0] == "folders":
            singles, copies = merge_copies(image_entries, problems)
    # a source that cannot be listed would make every file of the others look lonely
    alone = allow_unlabelled or tags is not None
    pairs, lonely = pair_up(
        singles, label_entries, allow_unlabelled=alone, image_name=for_images, label_name=for_labels
    )
    both = sorted(str(entry) for entry in set(image_entries) & set(label_entries))
    if both:
        twice = DataError(
            f"{len(both)} file(s) are image and label at once, first {both[0]}",
            expected="images and labels in sources of their own",
            cure="put them into two folders",
        )
        return _Collected([]), [*problems, str(twice)]
    problems += lonely if all(listing.rasters for listing in sources.values()) else []
    used = {*image_entries, *label_entries}
    unused = [str(entry) for listing in sources.values() for entry in listing.rasters if entry not in used]
    read = {str(file) for file in chosen[1]} if chosen is not None else set()
    unused += [name for listing in sources.values() for name in listing.unused if name not in read]
    return _Collected(pairs, tuple(sorted(unused)), chosen, copies), problems


def _import_pair(
    pair: Pair,
    staging: Path,
    settings: _Settings,
    models: _Heights | None,
    problems: list[str],
    tally: _Tally,
    *,
    show: bool,
) -> None:
    """Check one area, and unless there are problems by now count it, stage it, and ``show`` it among the previews."""

    def read_drawn(path: Path) -> Pixels:
        label = read_label(path, settings.classes, settings.masks, max_pixels=settings.limits.pixels)
        if label.holds is not None:
            tally.readings.setdefault(label.holds, path.name)
        if settings.partly or is_partly_labelled(path):
            tally.partly.add(pair.area)
        return label.mask

    scratch = staging / "scratch"
    image = _load_image(pair.image, settings, scratch, problems)
    masks = {
        folder: _load(entry, read_drawn, scratch, settings.limits, problems)
        for folder, entry in (("labels", pair.label), ("labels_eroded", pair.eroded))
        if entry is not None
    }
    info = _place([image, *masks.values()])
    placed = dataclasses.replace(image, info=info)
    aligned = {
        folder: _align(placed, mask, settings.resample, problems, tally.resampled) for folder, mask in masks.items()
    }
    if problems or image.pixels is None or info is None:
        return
    lacking = (*image.lacking, *_add_heights(pair.area, image.pixels, info, settings, models, scratch, problems))
    if problems:
        return
    if tally.meter is not None:
        tally.meter.add(image.pixels, image.valid, lacking=lacking)
    if lacking:
        tally.lacking[pair.area] = lacking
    if not settings.dry:
        names = () if settings.plan.pictures else settings.plan.bands.names
        tags = PARTLY if pair.area in tally.partly else None
        _stage(staging / "data", pair.area, image.pixels, image.valid, aligned, info, settings.classes, names, tags)
    mask = aligned.get("labels")
    tally.sizes[pair.area] = (info.height, info.width)
    if image.valid is not None:
        tally.blank[pair.area] = int(np.count_nonzero(~image.valid))
    tally.turned += [
        str(each.entry) for each in (image, *masks.values()) if each.info is not None and each.info.orientation != 1
    ]
    if mask is not None:
        tally.counts += np.bincount(mask.ravel(), minlength=256)
    if show:
        tally.previews.append(make_preview(pair.area, image.pixels, mask))


def _stage(
    folder: Path,
    area: str,
    image: Pixels,
    valid: npt.NDArray[np.bool_] | None,
    masks: Mapping[str, Pixels | None],
    info: RasterInfo,
    classes: ClassScheme,
    names: Sequence[str],
    tags: Mapping[str, str] | None,
) -> None:
    """Write an area. ``valid`` alone says where the image has data: a nodata value may be one of other bands."""
    image_info = dataclasses.replace(info, nodata=None)
    write_raster(folder / "images" / f"{area}.tif", image, image_info, compress=True, valid=valid, names=names)
    label_info = dataclasses.replace(info, nodata=IGNORE)
    for kind, mask in masks.items():
        if mask is not None:
            write_raster(folder / kind / f"{area}.tif", mask, label_info, colours=classes, compress=True, tags=tags)


def _load(entry: Entry, read: Callable[[Path], Pixels], scratch: Path, limits: Limits, problems: list[str]) -> _Loaded:
    """Header and pixels of a label; where either cannot be had it is None, and the reason is among the problems."""
    info = pixels = None
    try:
        with local_file(entry, scratch) as path:
            info = read_info(path, max_pixels=limits.pixels)
            pixels = read(path)
    except DataError as error:
        problems.append(_of_entry(error, entry, scratch))
    return _Loaded(entry, info, pixels)


def _load_image(entry: Entry, settings: _Settings, scratch: Path, problems: list[str]) -> _Loaded:
    """The same of an image, and where it has data, and which bands it lacks."""
    info = pixels = valid = None
    lacking: tuple[str, ...] = ()
    refused = str(entry) in settings.plan.refused
    try:
        with local_file(entry, scratch) as path:
            if settings.plan.pictures and not refused:
                with contextlib.suppress(DataError):  # what is wrong with it is said below
                    return _Loaded(
                        entry,
                        *read_picture(
                            path, bands=settings.plan.choice.numbers or None, max_pixels=settings.limits.pixels
                        ),
                    )
            info = read_info(path, max_pixels=settings.limits.pixels)
            if not refused:
                pixels, valid, lacking = settings.plan.read(path, settings.limits.pixels)
    except DataError as error:
        if not refused:
            problems.append(_of_entry(error, entry, scratch))
    return _Loaded(entry, info, pixels, valid, lacking)


def _of_entry(error: DataError, entry: Entry, scratch: Path) -> str:
    return str(error).replace(str(scratch / PurePosixPath(entry.name).name), str(entry))


def _list_models(beside: Beside | None, areas: Sequence[str], limits: Limits, problems: list[str]) -> _Heights | None:
    if beside is None:
        return None
    pattern = NamePattern(beside.pattern) if beside.pattern else None
    surface = list_heights(beside.surface, areas, limits, pattern, problems)
    terrain = list_heights(beside.terrain, areas, limits, pattern, problems) if beside.terrain else None
    return _Heights(surface, terrain)


def _add_heights(
    area: str,
    image: Pixels,
    info: RasterInfo,
    settings: _Settings,
    models: _Heights | None,
    scratch: Path,
    problems: list[str],
) -> tuple[str, ...]:
    """Put the heights of an area into its image; the bands that it lacks then."""
    if models is None or settings.beside is None:
        return ()
    try:
        with height_files(models.surface, models.terrain, area, scratch) as files:
            return settings.plan.add_heights(image, info, files, settings.beside.choice)
    except DataError as error:
        problems.append(str(error))
        return ()


def _found_bands(plan: BandPlan, tally: _Tally) -> Bands | None:
    """What bands.yaml is to say; None for three bands of 8 bits without names."""
    if tally.meter is None:
        return None
    return dataclasses.replace(rank_ranges(plan.bands, tally.meter), missing=dict(sorted(tally.lacking.items())))


def _shown(preview: Preview, bands: Bands | None) -> Preview:
    return preview if bands is None else dataclasses.replace(preview, image=bands.picture(preview.image))


def _align(image: _Loaded, label: _Loaded, resample: bool, problems: list[str], resampled: list[str]) -> Pixels | None:
    """The mask on the grid of its image, 255 where that has no data; None after noting why it cannot be had."""
    if image.info is None or label.info is None or label.pixels is None:
        return None
    names = str(label.entry), str(image.entry)
    try:
        mask, changed = align_label(label.pixels, label.info, image.info, names=names, resample=resample)
    except DataError as error:
        problems.append(str(error))
        return None
    resampled += [str(label.entry)] if changed else []
    return mask if image.valid is None else np.where(image.valid, mask, np.uint8(IGNORE))


def _place(rasters: Sequence[_Loaded]) -> RasterInfo | None:
    """The image's header, crs and transform taken from its labels where it has none itself; None without a header."""
    infos = [raster.info for raster in rasters if raster.info is not None]
    if rasters[0].info is None:
        return None
    crs = next((info.crs for info in infos if info.crs is not None), None)
    transform = next((info.transform for info in infos if info.transform is not None), None)
    return dataclasses.replace(infos[0], crs=crs, transform=transform)
