"""One area on its way in: image, labels and heights are read, brought to one grid, counted, and staged."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError
from weakseg.data.band_statistics import BandMeter
from weakseg.data.importing.alignment import align_label
from weakseg.data.importing.archives import Entry, Limits, local_file
from weakseg.data.importing.height_pairing import HeightModels, height_files
from weakseg.data.importing.image_bands import BandPlan
from weakseg.data.importing.pairing import Pair
from weakseg.data.importing.previews import Preview, make_preview
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.mask_readings import Holds
from weakseg.raster.masks import MaskOptions
from weakseg.raster.open import read_label, read_picture
from weakseg.raster.partial import PARTLY, is_partly_labelled
from weakseg.raster.write import write_raster

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class ImportSettings:
    """What is the same for all areas; ``dry``: nothing is written, ``partly``: 255 is where nobody looked.

    ``crs``: WKT for images with a transform whose files name none.
    """

    classes: ClassScheme
    plan: BandPlan
    masks: MaskOptions
    limits: Limits
    resample: bool
    dry: bool
    partly: bool
    crs: str | None = None


@dataclass
class ImportTally:
    """What has been imported so far; ``readings`` are of labels that no colour table explains, with a first file.

    ``placed`` are the images that got ``ImportSettings.crs``.
    """

    counts: npt.NDArray[np.int64]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    blank: dict[str, int] = field(default_factory=dict)
    turned: list[str] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    partly: set[str] = field(default_factory=set)
    resampled: list[str] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    readings: dict[Holds, str] = field(default_factory=dict)
    meter: BandMeter | None = None
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Loaded:
    entry: Entry
    info: RasterInfo | None
    pixels: Pixels | None
    valid: npt.NDArray[np.bool_] | None = None  # where an image has data, None: everywhere
    lacking: tuple[str, ...] = ()  # bands that an image lacks


def import_pair(
    pair: Pair,
    staging: Path,
    settings: ImportSettings,
    models: HeightModels | None,
    problems: list[str],
    tally: ImportTally,
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
    if settings.crs and image.info is not None and image.info.transform is not None and image.info.crs is None:
        image = dataclasses.replace(image, info=dataclasses.replace(image.info, crs=settings.crs))
        tally.placed.append(str(pair.image))
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


def _load_image(entry: Entry, settings: ImportSettings, scratch: Path, problems: list[str]) -> _Loaded:
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


def _add_heights(
    area: str,
    image: Pixels,
    info: RasterInfo,
    settings: ImportSettings,
    models: HeightModels | None,
    scratch: Path,
    problems: list[str],
) -> tuple[str, ...]:
    """Put the heights of an area into its image; the bands that it lacks then."""
    if models is None:
        return ()
    try:
        with height_files(models, area, scratch) as files:
            return settings.plan.add_heights(image, info, files, models.choice)
    except DataError as error:
        problems.append(str(error))
        return ()


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
