"""Maps of whole rasters: equal to the in-memory pass, in bounded memory, resumable, and on the raster's own grid."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from tests.generators.plain_rasters import save_raster as save
from tests.inference.one_raster import predict_raster
from torch import Tensor

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, ParamsError, WeightsError
from weakseg.core.params import NetworkParams
from weakseg.data.crops.augment import IMAGENET
from weakseg.inference.encode import back_to_raster, encode_maps, in_bands
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.options import Options, check_options, choose_scale
from weakseg.inference.predict import predict_rasters
from weakseg.inference.run import run_predictor
from weakseg.inference.scene import DIHEDRAL, PLAIN, predict_scene
from weakseg.inference.sweep import Piece, WindowSweep, plan_grid
from weakseg.networks.build import build_segmenter
from weakseg.raster.finished_rows import Spool
from weakseg.raster.resample import plan_axis
from weakseg.raster.stream import BLOCK, inspect_source, open_reader
from weakseg.training.checkpoints import describe_model, save_checkpoint
from weakseg.training.machine import Machine

PROJECT = Path(__file__).parents[2]
CPU = Machine(device="cpu", precision="no", quiet=True)
UTM = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.09, 0, 497000, 0, -0.09, 5420000)}
ROTATED = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.08, 0.03, 497000.0, 0.03, -0.08, 5420000.0)}
SMALL = Options(window=64, overlap=0.25, batch=3)


def linear(images: Tensor) -> Tensor:
    """A network with a 1x1 kernel: five fixed mixtures of the bands."""
    kernel = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.4, 0.4], [-1, 1, 0.2]])
    return torch.einsum("kc,bchw->bkhw", kernel, images.float() / 64 - 2).softmax(1)


def widening(images: Tensor) -> Tensor:
    """A network with a 9x9 kernel, so that what a window sees matters."""
    return linear(torch.nn.functional.avg_pool2d(images.float(), 9, stride=1, padding=4))


def predictor(forward: Callable[[Tensor], Tensor] = linear, scale: float = 1.0, gsd: float | None = None) -> Predictor:
    return Predictor(forward, ISPRS, scale, gsd, torch.device("cpu"), "digest")


def picture(height: int, width: int, bands: int = 3) -> np.ndarray:
    """Smooth random uint8 (bands, H, W)."""
    rng = np.random.default_rng([height, width])
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, bands), dtype=np.uint8)
    layers = [cv2.resize(coarse[..., band], (width, height), interpolation=cv2.INTER_CUBIC) for band in range(bands)]
    return np.stack(layers)


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            return file.read()


def model_file(path: Path, scale: float = 1.0, **extra: object) -> Path:
    """A model file as segment@SOURCE writes it, with random weights."""
    torch.manual_seed(1)
    network = {"name": "encdec_unpool", "encoder": "none", "weights": "none", "width": 32, "dropout": 0.0}
    params = NetworkParams.model_validate({**network, "encoder_depth": 5, "decoder_channels": [16, 16, 8]})
    model = build_segmenter("encdec_unpool", 5, encoder="none", weights="none", width=32, dropout=0.0).eval()
    content = describe_model(params.model_dump(mode="json"), ISPRS, model.preprocessing)
    save_checkpoint(path, {**content, "scale": scale, "weights": model.state_dict(), **extra})
    return path


def sweep(source: Path, forward: Callable[[Tensor], Tensor], **options: float) -> WindowSweep:
    info = inspect_source(source, None)
    settings = {"window": 64, "overlap": 0.25, "batch": 3, **options}
    grid = plan_grid(info.height, info.width, settings.pop("scale", 1.0))
    network = predictor(forward).network()
    return WindowSweep(network, info, grid, maps=5, **settings)  # type: ignore[arg-type]


def join(pieces: Iterable[Piece], classes: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The maps (C, H, W) that pieces make up, and how often each px was visited."""
    maps, visits = np.full((classes, height, width), np.nan, np.float32), np.zeros((height, width), int)
    for piece in pieces:
        place = slice(piece.row, piece.row + piece.height), slice(piece.column, piece.column + piece.width)
        maps[:, *place] = 0 if piece.maps is None else piece.maps
        visits[place] += 1
    return maps, visits


