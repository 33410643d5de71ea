"""Areas that show the same: found by their pixels and by their place, refused or said by the tiles stage."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform as project

from weakseg.core.errors import DataError, StageError
from weakseg.data.shared_ground import SameImages, describe_overlaps, overlap_of
from weakseg.raster.gsd import describe_gsds
from weakseg.raster.header import RasterInfo
from weakseg.stages import tiles
from weakseg.stages.evaluate import _check_scale

UTM, NEXT = (CRS.from_epsg(code).to_wkt() for code in (25832, 25833))


def raster(column: float, row: float, side: int = 100, *, px: float = 0.5, crs: str | None = UTM) -> RasterInfo:
    """A raster whose corner lies that many px of .5 m right of and below a place in UTM."""
    return RasterInfo(side, side, 3, "uint8", crs, (px, 0.0, 500000 + column / 2, 0.0, -px, 5800000 - row / 2))


@pytest.mark.parametrize(
    ("other", "share"),
    [
        (raster(0, 0), 1.0),
        (raster(50, 0), 0.5),
        (raster(-75, 75), 1 / 16),
        (raster(100, 0), 0.0),
        (raster(0, 0, 50, px=2.0), 1.0),  # larger, of coarser px
        (raster(20, 20, 10), 0.01),
        (raster(0, 0, crs=None), 0.0),
    ],
)
def test_the_share_of_an_area_that_another_covers(other: RasterInfo, share: float) -> None:
    placed = describe_overlaps({"v": raster(0, 0)}, {"t": other})
    if other.crs is not None:
        assert overlap_of(raster(0, 0), other) == pytest.approx(share, abs=1e-4)
    assert bool(placed) == (share >= 0.01)


def test_a_turned_square_covers_what_its_corners_enclose() -> None:
    """Its upright box would cover all: a square on its tip, of half the area."""
    half, (x, y) = 25.0, (500000 + 25.0, 5800000 - 25.0)
    turned = rasterio.Affine.translation(x, y) @ rasterio.Affine.rotation(45) @ rasterio.Affine.scale(0.5, -0.5)
    turned = turned @ rasterio.Affine.translation(-half * math.sqrt(2), -half * math.sqrt(2))
    side = round(2 * half * math.sqrt(2))
    info = RasterInfo(side, side, 3, "uint8", UTM, tuple(turned)[:6])
    assert overlap_of(raster(0, 0), info) == pytest.approx(0.5, abs=0.01)


def test_one_place_in_two_zones_is_one_place() -> None:
    (x,), (y,) = project("EPSG:25832", "EPSG:25833", [500025.0], [5799975.0])
    there = RasterInfo(100, 100, 3, "uint8", NEXT, (0.5, 0.0, x - 25, 0.0, -0.5, y + 25))
    assert overlap_of(raster(0, 0), there) > 0.8  # the zones are turned to each other by some degrees
    assert "% of v in t)" in describe_overlaps({"v": raster(0, 0)}, {"t": there})
    same_numbers = raster(0, 0, crs=NEXT)
    assert describe_overlaps({"v": raster(0, 0)}, {"t": same_numbers}) == ""


def test_the_sentence_names_three() -> None:
    said = describe_overlaps({"v": raster(0, 0)}, {f"t{i}": raster(10 * i, 0) for i in range(5)})
    assert "100% of v in t0, 90% of v in t1, 80% of v in t2 and 2 more" in said


def test_images_are_known_by_their_pixels() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    same = SameImages()
    assert same.check("a", "pixel", image) == same.check("b", "tags", image + 1) == same.check("c", "tags", image) == ""
    assert same.check("d", "validation", image[::-1].copy()) == ""
    assert same.check("e", "validation", image.reshape(2, 8, 3)) == ""
    assert same.check("f", "validation", image + 1).startswith("validation area f is the image of b in N2, px for px")
    with pytest.raises(DataError, match=r"validation area g is the image of a in N1.*data split"):
        same.check("g", "validation", image)
    blank = np.zeros((4, 4, 3), np.uint8)
    assert same.check("h", "pixel", blank) == same.check("i", "validation", blank) == ""


def edit(root: Path, **areas: list[str]) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["tiles"]["areas"] |= areas
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def place(root: Path, folder: str, area: str, x: float, *, px: float = 0.5) -> None:
    with rasterio.open(root / "data" / folder / f"{area}.tif", "r+") as file:
        file.crs, file.transform = CRS.from_epsg(25832), from_origin(x, 5800000, px, px)


def test_tiles_refuses_an_image_of_n1_under_another_name(workspace: Path) -> None:
    for folder in ("images", "labels"):
        shutil.copyfile(workspace / "data" / folder / "p1.tif", workspace / "data" / folder / "v2.tif")
    edit(workspace, validation=["v1", "v2"])
    with pytest.raises(DataError, match="validation area v2 is the image of p1 in N1, px for px"):
        tiles.run(workspace)


def test_tiles_says_shared_ground_and_other_px(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "labels"):
        for index, area in enumerate(("p1", "p2", "t1", "t2")):
            place(workspace, folder, area, 500000 + 32 * index)
        place(workspace, folder, "v1", 500000 + 32 * 4)
    tiles.run(workspace)
    assert "ground" not in capfd.readouterr().err  # side by side
    for folder in ("images", "labels"):
        place(workspace, folder, "v1", 500000 + 32 + 8, px=1.0)
    tiles.run(workspace)
    said = capfd.readouterr().err
    assert "19% of v1 in p2, 25% of v1 in t1, 6% of v1 in t2" in said
    assert re.search(r"px are of 0\.5 m \(..\) to 1 m \(v1\): the stages take them as they are", said)


def test_px_of_pictures_without_a_place_are_not_compared(workspace: Path) -> None:
    files = {area: workspace / "data" / "images" / f"{area}.tif" for area in ("p1", "v1")}
    assert describe_gsds(files) == ""
    place(workspace, "images", "p1", 500000)
    assert describe_gsds(files) == ""
    place(workspace, "images", "v1", 500000, px=0.51)
    assert describe_gsds(files) == ""  # within 5 %


def test_a_mask_that_lies_elsewhere_than_its_image_is_refused(workspace: Path) -> None:
    place(workspace, "images", "t1", 500000)
    tiles.run(workspace)  # a mask without a place lies where its image lies
    place(workspace, "labels", "t1", 500000.25)
    with pytest.raises(DataError, match=r"t1\.tif lies 0\.5 px off .*import both again"):
        tiles.run(workspace)


def test_validation_without_a_labelled_pixel_is_refused_and_a_part_of_it_said(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DataError, match=r"no pixel of validation has a class \(a, b\)"):
        tiles.check_validation({"a": 0, "b": 0})
    tiles.check_validation({"a": 5000, "b": 0})
    assert "no pixel of b has a class" in capfd.readouterr().err
    tiles.check_validation({"a": 1})
    assert "1 px of validation have a class" in capfd.readouterr().err


def test_a_network_of_another_scale_is_not_evaluated(tmp_path: Path) -> None:
    _check_scale(tmp_path, 0.5, 0.5)
    _check_scale(tmp_path, None, 0.5)  # of before files said it
    with pytest.raises(StageError, match=r"trained at tiles\.scale 1, the validation areas are at 0\.5"):
        _check_scale(tmp_path, 1.0, 0.5)
