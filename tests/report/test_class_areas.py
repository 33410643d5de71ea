"""`weakseg areas` from a map, polygons and the confusion, to a table: values by hand, and what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import geopandas
import numpy as np
import pytest
from rasterio import Affine
from shapely import Point, box
from tests.generators.plain_rasters import save_raster
from tests.report.conftest import make_page
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError, StageError
from weakseg.evaluation.metrics import scores_of, to_json
from weakseg.evaluation.reports import EvaluationReport
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_bands
from weakseg.report.class_areas import WHOLE, measure_areas, read_reference, write_csv, write_json
from weakseg.report.gather import read_measured
from weakseg.report.render import render_page

NAMES = ("road", "tree")
SCHEME = ClassScheme(NAMES, ((0, 0, 0), (0, 255, 0)))
PIXEL = (2 / 0.9996) ** 2  # m2 of a px of 2 m on the central meridian of UTM
UTM = {"crs": "EPSG:25832", "transform": Affine(2, 0, 500_000, 0, -2, 5_400_000)}
EAST, NORTH = 500_000, 5_400_000


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    """100 x 100 px: road in the left 40 columns, tree in the others, the last row without data."""
    source = inspect_source(save_raster(tmp_path / "image.tif", np.zeros((3, 100, 100), np.uint8), **UTM), None)
    classes = np.broadcast_to((np.arange(100) >= 40).astype(np.uint8), (1, 100, 100)).copy()
    classes[0, 99] = 255
    tags = {f"CLASS_{index}": name for index, name in enumerate(NAMES)}
    write_bands(tmp_path / "map.tif", [classes], source, names=["class"], classes=SCHEME, tags=tags)
    return tmp_path / "map.tif"


@pytest.fixture
def districts(tmp_path: Path) -> Path:
    """West: 20 x 10 px of road. Middle: 20 road, 20 tree columns of 10 rows. South: half off the map."""
    shapes = [
        box(EAST, NORTH - 20, EAST + 40, NORTH),
        box(EAST + 40, NORTH - 20, EAST + 120, NORTH),
        box(EAST, NORTH - 398, EAST + 20, NORTH),
    ]
    frame = geopandas.GeoDataFrame({"name": ["West", "Middle", "South"]}, geometry=shapes, crs="EPSG:25832")
    frame.to_crs("EPSG:4326").to_file(tmp_path / "districts.gpkg", driver="GPKG")
    return tmp_path / "districts.gpkg"


def report(path: Path, *confusions: list[list[int]], names: tuple[str, ...] = NAMES) -> Path:
    """reports/evaluate/SOURCE.json of as many validation areas."""
    matrices = [np.array(confusion) for confusion in confusions]
    pooled = scores_of(sum(matrices), names)  # type: ignore[arg-type]
    content = {
        **pooled,
        "classes": names,
        "areas": {f"a{i}": {**scores_of(matrix, names), "confusion": matrix} for i, matrix in enumerate(matrices)},
        "validation_data": "x",
    }
    EvaluationReport.model_validate(content)
    path.write_text(json.dumps(to_json(content)))
    return path


def test_mapped_areas_without_a_reference(map_file: Path) -> None:
    found = measure_areas(map_file)
    assert [(row.zone, row.name) for row in found.rows] == [(WHOLE, "road"), (WHOLE, "tree")]
    np.testing.assert_allclose([row.mapped for row in found.rows], [99 * 40 * PIXEL, 99 * 60 * PIXEL], rtol=1e-5)
    assert math.isnan(found.rows[0].adjusted)
    assert found.notes == ("Areas are those of the map; pass --errors to correct them for its errors.",)


def test_districts_in_another_crs(map_file: Path, districts: Path) -> None:
    found = measure_areas(map_file, districts, name="name")
    mapped = {(row.zone, row.name): row.mapped / PIXEL for row in found.rows}
    for zone, (road, tree) in {"West": (200, 0), "Middle": (200, 200), "South": (990, 0)}.items():
        assert (mapped[zone, "road"], mapped[zone, "tree"]) == pytest.approx((road, tree), rel=1e-4)
    assert found.covered["West"] == pytest.approx(1, abs=2e-3)
    assert found.covered["South"] == pytest.approx(99 / 199, abs=2e-3)


def test_corrected_by_the_validation_areas(map_file: Path, tmp_path: Path) -> None:
    """Of road on the map 8 of 10 are road in each of two areas, of tree all are: no spread, so no interval around."""
    errors = report(tmp_path / "pixel.json", [[8, 0], [2, 10]], [[16, 0], [4, 20]])
    road, tree = measure_areas(map_file, errors=errors).rows
    assert road.adjusted == pytest.approx(0.8 * road.mapped)
    assert tree.adjusted == pytest.approx(tree.mapped + 0.2 * road.mapped)
    assert (road.error, road.low, road.high) == pytest.approx((0, road.adjusted, road.adjusted))


def test_corrected_by_points_in_another_order_of_classes(map_file: Path, tmp_path: Path) -> None:
    """Rows truth, columns map: 20 points mapped as road, 5 of them tree; 30 mapped as tree, all tree."""
    (tmp_path / "points.csv").write_text("truth,tree,road\ntree,30,5\nroad,0,15\n")
    road, tree = measure_areas(map_file, errors=tmp_path / "points.csv").rows
    assert road.adjusted == pytest.approx(0.75 * road.mapped)
    share = 0.4 * math.sqrt(0.75 * 0.25 / 19)
    assert road.error == pytest.approx(share * (road.mapped + tree.mapped))
    assert road.high == pytest.approx(road.adjusted + 1.959964 * road.error)


def test_a_zone_with_a_class_that_the_reference_never_saw_is_not_corrected(
    map_file: Path, districts: Path, tmp_path: Path
) -> None:
    (tmp_path / "points.csv").write_text("truth,road,tree\nroad,9,0\ntree,1,0\n")
    found = measure_areas(map_file, districts, errors=tmp_path / "points.csv", name="name")
    by_zone = {row.zone: row for row in found.rows if row.name == "road"}
    assert by_zone["West"].adjusted == pytest.approx(0.9 * by_zone["West"].mapped)
    assert math.isnan(by_zone["Middle"].adjusted)
    assert "Middle: not corrected, the reference has nothing that was mapped as tree" in found.notes


def test_the_command_writes_csv_and_json(map_file: Path, districts: Path, tmp_path: Path) -> None:
    errors = report(tmp_path / "pixel.json", [[9, 1], [1, 10]], [[16, 0], [4, 20]])
    table, record = tmp_path / "t.csv", tmp_path / "r.json"
    words = ["areas", str(map_file), str(districts), "--name", "name", "--errors", str(errors)]
    done = CliRunner().invoke(app, [*words, "--csv", str(table), "--json", str(record)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 8
    west = next(row for row in rows if (row["zone"], row["class"]) == ("West", "road"))
    assert float(west["mapped_m2"]) == pytest.approx(200 * PIXEL, rel=1e-4)
    assert float(west["mapped_ha"]) == pytest.approx(200 * PIXEL / 1e4, abs=1e-4)
    assert float(west["low_m2"]) < float(west["adjusted_m2"]) < float(west["high_m2"])
    content = json.loads(record.read_text())
    assert [zone["zone"] for zone in content["zones"]] == [WHOLE, "West", "Middle", "South"]
    assert content["zones"][1]["classes"][0]["adjusted"] == pytest.approx(float(west["adjusted_m2"]), abs=1e-3)
    assert "South: the map covers 50% of it" in done.output


def test_undefined_numbers_are_empty(map_file: Path, tmp_path: Path) -> None:
    found = measure_areas(map_file)
    write_csv(tmp_path / "t.csv", found)
    write_json(tmp_path / "r.json", found, map_file=map_file, errors=None)
    assert next(csv.DictReader((tmp_path / "t.csv").open()))["adjusted_m2"] == ""
    assert json.loads((tmp_path / "r.json").read_text())["zones"][0]["classes"][0]["adjusted"] is None


def test_references_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "px.csv").write_text("truth,road,tree\nroad,90000,0\ntree,1,20000\n")
    with pytest.raises(DataError, match=r"counts 110001 units; .* pass reports/evaluate/SOURCE\.json"):
        read_reference(tmp_path / "px.csv", NAMES)
    (tmp_path / "odd.csv").write_text("truth,road,tree\nroad,1,x\ntree,1,2\n")
    with pytest.raises(DataError, match="is no confusion matrix"):
        read_reference(tmp_path / "odd.csv", NAMES)
    (tmp_path / "other.csv").write_text("truth,road,water\nroad,1,1\nwater,1,2\n")
    with pytest.raises(StageError, match="has classes road, water; expected road, tree"):
        read_reference(tmp_path / "other.csv", NAMES)
    with pytest.raises(StageError, match="has classes road, water"):
        read_reference(report(tmp_path / "o.json", [[1, 0], [0, 1]], names=("road", "water")), NAMES)
    with pytest.raises(DataError, match="neither JSON nor CSV"):
        read_reference(tmp_path / "x.xlsx", NAMES)


def test_polygons_that_are_none(map_file: Path, districts: Path, tmp_path: Path) -> None:
    frame = geopandas.read_file(districts)
    with pytest.raises(DataError, match="has no column 'nom'; expected one of name"):
        measure_areas(map_file, districts, name="nom")
    frame.assign(name="A").to_file(tmp_path / "twice.gpkg")
    with pytest.raises(DataError, match="'A' more than once"):
        measure_areas(map_file, tmp_path / "twice.gpkg", name="name")
    frame.set_crs(None, allow_override=True).to_file(tmp_path / "bare.gpkg")
    with pytest.raises(DataError, match=r"bare\.gpkg has no CRS"):
        measure_areas(map_file, tmp_path / "bare.gpkg")
    geopandas.GeoDataFrame(geometry=[Point(0, 0)], crs="EPSG:25832").to_file(tmp_path / "points.gpkg")
    with pytest.raises(DataError, match="holds Point; expected polygons"):
        measure_areas(map_file, tmp_path / "points.gpkg")
    with pytest.raises(DataError, match="a vector file that GDAL reads"):
        measure_areas(map_file, tmp_path / "none.gpkg")


def test_a_raster_without_class_names_is_no_map(tmp_path: Path) -> None:
    plain = save_raster(tmp_path / "p.tif", np.zeros((1, 9, 9), np.uint8), **UTM)
    with pytest.raises(DataError, match="does not name its classes"):
        measure_areas(plain)


def test_the_page_shows_the_areas(map_file: Path, tmp_path: Path) -> None:
    errors = report(tmp_path / "pixel.json", [[9, 1], [1, 10]], [[16, 0], [4, 20]])
    found = measure_areas(map_file, errors=errors)
    write_json(tmp_path / "areas.json", found, map_file=map_file, errors=errors)
    text = render_page(make_page(measured=read_measured(tmp_path / "areas.json")))
    assert 'id="areas"' in text
    assert f"{found.rows[0].low / 1e4:.4g} to {found.rows[0].high / 1e4:.4g}" in text
    assert 'id="areas"' not in render_page(make_page())
    assert read_measured(tmp_path / "none.json") is None
    (tmp_path / "areas.json").write_text('{"map": 1}')
    with pytest.raises(StageError, match="no table of areas"):
        read_measured(tmp_path / "areas.json")