@pytest.mark.parametrize(("height", "width", "overlap"), [(150, 211, 0.25), (64, 64, 0.5), (5, 300, 0), (200, 7, 0.9)])
def test_a_1x1_network_gives_the_whole_image_pass_and_every_row_once(
    tmp_path: Path, height: int, width: int, overlap: float
) -> None:
    layers = picture(height, width)
    maps, visits = join(sweep(save(tmp_path / "a.tif", layers), linear, overlap=overlap).pieces(0), 5, height, width)
    np.testing.assert_array_equal(visits, 1)
    np.testing.assert_allclose(maps, linear(torch.from_numpy(layers)[None])[0].numpy(), rtol=0, atol=5e-7)


def test_a_wide_kernel_gives_what_the_evaluation_sees(tmp_path: Path) -> None:
    file, layers = model_file(tmp_path / "m.pt"), picture(150, 201)
    predict_raster(
        file, save(tmp_path / "a.tif", layers), tmp_path / "o.tif",
        window=96, overlap=0.3, batch=4, views=DIHEDRAL[:2], probabilities=tmp_path / "p.tif", machine=CPU,
    )  # fmt: skip
    from weakseg.training.segmenter import load_segmenter

    model, _ = load_segmenter(file)
    expected = predict_scene(
        model, np.moveaxis(layers, 0, -1), preprocessing=IMAGENET,
        window=96, overlap=0.3, batch=4, views=DIHEDRAL[:2], machine=CPU,
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[0], expected.argmax(0))
    assert np.abs(read(tmp_path / "p.tif") / 254 - expected).max() <= 0.5 / 254 + 1e-5


@pytest.mark.parametrize("place", [{}, UTM, ROTATED], ids=["nowhere", "utm", "rotated"])
def test_the_place_colours_and_names_are_kept(tmp_path: Path, place: dict[str, object]) -> None:
    layers = picture(70, 300)
    source = save(tmp_path / "a.tif", layers, **place)
    options = Options(64, 0.25, 3, tmp_path / "p.tif", tmp_path / "c.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = run_predictor(predictor(), inspect_source(source, None), tmp_path / "o.tif", options)
    maps = linear(torch.from_numpy(layers)[None])[0].numpy()
    assert (summary.resumed, summary.windows) == (0, 2 * 6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "c.tif", "o.tif", "p.tif"]
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[0], maps.argmax(0))
    assert np.abs(read(tmp_path / "c.tif")[0] / 254 - maps.max(0)).max() < 0.002 + 1e-6
    assert np.abs(read(tmp_path / "p.tif") / 254 - maps).max() < 0.002 + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("o.tif", "c.tif", "p.tif"):
            with rasterio.open(tmp_path / name) as file, rasterio.open(source) as original:
                assert (file.crs, file.transform, file.shape) == (original.crs, original.transform, original.shape)
                assert (file.nodata, file.compression.name, file.block_shapes[0]) == (255, "deflate", (256, 256))
        with rasterio.open(tmp_path / "o.tif") as file:
            assert [file.colormap(1)[i][:3] for i in range(5)] == list(ISPRS.colours)
            assert file.tags()["CLASS_4"] == "car"
        with rasterio.open(tmp_path / "p.tif") as file:
            assert (file.descriptions, file.scales) == (ISPRS.names, (1 / 254,) * 5)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("name", "driver"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "GTiff")])
