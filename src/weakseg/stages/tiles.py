"""Stage tiles: areas of the split as arrays, with tag rasters, boxes and the tile table; hidden truth kept apart."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.bands import FILE, PLAIN, Bands, load_bands
from weakseg.core.class_sets import Allowed, SetTable, intersect
from weakseg.core.classes import IGNORE, ClassScheme, Mask, load_classes
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.files import remove_folder
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, SOURCES, BoxesParams
from weakseg.core.params import TilesParams
from weakseg.data.areas import Image
from weakseg.data.band_statistics import measure_bands
from weakseg.data.holdout_blocks import HoldoutBlocks, labelled_holdout_column
from weakseg.data.importing.alignment import TOLERANCE, shift_of
from weakseg.data.manifest import TagCrops, save_manifest
from weakseg.data.shared_ground import SameImages, describe_overlaps
from weakseg.data.store import SETS, save_areas, save_array
from weakseg.data.unseen import describe_unseen, name_few
from weakseg.labels.box_files import read_boxes
from weakseg.labels.box_table import BoxTable, allowed_by_boxes, boxes_from_mask, join_boxes, scale_boxes, write_boxes
from weakseg.labels.contradictions import describe_contradictions
from weakseg.labels.tag_doubts import describe_doubts
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.labels.tags import (
    TagWindow,
    allowed_raster,
    tag_arrays,
    tags_from_mask,
    valid_pixels,
    window_grid,
    window_index,
)
from weakseg.pipeline.context import open_context, tracked
from weakseg.raster.gsd import common_gsd, describe_gsds, save_gsd
from weakseg.raster.header import read_info
from weakseg.raster.open import read_bands, read_filled, read_mask, read_valid
from weakseg.raster.partial import is_partly_labelled
from weakseg.raster.resample import resize_image

SUFFIXES = (".tif", ".tiff", ".png", ".jpg")
_FEW: Final = 1000  # px of all validation areas together
Tags = tuple[list[tuple[int, int, int, int]], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Windows of one area with present and known, bool (N, C)."""
Valid = npt.NDArray[np.bool_]
"""Where an image has data, bool (H, W)."""


def run(root: Path) -> None:
    """Cut the data of ``root`` into out/tiles, out/boxes, out/labels/full (the hidden truth) and out/validation."""
    context = open_context(root)
    layout, params, box_params = context.layout, context.params.tiles, context.params.boxes
    scheme, bands = load_classes(layout.classes), measured_bands(layout, params)
    maskless = [layout.labels_of(source) for source in SOURCES if ENTRIES[source].gives in ("nothing", "tags")]
    maskless += [layout.experts(source) for source in SOURCES if ENTRIES[source].gives == "images"]
    for folder in (layout.tiles, layout.boxes, layout.hidden, layout.validation, *maskless):
        remove_folder(folder)
        folder.mkdir(parents=True)
    with tracked(context, "tiles", params) as log:
        sizes: list[tuple[str, str, int, int]] = []
        tables: list[TagCrops] = []
        boxes: list[BoxTable] = []
        sets, blocks = SetTable(len(scheme)), HoldoutBlocks(params.holdout)
        csv = _csv_tags(layout, params, scheme) if params.tag_source == "csv" else _leave_csv(layout)
        drawn = _drawn_boxes(layout, params, box_params, scheme)
        same = SameImages()
        for split in ("pixel", "tags"):
            for area in getattr(params.areas, split):
                labelled = _needs_mask(layout, area, split)
                partly = labelled and is_partly_labelled(find_raster(layout.labels, area))
                image, mask, valid = load_pair(layout, area, scheme, params.scale, labelled=labelled, bands=bands)
                sizes.append((area, split, *image.shape[:2]))
                same.check(area, split, image)
                save_array(layout.tiles / "images", area, image)
                own = split == "pixel"
                tags = _tags_of(area, mask, valid, csv, params, scheme, always_from_mask=own, partly=partly)
                boxes.append(_boxes_of(area, mask, None if own else drawn, box_params, scheme, partly=partly))
                possible = _possible(boxes[-1], area, mask.shape, box_params, scheme)
                tables.append(
                    _save_tags(layout, area, valid, tags, split, params, mask, possible, sets, blocks, partly=partly)
                )
        labelled_px: dict[str, int] = {}
        for area in params.areas.validation:
            image, mask, _ = load_pair(layout, area, scheme, params.scale, labelled=True, bands=bands)
            if said := same.check(area, "validation", image):
                _say(said)
            labelled_px[area] = int((mask != IGNORE).sum())
            save_array(layout.validation / "images", area, image)
            save_array(layout.validation / "labels", area, mask)
        check_validation(labelled_px)
        _say_places(layout, params)
        save_areas(layout.tiles, sizes)
        for folder in maskless:
            save_areas(folder, [])
        shapes = {area: (height, width) for area, _, height, width in sizes}
        write_boxes(layout.boxes / "boxes.json", join_boxes(boxes), scheme, shapes)
        save_areas(layout.validation, [(area, "validation", 0, 0) for area in params.areas.validation])
        save_array(layout.tiles, SETS, sets.sets)
        crops = join_crops(tables)
        save_manifest(layout.tiles / "manifest.csv", crops, scheme.names)
        for said in describe_unseen(crops, scheme):
            _say(said)
        scheme.save(layout.tiles / "classes.yaml")
        if bands != PLAIN:
            bands.save(layout.tiles / FILE)
        save_gsd(layout.tiles, common_gsd(find_raster(layout.images, area) for area, *_ in sizes))
        log.log_artifact(layout.tiles / "manifest.csv", "tiles")
        log.log_metrics({"tag_crops": float(sum(len(table.ids) for table in tables)), "areas": float(len(sizes))})


