"""A raster that the disk took a part of is refused, though GDAL and rasterio say that it is written."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from weakseg.core.errors import DataError
from weakseg.maps.cog import write_cog
from weakseg.raster.open import read_image
from weakseg.raster.whole import tiff_is_whole
from weakseg.raster.write import write_raster

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"blockysize": 16},
    "one strip": {"blockysize": 250},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "planes": {"interleave": "band"},
    "packed": {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big endian": {"ENDIANNESS": "BIG"},
    "big endian BigTIFF": {"ENDIANNESS": "BIG", "BIGTIFF": "YES", "tiled": True, "blockxsize": 64, "blockysize": 64},
}


def noise(side: int = 250, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes of a file fail, as they do on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_raster_that_lacks_its_end_is_an_error_and_the_old_one_stays(name: str, tmp_path: Path) -> None:
    write_raster(tmp_path / name, noise(seed=1))
    old = (tmp_path / name).read_bytes()
    for short in (1, 3000, 60_000, len(old) - 100):
        with no_file_above(len(old) - short), pytest.raises(DataError, match=r"cannot write .*make room"):
            write_raster(tmp_path / name, noise())
        assert (tmp_path / name).read_bytes() == old
        assert [path.name for path in tmp_path.iterdir()] == [name]
    write_raster(tmp_path / name, noise())
    assert np.array_equal(read_image(tmp_path / name), noise())


def test_a_cog_that_lacks_its_end_is_an_error(tmp_path: Path) -> None:
    write_raster(tmp_path / "plain.tif", noise(600)[..., 0])
    write_cog(tmp_path / "plain.tif", tmp_path / "cog.tif", classes=False)
    length = (tmp_path / "cog.tif").stat().st_size
    (tmp_path / "cog.tif").unlink()
    for short in (1, 5000, length - 500):
        with no_file_above(length - short), pytest.raises(DataError, match="cannot write"):
            write_cog(tmp_path / "plain.tif", tmp_path / "cog.tif", classes=False)
        assert not (tmp_path / "cog.tif").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_whole_until_it_is_cut(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    shape = {"driver": "GTiff", "count": 3, "height": 250, "width": 250, "dtype": "uint8"}
    with rasterio.open(file, "w", **shape, **LAYOUTS[name]) as out:
        out.write(np.moveaxis(noise(), -1, 0))
    assert tiff_is_whole(file)
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 300, 20, 7, 0):
        file.write_bytes(content[:length])
        assert not tiff_is_whole(file), length


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_overviews_and_empty_tiles_count(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    shape = {"driver": "GTiff", "count": 1, "height": 512, "width": 512, "dtype": "uint8", "tiled": True}
    with rasterio.open(file, "w", **shape, SPARSE_OK=True, blockxsize=256, blockysize=256) as out:
        out.write(noise(256)[..., 0], 1, window=((0, 256), (0, 256)))
    assert tiff_is_whole(file)  # three of four tiles are nowhere
    with rasterio.open(file, "r+") as out:
        out.build_overviews([2], Resampling.nearest)
    assert tiff_is_whole(file)
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert not tiff_is_whole(file)
