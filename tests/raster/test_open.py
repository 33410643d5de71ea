"""Rasters: pixels and place survive, and every kind of wrong file is refused with its cure."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from tests.generators.plain_rasters import save_raster as save

from weakseg.core.classes import IGNORE, ISPRS, ClassScheme
from weakseg.core.errors import DataError
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_image, read_mask, read_overview, read_valid, read_window
from weakseg.raster.write import write_raster

ROTATED = (0.08, 0.03, 497000.0, 0.03, -0.08, 5420000.0)  # turned by about 20 degrees
PLACED = RasterInfo(6, 8, 3, "uint8", crs=CRS.from_epsg(25832).to_wkt(), transform=ROTATED, nodata=7.0)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("compress", [False, True])
def test_tif_keeps_pixels_and_a_rotated_place(tmp_path: Path, image: np.ndarray, compress: bool) -> None:
    path = tmp_path / "a.tif"
    write_raster(path, image, PLACED, compress=compress)
    np.testing.assert_array_equal(read_image(path), image)
    info = read_info(path)
    assert replace(info, crs=None) == replace(PLACED, crs=None)
    assert info.crs is not None
    assert CRS.from_wkt(info.crs).to_epsg() == 25832
    assert pickle.loads(pickle.dumps(info)) == info
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(path) as file:
        assert file.compression is (rasterio.enums.Compression.deflate if compress else None)
        assert not file.profile["tiled"]  # a small raster is one strip: tiles would be filled up


def test_png_keeps_pixels_and_leaves_nothing_else_behind(tmp_path: Path, image: np.ndarray) -> None:
    write_raster(tmp_path / "a.png", image, RasterInfo(6, 8, 1, "float32", nodata=0.0))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert not read_info(tmp_path / "a.png").georeferenced


def test_jpeg_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.full((3, 16, 16), 90, np.uint8), "JPEG")
    assert np.abs(read_image(path).astype(int) - 90).max() <= 1


def test_world_files_give_the_place(tmp_path: Path) -> None:
    layers = np.full((3, 8, 8), 50, np.uint8)
    # pixel size x, rotation terms, pixel size y, then x and y of the CENTRE of the first pixel
    world = "0.09\n0.01\n0.01\n-0.09\n1000.05\n1999.96\n"
    for name, driver, suffix in (("a.tif", "GTiff", ".tfw"), ("b.png", "PNG", ".pgw"), ("c.jpg", "JPEG", ".jgw")):
        path = save(tmp_path / name, layers, driver)
        path.with_suffix(suffix).write_text(world)
        transform = read_info(path).transform
        assert transform == pytest.approx((0.09, 0.01, 1000.0, 0.01, -0.09, 2000.0), abs=1e-9)


def test_no_place_gives_none_and_no_warning(tmp_path: Path, image: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_raster(tmp_path / "a.tif", image)
        info = read_info(tmp_path / "a.tif")
    assert info == RasterInfo(6, 8, 3, "uint8")
    assert not info.georeferenced


def test_scores_keep_their_values_and_nodata_that_no_pixel_can_have_is_dropped(tmp_path: Path) -> None:
    scores = np.linspace(0, 1, 6 * 8 * 2, dtype=np.float32).reshape(6, 8, 2)
    write_raster(tmp_path / "a.tif", scores, replace(PLACED, nodata=-9999.0), compress=True)
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), scores)
        assert file.nodata == -9999.0
    write_raster(tmp_path / "b.tif", np.zeros((6, 8), np.uint8), replace(PLACED, nodata=-9999.0))
    assert read_info(tmp_path / "b.tif").nodata is None


def test_bands_are_chosen_by_number(tmp_path: Path) -> None:
    layers = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 5, 6), np.uint8)
    path = save(tmp_path / "a.tif", layers)
    assert read_image(path, bands=(4, 1, 2))[2, 3].tolist() == [3, 0, 1]
    assert read_window(path, (0, 0, 1, 1), bands=(2, 2, 2)).tolist() == [[[1, 1, 1]]]
    with pytest.raises(DataError, match=r"4 band\(s\); expected 3 bands; choose three with bands"):
        read_image(path)
    for bands in ((0, 1, 2), (1, 2, 5), (1, 2)):
        with pytest.raises(DataError, match="three numbers from 1 to 4"):
            read_image(path, bands=bands)


def test_window_equals_the_slice(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    write_raster(path, image)
    np.testing.assert_array_equal(read_window(path, (1, 2, 4, 5)), image[1:5, 2:7])
    np.testing.assert_array_equal(read_window(path, (0, 0, 6, 8)), image)
    for window in ((3, 0, 4, 2), (-1, 0, 2, 2), (0, 7, 1, 2), (0, 0, 0, 2)):
        with pytest.raises(DataError, match="inside the raster of 6x8 px; clip the window"):
            read_window(path, window)
    with pytest.raises(DataError, match="1 to 10 px"):
        read_window(path, (0, 0, 4, 4), max_pixels=10)


def test_other_depths_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.full((3, 4, 4), 300, np.uint16))
    with pytest.raises(DataError, match=r"a.tif: dtype uint16; expected uint8 .*; convert it, e.g. gdal_translate"):
        read_image(path)
    with pytest.raises(DataError, match="dtype uint16"):
        read_mask(path, ISPRS)
    assert read_info(path).dtype == "uint16"


@pytest.mark.parametrize(("name", "driver"), [("a.tif", "GTiff"), ("a.png", "PNG"), ("a.jpg", "JPEG")])
@pytest.mark.parametrize("keep", [0.98, 0.4])
def test_files_cut_short_are_refused(tmp_path: Path, name: str, driver: str, keep: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3, 90, 90), dtype=np.uint8)
    path = save(tmp_path / name, noise, driver)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(DataError, match=r"cannot be read .*; copy or download the file again"):
        read_image(path)


def test_pixel_count_is_checked_before_pixels_are_read(tmp_path: Path) -> None:
    # 40000 x 40000 px in a few hundred bytes: blocks that were never written
    path = tmp_path / "bomb.tif"
    size = {"count": 3, "height": 40000, "width": 40000, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rasterio.open(path, "w", driver="GTiff", tiled=True, sparse_ok=True, **size).close()
    for read in (read_info, read_image):
        with pytest.raises(DataError, match="40000x40000 px; expected at most 1000000000 px"):
            read(path, max_pixels=1_000_000_000)
    with pytest.raises(DataError, match="bombs"):
        read_mask(path, ISPRS, max_pixels=10)
    assert read_window(path, (39990, 39990, 10, 10)).sum() == 0


def test_mask_in_colours_and_in_indices_agree(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [3, 4, IGNORE]], np.uint8)
    write_raster(tmp_path / "plain.tif", mask)
    write_raster(tmp_path / "table.tif", mask, colours=ISPRS)
    write_raster(tmp_path / "table.png", mask, colours=ISPRS)
    write_raster(tmp_path / "colours.tif", ISPRS.to_colours(mask))
    for name in ("plain.tif", "table.tif", "table.png", "colours.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, ISPRS), mask)
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "table.tif") as file:
        assert file.colormap(1)[4] == (255, 255, 0, 255)


def test_ignore_survives_a_table_where_it_looks_like_a_class(tmp_path: Path) -> None:
    scheme = ClassScheme(("background", "house"), ((0, 0, 0), (9, 9, 9)))  # no ignored colour: 255 is painted black
    mask = np.array([[0, 1, IGNORE]], np.uint8)
    write_raster(tmp_path / "a.tif", mask, colours=scheme)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif", scheme), mask)


def test_transparent_pixels_of_a_mask_are_ignore(tmp_path: Path) -> None:
    layers = np.full((4, 2, 2), 255, np.uint8)
    path = save(tmp_path / "a.png", layers, "PNG")
    assert read_mask(path, ISPRS).tolist() == [[0, 0], [0, 0]]
    layers[3, 0, 0] = 0
    assert read_mask(save(tmp_path / "b.png", layers, "PNG"), ISPRS).tolist() == [[IGNORE, 0], [0, 0]]
    layers[3, 0, 1] = 100
    with pytest.raises(DataError, match="an alpha band that is neither 0 nor 255 at 1 px"):
        read_mask(save(tmp_path / "c.png", layers, "PNG"), ISPRS)
    with pytest.raises(DataError, match="5 bands; expected a label with 1 band of indices or 3 of colours"):
        read_mask(save(tmp_path / "d.tif", np.zeros((5, 2, 2), np.uint8)), ISPRS)


def test_mask_errors_name_the_file(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.full((3, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"a\.tif: 9 px of values out of range"):
        read_mask(tmp_path / "a.tif", ISPRS)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"suffix '\.jpg'; expected one of \.tif"):
        write_raster(tmp_path / "a.jpg", image)
    with pytest.raises(DataError, match=r"keeps no CRS; expected a \.tif"):
        write_raster(tmp_path / "a.png", image, PLACED)
    with pytest.raises(DataError, match=r"shape \(6, 7\); expected 6x8 px like its raster"):
        write_raster(tmp_path / "a.tif", image[:, :7, 0], PLACED)
    with pytest.raises(DataError, match="expected an index mask"):
        write_raster(tmp_path / "a.tif", image, colours=ISPRS)
    (tmp_path / "a.tif").mkdir()  # a folder where the file should go
    with pytest.raises(DataError, match=r"cannot write .*a\.tif"):
        write_raster(tmp_path / "a.tif", image)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette_images_are_read_as_their_colours(tmp_path: Path, suffix: str) -> None:
    colours = np.array([[200, 10, 20], [30, 210, 40], [50, 60, 220]], np.uint8)
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(colours.ravel().tolist())
    path = tmp_path / f"a{suffix}"
    picture.save(path)
    np.testing.assert_array_equal(read_image(path), colours[indices])
    np.testing.assert_array_equal(read_image(path, bands=(3, 1, 2)), colours[indices][..., [2, 0, 1]])
    np.testing.assert_array_equal(read_window(path, (1, 0, 1, 2)), colours[indices][1:, :2])
    with pytest.raises(DataError, match=r"a palette raster, bands 1,1,1; expected 1, 2 and 3 in any order"):
        read_image(path, bands=(1, 1, 1))


def test_a_raster_that_lies_by_control_points_is_refused(tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row, col, 500000 + col, 5300000 - row) for row in (0, 4) for col in (0, 5)]
    profile = {"driver": "GTiff", "height": 4, "width": 5, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, crs="EPSG:25832", gcps=points) as file:
        file.write(np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"lies on Earth by 4 ground control points; .*gdalwarp"):
        read_info(tmp_path / "a.tif")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_that_lies_by_rational_polynomials_is_refused_here_and_kept_in_maps(tmp_path: Path) -> None:
    from rasterio.rpc import RPC

    from weakseg.raster.stream import inspect_source
    from weakseg.raster.write import write_bands

    one, line, sample = [1.0] + [0.0] * 19, [0.0, 0.0, -1.0] + [0.0] * 17, [0.0, 1.0] + [0.0] * 18
    points = RPC(0.0, 500.0, 47.8, 0.1, one, line, 2.0, 2.0, 9.0, 0.1, one, sample, 3.0, 3.0, -1.0, -1.0)
    profile = {"driver": "GTiff", "height": 4, "width": 5, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, rpcs=points) as file:
        file.write(np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"lies on Earth by rational polynomials \(RPC\); .*gdalwarp"):
        read_info(tmp_path / "a.tif")
    source = inspect_source(tmp_path / "a.tif", None)
    write_bands(tmp_path / "map.tif", [np.zeros((1, 4, 5), np.uint8)], source, names=("class",))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.rpcs == points


def test_an_overview_is_a_small_picture_of_the_whole(tmp_path: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, :40] = (200, 100, 50)
    write_raster(tmp_path / "a.tif", image)
    small = read_overview(tmp_path / "a.tif", 8)
    assert small.shape == (4, 8, 3)
    assert (small[:2, :4] == (200, 100, 50)).all()
    assert not small[2:].any()
    assert (read_overview(tmp_path / "a.tif", 500) == image).all()  # never larger than the raster


def test_where_a_window_has_data_is_that_part_of_the_whole(tmp_path: Path) -> None:
    valid = np.zeros((40, 80), bool)
    valid[10:30, 5:50] = True
    write_raster(tmp_path / "a.tif", np.full((40, 80, 3), 9, np.uint8), valid=valid)
    found = read_valid(tmp_path / "a.tif", window=(8, 40, 10, 20))
    assert found is not None
    assert (found == valid[8:18, 40:60]).all()
    assert read_valid(tmp_path / "a.tif", window=(12, 6, 10, 20)) is None


def test_a_header_that_announces_far_more_than_its_file_has_is_refused(tmp_path: Path) -> None:
    """A GeoTIFF may leave out blocks, so that a few kB announce any number of px."""
    import rasterio

    for side, taken in ((30_000, False), (20_000, True)):
        path = tmp_path / f"{side}.tif"
        how = {"driver": "GTiff", "count": 1, "dtype": "uint8", "tiled": True, "SPARSE_OK": True, "compress": "deflate"}
        with rasterio.open(path, "w", height=side, width=side, blockxsize=4096, blockysize=4096, **how):
            pass
        assert path.stat().st_size < 3000
        if taken:
            assert read_info(path).height == side
            continue
        with pytest.raises(DataError, match=r"30000x30000 px of 1 band\(s\) in \d+ bytes; expected at most 4000 times"):
            read_info(path)
