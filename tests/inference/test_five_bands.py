"""Prediction and exports of a model of five bands of 16 bits: which band is which, holes, heights beside, formats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch

from weakseg.core.bands import Bands, Statistics, known_band
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.params import NetworkParams
from weakseg.export.fixed import export_deepness, export_pt2
from weakseg.export.item import write_model_item
from weakseg.export.model_files import export_bundle, export_onnx, export_torchscript
from weakseg.inference.model import load_predictor
from weakseg.inference.options import Options
from weakseg.inference.predict import predict, predict_mosaic, predict_rasters
from weakseg.inference.rasters import parse_reading
from weakseg.inference.scene import PLAIN, sweep_windows
from weakseg.inference.sweep import plan_grid, read_network_window
from weakseg.raster.band_names import parse_choice
from weakseg.raster.heights import HeightFiles, above_ground, find_heights, window_heights
from weakseg.raster.mosaic import plan_mosaic
from weakseg.raster.stream import inspect_source, open_reader
from weakseg.registry.pyfunc import _example
from weakseg.serving.service import MapService
from weakseg.training.checkpoints import describe_model, save_checkpoint
from weakseg.training.machine import Machine
from weakseg.training.segmenter import segmenter_of

NAMES, HOLE = ("red", "green", "blue", "nir", "height"), 65535
MACHINE = Machine(device="cpu", precision="no", quiet=True)
PLACE = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
SMALL = Options(window=64, overlap=0.25, batch=2)


def five(dtype: str = "uint16", /, **height: Any) -> Bands:
    optical = [known_band(name, dtype=dtype, low=0, high=4000, drop=name == "nir") for name in NAMES[:4]]
    members = (*optical, known_band("height", **{"dtype": dtype, "nodata": HOLE, "low": 0, "high": 900} | height))
    return Bands(members).with_statistics(Statistics(1000.0 - 100 * n, 400.0, (0.0,) * 5) for n in range(5))


def save_model(folder: Path, bands: Bands, scale: float = 1.0, strength: float = 50.0) -> Path:
    torch.manual_seed(0)
    raw = {"name": "encdec_unpool", "encoder": "", "weights": "none", "width": 32, "dropout": 0.0}
    params = NetworkParams.model_validate({**raw, "decoder_channels": (8, 8, 8, 8, 8), "encoder_depth": 5})
    model = segmenter_of(params, len(ISPRS), bands)
    with torch.no_grad():
        model.net.head.weight.mul_(strength)  # an untrained network hardly cares for what it sees
    content = describe_model(params.model_dump(mode="json"), ISPRS, model.preprocessing)
    save_checkpoint(folder / "m.pt", {**content, "scale": scale, "gsd": None, "weights": model.state_dict()})
    return folder / "m.pt"


def pixels(seed: int = 0, height: int = 100, width: int = 130) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2000, (5, height // 10 + 1, width // 10 + 1))
    return np.kron(coarse, np.ones((1, 10, 10)))[:, :height, :width].astype(np.uint16)


def save(path: Path, layers: npt.NDArray[Any], names: tuple[str, ...] = (), **options: Any) -> Path:
    layout = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:25832", **{"transform": PLACE, **layout, **options}
    ) as file:
        file.write(layers)
        if names:
            file.descriptions = names
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("five"), five())


def expected(model: Path, layers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """What the windows of the evaluation say of an array (5, H, W)."""
    image, predictor = np.ascontiguousarray(np.moveaxis(layers, 0, -1)), load_predictor(model, PLAIN, MACHINE)
    maps = sweep_windows(predictor.forward, image, window=64, overlap=0.25, batch=2, machine=MACHINE)
    return maps.argmax(0).astype(np.uint8)


def run(model: Path, source: Path, target: Path, **options: Any) -> npt.NDArray[np.uint8]:
    (done,) = predict_rasters(model, str(source), target, machine=MACHINE, options=SMALL, **options)
    with rasterio.open(done.target) as file:
        return np.asarray(file.read(1))


def test_a_raster_of_five_bands_gives_the_map_of_the_array(model: Path, tmp_path: Path) -> None:
    layers = pixels()
    wanted = expected(model, layers)
    assert len(np.unique(wanted)) > 1
    np.testing.assert_array_equal(run(model, save(tmp_path / "a.tif", layers), tmp_path / "o.tif"), wanted)
    predictor = load_predictor(model, PLAIN, MACHINE)
    whole = predict(predictor, np.moveaxis(layers, 0, -1), window=64, overlap=0.25, batch=2)
    np.testing.assert_array_equal(whole, wanted)


def test_bands_are_found_by_names_of_the_file_or_of_the_user(model: Path, tmp_path: Path) -> None:
    layers = pixels()
    wanted, order = expected(model, layers), [4, 3, 2, 1, 0]
    described = save(tmp_path / "a.tif", layers[order], tuple(NAMES[index] for index in order))
    np.testing.assert_array_equal(run(model, described, tmp_path / "a_o.tif"), wanted)
    bare = save(tmp_path / "b.tif", layers[order])
    choice = parse_choice("height,nir,blue,green,red")
    np.testing.assert_array_equal(run(model, bare, tmp_path / "b_o.tif", bands=choice), wanted)
    np.testing.assert_array_equal(run(model, bare, tmp_path / "c_o.tif", bands=(5, 4, 3, 2, 1)), wanted)


def test_holes_and_bands_that_may_be_missing_have_the_mean(model: Path, tmp_path: Path) -> None:
    layers = pixels()
    layers[4, :50] = HOLE
    filled = layers.copy()
    filled[4, :50] = 600
    np.testing.assert_array_equal(
        run(model, save(tmp_path / "a.tif", layers), tmp_path / "a_o.tif"), expected(model, filled)
    )
    filled[4] = 600
    without = save(tmp_path / "b.tif", layers[:4], NAMES[:4])
    np.testing.assert_array_equal(run(model, without, tmp_path / "b_o.tif"), expected(model, filled))


def test_heights_beside_on_their_own_grid(tmp_path: Path) -> None:
    model = save_model(tmp_path, five(dtype="float32", nodata=None))
    layers = pixels().astype(np.float32)
    layers[4] = np.kron(np.arange(50 * 65).reshape(50, 65) / 4, np.ones((2, 2)))
    image = save(tmp_path / "i" / "a.tif", layers[:4].astype(np.uint16), NAMES[:4])
    surface = save(tmp_path / "h" / "a.tif", layers[4:], transform=PLACE)
    wanted = expected(model, layers)
    for beside in (surface, surface.parent):
        found = run(model, image, tmp_path / "o.tif", heights=HeightFiles(beside))
        np.testing.assert_array_equal(found, wanted)
    terrain = save(tmp_path / "dtm.tif", np.full((1, 30, 30), 5, np.int16), transform=PLACE @ PLACE.scale(5))
    layers[4] -= 5
    found = run(model, image, tmp_path / "o2.tif", heights=HeightFiles(surface, terrain))
    assert (found == expected(model, layers)).mean() > 0.999


def test_heights_above_ground_by_a_filter_are_those_of_the_whole_raster_in_every_window(tmp_path: Path) -> None:
    """As the import makes them of a surface model alone, whatever windows a prediction has."""
    model = save_model(tmp_path, five(dtype="float32", nodata=None))
    layers = pixels().astype(np.float32)
    rows, columns = np.mgrid[:100, :130]
    surface = (rows + columns / 2).astype(np.float32) + np.where((rows % 20 < 8) & (columns % 25 < 9), 400, 0)
    surface[30:60, 70:110] = np.nan
    beside = save(tmp_path / "dsm.tif", surface[None].astype(np.float32), transform=PLACE)
    image = save(tmp_path / "a.tif", layers[:4].astype(np.uint16), NAMES[:4])
    files = HeightFiles(beside, ground=15)
    source = inspect_source(image, None, None, load_predictor(model, PLAIN, MACHINE).bands, files)
    whole = above_ground(np.array(surface, np.float32), 15)
    for window in ((0, 0, 100, 130), (40, 30, 20, 50), (0, 96, 64, 34), (36, 0, 64, 64)):
        row, column, height, width = window
        found = window_heights(files, window, (100, 130), source.info)
        np.testing.assert_array_equal(found, whole[row : row + height, column : column + width])
    layers[4] = np.where(np.isnan(whole), 600, whole)
    found = run(model, image, tmp_path / "o.tif", heights=files)
    np.testing.assert_array_equal(found, expected(model, layers))
    plain = inspect_source(image, None, None, source.wanted, HeightFiles(beside))
    assert plain.state() != source.state()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ground": 9}, "--ground alone; expected --heights"),
        ({"heights": Path("h.tif"), "terrain": Path("t.tif"), "ground": 9}, "--ground 9 and --terrain; expected one"),
        ({"heights": Path("h.tif"), "ground": -1}, "--ground -1; expected one of them, px from 1"),
    ],
)
def test_ground_filters_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        parse_reading(None, None, **{"heights": None, "terrain": None, **options}, gsd="auto", skip_unread=False)


def test_heights_of_a_folder_by_their_places(tmp_path: Path) -> None:
    model = save_model(tmp_path, five(dtype="float32", nodata=None))
    layers = pixels().astype(np.float32)
    image = save(tmp_path / "i" / "a.tif", layers[:4].astype(np.uint16), NAMES[:4])
    wanted = expected(model, layers)
    for number, columns in enumerate((slice(0, 60), slice(50, 130))):  # they overlap, and agree there
        place = PLACE @ PLACE.translation(columns.start, 0)
        save(tmp_path / "h" / f"t{number}.tif", layers[4:, :, columns], transform=place)
    found = run(model, image, tmp_path / "o.tif", heights=HeightFiles(tmp_path / "h"))
    np.testing.assert_array_equal(found, wanted)
    moved = PLACE @ PLACE.translation(100_000, 0)
    for path in (tmp_path / "h").iterdir():
        save(path, layers[4:], transform=moved)
    with pytest.raises(DataError, match=r"none of 2 rasters is named a or lies where it lies"):
        run(model, image, tmp_path / "o2.tif", heights=HeightFiles(tmp_path / "h"))
    assert find_heights(HeightFiles(tmp_path / "h"), [image, next((tmp_path / "h").iterdir())])[0] is None


@pytest.mark.parametrize("shift", [0.0, 0.25], ids=["on one grid", "one scene warped"])
def test_a_mosaic_with_heights_beside_its_scenes(tmp_path: Path, shift: float) -> None:
    """Heights of a scene come from its own raster, by its name, whatever grid the scene is read on."""
    model = save_model(tmp_path, five(dtype="float32", nodata=None))
    layers = np.ones((5, 60, 90), np.float32) * np.array([700, 800, 900, 1000, 0])[:, None, None]
    layers[4, :, :45], layers[4, :, 45:] = 300, 900
    for name, columns, move in (("a", slice(0, 50), 0.0), ("b", slice(40, 90), shift)):
        place = PLACE @ PLACE.translation(columns.start + move, 0)
        save(tmp_path / "s" / f"{name}.tif", layers[:4, :, columns].astype(np.uint16), NAMES[:4], transform=place)
        save(tmp_path / "h" / f"{name}.tif", layers[4:, :, columns], transform=place)
    listed = sorted((tmp_path / "s").glob("*.tif"))
    beside = find_heights(HeightFiles(tmp_path / "h"), listed)
    wanted = load_predictor(model, PLAIN, MACHINE).bands
    scenes = [inspect_source(path, None, None, wanted, files) for path, files in zip(listed, beside, strict=True)]
    mosaic = plan_mosaic(tmp_path, scenes)
    assert mosaic.lacking == ()
    assert [scene.warped for scene in mosaic.scenes] == [False, bool(shift)]
    with open_reader(mosaic) as reader:
        heights = reader.pixels((0, 0, 60, 90))[..., 4]
    assert (heights[:, 2:44] == 300).all()
    assert (heights[:, 52:88] == 900).all()
    where, options = str(tmp_path / "s"), {"machine": MACHINE, "options": SMALL}
    done, _ = predict_mosaic(model, where, tmp_path / "m.tif", heights=HeightFiles(tmp_path / "h"), **options)
    alone = predict_mosaic(model, where, tmp_path / "n.tif", **options)[1]
    assert alone.lacking == ("height",)
    with rasterio.open(done.target) as file:
        assert file.width == 90 + bool(shift)


def test_a_scaled_model_mixes_in_the_depth_of_the_bands(tmp_path: Path) -> None:
    layers = np.random.default_rng(0).integers(0, 60000, (5, 100, 130)).astype(np.uint16)
    source = inspect_source(save(tmp_path / "a.tif", layers), None, wanted=five())
    with open_reader(source) as reader:
        found = read_network_window(reader, plan_grid(100, 130, 0.5), (0, 0, 50, 65))
    assert found is not None
    assert found.dtype == np.uint16
    halves = layers.reshape(5, 50, 2, 65, 2).mean((2, 4))
    np.testing.assert_allclose(found, np.moveaxis(halves, 0, -1), atol=0.51)
    assert run(save_model(tmp_path, five(), 0.5), tmp_path / "a.tif", tmp_path / "o.tif").shape == (100, 130)


def test_a_mosaic_of_two_scenes(model: Path, tmp_path: Path) -> None:
    layers = pixels(width=180)
    save(tmp_path / "s" / "a.tif", layers[..., :100])
    save(tmp_path / "s" / "b.tif", layers[..., 80:], transform=PLACE @ PLACE.translation(80, 0))
    done, _ = predict_mosaic(model, str(tmp_path / "s"), tmp_path / "m.tif", machine=MACHINE, options=SMALL)
    with rasterio.open(done.target) as file:
        assert (file.read(1) == expected(model, layers)).mean() > 0.95  # windows meet other rims
    mosaic = plan_mosaic(
        tmp_path, [inspect_source(path, None, wanted=five()) for path in (tmp_path / "s").glob("*.tif")]
    )
    with open_reader(mosaic) as reader:
        np.testing.assert_array_equal(reader.pixels((0, 0, 100, 180)), np.moveaxis(layers, 0, -1))


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        (pixels()[:4], {}, "no band .*4 band.s. without names.*--bands red=1"),
        (pixels().astype(np.float32), {}, r"band 1 \(red\) of float32; expected uint16"),
        (pixels(), {"bands": (1, 2, 3)}, "5 numbers from 1 to 5: red, green, blue, nir, height"),
        (pixels(), {"bands": parse_choice("red,green,nir,height,-")}, "no band blue"),
        (pixels(), {"stretch": (0.0, 100.0)}, "leave --stretch out"),
    ],
)
def test_rasters_that_do_not_fit_are_refused(
    model: Path, tmp_path: Path, layers: npt.NDArray[Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        run(model, save(tmp_path / "a.tif", layers), tmp_path / "o.tif", **options)


def test_a_model_of_three_bands_has_no_heights(tmp_path: Path) -> None:
    model = save_model(tmp_path, Bands(tuple(known_band(name) for name in NAMES[:3])))
    raster = save(tmp_path / "a.tif", pixels()[:3].astype(np.uint8))
    with pytest.raises(ParamsError, match="the model has none"):
        run(model, raster, tmp_path / "o.tif", heights=HeightFiles(raster))
    assert run(model, raster, tmp_path / "o.tif", bands=parse_choice("blue,green,red")).shape == (100, 130)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2", "bundle"])
def test_exports_give_the_same_map(tmp_path: Path, kind: str) -> None:
    model, layers = save_model(tmp_path, five(), strength=1.0), pixels()
    layers[4, 10:30] = HOLE
    source = save(tmp_path / "a.tif", layers)
    wanted = run(model, source, tmp_path / "o.tif")
    target = {"onnx": "m.onnx", "torchscript": "m.ts", "pt2": "m.pt2", "bundle": "bundle"}[kind]
    write = {"onnx": export_onnx, "torchscript": export_torchscript, "pt2": export_pt2, "bundle": export_bundle}[kind]
    options = {"side": 64} if kind == "pt2" else {}
    assert write(model, tmp_path / target, **options) < 1e-4  # type: ignore[operator]
    item = write_model_item(model, tmp_path / target, kind).read_text()
    assert '"height"' in item
    assert (run(tmp_path / target, source, tmp_path / "e.tif") == wanted).mean() > 0.999
    if kind == "bundle":
        script = [sys.executable, tmp_path / "bundle" / "predict.py", source, tmp_path / "s.tif"]
        subprocess.run([*script, "--window", "64", "--batch", "2"], check=True)
        with rasterio.open(tmp_path / "s.tif") as file:
            assert (file.read(1) == wanted).mean() > 0.999


def test_deepness_takes_pictures_alone(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"5 bands.*--to onnx"):
        export_deepness(model, tmp_path / "d.onnx", side=64)


def test_the_input_example_of_a_registered_model_has_its_bands(model: Path) -> None:
    service = MapService(load_predictor(model, PLAIN, MACHINE))
    assert service.answer_file(_example(five())).image.shape == (48, 64, 3)


def test_a_service_answers_files_and_numbers(model: Path, tmp_path: Path) -> None:
    layers = pixels()
    service = MapService(load_predictor(model, PLAIN, MACHINE))
    answer = service.answer_file(save(tmp_path / "a.tif", layers).read_bytes())
    assert (answer.image.dtype, answer.image.shape) == (np.uint8, (100, 130, 3))
    assert answer.image[0, 0].tolist() == np.rint(layers[:3, 0, 0] / 4000 * 255).tolist()
    numbers = service.answer_pixels(np.moveaxis(layers, 0, -1).tolist())
    np.testing.assert_array_equal(numbers.classes, answer.classes)
    with pytest.raises(DataError, match=r"x 5 \(red, green, blue, nir, height\) of uint16"):
        service.answer_pixels(np.moveaxis(layers[:3], 0, -1).tolist())
