"""Box files of others: COCO JSON and GeoJSON come in right, or with every problem in one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ImportProblems
from weakseg.labels.box_files import import_boxes, read_boxes
from weakseg.labels.box_table import Box
from weakseg.raster.header import RasterInfo

UTM = "EPSG:32632"
PLAIN = RasterInfo(20, 30, 3, "uint8")
WORLD = RasterInfo(20, 30, 3, "uint8", transform=(2.0, 0.0, 100.0, 0.0, -2.0, 500.0))  # 2 m px, no crs


@pytest.fixture(scope="module")
def utm() -> str:
    from rasterio.crs import CRS

    return str(CRS.from_user_input(UTM).to_wkt())


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "rasters/a_RGB.png", "height": 20, "width": 30},
            {"id": 8, "file_name": "b.tif"},
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 3, "name": "tree"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [4, 2, 6, 3], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0.4, 10.2, 5.0, 9.8], "iscrowd": 1},
        ],
    } | changes


def square(left: float, top: float, right: float, bottom: float, **properties: Any) -> dict[str, Any]:
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "properties": {"class": "car"} | properties,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)} | members


def problems_of(tmp_path: Path, content: object, areas: dict[str, RasterInfo], name: str = "x.json") -> list[str]:
    """The problems, with the target untouched."""
    target = tmp_path / "data" / "boxes.json"
    with pytest.raises(ImportProblems) as error:
        import_boxes([save(tmp_path / name, content)], target, ISPRS, areas)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return list(error.value.problems)


def test_coco_boxes(tmp_path: Path) -> None:
    target, areas = tmp_path / "boxes.json", {"a": PLAIN, "b": PLAIN}
    content = coco()
    content["images"][1]["not_exhaustive_category_ids"] = [3]
    found = import_boxes([save(tmp_path / "x.json", content)], target, ISPRS, areas)
    assert found.boxes == (Box("a", 2, 4, 3, 6, "car"), Box("a", 10, 0, 10, 6, "tree", crowd=True))
    assert found.searched == {"a": ("tree", "car"), "b": ("car",)}  # b has no box: none was found there
    assert read_boxes(target, ISPRS, {"a": (20, 30), "b": (20, 30)}).boxes == found.boxes


def test_existing_boxes_are_replaced_only_on_demand(tmp_path: Path) -> None:
    target, source = tmp_path / "boxes.json", save(tmp_path / "x.json", coco())
    target.write_text("kept")
    with pytest.raises(DataError, match="say --replace"):
        import_boxes([source], target, ISPRS, {"a": PLAIN, "b": PLAIN})
    assert target.read_text() == "kept"
    import_boxes([source], target, ISPRS, {"a": PLAIN, "b": PLAIN}, replace=True)
    assert json.loads(target.read_text())["images"]


def test_all_problems_of_a_coco_file_come_at_once(tmp_path: Path) -> None:
    content = coco(
        images=[
            {"id": 7, "file_name": "a.png", "height": 20, "width": 31},
            {"id": 8, "file_name": "lost.tif"},
            {"id": 9},
            {"id": 7, "file_name": "b.tif"},
        ],
        categories=[{"id": 1, "name": "car"}, {"id": 2, "name": "lorry"}],
        annotations=[
            {"image_id": 7, "category_id": 1, "bbox": [4, 2, 6]},
            {"image_id": 7, "category_id": 1, "bbox": [4, 2, 0, 3]},
            {"image_id": 7, "category_id": 1, "bbox": [28, 2, 9, 3]},
            {"image_id": 7, "category_id": 1, "bbox": [1, 2, "3", None]},
        ],
    )
    text = "\n".join(problems_of(tmp_path, content, {"a": PLAIN, "b": PLAIN}))
    for part in (
        *("categories lorry; expected classes of", "image 0: a.png of 20x31 px, its raster has 20x30"),
        *("image 1: lost.tif is no image", "image 2: no id or file_name", "image 3: area b or id 7 twice"),
        *("annotation 0: bbox [4, 2, 6] is not four numbers", "annotation 1: box x 4.0 to 4.0"),
        *("annotation 2: box x 28.0 to 37.0, y 2.0 to 5.0 leaves", "annotation 3: bbox [1, 2, '3', None]"),
    ):
        assert part in text


def test_annotations_of_nothing_and_repeats(tmp_path: Path) -> None:
    twice = {"image_id": 8, "category_id": 1, "bbox": [1, 1, 2, 2]}
    text = problems_of(
        tmp_path, coco(annotations=[{"image_id": 5, "category_id": 1}, twice, twice]), {"a": PLAIN, "b": PLAIN}
    )
    assert text == [
        f"{tmp_path / 'x.json'}: annotation 0: image 5 or category 1 is not listed",
        "area b: box (1, 1, 2, 2) of car 2 times",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "neither GeoJSON nor COCO"),
        ('{"type": "Feature"}', "neither GeoJSON nor COCO"),
        ('{"images": 1, "annotations": [], "categories": []}', "images is not a list of objects"),
        ('{"images": [], "annotations": [3], "categories": []}', "annotations is not a list of objects"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "categories is not a list of objects"),
        ('{"images": [], "annotations": [], "categories": []}', "no box"),
        ('{"type": "FeatureCollection", "features": 3}', "features is not a list"),
        ('{"type": "FeatureCollection", "features": [3]}', "feature 0: no object"),
        ("\xff", "not JSON"),
        (
            json.dumps(coco() | {"images": [{"id": 7, "file_name": "a", "not_exhaustive_category_ids": 3}]}),
            "is no list",
        ),
    ],
)
def test_files_that_are_no_boxes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ImportProblems, match=message):
        import_boxes([tmp_path / "x.json"], tmp_path / "data" / "boxes.json", ISPRS, {"a": PLAIN})
    assert not (tmp_path / "data").exists()


def test_a_folder_and_a_missing_path(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.geojson", collection(square(1, 2, 4, 5)))
    save(tmp_path / "in" / "b.geojson", collection())
    (tmp_path / "in" / "notes.txt").write_text("no box")
    found = import_boxes([tmp_path / "in"], tmp_path / "t.json", ISPRS, {"a": PLAIN, "b": PLAIN})
    assert found.boxes == (Box("a", 2, 1, 3, 3, "car"),)
    assert found.searched == {"a": ("car",), "b": ()}
    with pytest.raises(ImportProblems, match="no box file"):
        import_boxes([tmp_path / "nowhere"], tmp_path / "u.json", ISPRS, {})


# ---- GeoJSON --------------------------------------------------------------------------------------------------------


def test_geojson_in_pixels_map_units_and_degrees(tmp_path: Path, utm: str) -> None:
    from rasterio.warp import transform

    ground = RasterInfo(20, 30, 3, "uint8", utm, (0.5, 0.0, 500000.0, 0.0, -0.5, 5400000.0))
    xs, ys = transform(UTM, "OGC:CRS84", [500002.0, 500005.0], [5399999.0, 5399997.5])
    found = import_boxes(
        [
            save(tmp_path / "plain.geojson", collection(square(4, 2, 10, 5))),
            save(tmp_path / "world.geojson", collection(square(108, 496, 120, 490, crowd=True))),
            save(tmp_path / "degrees.geojson", collection(square(xs[0], ys[0], xs[1], ys[1]))),
            save(
                tmp_path / "metres.geojson",
                collection(
                    square(500002, 5399999, 500005, 5399997.5, label="tree", **{"class": None}),
                    crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}},
                ),
            ),
        ],
        tmp_path / "t.json",
        ISPRS,
        {"plain": PLAIN, "world": WORLD, "ground": ground},
    )
    same = (2, 4, 3, 6)
    by_area = {(box.area, box.name): box for box in found.boxes}
    assert by_area["plain", "car"].window == same
    assert by_area["world", "car"] == Box("world", *same, "car", crowd=True)
    assert by_area["ground", "tree"].window == same  # neither name nor property: its place says which area
    degrees = by_area["ground", "car"]
    for found_px, wanted_px in zip(degrees.window, same, strict=True):
        assert abs(found_px - wanted_px) <= 1  # degrees are not quite parallel to the grid


def test_geojson_hulls_are_cut_at_the_rim(tmp_path: Path) -> None:
    ring = [[-5, 5], [3, -5], [8, 2], [2, 8], [-5, 5]]
    feature = {
        "properties": {"category": "building", "area": "world"},
        "geometry": {"type": "MultiPolygon", "coordinates": [[[[100 + 2 * x, 500 - 2 * y] for x, y in ring]]]},
    }
    found = import_boxes(
        [save(tmp_path / "x.geojson", collection(feature, areas=["plain"], classes=["car"]))],
        tmp_path / "t.json",
        ISPRS,
        {"plain": PLAIN, "world": WORLD},
    )
    assert found.boxes == (Box("world", 0, 0, 8, 8, "building"),)
    assert found.searched == {"plain": ("building", "car"), "world": ("building", "car")}


def test_all_problems_of_a_geojson_file_come_at_once(tmp_path: Path, utm: str) -> None:
    ground = RasterInfo(20, 30, 3, "uint8", utm, (0.5, 0.0, 500000.0, 0.0, -0.5, 5400000.0))
    point = {"properties": {"class": "car", "area": "plain"}, "geometry": {"type": "Point", "coordinates": [1, 2]}}
    content = collection(
        square(4, 2, 10, 5, **{"class": "lorry"}),
        square(4, 2, 10, 5, area="nowhere"),
        square(4, 2, 10, 5),
        point,
        point | {"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3]]]}},
        point | {"geometry": {"type": "Polygon", "coordinates": []}},
        square(25, 2, 40, 5, area="plain"),
        square(500002, 5399999, 500005, 5399997.5, area="ground"),
        point | {"geometry": {"type": "MultiPolygon", "coordinates": [3]}},
        point | {"geometry": {"type": "Polygon", "coordinates": [[]]}},
        areas=["moon", {}],
    )
    text = "\n".join(problems_of(tmp_path, content, {"plain": PLAIN, "ground": ground}))
    for part in (
        *(
            "feature 0: class 'lorry'; expected a property class of",
            "feature 1: area 'nowhere'",
            "feature 2: in no raster",
        ),
        *("feature 3: geometry Point", "feature 4: a corner that is none", "feature 5: geometry Polygon"),
        *("feature 6: box x 25.0 to 40.0, y 2.0 to 5.0 leaves", "feature 7:", "areas names 'moon'"),
        *("feature 8: a corner that is none", "feature 9: no corners", "areas names '{}'"),
    ):
        assert part in text


def test_a_crs_that_nobody_knows(tmp_path: Path, utm: str) -> None:
    ground = RasterInfo(20, 30, 3, "uint8", utm, (0.5, 0.0, 500000.0, 0.0, -0.5, 5400000.0))
    content = collection(square(1, 2, 3, 4, area="ground"), crs={"properties": {"name": "EPSG:999999999"}})
    assert "in EPSG:999999999 (" in problems_of(tmp_path, content, {"ground": ground})[0]