def test_a_place_in_a_sidecar_reaches_the_map(tmp_path: Path, name: str, driver: str) -> None:
    """Cases 07 and 18: GDAL's .aux.xml of a PNG or JPEG, and ArcGIS's baseline TIFF with a world file."""
    baseline = {"profile": "BASELINE", "tfw": "YES"} if driver == "GTiff" else {}
    source = save(tmp_path / name, picture(40, 50), driver, **UTM, **baseline)
    before = {path.name for path in tmp_path.iterdir()}
    assert f"{name}.aux.xml" in before
    run_predictor(predictor(), inspect_source(source, None), tmp_path / "o.tif", SMALL)
    with rasterio.open(tmp_path / "o.tif") as file:
        assert (file.crs.to_epsg(), file.transform) == (25832, UTM["transform"])
    assert {path.name for path in tmp_path.iterdir()} == before | {"o.tif"}
    for beside in tmp_path.glob("a.*w"):
        beside.unlink()
    (tmp_path / f"{name}.aux.xml").unlink()
    run_predictor(predictor(), inspect_source(source, None), tmp_path / "o.tif", SMALL)  # a map of before is not kept
    with rasterio.open(tmp_path / "o.tif") as file:
        assert (file.crs, file.transform.is_identity) == (None, True)


def test_one_four_and_eight_bands_need_a_choice_and_take_it(tmp_path: Path) -> None:
    for bands in (1, 4, 8):
        layers = picture(40, 50, bands)
        path = save(tmp_path / f"{bands}.tif", layers)
        with pytest.raises(DataError, match="--bands 4,1,2"):
            inspect_source(path, None)
        with pytest.raises(DataError, match=f"{bands} band"):
            inspect_source(path, (1, 2, 9))
        chosen = (bands, 1, max(1, bands - 2))
        run_predictor(predictor(), inspect_source(path, chosen), tmp_path / f"o{bands}.tif", SMALL)
        picked = torch.from_numpy(layers[[band - 1 for band in chosen]])
        np.testing.assert_array_equal(read(tmp_path / f"o{bands}.tif")[0], linear(picked[None])[0].argmax(0))


def test_files_that_cannot_be_predicted_are_refused_with_their_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gdal_translate -ot Byte"):
        inspect_source(save(tmp_path / "deep.tif", picture(9, 9).astype(np.uint16)), None)
    with pytest.raises(DataError, match="check the path"):
        inspect_source(tmp_path / "none.tif", None)
    (tmp_path / "text.vrt").write_text("hello")
    with pytest.raises(DataError, match=r"text\.vrt: starts with b'hell'; expected .*VRT"):
        inspect_source(tmp_path / "text.vrt", None)
    whole = save(tmp_path / "cut.tif", picture(300, 300), tiled=True, blockxsize=64, blockysize=64)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match="copy or download"):
        run_predictor(predictor(), inspect_source(whole, None), tmp_path / "o.tif", SMALL)
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 64, "blockysize": 64},
        {"BIGTIFF": "YES"},
        {"driver": "PNG"},
    ],
    ids=["jpeg", "bigtiff", "png"],
)
def test_formats_and_a_virtual_raster(tmp_path: Path, options: dict[str, object]) -> None:
    path = save(tmp_path / "a.tif", picture(90, 120), **options)
    pixels = torch.from_numpy(read(path))[None]
    vrt = "".join(
        f'<VRTRasterBand dataType="Byte" band="{b}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        f"</SourceFilename><SourceBand>{b}</SourceBand></SimpleSource></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    (tmp_path / "v.vrt").write_text(f'<VRTDataset rasterXSize="120" rasterYSize="90">{vrt}</VRTDataset>')
    for name in ("a.tif", "v.vrt"):
        run_predictor(predictor(), inspect_source(tmp_path / name, None), tmp_path / "o.tif", SMALL)
        np.testing.assert_array_equal(read(tmp_path / "o.tif")[0], linear(pixels)[0].argmax(0))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_pixels_without_data_are_255_and_windows_of_them_are_skipped(tmp_path: Path, scale: float) -> None:
    layers = picture(300, 256).clip(1, 255)
    layers[:, 150:] = 0
    layers[:, 20:30, 20:30] = 0
    layers[1, 40, 40] = 0  # one band of three is no hole
    source = inspect_source(save(tmp_path / "a.tif", layers, nodata=0), None)
    options = Options(64, 0.0, 3, tmp_path / "p.tif")
    summary = run_predictor(predictor(scale=scale), source, tmp_path / "o.tif", options)
    empty = (layers == 0).all(0)
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[0] == IGNORE, empty)
    np.testing.assert_array_equal((read(tmp_path / "p.tif") == 255).all(0), empty)
    assert summary.windows == (3 * 4 if scale == 1 else 2 * 2)
    np.testing.assert_allclose(read(tmp_path / "p.tif")[:, ~empty].sum(0, dtype=int) / 254, 1, atol=0.02)


