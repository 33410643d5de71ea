"""What a network guesses of a crop: at the scale it was trained at, and by the pixels that speak most for a class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio.crs import CRS
from torch import Tensor

from weakseg.core.classes import ClassScheme
from weakseg.inference.model import Predictor
from weakseg.raster.header import RasterInfo
from weakseg.raster.write import write_raster
from weakseg.tagging.guesses import Guesser, predict_with, presence
from weakseg.tagging.pictures import CropPictures
from weakseg.training.machine import machine_from_environment

SCHEME = ClassScheme(("dark", "bright"), ((1, 1, 1), (2, 2, 2)))
SIZES: list[tuple[int, ...]] = []


def brightness(images: Tensor) -> Tensor:
    """A network that everybody can check: as likely bright as the first band; it notes what sizes it sees."""
    SIZES.append(tuple(images.shape[2:]))
    bright = images[:, :1].float() / 255
    return torch.cat([1 - bright, bright], 1)


def guess(folder: Path, gsd: float | None, scale: float = 1.0) -> dict[str, float]:
    """Of the crop at row 20, column 30 of 40 x 40 px, whose raster has 0.5 m per px."""
    SIZES.clear()
    predictor = Predictor(brightness, SCHEME, scale, gsd, torch.device("cpu"), "digest")
    pictures = CropPictures(folder, {"a": (100, 120)}, folder / "cache")
    load = lambda: (SCHEME.names, "digest", predict_with(predictor, folder, machine_from_environment()))  # noqa: E731
    guesser = Guesser(load, pictures, ("bright", "tree"))
    (found,) = guesser.guess([("a", (20, 30, 40, 40))], patience=20)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A raster that is bright around the crop and in a corner of it of 8 x 8 px, a twenty-fifth of the crop."""
    image = np.full((100, 120, 3), 204, np.uint8)
    image[20:60, 30:70] = 51
    image[20:28, 30:38] = 153
    crs = CRS.from_epsg(25832).to_wkt()
    place = RasterInfo(100, 120, 3, "uint8", crs=crs, transform=(0.5, 0, 500000.0, 0, -0.5, 5400000.0))
    write_raster(tmp_path / "a.tif", image, place)
    return tmp_path


def test_a_guess_is_of_the_crop_and_not_of_its_surroundings(folder: Path) -> None:
    assert guess(folder, None) == {"bright": 0.6}  # of the workspace's classes, the one that the network has
    assert SIZES == [(68, 68)]  # 14 px around


@pytest.mark.parametrize(
    ("gsd", "scale", "side"), [(0.5, 1.0, 68), (1.0, 1.0, 34), (0.25, 1.0, 136), (0.5, 0.5, 34), (1.0, 0.5, 17)]
)
def test_the_network_sees_pixels_of_the_size_it_was_trained_on(
    folder: Path, gsd: float, scale: float, side: int
) -> None:
    assert guess(folder, gsd, scale)["bright"] == pytest.approx(0.6, abs=0.1)  # the bright rim leaks in
    assert [(side, side)] == SIZES


def test_a_large_crop_goes_through_in_parts(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.full((700, 900, 3), 102, np.uint8))
    predictor = Predictor(brightness, SCHEME, 1.0, None, torch.device("cpu"), "digest")
    SIZES.clear()
    maps = predict_with(predictor, tmp_path, machine_from_environment())("a", np.full((700, 900, 3), 102, np.uint8))
    assert maps.shape == (2, 700, 900)
    np.testing.assert_allclose(maps[1], 0.4, atol=1e-5)
    assert set(SIZES) == {(512, 512)}


def test_presence_is_the_mean_of_the_likeliest_hundredth() -> None:
    maps = np.zeros((2, 30, 30), np.float32)
    maps[0, 0, 0] = 1.0  # outside the window
    maps[1, 10, 10:13] = 0.8  # three px of 400, of which four have a say
    np.testing.assert_allclose(presence(maps, (10, 10, 20, 20)), [0.0, 0.6], atol=1e-6)
    assert presence(maps, (10, 10, 1, 2)).tolist() == pytest.approx([0.0, 0.8])  # two px: both


def test_a_network_that_knows_what_it_was_trained_on_guesses_classes_alone(folder: Path) -> None:
    """Its applicability index is no class: guesses once failed where the model file had one."""
    blind = Predictor(brightness, SCHEME, 1.0, None, torch.device("cpu"), "digest")
    knowing = replace(blind, with_index=lambda images: torch.cat([brightness(images), 9.0 + images[:, :1]], 1))
    image = np.full((40, 40, 3), 102, np.uint8)
    maps = [predict_with(each, folder, machine_from_environment())("a", image) for each in (knowing, blind)]
    assert maps[0].shape == (2, 40, 40)
    np.testing.assert_array_equal(*maps)
