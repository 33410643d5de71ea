"""The commands that use a model: what lies in the folder afterwards."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest
import rasterio
from rio_cogeo import cog_validate
from tests.inference.test_mosaic import scene
from tests.inference.test_predict import UTM, model_file, picture, save
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.maps.cog import is_cog


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "m.pt")


def test_a_single_map_is_cloud_optimized_with_its_legend(tmp_path: Path, model: Path) -> None:
    image = save(tmp_path / "a.tif", picture(70, 90), **UTM)
    words = ("predict", image, tmp_path / "maps" / "a.tif", "--model", model, "--confidence", tmp_path / "maps/c.tif")
    run(*words)
    names = {"a.tif", "c.tif", "a.tif.aux.xml", "a.qml", "a.clr", "a.stac.json"}
    assert {path.name for path in (tmp_path / "maps").iterdir()} == names
    assert all(cog_validate(tmp_path / "maps" / name)[0] for name in ("a.tif", "c.tif"))
    with rasterio.open(tmp_path / "maps" / "a.tif") as file:
        assert file.tags()["CLASS_1"] == ISPRS.names[1]
    assert " 0 windows" in run(*words), "a map that is there stays"
    run(*words, "--no-cog", "--no-resume")
    assert not is_cog(tmp_path / "maps" / "a.tif")


def test_maps_of_a_folder_are_plain_unless_asked(tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        save(tmp_path / "in" / name, picture(40, 50), **UTM)
    run("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    assert not is_cog(tmp_path / "out" / "a.tif")
    run("predict", tmp_path / "in", tmp_path / "out", "--model", model, "--cog")
    assert is_cog(tmp_path / "out" / "a.tif")
    assert (tmp_path / "out" / "b.qml").is_file()


def test_a_map_on_another_grid_is_predicted_again(tmp_path: Path, model: Path) -> None:
    image = save(tmp_path / "a.tif", picture(70, 90), **UTM)
    words = ("predict", image, tmp_path / "o.tif", "--model", model, "--crs", "EPSG:3035", "--res", "2")
    run(*words)
    with rasterio.open(tmp_path / "o.tif") as file:
        assert (file.crs, file.res) == ("EPSG:3035", (2, 2))
    assert " 0 windows" not in run(*words)


def test_a_map_becomes_polygons(tmp_path: Path, model: Path) -> None:
    image, target = save(tmp_path / "a.tif", picture(70, 90), **UTM), tmp_path / "o.tif"
    words = ("--confidence", tmp_path / "c.tif")
    run("predict", image, target, "--model", model, *words, "--polygons", tmp_path / "o.gpkg")
    first = geopandas.read_file(tmp_path / "o.gpkg")
    assert "polygons" in run("polygons", target, tmp_path / "o.parquet", *words)
    again = geopandas.read_parquet(tmp_path / "o.parquet")
    assert again.equals(first)
    assert list(first.columns) == ["value", "name", "area_m2", "confidence", "geometry"]
    run("polygons", target, tmp_path / "all.fgb", "--min-area", "0", "--tolerance", "0", "--min-gap", "3")
    assert len(geopandas.read_file(tmp_path / "all.fgb")) >= len(first)


def test_scenes_become_a_mosaic_on_another_grid(tmp_path: Path, model: Path) -> None:
    layers = picture(70, 90)
    scene(tmp_path / "in" / "a.tif", layers[:, :, :50])
    scene(tmp_path / "in" / "b.tif", layers[:, :, 30:], column=30)
    words = ("--mosaic", "--model", model, "--confidence", tmp_path / "c", "--crs", "EPSG:3035", "--res", "2")
    run("predict", tmp_path / "in", tmp_path / "out", *words, "--polygons", tmp_path / "o.gpkg")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a.tif", "b.tif", "mosaic.tif", "mosaic.vrt", "mosaic.qml", "mosaic.stac.json"} <= names
    with rasterio.open(tmp_path / "out" / "mosaic.tif") as file:
        assert (file.crs, file.res) == ("EPSG:3035", (2, 2))
    with rasterio.open(tmp_path / "out" / "mosaic.vrt") as file:
        assert (file.crs, file.shape) == ("EPSG:32632", (70, 90))
    frame = geopandas.read_file(tmp_path / "o.gpkg")
    assert (frame.crs, frame["area_m2"].sum()) == ("EPSG:3035", pytest.approx(70 * 90, rel=0.08))
    refused = CliRunner().invoke(app, ["predict", str(tmp_path / "in" / "a.tif"), "x.tif", "--mosaic", "--model", "m"])
    assert "--mosaic with one raster" in str(refused.exception)