def check_validation(labelled: Mapping[str, int]) -> None:
    """Say which validation areas have no pixel with a class, by their labelled px; refuse (DataError) all of them."""
    if not any(labelled.values()):
        raise DataError(
            f"no pixel of validation has a class ({name_few(list(labelled), 'areas')})",
            expected="masks of the validation areas, to score maps on",
            cure="mend data/labels or tiles.areas",
        )
    if sum(labelled.values()) < _FEW:
        _say(f"{sum(labelled.values())} px of validation have a class: scores on so few say little")
    if empty := [area for area, count in labelled.items() if not count]:
        _say(f"no pixel of {name_few(empty, 'areas')} has a class: of validation, they count nowhere")


def _say_places(layout: Layout, params: TilesParams) -> None:
    """Say where areas of the split lie on one ground, or have px of other sizes on it."""
    split = params.areas
    first = read_info(find_raster(layout.images, split.validation[0]))
    if not first.georeferenced:  # the headers of 100,000 pictures need not be read
        return
    files = {area: find_raster(layout.images, area) for area in (*split.pixel, *split.tags, *split.validation)}
    infos = {area: read_info(file) for area, file in files.items()}
    trained = {area: infos[area] for area in (*split.pixel, *split.tags)}
    overlaps = describe_overlaps({area: infos[area] for area in split.validation}, trained)
    for said in filter(None, (overlaps, describe_gsds(files))):
        _say(said)


def _say(text: str) -> None:
    print(f"weakseg: {text}", file=sys.stderr, flush=True)


def measured_bands(layout: Layout, params: TilesParams) -> Bands:
    """The bands of data/bands.yaml with the statistics of N1, and what the areas of the split lack of them.

    Statistics are of the pixels as they are in data/images.
    """
    bands, split = load_bands(layout.data), params.areas
    if bands == PLAIN:
        return bands
    used = (*split.pixel, *split.tags, *split.validation)
    bands = replace(bands, missing={area: bands.missing[area] for area in used if area in bands.missing})
    files = [(area, find_raster(layout.images, area)) for area in split.pixel]
    return measure_bands(bands, ((area, read_bands(file, bands), read_valid(file)) for area, file in files))


def load_pair(
    layout: Layout, area: str, scheme: ClassScheme, scale: float, *, labelled: bool, bands: Bands = PLAIN
) -> tuple[Image, Mask, Valid]:
    """Image (H, W, K), mask and where the image has data, bool, (H, W) each, of an area, resampled.

    Holes of the image have the mean of N1. The mask is 255 where there are no data, and everywhere where ``labelled``
    is False.
    """
    source = find_raster(layout.images, area)
    image, valid = read_filled(source, bands, area), read_valid(source)
    mask = np.full(image.shape[:2], IGNORE, np.uint8)
    if labelled:
        mask = read_mask(find_raster(layout.labels, area), scheme)
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{area}: mask {mask.shape}", expected=f"{image.shape[:2]} like its image", cure="import again"
            )
        check_place(area, source, find_raster(layout.labels, area))
    if scale != 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = resize_image(image, size, how)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        if valid is not None:  # a pixel that is mixed from some without data has none
            valid = cv2.resize(valid.astype(np.float32), size, interpolation=how) > 0.999
    if valid is None:
        return image, mask, np.ones(mask.shape, bool)
    return image, np.where(valid, mask, np.uint8(IGNORE)), valid