def test_windows_that_share_a_tile_decode_it_once(tmp_path: Path) -> None:
    layers = picture(200, 300)
    source = save(tmp_path / "a.tif", layers, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    with open_reader(inspect_source(source, None)) as reader:
        reader.pixels((0, 0, 50, 50))
        reader.pixels((0, 260, 50, 30))
        with source.open("r+b") as file:
            file.write(bytes(source.stat().st_size))  # whoever reads the tile from the file again finds zeros
        assert np.array_equal(reader.pixels((100, 100, 50, 50)), np.moveaxis(layers[:, 100:150, 100:150], 0, -1))


def test_alpha_bands_mean_no_data_too(tmp_path: Path) -> None:
    layers = np.concatenate([picture(50, 50), np.full((1, 50, 50), 255, np.uint8)])
    layers[3, :, :20] = 0
    path = save(tmp_path / "a.tif", layers, photometric="rgb", alpha="YES")
    run_predictor(predictor(), inspect_source(path, (1, 2, 3)), tmp_path / "o.tif", SMALL)
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[0] == IGNORE, layers[3] == 0)


@pytest.mark.parametrize("tag", [{}, {"nodata": float("nan")}, {"nodata": -9999.0}], ids=["untagged", "nan", "other"])
def test_numbers_that_are_none_are_no_data(tmp_path: Path, tag: dict[str, float]) -> None:
    """Case 12: a NaN border without a nodata tag became class 0."""
    layers = picture(60, 90).astype(np.float32)
    plain = linear(torch.from_numpy(layers)[None])[0].numpy().argmax(0)
    layers[:, :, 70:] = np.nan
    layers[0, 5], layers[1, 6], layers[2, 7] = np.inf, -np.inf, np.nan  # one band without a number is enough
    source = inspect_source(save(tmp_path / "a.tif", layers, **tag), None, (0.0, 255.0))
    run_predictor(predictor(), source, tmp_path / "o.tif", SMALL)
    found, lost = read(tmp_path / "o.tif")[0], ~np.isfinite(layers).all(0)
    assert lost.sum() == 60 * 20 + 3 * 70
    np.testing.assert_array_equal(found, np.where(lost, IGNORE, plain))


def test_a_palette_raster_is_read_as_its_colours(tmp_path: Path) -> None:
    """Case 12: its map is that of the raster of its colours, on the same place."""
    image = Image.fromarray(np.moveaxis(picture(80, 120), 0, -1)).quantize(200)
    indices, colours = np.asarray(image), np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    table = {index: (*image.getpalette()[3 * index : 3 * index + 3], 255) for index in range(200)}
    for name, driver in (("a.tif", "GTiff"), ("a.png", "PNG")):
        with rasterio.open(
            tmp_path / name, "w", driver=driver, count=1, height=80, width=120, dtype="uint8", **UTM
        ) as file:
            file.write(indices, 1)
            file.write_colormap(1, table)
    save(tmp_path / "rgb.tif", colours, **UTM)
    for bands in (None, (3, 1, 2)):
        run_predictor(predictor(), inspect_source(tmp_path / "rgb.tif", bands), tmp_path / "rgb_map.tif", SMALL)
        for name in ("a.tif", "a.png"):
            run_predictor(predictor(), inspect_source(tmp_path / name, bands), tmp_path / "o.tif", SMALL)
            np.testing.assert_array_equal(read(tmp_path / "o.tif"), read(tmp_path / "rgb_map.tif"))
            with rasterio.open(tmp_path / "o.tif") as file:
                assert (file.crs.to_epsg(), file.transform) == (25832, UTM["transform"])
    for bands in ((1, 1, 1), (1, 2), (1, 2, 4)):
        with pytest.raises(DataError, match=r"a palette raster, bands .*expected 1, 2 and 3 in any order"):
            inspect_source(tmp_path / "a.tif", bands)
    image.save(tmp_path / "clear.png", transparency=bytes(7 * [255] + [0] + 192 * [255]))
    run_predictor(predictor(), inspect_source(tmp_path / "clear.png", None), tmp_path / "o.tif", SMALL)
    np.testing.assert_array_equal(read(tmp_path / "o.tif")[0] == IGNORE, indices == 7)


