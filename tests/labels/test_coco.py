"""COCO files of CVAT, Label Studio and Roboflow: ids, categories, names, sizes, crowds, outlines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.classes import ISPRS
from weakseg.core.errors import ImportProblems
from weakseg.labels.box_files import ImportedBoxes, import_boxes
from weakseg.labels.box_table import Box
from weakseg.raster.header import RasterInfo

AREAS = {name: RasterInfo(20, 30, 3, "uint8") for name in ("area1", "b")}
SIZE = {"height": 20, "width": 30}
CAR = {"id": 1, "name": "car"}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 2, 6, 3]}


def coco(**changes: Any) -> dict[str, Any]:
    return {"images": [{"id": 1, "file_name": "area1.png"} | SIZE], "categories": [CAR], "annotations": [BOX]} | changes


def read(tmp_path: Path, content: dict[str, Any], **options: Any) -> ImportedBoxes:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    return import_boxes([path], tmp_path / "boxes.json", ISPRS, AREAS, replace=True, **options)


def refusal(tmp_path: Path, content: dict[str, Any], **options: Any) -> str:
    with pytest.raises(ImportProblems) as error:
        read(tmp_path, content, **options)
    return str(error.value)


HERE = (Box("area1", 2, 4, 3, 6, "car"),)


# ---- ids ------------------------------------------------------------------------------------------------------------


def test_ids_may_be_texts_or_numbers(tmp_path: Path) -> None:
    images = [{"id": "1", "file_name": "area1.png", "not_exhaustive_category_ids": ["2"]}]
    categories = [{"id": "1", "name": "car"}, {"id": 2.0, "name": "tree"}]
    found = read(tmp_path, coco(images=images, categories=categories, annotations=[BOX | {"category_id": 1.0}]))
    assert found.boxes == HERE
    assert found.searched == {"area1": ("car",)}


def test_ids_that_mean_two_things_are_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, coco(categories=[CAR, {"id": "1", "name": "tree"}]))
    assert "categories: id 1 twice" in text
    images = [{"id": 1, "file_name": "area1.png"}, {"id": 2, "file_name": "area1_png.rf.77.jpg"}]
    assert "image 1: area area1 or id 2 twice; expected one; export without augmented copies" in refusal(
        tmp_path, coco(images=images)
    )
    assert "categories is not a list of objects with id and name" in refusal(
        tmp_path, coco(categories=[{"id": None, "name": "car"}])
    )


# ---- categories -----------------------------------------------------------------------------------------------------

TREE = [{"id": 0, "name": "roofs", "supercategory": "none"}, {"id": 1, "name": "car", "supercategory": "roofs"}]


def test_an_unused_root_category_is_skipped(tmp_path: Path) -> None:
    found = read(tmp_path, coco(categories=TREE))
    assert found.boxes == HERE
    assert found.searched == {"area1": ("car",)}
    assert "category 'roofs', above others and without annotations, skipped" in found.notices[0]


def test_a_root_with_a_name_of_the_scheme_was_not_searched_for(tmp_path: Path) -> None:
    """Else the class would be absent from every image: nobody drew it, because it is the project's name."""
    categories = [{"id": 0, "name": "tree"}, {"id": 1, "name": "car", "supercategory": "tree"}]
    assert read(tmp_path, coco(categories=categories)).searched == {"area1": ("car",)}
    used = read(tmp_path, coco(categories=categories, annotations=[BOX, BOX | {"category_id": 0}]))
    assert used.searched == {"area1": ("tree", "car")}


def test_a_root_with_annotations_is_asked_for(tmp_path: Path) -> None:
    content = coco(categories=TREE, annotations=[BOX, BOX | {"category_id": 0}])
    assert "categories roofs; expected classes of" in refusal(tmp_path, content)
    assert "(--skip-classes roofs)" in refusal(tmp_path, content)
    found = read(tmp_path, content, skip_classes=["roofs"])
    assert found.boxes == HERE
    assert found.notices == ("1 of roofs left out",)


