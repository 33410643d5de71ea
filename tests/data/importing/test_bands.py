"""Imports of other bands than three of 8 bits: names, depths, heights beside the images, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

from weakseg.core.bands import Bands, load_bands
from weakseg.core.errors import DataError, ImportProblems, ParamsError
from weakseg.core.portals import find_portal
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.height_pairing import Beside
from weakseg.raster.band_names import BandChoice, parse_choice
from weakseg.raster.open import read_bands
from weakseg.raster.stream import inspect_source

SIDE = 24
PLACE = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)


def save(path: Path, layers: npt.NDArray[Any], **options: Any) -> Path:
    """A GeoTIFF of layers (bands, H, W)."""
    names = options.pop("names", ())
    layout = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    profile = {"crs": "EPSG:25832", "transform": PLACE, **layout, **options}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(layers)
        if names:
            file.descriptions = names
    return path


def layers(count: int, dtype: str = "uint16", seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 200, (count, SIDE, SIDE)).astype(dtype)


def labels(root: Path, *areas: str) -> Path:
    for area in areas:
        save(root / "labels" / f"{area}.tif", np.zeros((1, SIDE, SIDE), np.uint8))
    return root / "labels"


def take(root: Path, *areas: str, bands: str | None = None, **options: Any) -> Bands:
    import_dataset(
        root / "images", [labels(root, *areas)], root / "data", bands=parse_choice(bands), progress=False, **options
    )
    return load_bands(root / "data")


def refused(root: Path, *areas: str, **options: Any) -> str:
    with pytest.raises(ImportProblems) as caught:
        take(root, *areas, **options)
    assert not (root / "data" / "images").exists()
    return str(caught.value)


def test_names_of_the_user_in_the_order_of_the_file(tmp_path: Path) -> None:
    pixels = layers(5)
    save(tmp_path / "images" / "a.tif", pixels)
    bands = take(tmp_path, "a", bands="red,green,blue,nir,height")
    assert bands.names == ("red", "green", "blue", "nir", "height")
    assert [(b.dtype, b.unit, b.colour, b.drop) for b in bands.members] == [
        *[("uint16", "", True, False)] * 3,
        ("uint16", "", True, True),
        ("uint16", "m", False, True),
    ]
    low, high = np.percentile(pixels[0], [2, 98])
    assert (bands.members[0].low, bands.members[0].high) == (pytest.approx(low), pytest.approx(high))
    assert bands.members[3].source == "image, band 4"
    image = read_bands(tmp_path / "data" / "images" / "a.tif", bands)
    np.testing.assert_array_equal(image, np.moveaxis(pixels, 0, -1))
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        assert file.descriptions == ("red", "green", "blue", "nir", "height")


def test_names_of_the_descriptions_and_other_words_for_them(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.tif", layers(4), names=("Red", "GREEN", "Blue", "Near Infrared"))
    assert take(tmp_path, "a").names == ("red", "green", "blue", "nir")


def test_some_bands_in_another_order(tmp_path: Path) -> None:
    pixels = layers(5)
    save(tmp_path / "images" / "a.tif", pixels)
    bands = take(tmp_path, "a", bands="nir=4,red=1,green=2,ndsm=5")
    image = read_bands(tmp_path / "data" / "images" / "a.tif", bands)
    np.testing.assert_array_equal(image, np.moveaxis(pixels[[3, 0, 1, 4]], 0, -1))
    assert bands.names == ("nir", "red", "green", "ndsm")
    assert [band.drop for band in bands.members] == [False, False, False, True]


def test_a_band_to_leave_out(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.tif", layers(4, "uint8"))
    assert take(tmp_path, "a", bands="red,green,blue,-").names == ("red", "green", "blue")


@pytest.mark.parametrize("bands", [None, "1,2,3"])
def test_three_bands_of_8_bits_without_names_have_no_file(tmp_path: Path, bands: str | None) -> None:
    save(tmp_path / "images" / "a.tif", layers(3 if bands is None else 4, "uint8"))
    take(tmp_path, "a", bands=bands)
    assert not (tmp_path / "data" / "bands.yaml").exists()


@pytest.mark.parametrize(
    ("count", "dtype", "options", "words"),
    [
        (4, "uint8", {}, "the fourth may be alpha or near infrared; .*--bands red,green,blue,nir"),
        (3, "uint16", {}, "3 band.s. of uint16 without names"),
        (1, "uint8", {}, "1 band.s. of uint8 without names.*--bands pan"),
        (5, "float32", {}, "5 band.s. of float32 without names"),
        (4, "uint16", {"bands": "red,green,blue"}, "4 band.s., 3 names in --bands"),
        (4, "uint8", {"bands": "red=1,nir=5"}, "--bands names band 5"),
        (4, "uint16", {"bands": "1,2,3"}, "4 band.s. of uint16 without names"),
        (3, "float64", {"bands": "red,green,blue"}, "dtype float64.*Float32"),
    ],
)
def test_bands_that_may_be_this_or_that_are_refused(
    tmp_path: Path, count: int, dtype: str, options: dict[str, str], words: str
) -> None:
    save(tmp_path / "images" / "a.tif", layers(count, dtype))
    said = refused(tmp_path, "a", **options)
    assert re.search(words, said), said


def test_images_of_one_import_agree(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "nir")
    save(tmp_path / "images" / "a.tif", layers(4), names=names)
    save(tmp_path / "images" / "b.tif", layers(3), names=names[1:])
    save(tmp_path / "images" / "c.tif", layers(4, "int16"), names=names)
    said = refused(tmp_path, "a", "b", "c")
    assert "b.tif: bands green, blue, nir" in said
    assert "c.tif: band red of int16" in said


def test_an_area_may_lack_infrared_beside_colours(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "nir")
    save(tmp_path / "images" / "a.tif", layers(4), names=names)
    save(tmp_path / "images" / "b.tif", layers(3), names=names[:3])
    bands = take(tmp_path, "a", "b")
    assert bands.missing == {"b": ("nir",)}


def test_pixels_without_data_are_known_by_the_colours_alone(tmp_path: Path) -> None:
    pixels = layers(5)
    pixels[:4, 0, 0] = 0
    pixels[4, 5, 5] = 0
    save(tmp_path / "images" / "a.tif", pixels, nodata=0)
    bands = take(tmp_path, "a", bands="red,green,blue,nir,height", masks_hold="indices")
    assert bands.members[4].nodata == 0
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        masks = file.read_masks(1)
    assert (masks[0, 0], masks[5, 5]) == (0, 255)


@pytest.mark.parametrize(
    "text", ["red,red", "red,2", "nir=x", "red=1,2", "", "Ä,b", "-,-", ",".join(f"b{n}" for n in range(17)), "0,1,2"]
)
def test_other_texts_are_no_bands(text: str) -> None:
    if text:
        with pytest.raises(ParamsError, match="--bands"):
            parse_choice(text)
    else:
        assert parse_choice(text) == BandChoice()


def heights(root: Path, area: str, resolution: float, values: npt.NDArray[Any], **options: Any) -> Path:
    place = rasterio.Affine(resolution, 0, PLACE.c, 0, -resolution, PLACE.f)
    return save(root / "dsm" / f"{area}.tif", values[None].astype("float32"), transform=place, **options)


def test_heights_beside_on_a_coarser_grid_become_a_band(tmp_path: Path) -> None:
    pixels = layers(3, "uint8")
    for area in ("a", "b"):
        save(tmp_path / "images" / f"{area}.tif", pixels)
    ramp = np.repeat(np.arange(6, dtype=np.float32)[None] * 4, 6, 0)  # 2 m px, 4 px of the image
    ramp[0, 0] = -9999
    heights(tmp_path, "a", 2.0, ramp, nodata=-9999)
    bands = take(tmp_path, "a", "b", heights=Beside(tmp_path / "dsm"))
    assert bands.names == ("band_1", "band_2", "band_3", "height")
    assert (bands.dtype, bands.missing) == (np.float32, {"b": ("height",)})
    image = read_bands(tmp_path / "data" / "images" / "a.tif", bands)
    np.testing.assert_array_equal(image[..., :3], np.moveaxis(pixels, 0, -1))
    assert np.isnan(image[0, 0, 3])
    assert image[12, 10, 3] == pytest.approx(4 * (10.5 / 4 - 0.5), abs=1e-4)  # between the centres of 2 m px
    assert np.isnan(image[..., 3]).sum() == pytest.approx(16, abs=8)


def test_heights_on_a_finer_grid_are_averaged_and_terrain_is_taken_off(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"))
    fine = np.tile(np.array([[10.0, 12.0], [14.0, 16.0]], np.float32), (SIDE, SIDE))
    surface = heights(tmp_path, "surface", 0.25, fine)
    terrain = heights(tmp_path, "terrain", 4.0, np.full((3, 3), 5.0))
    bands = take(tmp_path, "a", heights=Beside(surface, terrain))
    image = read_bands(tmp_path / "data" / "images" / "a.tif", bands)
    np.testing.assert_allclose(image[..., 3], 13.0 - 5.0, atol=1e-4)
    assert "above ground" in bands.members[3].source


def test_a_ground_filter_leaves_what_stands(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"))
    surface = np.full((SIDE, SIDE), 100.0, np.float32)
    surface[8:14, 8:14] = 107.5
    bands = take(tmp_path, "a", heights=Beside(heights(tmp_path, "a", 0.5, surface), ground=9))
    image = read_bands(tmp_path / "data" / "images" / "a.tif", bands)
    assert (image[10, 10, 3], image[2, 2, 3], (image[..., 3] > 0).sum()) == (7.5, 0.0, 36)
    assert bands.members[3].source == "above ground by a square of 9 px, raster beside the image"


UNPLACED = {"crs": None, "transform": rasterio.Affine.identity()}
FAR = rasterio.Affine(0.5, 0, PLACE.c + 5000, 0, -0.5, PLACE.f)


def test_rasters_of_a_folder_by_their_places(tmp_path: Path) -> None:
    """Tiles of a surface model as agencies deliver them: an image may lie on several, and each on several images."""
    for area, east in (("a", 0), ("b", SIDE), ("far", 10_000)):
        place = PLACE @ PLACE.translation(east, 0)
        save(tmp_path / "images" / f"{area}.tif", layers(3, "uint8"), transform=place)
        save(tmp_path / "labels" / f"{area}.tif", np.zeros((1, SIDE, SIDE), np.uint8), transform=place)
    half = SIDE // 2
    for number, (start, stop) in enumerate(((0, half), (half, SIDE + half), (SIDE + half, 2 * SIDE))):
        values = np.full((1, SIDE, stop - start), 10.0 * (number + 1), np.float32)
        save(tmp_path / "dsm" / f"tile{number}.tif", values, transform=PLACE @ PLACE.translation(start, 0))
    images, data = tmp_path / "images", tmp_path / "data"
    import_dataset(images, [tmp_path / "labels"], data, heights=Beside(tmp_path / "dsm"), progress=False)
    bands = load_bands(data)
    assert bands.missing == {"far": ("height",)}
    a, b = (read_bands(data / "images" / f"{area}.tif", bands)[..., 3] for area in ("a", "b"))
    assert (a[:, :half] == 10).all()
    assert (a[:, half:] == 20).all()
    assert (b[:, :half] == 20).all()
    assert (b[:, half:] == 30).all()


def test_one_raster_for_all_areas_by_its_place(tmp_path: Path) -> None:
    far = rasterio.Affine(0.5, 0, PLACE.c + 5000, 0, -0.5, PLACE.f)
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"))
    save(tmp_path / "images" / "b.tif", layers(3, "uint8"), transform=far)
    save(tmp_path / "labels" / "b.tif", np.zeros((1, SIDE, SIDE), np.uint8), transform=far)
    all_of_it = heights(tmp_path, "all", 3.0, np.full((30, 30), 4.0))
    import_dataset(
        tmp_path / "images", [labels(tmp_path, "a")], tmp_path / "data", heights=Beside(all_of_it), progress=False,
        allow_unlabelled=True,
    )  # fmt: skip
    assert load_bands(tmp_path / "data").missing == {"b": ("height",)}


@pytest.mark.parametrize(
    ("name", "values", "options", "words"),
    [
        ("a", np.full((6, 6), 32767.0), {}, "heights from 32767 to 32767; expected metres"),
        ("other", np.zeros((6, 6)), UNPLACED, "none of 1 rasters is named like an area"),
        ("other", np.zeros((6, 6)), {"transform": FAR}, "no value of band height in any area"),
        ("a", np.zeros((6, 6)), UNPLACED, "no place on Earth in both"),
    ],
)
def test_rasters_that_are_no_heights_of_the_image_are_refused(
    tmp_path: Path, name: str, values: npt.NDArray[Any], options: dict[str, Any], words: str
) -> None:
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"))
    save(tmp_path / "dsm" / f"{name}.tif", values[None].astype("float32"), **options)
    with pytest.raises((ImportProblems, DataError), match=words):
        take(tmp_path, "a", heights=Beside(tmp_path / "dsm"))
    assert not (tmp_path / "data" / "images").exists()


@pytest.mark.parametrize("placed", [True, False], ids=["warped", "of the image's size"])
def test_heights_that_are_damaged_deep_inside_name_the_block(tmp_path: Path, placed: bool) -> None:
    where = {} if placed else UNPLACED
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"), **where)
    values = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    path = save(tmp_path / "dsm" / "a.tif", values[None], **tiled, **where)
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    side = SIDE - 16
    with pytest.raises(
        ImportProblems, match=rf"a\.tif: cannot be read at row 16, column 16, {side}x{side} px, the rows"
    ):
        take(tmp_path, "a", heights=Beside(tmp_path / "dsm"))


def test_a_portal_names_the_bands(tmp_path: Path) -> None:
    portal = find_portal("nrw-dop10")
    tenth = rasterio.Affine(0.1, 0, 400_000, 0, -0.1, 5_700_000)
    options = {"bands": parse_choice(portal.bands), "portal": portal, "progress": False}
    for area in ("a", "b"):
        save(tmp_path / "images" / f"{area}.tif", layers(4, "uint8"), transform=tenth)
        save(tmp_path / "labels" / f"{area}.tif", np.zeros((1, SIDE, SIDE), np.uint8), transform=tenth)
    import_dataset(tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", **options)
    assert load_bands(tmp_path / "data").names == ("red", "green", "blue", "nir")
    save(tmp_path / "images" / "b.tif", layers(4), transform=tenth)
    with pytest.raises(ImportProblems) as caught:
        import_dataset(tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", replace=True, **options)
    (problem,) = caught.value.problems
    assert problem.endswith(
        "b.tif: uint16; expected uint8, as nrw-dop10 delivers; leave --portal out and name the bands with --bands"
    )


def test_an_image_without_a_crs_gets_that_of_its_portal(tmp_path: Path) -> None:
    portal = find_portal("hessen-dop20")
    (tmp_path / "images").mkdir()
    with rasterio.open(
        tmp_path / "images" / "a.jpg", "w", driver="JPEG", count=3, height=SIDE, width=SIDE, dtype="uint8"
    ) as file:
        file.write(layers(3, "uint8"))
    (tmp_path / "images" / "a.jgw").write_text("0.2\n0\n0\n-0.2\n480000.1\n5599999.9\n")
    place = rasterio.Affine(0.2, 0, 480_000, 0, -0.2, 5_600_000)
    save(tmp_path / "labels" / "a.tif", np.zeros((1, SIDE, SIDE), np.uint8), transform=place)
    options = {"bands": parse_choice(portal.bands), "portal": portal, "progress": False}
    report = import_dataset(tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", **options)
    assert report.portal.endswith("; 1 images without a CRS taken to be in EPSG:25832")
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        assert file.crs == "EPSG:25832"
        assert file.transform.almost_equals(place)
    east = np.zeros((1, SIDE, SIDE), np.uint8)  # without the portal its zone would be taken for the image's
    save(tmp_path / "labels" / "a.tif", east, transform=place, crs="EPSG:25833")
    with pytest.raises(ImportProblems, match=r"labels/a.tif: lies .* off .*EPSG:25833, the image in EPSG:25832"):
        import_dataset(tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", replace=True, **options)


@pytest.mark.parametrize("named", ["a", "b"])
def test_names_that_only_some_pictures_have_are_asked_for(tmp_path: Path, named: str) -> None:
    for area in ("a", "b"):
        names = ("nir", "red", "green") if area == named else ()
        save(tmp_path / "images" / f"{area}.tif", layers(3, "uint8"), names=names)
    said = refused(tmp_path, "a", "b")
    assert re.search(rf"{named}\.tif: bands nir, red, green by their descriptions, while other images have none", said)
    assert "--bands nir,red,green, or which to read, e.g. --bands 1,2,3" in said
    assert take(tmp_path, "a", "b", bands="nir,red,green").names == ("nir", "red", "green")


def test_numbers_of_the_user_go_for_pictures_with_names_and_without(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.tif", layers(3, "uint8"), names=("red", "green", "blue"))
    save(tmp_path / "images" / "b.tif", layers(3, "uint8"))
    take(tmp_path, "a", "b", bands="1,2,3")
    assert not (tmp_path / "data" / "bands.yaml").exists()


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_a_fourth_band_that_can_only_be_alpha_is_a_mask(tmp_path: Path, driver: str) -> None:
    pixels = layers(4, "uint8")
    pixels[3] = 255
    pixels[3, :5] = 0
    if driver == "PNG":
        pixels[3, 6] = 128  # a PNG has no other fourth band, whatever it holds
    path = tmp_path / "images" / f"a.{'png' if driver == 'PNG' else 'tif'}"
    path.parent.mkdir()
    layout = {"count": 4, "height": SIDE, "width": SIDE, "dtype": "uint8"}
    with rasterio.open(path, "w", driver=driver, **layout) as file:
        file.write(pixels)
    save(tmp_path / "images" / "b.tif", pixels[:3])
    mask = np.zeros((1, SIDE, SIDE), np.uint8)
    mask[0, 7] = 1
    save(tmp_path / "labels" / "a.tif", mask, crs=None, transform=None)
    save(tmp_path / "labels" / "b.tif", mask)
    import_dataset(tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", progress=False)
    assert not (tmp_path / "data" / "bands.yaml").exists()
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels[:3])
        np.testing.assert_array_equal(file.dataset_mask() != 0, pixels[3] != 0)
    with rasterio.open(tmp_path / "data" / "labels" / "a.tif") as file:
        assert (file.read(1)[:5] == 255).all()
        assert (file.read(1)[5:] == mask[0, 5:]).all()
    assert inspect_source(path, None).bands == (1, 2, 3)


def test_what_a_band_was_made_of_comes_from_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "images" / "a.tif", layers(2), names=("red", "nir"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(2, SOURCE="20 m, bilinear to 10 m")
    assert [band.source for band in take(tmp_path, "a").members] == ["image, band 1", "20 m, bilinear to 10 m"]


def test_pictures_that_all_have_names_keep_them_and_their_bytes(tmp_path: Path) -> None:
    pixels = layers(3, "uint8")
    save(tmp_path / "images" / "a.tif", pixels, names=("nir", "red", "green"))
    bands = take(tmp_path, "a")
    assert bands.names == ("nir", "red", "green")
    assert bands.plain
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
