"""Many scenes, one map: no seam, a defined order, other grids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from tests.inference.one_raster import predict_raster
from tests.inference.test_predict import linear, model_file, picture, predictor, read

import weakseg.raster.mosaic
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.options import Options
from weakseg.inference.predict import predict_mosaic
from weakseg.inference.run import predict_layers, run_predictor
from weakseg.maps.scenes import cut_scenes
from weakseg.raster.mosaic import Mosaic, plan_mosaic
from weakseg.raster.stream import inspect_source, open_reader
from weakseg.training.machine import Machine

CPU = Machine(device="cpu", precision="no", quiet=True)
LEFT, TOP = 500000.0, 5500000.0


def scene(path: Path, layers: np.ndarray, row: int = 0, column: int = 0, **place: object) -> Path:
    """Save uint8 (bands, H, W) with its corner at a row and column of a grid of 1 m."""
    path.parent.mkdir(exist_ok=True)
    layout = {"driver": "GTiff", "count": len(layers), "height": layers.shape[1], "width": layers.shape[2]}
    grid = {"crs": "EPSG:32632", "transform": from_origin(LEFT + column, TOP - row, 1, 1), **place}
    with rasterio.open(path, "w", dtype="uint8", **layout, **grid) as file:
        file.write(layers)
    return path


def mosaic_of(folder: Path) -> Mosaic:
    return plan_mosaic(folder, [inspect_source(path, None) for path in sorted(folder.glob("*.tif"))])


def probabilities(mosaic: Mosaic, forward: Callable = linear, **options: object) -> np.ndarray:
    chosen = Options(64, 0.25, 3, probabilities=Path("p.tif"), **options)  # type: ignore[arg-type]
    return predict_layers(predictor(forward), mosaic, chosen)[1:] / 254


@pytest.mark.parametrize("overlap", [0, 40])
def test_scenes_cut_from_one_raster_give_its_map(tmp_path: Path, overlap: int) -> None:
    layers = picture(150, 220)
    scene(tmp_path / "all.tif", layers)
    scene(tmp_path / "in" / "b.tif", layers[:, :, : 110 + overlap])
    scene(tmp_path / "in" / "a.tif", layers[:, :, 110 - overlap :], column=110 - overlap)
    file, cut = model_file(tmp_path / "m.pt"), Options(64, 0.25, 3)
    _, mosaic = predict_mosaic(file, str(tmp_path / "in"), tmp_path / "o.tif", machine=CPU, options=cut)
    predict_raster(file, tmp_path / "all.tif", tmp_path / "p.tif", window=64, batch=3, machine=CPU)
    np.testing.assert_array_equal(read(tmp_path / "o.tif"), read(tmp_path / "p.tif"))
    with rasterio.open(tmp_path / "o.tif") as file_out, rasterio.open(tmp_path / "all.tif") as original:
        assert (file_out.crs, file_out.transform) == (original.crs, original.transform)
    assert [(s.row, s.column, s.warped) for s in mosaic.scenes] == [(0, 110 - overlap, False), (0, 0, False)]


def seam(maps: np.ndarray, column: int) -> float:
    """Step of the probabilities across a column, in steps between the columns around it."""
    steps = np.abs(np.diff(maps, axis=2)).mean(axis=(0, 1))
    return float(steps[column - 1] / np.median(steps[column - 12 : column + 12]))


def test_scenes_of_other_brightness_fade_into_each_other(tmp_path: Path) -> None:
    layers = picture(100, 200) // 2
    scene(tmp_path / "in" / "a.tif", layers[:, :, :120])
    scene(tmp_path / "in" / "b.tif", layers[:, :, 80:] + 60, column=80)
    maps = probabilities(mosaic_of(tmp_path / "in"))
    first, second = (linear_maps(layers + shift) for shift in (0, 60))
    assert np.abs(maps[:, :, :80] - first[:, :, :80]).max() < 0.003, "alone it is as it is"
    assert np.abs(maps[:, :, 120:] - second[:, :, 120:]).max() < 0.003
    cut = np.concatenate([first[:, :, :120], second[:, :, 120:]], axis=2)
    assert seam(cut, 120) > 4, "what a mosaic of maps looks like"
    assert seam(maps, 80) < 2
    assert seam(maps, 120) < 2
    middle = maps[:, :, 99:101].mean(2)
    assert np.abs(middle - (first + second)[:, :, 99:101].mean(2) / 2).max() < 0.02, "half of each in the middle"


def linear_maps(layers: np.ndarray) -> np.ndarray:
    import torch

    return np.asarray(linear(torch.from_numpy(layers)[None])[0].numpy())


def test_what_is_blended_does_not_depend_on_the_order(tmp_path: Path) -> None:
    layers = picture(90, 160) // 2
    for folder, (first, second) in {"one": "ab", "two": "ba"}.items():
        scene(tmp_path / folder / f"{first}.tif", layers[:, :, :100])
        scene(tmp_path / folder / f"{second}.tif", layers[:, :, 60:] + 40, column=60)
    one, two = (probabilities(mosaic_of(tmp_path / folder)) for folder in ("one", "two"))
    assert np.abs(one - two).max() <= 1 / 254 + 1e-6


def test_the_first_scene_covers_the_next_and_what_it_lacks_is_filled(tmp_path: Path) -> None:
    hole = np.full((3, 20, 30), 100, np.uint8)
    hole[:, 5:10, 5:10] = 0
    scene(tmp_path / "in" / "a.tif", hole, nodata=0)
    scene(tmp_path / "in" / "b.tif", np.full((3, 20, 30), 200, np.uint8), column=10, row=4)
    scene(tmp_path / "in" / "c.tif", np.full((3, 20, 30), 50, np.uint8), column=4, row=2)
    mosaic = mosaic_of(tmp_path / "in")
    assert (mosaic.height, mosaic.width) == (24, 40)
    with open_reader(mosaic) as reader:
        image, valid = reader.pixels((0, 0, 24, 40))[..., 0], reader.valid((0, 0, 24, 40))
    assert valid is not None
    assert (image[0, 0], image[15, 15], image[7, 7], image[22, 20]) == (100, 100, 50, 200)
    assert not valid[22, 2]
    assert valid[7, 7]


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = picture(30, 90)
    for at in range(3):
        scene(tmp_path / "in" / f"{at}.tif", layers[:, :, 30 * at : 30 * at + 30], column=30 * at)
    whole = probabilities(mosaic_of(tmp_path / "in"))
    monkeypatch.setattr(weakseg.raster.mosaic, "_OPEN", 1)
    np.testing.assert_array_equal(probabilities(mosaic_of(tmp_path / "in")), whole)
    assert np.abs(whole - linear_maps(layers)).max() < 0.003


def test_scenes_on_other_grids_are_warped(tmp_path: Path) -> None:
    layers = picture(120, 160)
    whole = scene(tmp_path / "whole.tif", layers)
    scene(tmp_path / "in" / "a.tif", layers[:, :, :90])
    (tmp_path / "in").mkdir(exist_ok=True)
    with (
        rasterio.open(whole) as file,
        WarpedVRT(file, crs="EPSG:3035", resampling=Resampling.cubic, nodata=0) as warped,
    ):
        scene(tmp_path / "in" / "b.tif", warped.read(), crs="EPSG:3035", transform=warped.transform, nodata=0)
    mosaic = mosaic_of(tmp_path / "in")
    assert [part.warped for part in mosaic.scenes] == [False, True]
    assert mosaic.profile["crs"] == "EPSG:32632"
    row, column = mosaic.scenes[0].row, mosaic.scenes[0].column
    maps = probabilities(mosaic)[:, row : row + 120, column : column + 160]
    difference = np.abs(maps - linear_maps(layers))[:, 4:-4, 4:-4]
    assert difference.mean() < 0.01
    with open_reader(mosaic) as reader:
        valid = reader.valid((row, column, 120, 160))
        assert valid is not None
        assert valid.mean() > 0.98


def test_half_a_pixel_beside_the_grid_is_another_grid(tmp_path: Path) -> None:
    layers = picture(40, 50)
    scene(tmp_path / "in" / "a.tif", layers)
    scene(tmp_path / "in" / "b.tif", layers, transform=from_origin(LEFT + 40.5, TOP, 1, 1))
    mosaic = mosaic_of(tmp_path / "in")
    assert [part.warped for part in mosaic.scenes] == [False, True]
    assert mosaic.width == 91


def test_a_killed_mosaic_goes_on_and_a_whole_one_stays(tmp_path: Path) -> None:
    layers = picture(70, 90)
    scene(tmp_path / "in" / "a.tif", layers[:, :, :50])
    scene(tmp_path / "in" / "b.tif", layers[:, :, 40:], column=40)
    options = Options(64, 0.25, 3)
    first = run_predictor(predictor(), mosaic_of(tmp_path / "in"), tmp_path / "o.tif", options)
    again = run_predictor(predictor(), mosaic_of(tmp_path / "in"), tmp_path / "o.tif", options)
    assert (first.windows > 0, again.windows) == (True, 0)
    scene(tmp_path / "in" / "b.tif", layers[:, :, 40:] // 2, column=40)
    assert run_predictor(predictor(), mosaic_of(tmp_path / "in"), tmp_path / "o.tif", options).windows > 0


def test_parts_and_their_vrt_are_the_mosaic(tmp_path: Path) -> None:
    layers = picture(70, 90)
    scene(tmp_path / "in" / "a.tif", layers[:, :50, :50])
    scene(tmp_path / "in" / "b.tif", layers[:, 20:, 40:], column=40, row=20)
    mosaic = mosaic_of(tmp_path / "in")
    run_predictor(predictor(), mosaic, tmp_path / "out" / "mosaic.tif", Options(64, 0.25, 3))
    parts = cut_scenes(tmp_path / "out" / "mosaic.tif", mosaic, tmp_path / "out")
    assert [part.name for part in parts] == ["a.tif", "b.tif"]
    whole = read(tmp_path / "out" / "mosaic.tif")
    np.testing.assert_array_equal(read(tmp_path / "out" / "b.tif"), whole[:, 20:, 40:])
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    with rasterio.open(moved / "mosaic.vrt") as file, rasterio.open(moved / "mosaic.tif") as cog:
        np.testing.assert_array_equal(file.read(), whole)
        assert (file.crs, file.transform, file.nodata) == (cog.crs, cog.transform, 255)
        assert (file.colormap(1)[1], file.tags()["CLASS_1"]) == (cog.colormap(1)[1], "building")


def test_scenes_without_a_place_are_refused(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "a.tif", picture(20, 30))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        scene(tmp_path / "in" / "b.tif", picture(20, 30), crs=None, transform=rasterio.Affine.identity())
    with pytest.raises(DataError, match="no place on Earth"):
        mosaic_of(tmp_path / "in")
    with pytest.raises(ParamsError, match="is a scene"):
        predict_mosaic(
            model_file(tmp_path / "m.pt"), str(tmp_path / "in"), tmp_path / "in" / "a.tif",
            machine=CPU, options=Options(),
        )  # fmt: skip


def test_a_scene_that_the_crs_of_the_first_does_not_reach_is_refused(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "a.tif", picture(20, 30))
    scene(tmp_path / "in" / "b.tif", picture(20, 30), crs="EPSG:4647")  # its eastings begin with the zone, 32500000
    with pytest.raises(DataError, match=r"b.tif: lies where the CRS of the first scene does not reach"):
        mosaic_of(tmp_path / "in")