def test_a_skipped_class_of_the_scheme_was_not_searched_for(tmp_path: Path) -> None:
    found = read(tmp_path, coco(categories=[CAR, {"id": 2, "name": "tree"}]), skip_classes=["tree"])
    assert found.searched == {"area1": ("car",)}


def test_two_categories_of_one_class(tmp_path: Path) -> None:
    categories = [CAR, {"id": 2, "name": "car"}]
    annotations = [BOX, BOX | {"category_id": 2, "bbox": [20, 10, 5, 5]}]
    content = coco(categories=categories, annotations=annotations)
    assert read(tmp_path, content).boxes == (*HERE, Box("area1", 10, 20, 5, 5, "car"))
    content["images"][0]["not_exhaustive_category_ids"] = [2]
    assert read(tmp_path, content).searched == {"area1": ()}


# ---- names of images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        {"file_name": "area1.png"},
        {"file_name": "images\\area1_RGB.tif"},
        {"file_name": "IMG_area1.jpg"},
        {"file_name": "IMG_area1_jpg.rf.3f2a7c0db1e94c5.jpg"},
        {"file_name": "area1_png.rf.3f2a7c0db1e94c5.jpg", "extra": {"name": "area1.png"}},
        {"file_name": "area1_png.rf.3f2a7c0db1e94c5.jpg"},
        {"file_name": "train/area1_tif.rf.AbC09.jpg"},
        {"file_name": "anything.rf.00.jpg", "extra": {"name": "area1.png"}},
        {"file_name": "0a1b2c3d-area1.png"},
        {"file_name": "images/1/0a1b2c3d-area1.png"},
        {"file_name": "images\\1\\0a1b2c3d-area1.png"},
        {"file_name": "/data/upload/1/0a1b2c3d-area1.png"},
        {"file_name": "http://localhost:8080/data/upload/1/0a1b2c3d-area1.png?token=a.b"},
        {"file_name": "/data/local-files/?d=tiles/area1.png"},
        {"file_name": "s3://bucket/tiles/%61rea1.png"},
    ],
)
def test_renamed_files_are_found(tmp_path: Path, image: dict[str, Any]) -> None:
    assert read(tmp_path, coco(images=[{"id": 1} | image])).boxes == HERE


def test_a_name_of_two_rasters_is_refused_and_its_own_comes_first(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "area1_png.rf.77.jpg", "extra": {"name": "b.png"}}
    assert "area1_png.rf.77.jpg is area1 or b; expected one image" in refusal(tmp_path, coco(images=[image]))
    own = {"id": 1, "file_name": "b.png", "extra": {"name": "area1.png"}}
    assert read(tmp_path, coco(images=[own])).boxes == (Box("b", 2, 4, 3, 6, "car"),)
    lost = {"id": 1, "file_name": "0a1b2c3d-lost.png"}
    assert "0a1b2c3d-lost.png is no image of data/images; expected one of area1, b" in refusal(
        tmp_path, coco(images=[lost])
    )


def test_accents_are_the_same_however_they_are_encoded(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(coco(images=[{"id": 1, "file_name": "Mu\u0308nchen.png"}])))
    found = import_boxes([path], tmp_path / "boxes.json", ISPRS, {"M\u00fcnchen": AREAS["b"]})
    assert found.boxes[0].area == "M\u00fcnchen"


@pytest.mark.parametrize("size", [(10, 15), (30, 20), ("20", 31), (None, 30)])
def test_another_size_is_refused_with_both(tmp_path: Path, size: tuple[Any, Any]) -> None:
    image = {"id": 1, "file_name": "area1.png", "height": size[0], "width": size[1]}
    text = refusal(tmp_path, coco(images=[image]))
    assert f"area1.png of {size[0]}x{size[1]} px, its raster has 20x30 (height x width)" in text
    assert "Roboflow: without Resize" in text


def test_sizes_as_texts_are_sizes(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "area1.png", "height": "20", "width": 30.0}
    assert read(tmp_path, coco(images=[image])).boxes == HERE


