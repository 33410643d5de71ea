"""Import aerial images and their labels into the layout of ``data/``, all of them or none.

Sources are the ISPRS Vaihingen archives as they are distributed, or any folders or zips whose images and labels pair by
name. Every pair is checked and all problems come in one report. The result is staged beside the target and moved there
at the end, so that a target is never half-written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weakseg.core.bands import FILE, Bands
from weakseg.core.classes import IGNORE, ISPRS, ClassScheme
from weakseg.core.errors import ImportProblems
from weakseg.core.portals import Portal
from weakseg.data.band_statistics import BandMeter
from weakseg.data.importing.archives import Limits, local_file
from weakseg.data.importing.area_import import ImportSettings, ImportTally, import_pair
from weakseg.data.importing.collecting import collect
from weakseg.data.importing.height_pairing import Beside, list_models
from weakseg.data.importing.image_bands import BandPlan, plan_bands, rank_ranges
from weakseg.data.importing.image_tags import TagSource
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.outcome import ImportReport
from weakseg.data.importing.previews import Preview, choose_previews
from weakseg.data.importing.publishing import (
    TAGS,
    check_no_tags,
    check_target,
    clear_killed,
    publish,
    scratch_folder,
    staging_folder,
)
from weakseg.labels.box_table import check_kept_boxes
from weakseg.labels.tag_table import check_kept_tags, raster_sizes, write_tags
from weakseg.raster.band_names import BandChoice
from weakseg.raster.mask_readings import Holds, describe_codes, ignored_objects, mixed_readings
from weakseg.raster.masks import MaskOptions


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
        portal: where the images come from; they must not contradict it in bands, depth, CRS or size of a px.
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
    told = "" if dry_run else clear_killed(target)
    check_target([images, *labels, *besides], target, may_replace=replace, told=told)
    patterns = [NamePattern(text) if text else None for text in (image_pattern, label_pattern)]
    if tags is not None:
        check_no_tags(target)
    found, problems = collect(images, labels, limits, patterns, allow_unlabelled, tags)
    pairs, tagged = found.pairs, found.read_tags(tags, allow_unlabelled, problems)
    shown = choose_previews([pair.area for pair in pairs])
    tally = ImportTally(np.zeros(256, np.int64))
    with scratch_folder() if dry_run else staging_folder(target) as staging:
        files = ((str(pair.image), local_file(pair.image, staging / "scratch")) for pair in pairs)
        plan = plan_bands(files, choice, problems, beside=heights.choice if heights else None, portal=portal)
        crs = _crs_of(portal)
        settings = ImportSettings(classes or ISPRS, plan, masks, limits, resample, dry_run, partly_labelled, crs)
        tally.meter = None if plan.pictures else BandMeter(plan.bands)
        models = list_models(heights, [pair.area for pair in pairs], limits, problems)
        with Progress(console=Console(stderr=True), disable=not progress) as bar:
            for pair in bar.track(pairs, description="importing"):
                import_pair(pair, staging, settings, models, problems, tally, show=pair.area in shown)
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
        reordered=plan.reordered,
        portal=_origin(portal, len(tally.placed)),
        boxes=boxes,
        tags=tagged.describe(settings.classes) if tags is not None else (),
    )


def _found_bands(plan: BandPlan, tally: ImportTally) -> Bands | None:
    """What bands.yaml is to say; None for three bands of 8 bits without names."""
    if tally.meter is None:
        return None
    return dataclasses.replace(rank_ranges(plan.bands, tally.meter), missing=dict(sorted(tally.lacking.items())))


def _crs_of(portal: Portal | None) -> str | None:
    """WKT for images of the portal whose files name none."""
    from rasterio.crs import CRS

    return CRS.from_string(portal.only_crs).to_wkt() if portal is not None and portal.only_crs else None


def _origin(portal: Portal | None, placed: int) -> str:
    if portal is None:
        return ""
    return f"{portal}; {placed} images without a CRS taken to be in {portal.only_crs}" if placed else str(portal)


def _shown(preview: Preview, bands: Bands | None) -> Preview:
    return preview if bands is None else dataclasses.replace(preview, image=bands.picture(preview.image))
