"""Rasters and names that `predict` took and should not have: maps for images, other scales, files that were there."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import box
from tests.inference.test_mosaic import scene
from tests.inference.test_predict import CPU, UTM, model_file, picture, predictor, save
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.options import COARSEST, FINEST, Options, choose_scale
from weakseg.inference.predict import predict_mosaic, predict_rasters
from weakseg.inference.run import run_predictor
from weakseg.raster.stream import inspect_source


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["predict", *(str(word) for word in words)])
    return done.output if done.exit_code == 0 else str(done.exception)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "m.pt", gsd=0.09)


def test_a_map_and_its_layers_are_no_images(tmp_path: Path, model: Path) -> None:
    """A map has a palette and was read by its colours; of three classes the probabilities are three bands of 8 bits."""
    image, target = save(tmp_path / "a.tif", picture(40, 50), **UTM), tmp_path / "maps" / "a.tif"
    run(image, target, "--model", model, "--confidence", tmp_path / "maps" / "c.tif")
    for made in (target, tmp_path / "maps" / "c.tif"):
        assert "a map that weakseg predicted, or a layer of one" in run(made, tmp_path / "o.tif", "--model", model)
    run(image, target, "--model", model, "--crs", "EPSG:3035")  # without the identity, which a moved map has not
    assert "a map that weakseg predicted" in run(target, tmp_path / "o.tif", "--model", model)
    save(tmp_path / "maps" / "b.tif", picture(40, 50), **UTM)
    with pytest.raises(DataError, match=r"maps/a\.tif: a map .*keep maps out of the folder"):
        predict_rasters(model, str(tmp_path / "maps"), tmp_path / "out", machine=CPU, options=Options())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("factor", "taken"),
    [(COARSEST * 0.99, True), (COARSEST * 1.02, False), (100, False), (0.99 / FINEST, False), (1.02 / FINEST, True)],
)
def test_px_of_quite_another_size_are_refused_unless_they_are_meant(tmp_path: Path, factor: float, taken: bool) -> None:
    """300 m of px of .3 m became a grid of 12,800 px a side; px of mm a map of one px."""
    side = 0.3 * factor
    path = save(tmp_path / "a.tif", picture(20, 20), crs="EPSG:25832", transform=from_origin(5e5, 5.8e6, side, side))
    source = inspect_source(path, None)
    if taken:
        assert choose_scale(predictor(gsd=0.3), source, "auto") == pytest.approx(factor, rel=1e-3)
    else:
        word = "coarser" if factor > 1 else "finer"
        with pytest.raises(DataError, match=rf"{word} than the 0\.3 m of the training.*--gsd resample if it is meant"):
            choose_scale(predictor(gsd=0.3), source, "auto")
    assert choose_scale(predictor(gsd=0.3), source, "resample") == pytest.approx(factor, rel=1e-3)
    assert choose_scale(predictor(gsd=0.3), source, "ignore") == 1


def test_px_that_are_not_square_on_the_ground_are_said(tmp_path: Path, model: Path) -> None:
    degrees = from_origin(9, 52, 1e-6, 1e-6)
    image = save(tmp_path / "a.tif", picture(30, 30), crs="EPSG:4326", transform=degrees)
    said = run(image, tmp_path / "o.tif", "--model", model)
    assert "px of the raster are 0.0687 m across and 0.111 m down: things look stretched" in said
    square = save(tmp_path / "b.tif", picture(30, 30), **UTM)
    assert "stretched" not in run(square, tmp_path / "p.tif", "--model", model)


def test_a_raster_without_data_is_said(tmp_path: Path, model: Path) -> None:
    image = save(tmp_path / "a.tif", picture(30, 30) * 0, nodata=0, **UTM)
    assert "no pixel of the raster has data, so all of the map is 255" in run(
        image, tmp_path / "o.tif", "--model", model
    )
    full = save(tmp_path / "b.tif", picture(30, 30), **UTM)
    for _ in range(2):  # also of a map that is there
        assert "no pixel" not in run(full, tmp_path / "p.tif", "--model", model)


@pytest.mark.parametrize("kind", ["mask", "text"])
def test_what_is_no_map_is_not_written_over(tmp_path: Path, kind: str) -> None:
    source = inspect_source(save(tmp_path / "a.tif", picture(40, 40), **UTM), None)
    taken = tmp_path / "mask.tif"
    if kind == "mask":
        save(taken, picture(40, 40, 1), **UTM)
    else:
        taken.write_text("notes")
    before = taken.read_bytes()
    for target, options in ((taken, Options()), (tmp_path / "o.tif", Options(confidence=taken))):
        with pytest.raises(ParamsError, match=r"mask\.tif is there and is no map of weakseg"):
            run_predictor(predictor(), source, target, options)
    assert taken.read_bytes() == before
    assert not (tmp_path / "o.tif").exists()


def test_a_mosaic_is_not_cut_over_its_own_scenes(tmp_path: Path) -> None:
    """OUT being IN, the parts of the map took the names of the scenes and replaced them."""
    file, layers = model_file(tmp_path / "m.pt"), picture(60, 120)
    scenes = [
        scene(tmp_path / "in" / "a.tif", layers[:, :, :60]),
        scene(tmp_path / "in" / "b.tif", layers[:, :, 60:], column=60),
    ]
    before = [path.read_bytes() for path in scenes]
    for where, target in ((tmp_path / "in", tmp_path / "in"), (tmp_path / "in" / "*.tif", tmp_path / "in")):
        said = run(where, target, "--mosaic", "--model", file)
        assert "is a scene; expected a new file; choose another name or folder" in said
    assert [path.read_bytes() for path in scenes] == before
    masks = tmp_path / "masks"
    scene(masks / "a.tif", layers[:1, :, :60])
    with pytest.raises(ParamsError, match=r"masks/a\.tif is there and is no map"):
        predict_mosaic(file, str(tmp_path / "in"), masks / "mosaic.tif", machine=CPU, options=Options())
    for _ in range(2):  # its own parts it makes anew
        assert "mosaic.tif: " in run(tmp_path / "in", tmp_path / "out", "--mosaic", "--model", file)


def test_an_area_out_of_reach_and_a_px_larger_than_the_map_are_refused(tmp_path: Path, model: Path) -> None:
    image, target = save(tmp_path / "a.tif", picture(40, 50), **UTM), tmp_path / "o.tif"
    area = tmp_path / "area.geojson"
    metres = geopandas.GeoSeries([box(497000, 5419990, 497005, 5420000)], crs="EPSG:4326")  # GeoJSON without a crs
    area.write_text(metres.to_json(drop_id=True, to_wgs84=False))
    said = run(image, target, "--model", model, "--area", area)
    assert "area.geojson lies outside of" in said
    assert "names none counts degrees" in said
    for words in (("--res", "100"), ("--crs", "EPSG:4326", "--res", "0.09")):
        assert "a px would be larger than" in run(image, target, "--model", model, *words)
    run(image, target, "--model", model, "--res", "1")
    with rasterio.open(target) as file:
        assert file.shape == (4, 5)
        assert np.isin(file.read(1), range(5)).all()
    before = area.read_bytes()
    assert "is the --area" in run(image, target, "--model", model, "--area", area, "--polygons", area)
    assert area.read_bytes() == before
