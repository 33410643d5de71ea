"""Crops for the programs that people use: tasks of Label Studio with pictures, or a layer for QGIS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from weakseg.core.bands import load_bands
from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.files import atomic_path
from weakseg.core.layout import Layout
from weakseg.labels.answers import Crop
from weakseg.labels.crop_layer import CropRow, write_crop_layer
from weakseg.labels.crop_order import read_order
from weakseg.labels.label_studio_tasks import chip_task, labelling_config, scene_task
from weakseg.labels.opinions import Opinion, known_states
from weakseg.labels.picture_names import chip_name
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.raster.header import read_info
from weakseg.raster.open import read_bands
from weakseg.raster.write import write_raster
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.proposals import find_image, nothing_to_tag, propose_crops
from weakseg.tagging.run import NONE, open_guesser

TARGETS: Final = ("label-studio", "qgis")
_LOCAL: Final = "/data/local-files/?d="
_PATIENCE: Final = 600.0  # s, until a network is loaded
_MOST: Final = 100_000_000  # px of a scene as one picture

Pictures = Literal["chips", "scenes"]


@dataclass(frozen=True)
class HandOut:
    """What is handed out.

    Attributes:
        kind: of :data:`TARGETS`.
        order: a CSV of crops; None: all rows of tags.csv, or where there is none the crops that `weakseg tag` shows.
        model: whose guesses are shown where nothing is known: an address, "auto", or "none".
        pictures: "chips", a picture per crop, or "scenes", a picture per area with the crops as rectangles.
        prefix: of the pictures' addresses; None: Label Studio's local files, with their folder in its root.
    """

    kind: str
    order: Path | None = None
    model: str = NONE
    pictures: Pictures = "chips"
    prefix: str | None = None


def export_tags(root: Path, target: Path, how: HandOut) -> str:
    """Write crops with what is known of them; returns what was written and what to do with it.

    Raises:
        ParamsError: a kind that is none.
        DataError: no crops, a bad order, or a scene that is too large for one picture.
    """
    if how.kind not in TARGETS:
        raise ParamsError(f"--to {how.kind}", expected=f"one of {', '.join(TARGETS)}", cure="mend it")
    layout = Layout(root)
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    rows = read_tags(layout.tags_csv, scheme, sizes) if layout.tags_csv.is_file() else []
    known = {(row.area, row.window): _states(known_states(row, scheme), scheme) for row in rows}
    crops = list(read_order(how.order, sizes, scheme)) if how.order is not None else list(known)
    if how.order is not None and not crops:
        raise nothing_to_tag(f"no crop in {how.order}")
    crops = crops or list(propose_crops(root).crops)
    guesses, model = _guess(root, [crop for crop in crops if not known.get(crop)], how.model, scheme, sizes)
    table = [CropRow(crop, known.get(crop, {}), guesses.get(crop, {})) for crop in crops]
    if how.kind == "qgis":
        areas = {area: read_info(find_image(layout.images, area)) for area in dict.fromkeys(crop[0] for crop in crops)}
        write_crop_layer(target, table, areas, scheme)
        return (
            f"wrote {len(table)} crops to {target}; open it in QGIS, fill is_CLASS, then `weakseg data tags {target}`"
        )
    return _tasks(layout, target, table, scheme, sizes, model, how)


def _states(known: Opinion, scheme: ClassScheme) -> Opinion:
    """States of a row of the table with unknown classes as None; none at all of a row without tags.

    Where no object is present the background is: else an annotation would say nothing.
    """
    if not known:
        return {}
    states = {name: known.get(name) for name in scheme.object_names}
    nothing = all(state is False for state in states.values())
    return states | ({scheme.background: True} if scheme.background and nothing else {})


def _guess(
    root: Path, crops: Sequence[Crop], model: str, scheme: ClassScheme, sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[Crop, dict[str, float]], str]:
    """Guesses by crop, and the name of the model."""
    layout = Layout(root)
    pictures = CropPictures(layout.images, sizes, root / ".weakseg" / "overviews")
    guesser, file = open_guesser(root, model, pictures, scheme.object_names) if crops else (None, None)
    if guesser is None or file is None:
        return {}, ""
    found = dict(zip(crops, guesser.guess(crops, patience=_PATIENCE), strict=True))
    if guesser.fault:
        raise DataError(f"{file} guesses nothing ({guesser.fault})", expected="a model", cure="say --model none")
    return found, f"{file.parent.name}/{file.name} {guesser.digest[:12]}"


def _tasks(
    layout: Layout,
    target: Path,
    table: Sequence[CropRow],
    scheme: ClassScheme,
    sizes: Mapping[str, tuple[int, int]],
    model: str,
    how: HandOut,
) -> str:
    if target.suffix.lower() != ".json":
        raise DataError(f"{target}", expected="a name that ends in .json", cure="rename it")
    folder, config = target.with_suffix(""), target.with_suffix(".xml")
    prefix = f"{_LOCAL}{quote(folder.name)}/" if how.prefix is None else how.prefix
    if how.pictures == "chips":
        tasks = [chip_task(row, prefix + _chip(layout, folder, row.crop), sizes[row.crop[0]], model) for row in table]
    else:
        areas = dict.fromkeys(row.crop[0] for row in table)
        rows = {area: [row for row in table if row.crop[0] == area] for area in areas}
        tasks = [
            scene_task(mine, prefix + _scene(layout, folder, area, sizes[area]), sizes[area], model)
            for area, mine in rows.items()
        ]
    with atomic_path(config) as temporary:
        temporary.write_text(labelling_config(scheme, regions=how.pictures == "scenes"), encoding="utf-8")
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return (
        f"wrote {len(tasks)} tasks of {len(table)} crops to {target}, pictures to {folder}/; "
        f"paste {config} into the project's labelling interface, serve {folder}/ as local files, import the tasks, "
        f"and export as JSON: then `weakseg data tags EXPORT.json`"
    )


def _chip(layout: Layout, folder: Path, crop: Crop) -> str:
    """Write the picture of a crop; returns its name in an address."""
    name = f"{chip_name(crop)}.png"
    bands = load_bands(layout.data)
    pixels = read_bands(find_image(layout.images, crop[0]), bands, window=crop[1])
    write_raster(folder / name, bands.picture(pixels))
    return quote(name)


def _scene(layout: Layout, folder: Path, area: str, size: tuple[int, int]) -> str:
    if size[0] * size[1] > _MOST:
        raise DataError(
            f"{area} of {size[0]}x{size[1]} px",
            expected=f"at most {_MOST} px as one picture",
            cure="say --pictures chips",
        )
    bands = load_bands(layout.data)
    write_raster(folder / f"{area}.png", bands.picture(read_bands(find_image(layout.images, area), bands)))
    return quote(f"{area}.png")
