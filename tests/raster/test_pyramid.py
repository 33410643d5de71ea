"""Pictures of a raster from any distance: values of tiles by hand, previews, overviews, rasters that end in a tile."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from tests.generators.plain_rasters import save_raster

from weakseg.core.classes import IGNORE
from weakseg.raster.pyramid import NEAR, NoTileError, NotReadyError, Pyramid, count_levels, shrink_picture, tile_window
from weakseg.raster.stream import inspect_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def smooth(height: int, width: int) -> np.ndarray:
    """uint8 (3, height, width), never 0."""
    coarse = np.random.default_rng(0).integers(40, 220, (8, 8, 3), dtype=np.uint8)
    return np.moveaxis(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), -1, 0).copy()


def test_levels_end_where_all_is_in_one_tile() -> None:
    assert [count_levels(*size) for size in ((1, 1), (256, 10), (257, 10), (512, 513), (10_000, 1))] == [1, 1, 2, 3, 7]


def test_a_tile_shows_its_part_of_the_raster(tmp_path: Path) -> None:
    layers = smooth(300, 600)
    source = inspect_source(save_raster(tmp_path / "a.tif", layers), None)
    assert tile_window(source, 0, 2, 1) == (256, 512, 44, 88)
    assert tile_window(source, 1, 1, 0) == (0, 512, 300, 88)
    tile = Pyramid(source, tmp_path / "p.tif").tile(0, 2, 1)
    np.testing.assert_array_equal(tile[..., :3], np.moveaxis(layers[:, 256:, 512:], 0, -1))
    assert (tile[..., 3] == 255).all()
    for level, column, row in ((0, 3, 0), (0, 0, 2), (3, 0, 0), (-1, 0, 0), (0, -1, 0)):
        with pytest.raises(NoTileError, match="one of this raster"):
            tile_window(source, level, column, row)


def test_means_leave_out_what_has_no_data() -> None:
    image = np.array([[[10, 20, 30], [30, 40, 50], [200, 0, 0]], [[0, 0, 0], [0, 0, 0], [100, 0, 0]]], np.uint8)
    valid = np.array([[True, True, True], [False, False, True]])
    # a square of four with two valid ones, and one of two at the edge, both valid
    assert shrink_picture(image, valid, 2).tolist() == [[[20, 30, 40, 255], [150, 0, 0, 255]]]
    valid[0, 0] = valid[0, 2] = valid[1, 2] = False
    assert shrink_picture(image, valid, 2)[0, :, 3].tolist() == [0, 0]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5000 x 4500 px, so that tiles from afar need a preview; the left 2048 columns have no data."""
    layers = smooth(5000, 4500)
    layers[:, :, :2048] = 0
    return save_raster(tmp_path_factory.mktemp("large") / "a.tif", layers, nodata=0)


def test_from_afar_a_preview_is_read_that_is_written_once(large: Path, tmp_path: Path) -> None:
    pyramid = Pyramid(inspect_source(large, None), tmp_path / "p.tif")
    assert (pyramid.levels, pyramid.lacks_preview) == (6, True)
    with pytest.raises(NotReadyError, match="look from near"):
        pyramid.tile(NEAR + 1, 0, 0)
    told: list[tuple[int, int]] = []
    pyramid.write_preview(lambda done, total: told.append((done, total)))
    assert told == [(done, 9) for done in range(10)]
    assert not pyramid.lacks_preview
    assert not large.with_name("a.tif.ovr").exists()
    with rasterio.open(large) as file:
        means = cv2.resize(
            np.moveaxis(file.read(), 0, -1).astype(np.float32), None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA
        )
    tile = pyramid.tile(4, 1, 0)
    assert tile.shape == (256, 26, 4)  # 4500 px are 281.25 of 16
    np.testing.assert_allclose(tile[:, :25, :3], means[:256, 256:281], atol=2)
    nothing = pyramid.tile(4, 0, 0)[..., 3]
    assert (nothing[:, :128] == 0).all()
    assert (nothing[:, 128:] == 255).all()
    assert pyramid.tile(5, 0, 0).shape == (157, 141, 4)


def test_overviews_of_the_file_are_used_where_there_are_any(large: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.tif"
    path.write_bytes(large.read_bytes())
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8, 16], Resampling.average)
    pyramid = Pyramid(inspect_source(path, None), tmp_path / "none.tif")
    assert not pyramid.lacks_preview
    with rasterio.open(path, OVERVIEW_LEVEL=3) as file:
        expected = file.read()
    found = pyramid.tile(4, 1, 1)[..., :3]  # the overview's 313 rows are no 16th of 5000 exactly
    np.testing.assert_allclose(found, np.moveaxis(expected[:, 256:, 256:], 0, -1), atol=4)
    assert (pyramid.tile(5, 0, 0)[:, :64, 3] == 0).all()
    # bytes that are stretched, and palettes, are no picture as they are
    assert Pyramid(inspect_source(path, None, (0, 100)), tmp_path / "none.tif").lacks_preview


def test_values_are_stretched_before_they_are_averaged(tmp_path: Path) -> None:
    values = np.full((3, 8, 8), 1000, np.uint16)
    values[:, :, ::2] = 3000  # beyond the bright end
    source = inspect_source(save_raster(tmp_path / "a.tif", values), None, (0, 2000))
    assert shrink_of(source, tmp_path) == [[[192, 192, 192, 255]]]  # the mean of 255 and 128


def shrink_of(source: object, tmp_path: Path) -> list[object]:
    tile = Pyramid(source, tmp_path / "p.tif")._near((0, 0, 8, 8), 8)  # type: ignore[arg-type]
    assert IGNORE not in tile[..., :3]
    return list(tile.tolist())