# ---- crowds ---------------------------------------------------------------------------------------------------------

RUNS = {"size": [20, 30], "counts": [4 * 20 + 2, 3, 17, 3, 600 - 105]}  # columns 4 and 5, rows 2 to 4
MASKED = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": RUNS, "bbox": [4, 2, 2, 3]}


def test_run_lengths_with_iscrowd_are_regions_and_a_sentence_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, coco(annotations=[MASKED]))
    assert found.boxes == (Box("area1", 2, 4, 3, 2, "car", crowd=True),)
    assert "1 annotation(s) with iscrowd or ignore are read as regions" in found.notices[0]
    assert "say --single-objects" in found.notices[0]


def test_run_lengths_with_iscrowd_are_objects_when_told(tmp_path: Path) -> None:
    found = read(tmp_path, coco(annotations=[MASKED]), single_objects=True)
    assert found.boxes == (Box("area1", 2, 4, 3, 2, "car"),)
    assert found.notices == ()
    ignored = read(tmp_path, coco(annotations=[BOX | {"iscrowd": 1, "ignore": 1}]), single_objects=True)
    assert ignored.boxes[0].crowd


@pytest.mark.parametrize(("value", "crowd"), [("0", False), ("1", True), (False, False), (None, False)])
def test_flags_may_be_texts(tmp_path: Path, value: Any, crowd: bool) -> None:
    assert [box.crowd for box in read(tmp_path, coco(annotations=[BOX | {"iscrowd": value}])).boxes] == [crowd]
    assert "iscrowd 3; expected 0 or 1" in refusal(tmp_path, coco(annotations=[BOX | {"iscrowd": 3}]))


# ---- boxes and outlines ---------------------------------------------------------------------------------------------

POLYGON = [[4.5, 2.0, 9.5, 2.5, 9.0, 5.0], [20, 10, 22.5, 10, 22, 12]]  # one object in two pieces


