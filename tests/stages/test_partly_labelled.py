"""N1 that people have labelled in part, 255 elsewhere: what nobody has drawn is unknown, from the tiles to the map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from tests.bit_sets import bits_of
from tests.labels.test_layer_tags import write
from tests.stages.test_no_data import edit, run, slim

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.data.holdout_blocks import labelled_holdout_column
from weakseg.data.importing.drawn import import_drawn
from weakseg.data.manifest import load_manifest
from weakseg.data.store import open_allowed, open_array
from weakseg.evaluation.holdout import require_blocks
from weakseg.labels.box_files import read_boxes
from weakseg.labels.tag_table import read_tags
from weakseg.pipeline.workspace import describe_tags, write_mask_boxes, write_mask_tags
from weakseg.raster.open import read_mask
from weakseg.raster.write import write_raster

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
ROAD, BUILDING, TREE, CAR = (ISPRS.index(name) for name in ("impervious_surface", "building", "tree", "car"))


@pytest.fixture
def partly(workspace: Path) -> Layout:
    """p1: one crop of 16 px whole and parts of three others; p2: a polygon in one column of crops alone."""
    shapes = {
        "p1": [
            ((0, 0, 16, 16), "tree"),
            ((20, 4, 24, 8), "car"),
            ((36, 20, 44, 28), "building"),
            ((50, 2, 52, 6), "car"),
        ],
        "p2": [((2, 2, 10, 40), "impervious_surface")],
    }
    for area, boxes in shapes.items():
        rows = [(shapely.box(*box), {"class": name, "area": area}) for box, name in boxes]
        file = write(workspace / f"{area}.geojson", rows, None)
        import_drawn(workspace, [file], replace=True)
    slim(workspace)
    return Layout(workspace)


def test_tags_boxes_and_the_holdout_know_what_was_drawn_and_no_more(partly: Layout) -> None:
    edit(partly.root, boxes__constrain=True)
    run(partly.root, "tiles")
    crops = load_manifest(partly.tiles / "manifest.csv", ISPRS.names)
    mine = crops.select(area="p1")
    said = {tuple(window[:2]): i for i, window in enumerate(mine.windows.tolist()) if mine.known[i].any()}
    assert list(said) == [(0, 0), (0, 16), (0, 48), (16, 32)]
    whole = said[0, 0]  # labelled throughout: all other classes are absent
    assert (mine.present[whole].tolist(), mine.known[whole].all()) == ([False, False, False, True, False], True)
    for place, index in (((0, 16), CAR), ((16, 32), BUILDING), ((0, 48), CAR)):
        assert np.flatnonzero(mine.present[said[place]]).tolist() == [index]
        assert np.flatnonzero(mine.known[said[place]]).tolist() == [index]
    allowed = bits_of(open_allowed(partly.tiles, "p1"))
    assert (allowed[:16, :16] == 1 << TREE).all()
    assert (allowed[16:] == 0b11111).all()  # no box says that there is no car
    boxes = read_boxes(
        partly.boxes / "boxes.json", ISPRS, {"p1": (64, 64), "p2": (64, 64), "t1": (64, 64), "t2": (64, 64)}
    )
    assert "p1" not in {area for area, names in boxes.searched.items() if names}
    assert {box.window for box in boxes.of("p1") if box.name == "car"} == {(4, 20, 4, 4), (2, 50, 4, 2)}


def test_the_block_of_the_holdout_has_labels_on_both_sides_or_is_none(partly: Layout) -> None:
    """p1: 256 + 16 + 64 + 8 px; a quarter is 86: from column 32 on there are 72, from 16 on 88."""
    run(partly.root, "tiles")
    held = np.asarray(open_array(partly.tiles / "holdout", "p1"))
    train = np.asarray(open_array(partly.tiles / "labels", "p1"))
    assert (np.count_nonzero(held != IGNORE), np.count_nonzero(train != IGNORE)) == (88, 256)
    assert (held[:, :16] == IGNORE).all()
    assert (np.asarray(open_array(partly.tiles / "holdout", "p2")) == IGNORE).all()  # one column cannot be split
    assert np.count_nonzero(np.asarray(open_array(partly.tiles / "labels", "p2")) != IGNORE) == 8 * 38


def test_the_column_nearest_to_the_share_by_hand() -> None:
    windows = [(0, column, 2, 2) for column in (0, 2, 4, 6)]
    mask = np.full((2, 8), IGNORE, np.uint8)
    mask[:, :5] = 0  # 10 px: 6 right of column 2, 2 right of column 4, none right of column 6
    assert labelled_holdout_column(windows, mask, 0.25) == 4
    assert labelled_holdout_column(windows, mask, 0.5) == 2
    assert labelled_holdout_column(windows, mask, 0.0) == 8
    assert labelled_holdout_column(windows, np.full((2, 8), IGNORE, np.uint8), 0.25) == 8


def test_without_any_block_what_chooses_on_it_says_why(partly: Layout) -> None:
    (partly.labels / "p1.tif").write_bytes((partly.labels / "p2.tif").read_bytes())
    run(partly.root, "tiles")
    with pytest.raises(StageError, match=r"no hold-out in N1; .* an area with labels in two columns of tag crops"):
        require_blocks(partly.tiles)


def test_all_stages_run_on_areas_that_are_labelled_in_part(partly: Layout) -> None:
    for stage in ("tiles", "classifier", "cam", "single_stage"):
        run(partly.root, stage)
    run(partly.root, "segment", "pixel")
    run(partly.root, "teacher")
    run(partly.root, "evaluate", "pixel")
    report = json.loads((partly.reports / "evaluate" / "pixel.json").read_text())
    assert 0 <= report["miou"] <= 1 if "miou" in report else report


def test_tags_and_boxes_derived_from_such_masks_say_no_more_either(partly: Layout) -> None:
    write_mask_tags(partly.root, size=16, min_share=0.0)
    rows = {(row.area, row.window): row for row in read_tags(partly.tags_csv, ISPRS)}
    assert rows["p1", (0, 0, 16, 16)].unknown == ()
    assert rows["p1", (0, 16, 16, 16)].present == ("car",)
    assert rows["p1", (0, 16, 16, 16)].unknown == ISPRS.names[:4]
    assert not rows["p1", (48, 48, 16, 16)].tagged
    write_mask_boxes(partly.root, ("car",), min_pixels=1, replace=False)
    sizes = dict.fromkeys(("p1", "p2", "t1", "t2", "v1"), (64, 64))
    assert read_boxes(partly.box_file, ISPRS, sizes).searched.get("p1", ()) == ()
    assert "presence rate" in describe_tags(partly.root, min_share=0.0)
    for area in ("t1", "t2", "v1"):
        (partly.labels / f"{area}.tif").unlink()
    with pytest.raises(DataError, match="an area that is labelled throughout"):
        describe_tags(partly.root, min_share=0.0)


def test_a_mask_without_the_mark_keeps_its_meaning(workspace: Path) -> None:
    """255 of other masks is what is of no class, such as clutter: there other classes are absent."""
    path = workspace / "data" / "labels" / "p1.tif"
    mask = np.full((64, 64), IGNORE, np.uint8)
    mask[:8, :8] = TREE
    write_raster(path, mask, colours=ISPRS)
    with rasterio.open(path) as file:
        assert "WEAKSEG_LABELLED" not in file.tags()
    run(workspace, "tiles")
    crops = load_manifest(Layout(workspace).tiles / "manifest.csv", ISPRS.names).select(area="p1")
    assert crops.known[0].all()
    assert np.array_equal(read_mask(path, ISPRS), mask)