@pytest.mark.parametrize("shape", [(200, 301), (63, 1)])
def test_resampled_windows_are_those_of_the_resampled_raster(tmp_path: Path, shape: tuple[int, int]) -> None:
    """The network sees what cv2 makes of the whole raster; the map is back on the raster's grid."""
    layers = picture(*shape)

    def forward(images: Tensor) -> Tensor:
        return images.float()

    def rounded(maps: np.ndarray, _row: int, _column: int) -> np.ndarray:
        return np.rint(maps).astype(np.uint8)

    for scale, how in ((0.5, cv2.INTER_AREA), (0.37, cv2.INTER_AREA), (1.6, cv2.INTER_LINEAR)):
        run = sweep(save(tmp_path / "a.tif", layers), forward, scale=scale)
        run.maps = 3
        size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
        seen, _ = join(run.pieces(0), 3, size[1], size[0])
        whole = cv2.resize(np.moveaxis(layers, 0, -1), size, interpolation=how).reshape(size[1], size[0], 3)
        assert np.abs(seen - np.moveaxis(whole, -1, 0)).max() <= 1.001
        back = list(back_to_raster(run.pieces(0), run.grid, 0, maps=3, layers=3, encode=rounded))
        assert np.concatenate(back, axis=1).shape == layers.shape
        assert np.abs(np.concatenate(back, axis=1).astype(int) - layers).mean() < 12


def test_an_axis_is_a_partition_of_unity_and_knows_what_it_needs() -> None:
    for size_in, size_out in ((100, 37), (37, 100), (7, 7), (1, 5), (5, 1), (1001, 500)):
        axis = plan_axis(size_in, size_out)
        values = np.random.default_rng(0).normal(size=(2, size_in)).astype(np.float32)
        whole = axis.apply(values, 1, 0, size_out, 0)
        np.testing.assert_allclose(axis.apply(np.ones((1, size_in)), 1, 0, size_out, 0), 1, atol=1e-6)
        for first, last in ((0, 1), (size_out // 2, size_out), (size_out - 1, size_out)):
            low, high = axis.needs(first, last)
            piece = axis.apply(values[:, low:high], 1, first, last, low)
            np.testing.assert_array_equal(piece, whole[:, first:last])
            assert axis.reach(high) >= last > axis.reach(high - 1)
    np.testing.assert_allclose(plan_axis(4, 2).apply(np.array([[1, 3, 5, 9]]), 1, 0, 2, 0), [[2, 7]])
    np.testing.assert_allclose(plan_axis(2, 4).apply(np.array([[0, 4]]), 1, 0, 4, 0), [[0, 1, 3, 4]])


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.3])
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_map(tmp_path: Path, scale: float) -> None:
    layers = picture(5 * BLOCK + 40, 100)
    source = inspect_source(save(tmp_path / "a.tif", layers), None)
    once = run_predictor(predictor(widening, scale), source, tmp_path / "once.tif", SMALL)
    calls = 0

    def dies(images: Tensor) -> Tensor:
        nonlocal calls
        calls += len(images)
        if calls > 0.6 * once.windows:
            raise KeyboardInterrupt
        return widening(images)

    with pytest.raises(KeyboardInterrupt):
        run_predictor(predictor(dies, scale), source, tmp_path / "o.tif", SMALL)
    assert not (tmp_path / "o.tif").exists()
    again = run_predictor(predictor(widening, scale), source, tmp_path / "o.tif", SMALL)
    assert again.resumed >= 1
    assert 0 < again.windows < once.windows
    np.testing.assert_array_equal(read(tmp_path / "o.tif"), read(tmp_path / "once.tif"))
    assert not list(tmp_path.glob(".*"))
    assert run_predictor(predictor(widening, scale), source, tmp_path / "o.tif", SMALL).windows == 0
    anew = Options(64, 0.25, 3, resume=False)
    assert run_predictor(predictor(widening, scale), source, tmp_path / "o.tif", anew).windows == once.windows


