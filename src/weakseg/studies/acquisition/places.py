"""What could be labelled next in a workspace, and what is labelled: crops of all images but the validation areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import Params
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import Crop
from weakseg.labels.box_files import read_boxes
from weakseg.labels.opinions import Opinion, decide, known_states, opinions_of
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.labels.tags import TagWindow, window_grid
from weakseg.tagging.proposals import choose_areas, free_windows

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Places:
    """Crops of images, labelled or not; they are what is looked at, and what labels are about.

    Attributes:
        crops: P of them.
        asked: bool (P, C), classes of which a tag of the crop would tell; none where it has its tag, or may get none.
        tagged: bool (P,), all classes are known by a tag.
        drawn: bool (P,), pixels are labelled (N1).
        boxed: bool (P, C), classes whose objects are known: pixels are labelled, or the image was searched for boxes.
        images: those that have no pixel labels, with the crops of each by index.
        sizes: height and width by area, px, of all rasters of data/images.
    """

    crops: tuple[Crop, ...]
    asked: Bools
    tagged: Bools
    drawn: Bools
    boxed: Bools
    images: Mapping[str, npt.NDArray[np.intp]]
    sizes: Mapping[str, tuple[int, int]]


def find_places(layout: Layout, params: Params, areas: Sequence[str], size: int | None) -> Places:
    """All places of a workspace: grids of tag crops over N1 and what has no pixel labels, and the rows of tags.csv.

    Args:
        areas: restricts what is proposed; without it tags are proposed for N2, boxes and pixels for every image that is
            neither of N1 nor of the validation areas.
        size: side of the crops, px of the raster; that of params.yaml without it.

    Raises:
        ParamsError: an area of validation, which must stay unseen, or of N1, which has its labels.
        DataError: no images, an unknown area, a bad table.
    """
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    if not sizes:
        raise DataError(f"no images in {layout.images}", expected="imported images", cure="run `weakseg data import`")
    split = params.tiles.areas
    if taken := [area for area in areas if area in {*split.validation, *split.pixel}]:
        raise ParamsError(
            f"--areas {', '.join(taken)}, of validation or N1 by params.yaml",
            expected="areas that are to be labelled for training",
            cure="name others: N1 has its labels, and validation areas must stay unseen",
        )
    open_images = [area for area in sizes if area not in {*split.validation, *split.pixel}]
    chosen = choose_areas(sizes, params, areas)[0] if areas else open_images
    asked_for = {*chosen} if areas else {*(area for area in split.tags if area in sizes)} or {*open_images}
    known = _known(layout, scheme, sizes, [*split.pixel, *open_images])
    side = size or max(1, round(params.tiles.tag_size / params.tiles.scale))
    n1 = [(area, window) for area in split.pixel if area in sizes for window in window_grid(*sizes[area], side)]
    grids = {area: [(area, window) for window in window_grid(*sizes[area], side)] for area in chosen}
    open_to_tags = {crop for area in chosen if area in asked_for for crop in _to_tag(area, grids[area], known, scheme)}
    crops = list(dict.fromkeys([*n1, *(crop for grid in grids.values() for crop in grid), *known]))
    place = {crop: index for index, crop in enumerate(crops)}
    asked, tagged, drawn = (
        np.zeros((len(crops), len(scheme)), bool),
        np.zeros(len(crops), bool),
        np.zeros(len(crops), bool),
    )
    for crop, index in place.items():
        unknown = np.array([name not in known.get(crop, {}) for name in scheme.names])
        asked[index] = unknown if crop in open_to_tags else False
        tagged[index] = not unknown.any()
        drawn[index] = crop[0] in split.pixel
    boxed = _boxed(layout, params, scheme, sizes, crops) | drawn[:, None]
    images = {area: np.array([place[crop] for crop in grid], np.intp) for area, grid in grids.items()}
    return Places(tuple(crops), asked, tagged, drawn, boxed, images, sizes)


def _known(
    layout: Layout, scheme: ClassScheme, sizes: Mapping[str, tuple[int, int]], areas: Sequence[str]
) -> dict[Crop, Opinion]:
    """What the tag table and the answers that are not yet in it say of crops in these areas."""
    rows: list[TagWindow] = read_tags(layout.tags_csv, scheme, sizes) if layout.tags_csv.is_file() else []
    known = {(row.area, row.window): known_states(row, scheme) for row in rows}
    for crop, by_annotator in opinions_of(read_answers(layout.answers, scheme)).items():
        said: Opinion = {name: state for name, state in decide(by_annotator).items() if state is not None}
        known[crop] = known.get(crop, {}) | said
    here = set(areas)
    return {crop: states for crop, states in known.items() if crop[0] in here}


def _to_tag(area: str, grid: Sequence[Crop], known: Mapping[Crop, Opinion], scheme: ClassScheme) -> list[Crop]:
    """The crops that `weakseg tag` would serve: those known in part, and what of the grid overlaps no known crop."""
    mine = {window for name, window in known if name == area}
    partly = [(area, window) for window in mine if len(known[area, window]) < len(scheme)]
    return [*partly, *((area, window) for window in free_windows([w for _, w in grid], area, mine, ()))]


def _boxed(
    layout: Layout,
    params: Params,
    scheme: ClassScheme,
    sizes: Mapping[str, tuple[int, int]],
    crops: Sequence[Crop],
) -> Bools:
    """bool (P, C): classes that the image of a crop was searched for, by data/boxes/boxes.json."""
    found = np.zeros((len(crops), len(scheme)), bool)
    if not (params.boxes.classes and layout.box_file.is_file()):
        return found
    searched = read_boxes(layout.box_file, scheme, dict(sizes)).searched
    for index, (area, _) in enumerate(crops):
        for name in searched.get(area, ()):
            found[index, scheme.index(name)] = True
    return found
