"""Deliveries of mapping agencies through the import and the reader of `predict`: each a real file that GDAL wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from weakseg.core.bands import load_bands
from weakseg.core.errors import ImportProblems
from weakseg.data.importing.dataset import import_dataset
from weakseg.raster.band_names import parse_choice
from weakseg.raster.open import read_bands, read_valid
from weakseg.raster.stream import inspect_source, open_reader

Pixels = npt.NDArray[Any]
HEIGHT, WIDTH = 64, 96
PLACE = rasterio.Affine(10, 0, 1_000_000, 0, -10, 6_000_000)
HOLE = (slice(0, 10), slice(0, 20))
FIVE = "red,green,blue,nir,height"


def picture(count: int, dtype: str) -> Pixels:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    step = 1 if dtype == "uint8" else 37
    return np.stack([(1 + (rows * (band + 1) + columns) % 200) * step for band in range(count)]).astype(dtype)


def save(path: Path, layers: Pixels, driver: str = "GTiff", **options: Any) -> Path:
    layout = {"count": len(layers), "height": HEIGHT, "width": WIDTH, "dtype": layers.dtype.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver=driver, **{"crs": "EPSG:3857", "transform": PLACE, **layout, **options}
    ) as file:
        file.write(layers)
    return path


def copied(driver: str, suffix: str, /, **options: Any) -> Callable[[Path, Pixels], Path]:
    def write(folder: Path, layers: Pixels) -> Path:
        source = save(folder.parent / "source.tif", layers)
        copy_raster(source, folder / f"a{suffix}", driver=driver, **options)
        return folder / f"a{suffix}"

    return write


def masked(folder: Path, layers: Pixels) -> Path:
    """A COG with an internal mask."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        source = save(folder.parent / "source.tif", layers)
        with rasterio.open(source, "r+") as file:
            seen = np.ones((HEIGHT, WIDTH), bool)
            seen[HOLE] = False
            file.write_mask(seen)
    copy_raster(source, folder / "a.tif", driver="COG", compress="DEFLATE")
    return folder / "a.tif"


def with_alpha(folder: Path, layers: Pixels) -> Path:
    """A COG with a fourth band of alpha."""
    alpha = np.full((1, HEIGHT, WIDTH), 255, np.uint8)
    alpha[0][HOLE] = 0
    source = save(folder.parent / "source.tif", np.concatenate([layers, alpha]), photometric="RGB", ALPHA="YES")
    copy_raster(source, folder / "a.tif", driver="COG", compress="DEFLATE")
    return folder / "a.tif"


def virtual(folder: Path, layers: Pixels) -> Path:
    """A VRT of the user beside its files."""
    source = save(folder / "parts" / "p.tif", layers)
    copy_raster(source, folder / "a.vrt", driver="VRT")
    return folder / "a.vrt"


LOSSLESS = {"QUALITY": "100", "REVERSIBLE": "YES"}
THREE: dict[str, Callable[[Path, Pixels], Path]] = {
    "COG LERC": copied("COG", ".tif", compress="LERC", MAX_Z_ERROR="0"),
    "COG ZSTD": copied("COG", ".tif", compress="ZSTD"),
    "COG WebP": copied("COG", ".tif", compress="WEBP", QUALITY="100"),
    "COG mask": masked,
    "COG alpha": with_alpha,
    "JPEG 2000": copied("JP2OpenJPEG", ".jp2", **LOSSLESS),
    "GeoPackage": copied("GPKG", ".gpkg", TILE_FORMAT="PNG"),
    "ENVI": lambda folder, layers: save(folder / "a.dat", layers, "ENVI"),
    "EHdr": lambda folder, layers: save(folder / "a.bil", layers, "EHdr"),
    "VRT": virtual,
}
DEEP = [
    name for name in THREE if name not in ("COG WebP", "COG alpha", "GeoPackage")
]  # these have 8 bits, 3 or 4 bands


def imported(root: Path, write: Callable[[Path, Pixels], Path], layers: Pixels, bands: str | None) -> tuple[Path, Path]:
    """The file of the agency, and what the import made of it."""
    folder = root / "images"
    folder.mkdir()
    path = write(folder, layers)
    save(root / "labels" / "a.tif", (np.mgrid[:HEIGHT, :WIDTH][0] % 5).astype(np.uint8)[None])
    import_dataset(
        folder, [root / "labels"], root / "data", bands=parse_choice(bands), masks_hold="indices", progress=False,
        image_pattern="{area}.vrt" if path.suffix == ".vrt" else None,
    )  # fmt: skip
    return path, root / "data" / "images" / "a.tif"