def test_bands_of_another_model_are_thrown_away(tmp_path: Path) -> None:
    source = inspect_source(save(tmp_path / "a.tif", picture(2 * BLOCK, 40)), None)
    spool = Spool(tmp_path / ".o.tif.part", "another", source)
    with spool.writing() as write:
        write(np.full((1, BLOCK, 40), 9, np.uint8))
    with pytest.raises(DataError, match="one process for one map"):
        run_predictor(predictor(), source, tmp_path / "o.tif", SMALL)
    spool.close()
    spool = Spool(tmp_path / ".o.tif.part", "another", source)
    assert spool.finished == 1
    spool.close()
    assert run_predictor(predictor(), source, tmp_path / "o.tif", SMALL).resumed == 0
    assert read(tmp_path / "o.tif").max() < 5


def test_layers_of_a_finished_band_are_read_apart(tmp_path: Path) -> None:
    source = inspect_source(save(tmp_path / "a.tif", picture(BLOCK + 30, 40)), None)
    spool = Spool(tmp_path / ".o.tif.part", "a map", source)
    layers = np.random.default_rng(0).integers(0, 255, (4, BLOCK + 30, 40), np.uint8)
    with spool.writing() as write:
        write(layers[:, :BLOCK])
        write(layers[:, BLOCK:])
    for index, rows in enumerate((slice(BLOCK), slice(BLOCK, None))):
        np.testing.assert_array_equal(spool.read(index, 4), layers[:, rows])
        np.testing.assert_array_equal(spool.read(index, 4, slice(1, 3)), layers[1:3, rows])
    band = tmp_path / ".o.tif.part" / "000001.z"
    for length in (band.stat().st_size - 1, 3):
        band.write_bytes(band.read_bytes()[:length])
        with pytest.raises(DataError, match=r"000001.z is damaged; expected a finished band"):
            spool.read(1, 4)
    spool.close()


def test_the_sampling_distance_policies(tmp_path: Path) -> None:
    placed = inspect_source(save(tmp_path / "a.tif", picture(40, 40), **ROTATED), None)
    nowhere = inspect_source(save(tmp_path / "b.tif", picture(40, 40)), None)
    here = (0.08**2 + 0.03**2) ** 0.5 / 0.9996  # the scale of UTM at its central meridian, 3 km away
    assert placed.gsd == pytest.approx(here, rel=1e-6)
    assert choose_scale(predictor(scale=0.5, gsd=0.3), placed, "resample") == pytest.approx(0.5 * here / 0.3, rel=1e-6)
    assert choose_scale(predictor(scale=0.5, gsd=0.3), placed, "auto") == pytest.approx(0.5 * here / 0.3, rel=1e-6)
    assert choose_scale(predictor(scale=0.5, gsd=0.3), placed, "ignore") == 0.5
    assert choose_scale(predictor(scale=0.5, gsd=here * 1.04), placed, "refuse") == 0.5
    assert (
        choose_scale(predictor(scale=0.5), placed, "auto")
        == choose_scale(predictor(scale=0.5, gsd=1.0), nowhere, "auto")
        == 0.5
    )
    with pytest.raises(DataError, match="--gsd resample"):
        choose_scale(predictor(gsd=0.3), placed, "refuse")
    with pytest.raises(DataError, match="the model: no ground sampling distance"):
        choose_scale(predictor(), placed, "resample")
    with pytest.raises(DataError, match=r"b\.tif: no ground sampling distance"):
        choose_scale(predictor(gsd=0.3), nowhere, "refuse")