@pytest.mark.parametrize(
    ("segmentation", "window"),
    [
        (POLYGON, (2, 4, 10, 19)),
        (POLYGON[0], (2, 4, 3, 6)),
        (RUNS, (2, 4, 3, 2)),
        ({"size": [20, 30], "counts": "b23a00n>"}, (2, 4, 3, 2)),
    ],
)
@pytest.mark.parametrize("bbox", [{}, {"bbox": None}, {"bbox": []}])
def test_a_box_comes_from_the_outline_where_it_is_missing(
    tmp_path: Path, segmentation: Any, window: tuple[int, ...], bbox: dict[str, Any]
) -> None:
    row = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation} | bbox
    assert [box.window for box in read(tmp_path, coco(annotations=[row])).boxes] == [window]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "bbox None is not four numbers [x, y, width, height]; expected them, or a segmentation"),
        ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "bbox [0.1, 0.2, 0.3, 0.4], fractions of the image; expected px"),
        ({"bbox": [20, 12, 28, 18]}, "x 20.0 to 48.0, y 12.0 to 30.0 leaves its raster of 30x20 px"),
        ({"bbox": [4, 2, 10, 5], "segmentation": [[4, 2, 10, 2, 10, 5]]}, "[4, 2, 10, 5], whose segmentation spans"),
        ({"bbox": [1, 1, 4, 4], "segmentation": [[4, 2, 10, 2, 10, 5]]}, "whose segmentation spans x 4.0 to 10.0"),
        ({"segmentation": RUNS | {"size": [30, 20]}}, "run lengths of 20x30 px (width x height); expected 30x20 px"),
        ({"segmentation": [[1, 2, 3]]}, "a segmentation that is none"),
        ({"segmentation": [[25, 2, 40, 2, 40, 5]]}, "leaves its raster of 30x20 px"),
    ],
)
def test_boxes_that_cannot_be_are_refused_with_their_place(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    text = refusal(tmp_path, coco(annotations=[BOX, {"id": 2, "image_id": 1, "category_id": 1} | row]))
    assert "annotation 1: " in text
    assert message in text


def test_a_looser_box_than_the_outline_stays(tmp_path: Path) -> None:
    row = BOX | {"bbox": [3, 1, 9, 7], "segmentation": [[4, 2, 10, 2, 10, 5]]}
    assert read(tmp_path, coco(annotations=[row])).boxes[0].window == (1, 3, 7, 9)


def test_a_turned_box_of_cvat_is_enclosed(tmp_path: Path) -> None:
    """12 x 4 px about (15, 10): upright at 90 degrees, and 16 / sqrt 2 = 11.3 px wide and high at 45."""
    row = BOX | {"bbox": [9, 8, 12, 4], "segmentation": []}
    for turn, window in ((0.0, (8, 9, 4, 12)), (90.0, (4, 13, 12, 4)), (45.0, (4, 9, 12, 12))):
        found = read(tmp_path, coco(annotations=[row | {"attributes": {"rotation": turn}}]))
        assert found.boxes[0].window == window


# ---- property: what was drawn, or a refusal -------------------------------------------------------------------------

RENAMED = ("area1.png", "area1_png.rf.3f2a7c0d.jpg", "images/1/0a1b2c3d-area1.png", "set\\area1_RGB.tif")
STYLES = ("bbox", "polygon", "counts", "both", "corners", "fractions")


def annotate(style: str, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    """A rectangle in px as programs write it; the last two are wrong."""
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if style == "counts":
        mask = np.zeros((20, 30), bool)
        mask[int(y) : int(y + h), int(x) : int(x + w)] = True
        flat = np.concatenate([[False], mask.T.ravel()])
        ends = [*np.flatnonzero(flat[1:] != flat[:-1]).tolist(), 600]
        return {"segmentation": {"size": [20, 30], "counts": np.diff([0, *ends]).tolist()}, "iscrowd": 1}
    return {
        "bbox": {"bbox": [x, y, w, h], "segmentation": []},
        "polygon": {"segmentation": outline},
        "both": {"segmentation": outline, "bbox": [x, y, w, h]},
        "corners": {"segmentation": outline, "bbox": [x, y, x + w, y + h]},
        "fractions": {"segmentation": outline, "bbox": [x / 30, y / 20, w / 30, h / 20]},
    }[style]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(3, 20), st.floats(3, 12), st.floats(2, 9), st.floats(2, 7)), min_size=1, max_size=4),
    st.lists(st.sampled_from(STYLES), min_size=4, max_size=4),
    st.sampled_from(RENAMED),
    st.sampled_from((int, str, float)),
    st.booleans(),
    st.booleans(),
)
def test_boxes_are_what_was_drawn(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[float, float, float, float]],
    styles: list[str],
    name: str,
    kind: type,
    whole: bool,
    root: bool,
) -> None:
    rows, wanted = [], []
    for (x, y, w, h), style in zip(drawn, styles, strict=False):
        if whole or style == "counts":
            x, y, w, h = int(x), int(y), int(w), int(h)
        rows.append({"image_id": kind(1), "category_id": 1, **annotate(style, x, y, w, h)})
        top, left = int(np.floor(y + 1e-3)), int(np.floor(x + 1e-3))
        bottom, right = int(np.ceil(y + h - 1e-3)), int(np.ceil(x + w - 1e-3))
        wanted.append((top, left, bottom - top, right - left))
    categories = [{"id": kind(1), "name": "car", "supercategory": "cars"}]
    categories += [{"id": kind(0), "name": "cars", "supercategory": "none"}] if root else []
    content = coco(images=[{"id": 1, "file_name": name} | SIZE], categories=categories, annotations=rows)
    folder = tmp_path_factory.mktemp("drawn")
    if {"corners", "fractions"} & set(styles[: len(rows)]) or len(set(wanted)) < len(wanted):
        refusal(folder, content, single_objects=True)
        return
    found = read(folder, content, single_objects=True)
    assert [box.window for box in found.boxes] == wanted
    assert found.searched == {"area1": ("car",)}
