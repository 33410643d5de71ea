"""Every kind of raster goes through file to file and comes back on its own grid, or is refused with its cure."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.control import GroundControlPoint
from tests.inference.test_predict import ROTATED, SMALL, UTM, linear, picture, predictor, read, save

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.run import run_predictor
from weakseg.raster.stream import inspect_source, stretch_values


def classes_of(layers: np.ndarray) -> np.ndarray:
    """What the 1x1 network says about three bands uint8 (3, H, W) as a whole."""
    return linear(torch.from_numpy(np.ascontiguousarray(layers))[None])[0].argmax(0).numpy()


def go(source: Path, target: Path, *bands: int, stretch: tuple[float, float] | None = None) -> np.ndarray:
    """The map of a raster, after checking that it lies where the raster lies."""
    run_predictor(predictor(), inspect_source(source, bands or None, stretch), target, SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(source) as before, rasterio.open(target) as after:
            assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, before.shape)
            assert (after.count, after.dtypes, after.nodata) == (1, ("uint8",), IGNORE)
            return np.asarray(after.read(1))


CASES: dict[str, tuple[int, dict[str, object]]] = {
    "no CRS": (3, {}),
    "CRS without a place": (3, {"crs": "EPSG:25832"}),
    "place without a CRS": (3, {"transform": UTM["transform"]}),
    "rotated": (3, ROTATED),
    "degrees": (3, {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-6, 0, 8.9, 0, -1e-6, 48.9)}),
    "south up": (3, {**UTM, "transform": rasterio.Affine(0.09, 0, 497000, 0, 0.09, 5420000)}),
    "1 band": (1, UTM),
    "4 bands": (4, UTM),
    "8 bands": (8, {**UTM, "interleave": "band"}),
    "BigTIFF": (3, {**UTM, "BIGTIFF": "YES"}),
    "BigTIFF, big-endian": (3, {**UTM, "BIGTIFF": "YES", "ENDIANNESS": "BIG"}),
    "LZW strips": (3, {**UTM, "compress": "lzw", "predictor": 2, "blockysize": 7}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_raster_keeps_its_place_and_gives_the_classes_of_a_whole_pass(tmp_path: Path, case: str) -> None:
    count, options = CASES[case]
    layers = picture(90, 130, count)
    chosen = (1, 2, 3) if count == 3 else (count, 1, min(3, count))
    source = save(tmp_path / "a.tif", layers, **options)
    if case.startswith("BigTIFF"):
        assert source.read_bytes()[2:4] in (b"+\x00", b"\x00+")
    found = go(source, tmp_path / "o.tif", *([] if count == 3 else chosen))
    np.testing.assert_array_equal(found, classes_of(layers[[band - 1 for band in chosen]]))


def test_jpeg_in_tiff_is_read_as_gdal_reads_it(tmp_path: Path) -> None:
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    source = save(tmp_path / "a.tif", picture(90, 130), compress="jpeg", photometric="ycbcr", **tiles, **UTM)
    np.testing.assert_array_equal(go(source, tmp_path / "o.tif"), classes_of(read(source)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_more_than_8_bits_take_a_stretch(tmp_path: Path, dtype: str) -> None:
    deep = (picture(70, 90).astype(np.float64) * 16 - 200).clip(0 if dtype == "uint16" else None).astype(dtype)
    deep[:, :10] = 9000  # nodata
    source = save(tmp_path / "a.tif", deep, nodata=9000, **UTM)
    with pytest.raises(DataError, match=rf"dtype {dtype}; .*--stretch LOW,HIGH"):
        inspect_source(source, None)
    with pytest.raises(ParamsError, match="LOW < HIGH"):
        inspect_source(source, None, (5, 5))
    found = go(source, tmp_path / "o.tif", stretch=(100, 3000))
    eight = np.rint(np.clip((deep.astype(np.float32) - 100) * (255 / np.float32(2900)), 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(found[10:], classes_of(eight)[10:])
    assert (found[:10] == IGNORE).all()
    assert len(np.unique(found)) >= 4


def test_the_stretch_cuts_off_and_knows_nan() -> None:
    values = np.array([-5, 0, 50, 100, 1e9, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(stretch_values(values, (0, 100)), [0, 0, 128, 255, 255, 0, 255, 0])
    np.testing.assert_array_equal(stretch_values(np.array([0, 65535], np.uint16), (0, 65535)), [0, 255])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (63, 5), (1, 200)])
def test_rasters_smaller_than_a_window(tmp_path: Path, size: tuple[int, int]) -> None:
    layers = picture(*size)
    found = go(save(tmp_path / "a.tif", layers, **UTM), tmp_path / "o.tif")
    np.testing.assert_array_equal(found, classes_of(layers))


def test_nodata_inside_and_at_the_rim(tmp_path: Path) -> None:
    layers = picture(90, 130).clip(1, 255)
    layers[:, :, 100:], layers[:, 30:33, 40:45] = 0, 0
    found = go(save(tmp_path / "a.tif", layers, nodata=0, **UTM), tmp_path / "o.tif")
    np.testing.assert_array_equal(found, np.where((layers == 0).all(0), IGNORE, classes_of(layers)))


def test_a_raster_without_any_data(tmp_path: Path) -> None:
    found = go(save(tmp_path / "a.tif", np.zeros((3, 90, 130), np.uint8), nodata=0, **UTM), tmp_path / "o.tif")
    assert (found == IGNORE).all()


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    corners = [(0, 0, 497000, 5420000), (0, 130, 497013, 5420001), (90, 0, 496999, 5419991)]
    points = [GroundControlPoint(row=r, col=c, x=x, y=y) for r, c, x, y in corners]
    source = save(tmp_path / "a.tif", picture(90, 130), gcps=points, crs="EPSG:25832")
    run_predictor(predictor(), inspect_source(source, None), tmp_path / "o.tif", SMALL)
    with rasterio.open(tmp_path / "o.tif") as file:
        kept, crs = file.gcps
    assert [(p.row, p.col, p.x, p.y) for p in kept] == corners
    assert crs.to_epsg() == 25832


TRUNCATED: dict[str, dict[str, object]] = {
    "deflate": {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "JPEG": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "strips": {},
    "PNG": {"driver": "PNG"},
}


@pytest.mark.parametrize("kind", TRUNCATED)
@pytest.mark.parametrize("share", [0.01, 0.6])
def test_a_truncated_file_is_refused_and_leaves_no_map(tmp_path: Path, kind: str, share: float) -> None:
    path = save(tmp_path / "a.tif", picture(200, 200), **TRUNCATED[kind])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.tif: (cannot be|starts with)"):
        run_predictor(predictor(), inspect_source(path, None), tmp_path / "o.tif", SMALL)
    assert not (tmp_path / "o.tif").exists()