def test_options_that_would_overwrite_or_overflow_are_refused(tmp_path: Path) -> None:
    source = inspect_source(save(tmp_path / "a.tif", picture(40, 40)), None)
    for target, extra in (("a.tif", None), ("o.png", None), ("o.tif", "o.tif")):
        with pytest.raises(ParamsError, match="choose other names"):
            run_predictor(predictor(), source, tmp_path / target, Options(confidence=extra and tmp_path / extra))
    wide = plan_grid(50_000, 50_000, 1.0)
    five = predictor()
    check_options(five, source, tmp_path / "o.tif", Options(window=512, overlap=0.5), wide)
    with pytest.raises(ParamsError, match=r"514 shared rows .* smaller --window"):
        check_options(five, source, tmp_path / "o.tif", Options(window=1024, overlap=0.5), wide)
    with pytest.raises(WeightsError, match="check the path"):
        load_predictor(tmp_path / "none.pt", PLAIN, CPU)


def test_a_folder_and_a_pattern(tmp_path: Path) -> None:
    model, scenes = model_file(tmp_path / "m.pt"), tmp_path / "scenes"
    scenes.mkdir()
    for name in ("b.tif", "a.png"):
        save(scenes / name, picture(40, 40), "PNG" if name.endswith("png") else "GTiff")
    (scenes / "notes.txt").write_text("no raster")
    options = Options(confidence=tmp_path / "c")
    done = predict_rasters(model, str(scenes), tmp_path / "out", machine=CPU, options=options)
    assert [summary.target.name for summary in done] == ["a.tif", "b.tif"]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["a.tif", "b.tif"]
    save(scenes / "c.img", picture(40, 40), "HFA")
    with pytest.raises(DataError, match=r"scenes: c\.img would not be read"):
        predict_rasters(model, str(scenes), tmp_path / "all", machine=CPU, options=Options())
    assert not (tmp_path / "all").exists()
    done = predict_rasters(model, str(scenes), tmp_path / "all", skip_unread=True, machine=CPU, options=Options())
    assert [summary.target.name for summary in done] == ["a.tif", "b.tif"]


@pytest.mark.slow
def test_processes_of_torchrun_share_the_rasters_of_a_folder(tmp_path: Path) -> None:
    """The command of docs/scaling.md with two processes: the maps of one process, and each made once."""
    model, scenes = model_file(tmp_path / "m.pt"), tmp_path / "scenes"
    scenes.mkdir()
    for side in (40, 48, 56):
        save(scenes / f"s{side}.tif", picture(side, side))
    predict_rasters(model, str(scenes), tmp_path / "one", machine=CPU, options=Options())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "weakseg", "predict", str(scenes), str(tmp_path / "two"), "--model", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1", "WEAKSEG_PRECISION": "no"}
    done = subprocess.run([*launch, *words], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "windows" in line] == [
        str(tmp_path / "two" / f"s{side}.tif") for side in (40, 48, 56)
    ]
    for side in (40, 48, 56):
        assert np.array_equal(read(tmp_path / "two" / f"s{side}.tif"), read(tmp_path / "one" / f"s{side}.tif"))


def test_bands_and_layers_are_cut_as_asked() -> None:
    rows = np.arange(2 * 50 * 3, dtype=np.uint8).reshape(2, 50, 3)
    bands = list(in_bands((rows[:, at : at + 7] for at in range(0, 50, 7)), 16))
    assert [band.shape[1] for band in bands] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate(bands, axis=1), rows)
    maps = np.array([[[0.1, 0.0]], [[0.3, 0.0]]], np.float32)  # a pixel with a sum of 0.4, one with nothing
    np.testing.assert_array_equal(
        encode_maps(maps, ("classes", "confidence", "probabilities"), classes=2)[:, 0],
        [[1, 0], [190, 0], [64, 0], [190, 0]],  # 0.25 * 254 = 63.5 rounds to even
    )