def check_place(area: str, image: Path, label: Path) -> None:
    """Refuse (DataError) a mask that says that it lies elsewhere than its image, as no import writes it."""
    here = read_info(image)
    if here.transform is None:
        return
    shift = shift_of(read_info(label), here)
    if not shift <= TOLERANCE:
        raise DataError(
            f"{area}: {label} lies {shift:,.1f} px off {image}",
            expected=f"a mask on the grid of its image, to {TOLERANCE} px",
            cure="import both again",
        )


def find_raster(folder: Path, area: str) -> Path:
    """The one raster file of an area in a folder of data/."""
    found = [path for path in (folder / f"{area}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{folder}: {names} for area {area}",
            expected="exactly one raster",
            cure="correct tiles.areas (`weakseg data split` writes it), or run `weakseg data import`",
        )
    return found[0]


def _needs_mask(layout: Layout, area: str, split: str) -> bool:
    """N1 needs its mask; N2 uses one where there is one (simulated tags, audit, oracle)."""
    return split == "pixel" or any((layout.labels / f"{area}{suffix}").is_file() for suffix in SUFFIXES)


def _csv_tags(layout: Layout, params: TilesParams, scheme: ClassScheme) -> dict[str, Tags]:
    """Tags of the user's CSV per area of N1 and N2; the file may name every area of data/images, and no other."""
    names, sizes = [*params.areas.pixel, *params.areas.tags], raw_sizes(layout)
    rows = read_tags(layout.tags_csv, scheme, sizes)
    tags: dict[str, Tags] = {}
    by_area: dict[str, list[TagWindow]] = {}
    for row in rows:
        by_area.setdefault(row.area, []).append(row)
    for area in names:
        mine = by_area.get(area, [])
        windows = [_scale_window(row.window, params.scale, sizes[area]) for row in mine]
        tags[area] = (windows, *tag_arrays(mine, scheme))
    for said in describe_doubts(rows, params.areas.tags, scheme):
        _say(f"{layout.tags_csv}: {said}")
    if said := describe_contradictions(
        [row for area in params.areas.tags for row in by_area.get(area, [])], sizes, scheme
    ):
        _say(f"{layout.tags_csv}: {said}")
    return tags


def _leave_csv(layout: Layout) -> dict[str, Tags]:
    """No tag of the user's; says so where there is a CSV of them, which ``masks`` leaves unread."""
    if layout.tags_csv.is_file():
        unread = f"{layout.tags_csv} is not read: tags come from the masks of N2, where there are masks"
        _say(f"{unread}; set tiles.tag_source to csv to train on it")
    return {}


def raw_sizes(layout: Layout) -> dict[str, tuple[int, int]]:
    """Height and width of every raster of data/images, px."""
    return raster_sizes(layout.images)


def _drawn_boxes(layout: Layout, params: TilesParams, boxes: BoxesParams, scheme: ClassScheme) -> BoxTable | None:
    """The user's boxes of N2 in px of the resampled areas, or None where they are derived from masks."""
    for name in boxes.classes:
        scheme.index(name)
    if boxes.source == "masks":
        return None
    sizes = raw_sizes(layout)
    table = read_boxes(layout.box_file, scheme, sizes).select(params.areas.tags, boxes.classes)
    return scale_boxes(table, params.scale, sizes)


def _boxes_of(
    area: str, mask: Mask, drawn: BoxTable | None, boxes: BoxesParams, scheme: ClassScheme, *, partly: bool
) -> BoxTable:
    """Boxes of an area: the user's, or derived from its mask (N1 always: its objects are known).

    A mask of part of the area has not been searched for objects: outside the boxes nothing is absent.
    """
    if drawn is not None:
        return drawn.select([area], boxes.classes)
    found = boxes_from_mask(area, mask, scheme, boxes.classes, min_pixels=boxes.min_pixels)
    return BoxTable(found.boxes) if partly else found


def _possible(
    table: BoxTable, area: str, shape: tuple[int, ...], boxes: BoxesParams, scheme: ClassScheme
) -> Allowed | None:
    """The classes that complete boxes leave, where the params want them among the tags."""
    if not boxes.constrain:
        return None
    complete = [name for name in table.searched.get(area, ()) if name in boxes.complete]
    return allowed_by_boxes(shape[0], shape[1], table.of(area), complete, scheme)


def _scale_window(window: tuple[int, int, int, int], scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A window in px of the raw raster -> px of the resampled one; neighbours stay neighbours."""
    row, column, height, width = window
    limits = [max(1, round(length * scale)) for length in size]
    top, bottom = round(row * scale), min(limits[0], round((row + height) * scale))
    left, right = round(column * scale), min(limits[1], round((column + width) * scale))
    if bottom <= top or right <= left:
        raise ParamsError(f"tag window {window} at scale {scale}", expected="a pixel or more", cure="raise tiles.scale")
    return top, left, bottom - top, right - left


def _tags_of(
    area: str,
    mask: Mask,
    valid: Valid,
    csv: dict[str, Tags],
    params: TilesParams,
    scheme: ClassScheme,
    *,
    always_from_mask: bool,
    partly: bool,
) -> Tags:
    """Tags of an area: from the user's CSV, or derived from its mask (N1 always: its tags are known).

    Windows without any image data are left out.
    """
    if area in csv and not always_from_mask:
        windows, present, known = csv[area]
    else:
        windows = window_grid(mask.shape[0], mask.shape[1], params.tag_size)
        present, known = tags_from_mask(
            mask,
            windows,
            len(scheme),
            min_share=params.tag_min_share,
            valid=valid,
            background=scheme.background_index,
            partly=partly,
        )
    seen = np.flatnonzero(valid_pixels(valid, windows))
    return [windows[index] for index in seen], present[seen], known[seen]


def _save_tags(
    layout: Layout,
    area: str,
    valid: Valid,
    tags: Tags,
    split: str,
    params: TilesParams,
    mask: Mask,
    possible: Allowed | None,
    sets: SetTable,
    blocks: HoldoutBlocks,
    *,
    partly: bool,
) -> TagCrops:
    """Write the tag rasters, within the ``possible`` classes, and the masks where they belong.

    Where the image has no data no class is allowed, and no tag crop lies.

    Returns the area's rows of the tile table.
    """
    windows, present, known = tags
    height, width = valid.shape
    allowed = allowed_raster(height, width, windows, present, known)
    allowed = allowed if possible is None else intersect(allowed, possible)
    save_array(layout.tiles / "allowed", area, allowed.but_nothing(~valid).numbered_in(sets))
    save_array(layout.tiles / "windows", area, np.where(valid, window_index(height, width, windows), np.int32(-1)))
    splits = [split] * len(windows)
    if split == "tags":
        save_array(layout.hidden, area, mask)
    else:
        first = labelled_holdout_column(windows, mask, params.holdout) if partly else blocks.first(windows, width)
        train, held = mask.copy(), mask.copy()
        train[:, first:] = IGNORE
        held[:, :first] = IGNORE
        save_array(layout.tiles / "labels", area, train)
        save_array(layout.tiles / "holdout", area, held)
        save_array(layout.tiles / "whole", area, mask)
        splits = ["holdout" if column >= first else "pixel" for _, column, _, _ in windows]
    ids = tuple(f"{area}_{row}_{column}" for row, column, _, _ in windows)
    table = np.array(windows, np.int64).reshape(-1, 4)
    return TagCrops(ids, (area,) * len(windows), tuple(splits), table, present, known)


def join_crops(tables: list[TagCrops]) -> TagCrops:
    """The rows of several areas as one table."""
    return TagCrops(
        tuple(i for table in tables for i in table.ids),
        tuple(a for table in tables for a in table.areas),
        tuple(s for table in tables for s in table.splits),
        np.concatenate([table.windows for table in tables]),
        np.concatenate([table.present for table in tables]),
        np.concatenate([table.known for table in tables]),
    )