@pytest.mark.parametrize("name", THREE)
def test_three_bands_of_8_bits(tmp_path: Path, name: str) -> None:
    layers = picture(3, "uint8")
    path, stored = imported(tmp_path, THREE[name], layers, None)
    with rasterio.open(stored) as file:
        np.testing.assert_array_equal(file.read(), layers)
        assert (file.crs.to_epsg(), file.transform) == (3857, PLACE)
        seen = file.dataset_mask() != 0
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[HOLE] = name not in ("COG mask", "COG alpha")
    np.testing.assert_array_equal(seen, expected)
    whole = (0, 0, HEIGHT, WIDTH)
    with open_reader(inspect_source(path, None)) as reader:
        np.testing.assert_array_equal(reader.pixels(whole)[expected], np.moveaxis(layers, 0, -1)[expected])
        found = reader.valid(whole)
    np.testing.assert_array_equal(np.ones_like(expected) if found is None else found, expected)


@pytest.mark.parametrize("name", DEEP)
def test_five_bands_of_16_bits(tmp_path: Path, name: str) -> None:
    layers = picture(5, "uint16")
    path, stored = imported(tmp_path, THREE[name], layers, FIVE)
    bands = load_bands(tmp_path / "data")
    assert bands.names == tuple(FIVE.split(","))
    np.testing.assert_array_equal(read_bands(stored, bands), np.moveaxis(layers, 0, -1))
    valid = read_valid(stored)
    assert (0 if valid is None else (~valid).sum()) == (200 if name == "COG mask" else 0)
    with open_reader(inspect_source(path, parse_choice(FIVE), None, bands)) as reader:
        part = reader.pixels((12, 24, 40, 60))
    np.testing.assert_array_equal(part, np.moveaxis(layers, 0, -1)[12:52, 24:84])


def test_mbtiles_in_the_grid_of_their_tiles(tmp_path: Path) -> None:
    """GDAL puts them on the grid of a zoom level, so the mask is drawn there; what no tile covers is alpha."""
    (tmp_path / "images").mkdir()
    path = copied("MBTiles", ".mbtiles", TILE_FORMAT="PNG")(tmp_path / "images", picture(3, "uint8"))
    with rasterio.open(path) as file:
        layers, place, size = file.read([1, 2, 3]), file.transform, file.shape
        seen = file.read(4) != 0
    (tmp_path / "labels").mkdir()
    layout = {"count": 1, "height": size[0], "width": size[1], "dtype": "uint8", "crs": "EPSG:3857"}
    with rasterio.open(tmp_path / "labels" / "a.tif", "w", driver="GTiff", transform=place, **layout) as file:
        file.write((np.mgrid[: size[0], : size[1]][0] % 5).astype(np.uint8), 1)
    import_dataset(
        tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", masks_hold="indices", progress=False
    )  # fmt: skip
    with rasterio.open(tmp_path / "data" / "images" / "a.tif") as file:
        np.testing.assert_array_equal(file.read()[:, seen], layers[:, seen])
        np.testing.assert_array_equal(file.dataset_mask() != 0, seen)
    assert seen.any()


def test_bands_stacked_by_the_user_are_one_image_beside_their_files(tmp_path: Path) -> None:
    layers = picture(2, "uint16")
    for number in (0, 1):
        save(tmp_path / "images" / f"a_b{number}.tif", layers[number : number + 1])
    band = (
        '<VRTRasterBand dataType="UInt16" band="{}"><SimpleSource><SourceFilename relativeToVRT="1">a_b{}.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    )
    head = f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>EPSG:3857</SRS><GeoTransform>'
    head += ", ".join(map(str, PLACE.to_gdal())) + "</GeoTransform>"
    text = head + "".join(band.format(number + 1, number) for number in (0, 1)) + "</VRTDataset>"
    (tmp_path / "images" / "a_all.vrt").write_text(text)
    save(tmp_path / "labels" / "a.tif", np.zeros((1, HEIGHT, WIDTH), np.uint8))
    given = {"bands": parse_choice("red,nir"), "masks_hold": "indices", "progress": False}
    for pattern in ("{area}_all.vrt", r"(?P<area>[^_]*)_all\.vrt"):
        report = import_dataset(
            tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", image_pattern=pattern, replace=True, **given
        )
        assert not report.unused
    image = read_bands(tmp_path / "data" / "images" / "a.tif", load_bands(tmp_path / "data"))
    np.testing.assert_array_equal(image, np.moveaxis(layers, 0, -1))
    with pytest.raises(ImportProblems, match=r"no raster in .*; expected files ending in \.gpkg"):
        import_dataset(
            tmp_path / "images", [tmp_path / "labels"], tmp_path / "data", image_pattern="{area}.gpkg", replace=True,
            **given,
        )  # fmt: skip
