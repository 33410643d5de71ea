"""Scale, offset and unit of bands: heights are brought to metres, classes and pictures with a scale are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from weakseg.core.bands import Bands, known_band, load_bands
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ImportProblems
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.height_pairing import Beside
from weakseg.raster.band_names import BandChoice
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.heights import HeightFiles, find_heights, read_heights
from weakseg.raster.open import read_image, read_label, read_layers
from weakseg.raster.stream import inspect_source

PLACE = from_origin(500000, 5300000, 0.3, 0.3)


def write(path: Path, values: Any, *, crs: str = "EPSG:25832", **said: Any) -> Path:
    layers = values if values.ndim == 3 else values[None]
    count, height, width = layers.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=layers.dtype, crs=crs, transform=PLACE
    ) as file:
        file.write(layers)
        for key, value in said.items():
            setattr(file, key, value if key == "nodata" or isinstance(value, tuple) else (value,) * count)
    return path


@pytest.mark.parametrize(
    ("said", "metres"),
    [
        ({}, 250.0),
        ({"scales": 0.1}, 25.0),
        ({"offsets": 100.0}, 350.0),
        ({"units": "cm"}, 2.5),
        ({"units": "ft"}, 76.2),
        ({"units": "US survey foot"}, 250 * 1200 / 3937),
        ({"units": "ft", "scales": 0.1, "offsets": 10.0}, (25 + 10) * 0.3048),
        ({"crs": "EPSG:25832+6360"}, 250 * 1200 / 3937),  # NAVD88 in US survey feet
        ({"crs": "EPSG:25832+5783"}, 250.0),
    ],
)
@pytest.mark.parametrize("placed", [True, False])
def test_heights_become_metres(tmp_path: Path, said: dict[str, Any], metres: float, placed: bool) -> None:
    path = write(tmp_path / "dsm.tif", np.full((4, 5), 250, np.int16), **said)
    image = RasterInfo(4, 5, 3, "uint8", None, tuple(PLACE)[:6] if placed else None)
    np.testing.assert_allclose(read_heights(HeightFiles(path), image), np.full((4, 5), metres), rtol=1e-6)


def test_holes_of_heights_are_found_before_they_are_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "dsm.tif", np.array([[-9999, 250]], np.int16), nodata=-9999, scales=0.1)
    found = read_heights(HeightFiles(path), RasterInfo(1, 2, 3, "uint8"))
    assert np.isnan(found[0, 0])
    assert found[0, 1] == np.float32(25.0)


def test_heights_in_another_unit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "dsm.tif", np.full((4, 5), 250, np.int16), units="degree")
    with pytest.raises(DataError, match="heights in degree; expected metres, or feet"):
        read_heights(HeightFiles(path), RasterInfo(4, 5, 3, "uint8"))


@pytest.mark.parametrize("said", [{"scales": 0.1}, {"offsets": 1.0}])
def test_masks_and_pictures_with_a_scale_are_refused(tmp_path: Path, said: dict[str, float]) -> None:
    mask = write(tmp_path / "mask.tif", np.zeros((4, 5), np.uint8), **said)
    with pytest.raises(DataError, match=r"mask.tif: a mask of band 1 with scale"):
        read_label(mask, ISPRS)
    image = write(tmp_path / "image.tif", np.zeros((3, 4, 5), np.uint8), **said)
    with pytest.raises(DataError, match=r"image.tif: an image of band 1 with scale"):
        read_image(image)
    for values, stretch in ((np.zeros((3, 4, 5), np.uint8), None), (np.zeros((3, 4, 5), np.uint16), (0.0, 3000.0))):
        with pytest.raises(DataError, match="an image of band 1 with scale"):
            inspect_source(write(tmp_path / "raster.tif", values, **said), None, stretch)


def deep(path: Path, **said: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    names = ("blue", "green", "red", "nir")
    return write(path, np.arange(4 * 16, dtype=np.uint16).reshape(4, 4, 4), descriptions=names, **said)


def imported(folder: Path) -> Bands:
    target = folder / "data"
    import_dataset(folder / "images", [], target, classes=ISPRS, allow_unlabelled=True)
    return load_bands(target)


def test_images_of_one_import_share_scale_and_offset(tmp_path: Path) -> None:
    """Products of two versions: the same number would mean two reflectances."""
    deep(tmp_path / "images" / "a.tif", scales=0.0001)
    other = deep(tmp_path / "images" / "b.tif", scales=0.0001, offsets=-0.1)
    with pytest.raises(DataError, match=r"b.tif: band blue with scale 0.0001 and offset -0.1; expected scale"):
        imported(tmp_path)
    other.unlink()
    bands = imported(tmp_path)
    assert [(band.scale, band.offset) for band in bands.members] == [(0.0001, 0.0)] * 4


def test_a_raster_to_predict_has_the_scale_of_the_training_images(tmp_path: Path) -> None:
    bands = Bands(tuple(known_band(name, dtype="uint16", scale=0.0001) for name in ("blue", "green", "red", "nir")))
    assert inspect_source(deep(tmp_path / "a.tif", scales=0.0001), None, wanted=bands).bands == (1, 2, 3, 4)
    for said in ({}, {"scales": 0.0001, "offsets": -0.1}):
        with pytest.raises(DataError, match=r"band 1 \(blue\) with .*; expected scale 0.0001 and offset 0 as"):
            inspect_source(deep(tmp_path / "b.tif", **said), None, wanted=bands)


def test_heights_inside_an_image_are_metres(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "height")
    (tmp_path / "images").mkdir()
    values = np.zeros((4, 4, 4), np.int16)
    write(tmp_path / "images" / "a.tif", values, descriptions=names, units=("", "", "", "ft"))
    with pytest.raises(DataError, match="height in band 4 with no scale, in ft; expected metres, as they are stored"):
        imported(tmp_path)
    path = write(tmp_path / "images" / "a.tif", values, descriptions=names, units=("", "", "", "m"))
    assert read_info(path).bands == 4
    assert imported(tmp_path).names == names


WHOLE = np.full((4, 5), 250, np.int16)


def delivery(folder: Path, one: dict[str, Any], other: dict[str, Any], *, packed: bool = False) -> Path:
    """Two images, and the heights of each, of which ``other`` says less (or more) of its numbers."""
    for kind in ("images", "dsm"):
        (folder / kind).mkdir()
    for name, said in (("a", one), ("b", other)):
        write(folder / "images" / f"{name}.tif", np.zeros((3, 4, 5), np.uint8))
        write(folder / "dsm" / f"{name}.tif", said.pop("values", WHOLE), **said)
    if not packed:
        return folder / "dsm"
    with zipfile.ZipFile(folder / "dsm.zip", "w") as archive:
        for path in sorted((folder / "dsm").iterdir()):
            archive.write(path, path.name)
    return folder / "dsm.zip"


def brought_in(folder: Path, heights: Path, terrain: Path | None = None) -> None:
    import_dataset(
        folder / "images", [], folder / "data", classes=ISPRS, bands=BandChoice((), ("red", "green", "blue")),
        heights=Beside(heights, terrain), allow_unlabelled=True, progress=False,
    )  # fmt: skip


FLOATS = WHOLE.astype(np.float32)
SAID_BY_ONE = [
    ({"units": "ft"}, {}, "heights in ft, and .* names no unit; expected a unit in both"),
    ({}, {"crs": "EPSG:25832+6360"}, "heights in US survey foot, and .* names no unit; expected a unit in both"),
    ({"units": "ft"}, {"values": FLOATS}, "heights in ft, and .* names no unit"),
    ({"scales": 0.1}, {}, "heights with scale 0.1 and offset 0, and .* names no scale"),
    ({"units": "m"}, {"units": "m", "offsets": 50.0}, "heights with scale 1 and offset 50, and .* names no scale"),
    ({"values": FLOATS, "scales": 0.3048}, {"values": FLOATS}, "with scale 0.3048 and offset 0, and .* no scale"),
    ({"nodata": 0}, {}, "heights with nodata 0, and .* names no nodata"),
    ({}, {"nodata": 8888}, "heights with nodata 8888, and .* names no nodata"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("one", "other", "words"), SAID_BY_ONE)
def test_an_import_refuses_heights_of_which_some_alone_say_what_they_are(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], words: str, packed: bool
) -> None:
    heights = delivery(tmp_path, dict(one), dict(other), packed=packed)
    with pytest.raises(ImportProblems, match=words) as caught:
        brought_in(tmp_path, heights)
    assert str(heights / "a.tif") in str(caught.value)
    assert str(heights / "b.tif") in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("one", "other", "words"), SAID_BY_ONE)
def test_predict_refuses_them_for_all_images_and_for_one_alone(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    heights = delivery(tmp_path, dict(one), dict(other))
    images = sorted((tmp_path / "images").iterdir())
    for chosen in (images, images[:1], images[1:]):
        with pytest.raises(DataError, match=words):
            find_heights(HeightFiles(heights), chosen)


def test_a_surface_and_its_terrain_are_used_together(tmp_path: Path) -> None:
    heights = delivery(tmp_path, {"units": "ft"}, {"units": "ft"})
    terrain = write(tmp_path / "dtm.tif", WHOLE)
    with pytest.raises(ImportProblems, match=r"a.tif: heights in ft, and .*dtm.tif names no unit"):
        brought_in(tmp_path, heights, terrain)
    with pytest.raises(DataError, match=r"a.tif: heights in ft, and .*dtm.tif names no unit"):
        find_heights(HeightFiles(heights, terrain), sorted((tmp_path / "images").iterdir()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"units": "m"}),  # metres are what silence means
        ({"units": "ft"}, {"units": "m"}),
        ({"scales": 0.1}, {"values": WHOLE.astype(np.float32)}),  # decimetres as whole numbers, metres as broken ones
        ({"scales": 0.1}, {"scales": 0.01}),
        ({"nodata": -9999}, {}),  # could be no height, so a raster that holds it is refused where it is read
        ({"nodata": 0}, {"nodata": -9999}),
    ],
)
def test_heights_that_each_say_what_they_are_come_in(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    heights = delivery(tmp_path, dict(one), dict(other))
    (heights / "broken.tif").write_bytes(b"no raster")
    brought_in(tmp_path, heights)
    assert all(find_heights(HeightFiles(heights), sorted((tmp_path / "images").iterdir())))


def test_the_cures_of_heights_work(tmp_path: Path) -> None:
    heights = delivery(tmp_path, {"units": "ft"}, {})
    with rasterio.open(heights / "b.tif", "r+") as file:
        file.units = ("m",)
    brought_in(tmp_path, heights)
    found = [float(read_layers(tmp_path / "data" / "images" / f"{name}.tif", [4])[0, 0, 0]) for name in "ab"]
    assert found == [pytest.approx(76.2), 250.0]


def test_heights_above_two_surfaces_are_refused_and_units_of_one_are_not(tmp_path: Path) -> None:
    """EGM96 and NAVD88 are up to metres apart: a surface model less a terrain model would be off by that."""
    heights = delivery(tmp_path, {"crs": "EPSG:25832+5773"}, {"crs": "EPSG:25832+5773"})
    images = sorted((tmp_path / "images").iterdir())
    terrain = write(tmp_path / "dtm.tif", WHOLE, crs="EPSG:25832+5703")
    for check in (
        lambda: brought_in(tmp_path, heights, terrain),
        lambda: find_heights(HeightFiles(heights, terrain), images),
    ):
        with pytest.raises(
            (DataError, ImportProblems), match=r"a.tif: heights above EGM96 geoid, and .*dtm.tif: above North"
        ):
            check()
    other = write(tmp_path / "other.tif", WHOLE, crs="EPSG:25832+6360")  # the same datum in feet
    assert all(find_heights(HeightFiles(terrain, other), images))
    assert all(find_heights(HeightFiles(heights, write(tmp_path / "silent.tif", WHOLE)), images))
