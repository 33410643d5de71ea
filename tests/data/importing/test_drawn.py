"""Layers drawn in a GIS program become masks of part of an area, as it is typed; and what trains on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from tests.labels.test_layer_tags import ground, write
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, ImportProblems, WeaksegError
from weakseg.data.importing.drawn import import_drawn
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_image, read_mask
from weakseg.raster.partial import PARTLY, is_partly_labelled
from weakseg.raster.write import write_raster

PLACE = (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_000_000.0)
UTM = CRS.from_epsg(32632).to_wkt()
TREE, CAR, ROAD = (ISPRS.index(name) for name in ("tree", "car", "impervious_surface"))


@pytest.fixture
def placed(workspace: Path) -> Path:
    """t1 at PLACE, t2 32 m to its east, both without a mask."""
    for number, area in enumerate(("t1", "t2")):
        image = workspace / "data" / "images" / f"{area}.tif"
        place = (*PLACE[:2], PLACE[2] + 32 * number, *PLACE[3:])
        write_raster(image, read_image(image), RasterInfo(64, 64, 3, "uint8", UTM, place))
        (workspace / "data" / "labels" / f"{area}.tif").unlink()
    return workspace


def mask_of(root: Path, area: str) -> np.ndarray[Any, Any]:
    return read_mask(root / "data" / "labels" / f"{area}.tif", ISPRS)


def test_polygons_become_masks_with_255_elsewhere(placed: Path) -> None:
    rows = [
        (ground(shapely.box(0, 0, 10, 10)), {"class": "tree"}),
        (ground(shapely.box(10, 0, 20, 10)), {"class": "car"}),
        (ground(shapely.box(60, 20, 70, 30)), {"class": "impervious_surface"}),  # in t1 and in t2
        (ground(shapely.box(300, 0, 310, 9)), {"class": "tree"}),  # in neither
        (ground(shapely.box(30.6, 30.6, 31.4, 31.4)), {"class": "tree"}),  # smaller than a px
    ]
    file = write(placed / "drawn.gpkg", rows)
    result = CliRunner().invoke(app, ["--root", str(placed), "data", "masks", str(file)], catch_exceptions=False)
    assert result.output.splitlines() == [
        "t1: 5.9% labelled: impervious_surface 40 px, tree 100 px, car 100 px",
        "t2: 1.5% labelled: impervious_surface 60 px",
        f"note: {file}: 1 polygon(s) outside the images skipped",
        "note: t1: 1 polygon(s) smaller than a px label nothing (tree)",
        f"look at {placed}/out/sheets/import.png: does every mask lie on its image?",
    ]
    expected = np.full((64, 64), IGNORE, np.uint8)
    expected[:10, :10], expected[:10, 10:20], expected[20:30, 60:] = TREE, CAR, ROAD
    assert np.array_equal(mask_of(placed, "t1"), expected)
    info = read_info(placed / "data" / "labels" / "t1.tif")
    assert (info.transform, info.nodata) == (PLACE, IGNORE)
    assert is_partly_labelled(placed / "data" / "labels" / "t1.tif")
    assert not is_partly_labelled(placed / "data" / "labels" / "p1.tif")


def test_masks_that_are_there_stay_unless_they_are_given_up(placed: Path) -> None:
    file = write(placed / "drawn.gpkg", [(ground(shapely.box(0, 0, 10, 10)), {"class": "tree"})])
    import_drawn(placed, [file])
    file.unlink()
    write(file, [(ground(shapely.box(0, 0, 10, 10)), {"class": "car"})])
    with pytest.raises(DataError, match="has masks of t1; expected areas without a mask; say --replace"):
        import_drawn(placed, [file])
    assert (mask_of(placed, "t1")[:10, :10] == TREE).all()
    import_drawn(placed, [file], replace=True)
    assert (mask_of(placed, "t1")[:10, :10] == CAR).all()


def test_names_of_the_layer_can_be_mapped_and_left_out(placed: Path) -> None:
    rows = [
        (ground(shapely.box(0, 0, 10, 10)), {"kind": "Baum"}),
        (ground(shapely.box(0, 0, 10, 10)), {"kind": "sonst"}),
        (ground(shapely.box(20, 20, 30, 30)), {"kind": "clutter"}),
    ]
    (placed / "map.yaml").write_text("Baum: tree\nsonst: null\n")
    drawn = import_drawn(placed, [write(placed / "a.geojson", rows)], field="kind", names=placed / "map.yaml")
    assert drawn.said == (
        "t1: 2.4% labelled: tree 100 px",
        f"note: {placed}/a.geojson: 1 polygon(s) left out by the map",
    )
    assert (mask_of(placed, "t1")[20:30, 20:30] == IGNORE).all()


def test_another_crs_and_rasters_without_a_place(placed: Path) -> None:
    from rasterio.warp import transform

    corners = shapely.get_coordinates(ground(shapely.box(8, 2, 24, 14)))
    degrees = shapely.Polygon(list(zip(*transform("EPSG:32632", "EPSG:4326", *corners.T), strict=True)))
    import_drawn(placed, [write(placed / "a.geojson", [(degrees, {"class": "tree"})], None)])
    expected = np.full((64, 64), IGNORE, np.uint8)
    expected[2:14, 8:24] = TREE
    assert np.array_equal(mask_of(placed, "t1"), expected)
    (placed / "data" / "labels" / "p1.tif").unlink()
    shape = shapely.box(8, -14, 24, -2)  # as QGIS shows a picture without a place: up from zero
    import_drawn(placed, [write(placed / "p1.geojson", [(shape, {"class": "tree"})], "EPSG:32632")])
    assert np.array_equal(mask_of(placed, "p1"), expected)


@pytest.mark.parametrize(
    ("rows", "crs", "words"),
    [
        ([(shapely.box(0, 0, 9, 9), {"class": "tree"})], None, "no CRS; expected one, as the rasters have one"),
        ([(ground(shapely.box(900, 0, 910, 9)), {"class": "tree"})], "EPSG:32632", "all 1 polygons lie outside"),
        ([(ground(shapely.Point(1, 1)), {"class": "tree"})], "EPSG:32632", "expected a Polygon or MultiPolygon"),
        ([(ground(shapely.box(0, 0, 9, 9)), {"class": "Baum"})], "EPSG:32632", "classes 'Baum'"),
        ([(ground(shapely.box(0, 0, 9, 9)), {"size": "4"})], "EPSG:32632", "columns size; expected one with the class"),
        (
            [(ground(shapely.box(0, 0, 9, 9)), {"class": name}) for name in ("tree", "car")],
            "EPSG:32632",
            "t1: 81 px in polygons of car and of tree, first at row 0, column 0",
        ),
        ([(ground(shapely.box(0.6, 0.6, 0.9, 0.9)), {"class": "tree"})], "EPSG:32632", "no polygon in an area"),
    ],
)
@pytest.mark.filterwarnings("ignore:.crs. was not provided")
def test_layers_that_cannot_be_drawn_are_refused_whole(
    placed: Path, rows: list[tuple[Any, dict[str, Any]]], crs: str | None, words: str
) -> None:
    with pytest.raises(ImportProblems, match=words):
        import_drawn(placed, [write(placed / "a.gpkg", rows, crs)])
    assert not (placed / "data" / "labels" / "t1.tif").exists()


def test_an_order_of_classes_is_typed_with_commas(placed: Path) -> None:
    rows = [(ground(shapely.box(0, 0, 9, 9)), {"class": name}) for name in ("tree", "car")]
    words = ["--root", str(placed), "data", "masks", str(write(placed / "a.gpkg", rows))]
    assert CliRunner().invoke(app, [*words, "--on-top", "car, tree"]).exit_code == 0
    assert (mask_of(placed, "t1")[:9, :9] == CAR).all()
    result = CliRunner().invoke(app, [*words, "--replace", "--on-top", "lorry"])
    assert isinstance(result.exception, WeaksegError)


@pytest.mark.parametrize("said", ["by the file", "by the option", "by nobody"])
def test_an_import_of_masks_of_part_of_an_area_keeps_that(workspace: Path, tmp_path: Path, said: str) -> None:
    """By a layer drawn in another workspace, whose file says so, or by an option for files of other programs."""
    labels = tmp_path / "labels"
    mask = np.full((64, 64), IGNORE, np.uint8)
    mask[:9, :9] = TREE
    tags = PARTLY if said == "by the file" else None
    write_raster(labels / "p1.tif", mask, colours=ISPRS, tags=tags)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "p1.tif").write_bytes((workspace / "data" / "images" / "p1.tif").read_bytes())
    words = ["data", "import", str(tmp_path / "images"), str(labels)]
    option = ["--partly-labelled"] if said == "by the option" else []
    CliRunner().invoke(app, ["--root", str(tmp_path / "new"), *words, *option], catch_exceptions=False)
    target = tmp_path / "new" / "data" / "labels" / "p1.tif"
    assert is_partly_labelled(target) is (said != "by nobody")
    assert np.array_equal(read_mask(target, ISPRS), mask)
