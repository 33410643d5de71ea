"""Formats of mapping agencies: each with a file that GDAL wrote, and what looks like one and is none."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Limits, list_source
from weakseg.raster.footprint import read_footprint
from weakseg.raster.formats import DRIVERS, raster_driver
from weakseg.raster.header import read_info
from weakseg.raster.open import read_image, read_layers, read_valid
from weakseg.raster.stream import inspect_source, open_reader, raster_gsd

PIXELS = {"interleave": "pixel"}
PLACE = rasterio.Affine(10, 0, 1_000_000, 0, -10, 6_000_000)


def picture(bands: int = 3, dtype: str = "uint8") -> npt.NDArray[Any]:
    rows, columns = np.mgrid[:64, :96]
    return np.stack([(rows * (band + 1) + columns) % 200 for band in range(bands)]).astype(dtype)


def save(path: Path, layers: npt.NDArray[Any], driver: str = "GTiff", **options: Any) -> Path:
    layout = {"count": len(layers), "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    with rasterio.open(path, "w", driver=driver, crs="EPSG:3857", transform=PLACE, **layout, **options) as file:
        file.write(layers)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "LERC", "max_z_error": 0},
        {"compress": "ZSTD"},
        {"compress": "WEBP", "webp_lossless": True, "tiled": True, "blockxsize": 32, "blockysize": 32} | PIXELS,
        {"compress": "LZW", "predictor": 2},
    ],
)
def test_geotiff_in_the_compressions_of_agencies(tmp_path: Path, options: dict[str, Any]) -> None:
    try:
        path = save(tmp_path / "a.tif", picture(), **options)
    except rasterio.errors.RasterioError as error:
        pytest.skip(f"GDAL without {options['compress']}: {error}")
    np.testing.assert_array_equal(read_image(path), np.moveaxis(picture(), 0, -1))


def test_cog_with_internal_mask(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = save(tmp_path / "plain.tif", picture())
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(64 * 96).reshape(64, 96) > 100)
    copy_raster(path, tmp_path / "a.tif", driver="COG")
    valid = read_valid(tmp_path / "a.tif")
    assert valid is not None
    assert int((~valid).sum()) == 101


@pytest.mark.parametrize(("bands", "dtype"), [(3, "uint8"), (4, "uint16"), (1, "int16")])
@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_jpeg_2000(tmp_path: Path, bands: int, dtype: str, suffix: str) -> None:
    layers = picture(bands, dtype)
    source = save(tmp_path / "a.tif", layers)
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "CODEC": suffix.upper()}
    copy_raster(source, tmp_path / f"a.{suffix}", driver="JP2OpenJPEG", **options)
    path = (tmp_path / f"a.{suffix}").rename(tmp_path / "b.dat")  # the bytes decide
    assert raster_driver(path) == "JP2OpenJPEG"
    np.testing.assert_array_equal(read_layers(path, range(1, bands + 1)), np.moveaxis(layers, 0, -1))
    if suffix == "jp2":
        assert read_info(path).crs is not None


@pytest.mark.parametrize("driver", ["MBTiles", "GPKG"])
def test_databases_of_tiles(tmp_path: Path, driver: str) -> None:
    source = save(tmp_path / "a.tif", picture())
    path = tmp_path / ("a.mbtiles" if driver == "MBTiles" else "a.gpkg")
    copy_raster(source, path, driver=driver, TILE_FORMAT="PNG")
    assert raster_driver(path) == driver
    info = read_info(path)
    assert info.crs is not None
    assert info.bands in (3, 4)  # MBTiles always have alpha
    image = read_image(path, bands=(1, 2, 3))
    assert image.shape[2] == 3
    valid = read_valid(path, bands=(1, 2, 3))
    seen = image if valid is None else image[valid]
    assert abs(float(seen.mean()) - float(picture().mean())) < 3
    assert inspect_source(path, (1, 2, 3)).width == info.width


def test_a_geopackage_of_vectors_is_none(tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import Point

    path = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame({"a": [1]}, geometry=[Point(1, 2)], crs=25832).to_file(path)
    with pytest.raises(DataError, match=r"an SQLite database with vectors.*data boxes"):
        raster_driver(path)
    with sqlite3.connect(tmp_path / "b.mbtiles") as file:
        file.execute("create table notes (a)")
    file.close()
    with pytest.raises(DataError, match="with other tables"):
        raster_driver(tmp_path / "b.mbtiles")


@pytest.mark.parametrize(("driver", "suffix"), [("ENVI", ".dat"), ("ENVI", ".bsq"), ("EHdr", ".bil")])
def test_raw_files_with_a_header_beside(tmp_path: Path, driver: str, suffix: str) -> None:
    layers = picture(5, "int16") if driver == "ENVI" else picture(3, "int16")
    path = save(tmp_path / f"a{suffix}", layers, driver=driver)
    assert raster_driver(path) == driver
    np.testing.assert_array_equal(read_layers(path, range(1, len(layers) + 1)), np.moveaxis(layers, 0, -1))
    for header in tmp_path.glob("*.hdr"):
        header.unlink()
    with pytest.raises(DataError, match="starts with"):
        raster_driver(path)


def virtual(folder: Path, body: str, *, head: str = "") -> Path:
    path = folder / "a.vrt"
    path.write_text(f'{head}<VRTDataset rasterXSize="96" rasterYSize="64">{body}</VRTDataset>')
    return path


BAND = (
    '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>{}<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
)


def test_a_virtual_raster_of_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    source = save(tmp_path / "parts" / "p.tif", picture())
    copy_raster(source, tmp_path / "a.vrt", driver="VRT")
    assert raster_driver(tmp_path / "a.vrt") == "VRT"
    np.testing.assert_array_equal(read_image(tmp_path / "a.vrt"), np.moveaxis(picture(), 0, -1))


@pytest.mark.parametrize(
    ("name", "relative", "words"),
    [
        ("/etc/hostname", "0", "/etc/hostname"),
        ("../outside.tif", "1", "outside.tif"),
        ("/vsicurl/http://example.org/a.tif", "0", "vsicurl"),
        ("missing.tif", "1", "missing.tif"),
        ("a.vrt", "1", "a.vrt"),
    ],
)
def test_a_virtual_raster_of_anything_else_is_refused(tmp_path: Path, name: str, relative: str, words: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save(tmp_path / "outside.tif", picture(1))
    path = virtual(folder, BAND.format(f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'))
    with pytest.raises(DataError, match=words):
        raster_driver(path)


@pytest.mark.parametrize(
    ("body", "head", "words"),
    [
        ("", "", "without files"),
        ("<VRTRasterBand><PixelFunctionType>sum</PixelFunctionType></VRTRasterBand>", "", "PixelFunctionType"),
        ("<GDALWarpOptions/>", "", "GDALWarpOptions"),
        ("&x;", "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>", "starts with|document type"),
        ("<a>", "", "no XML"),
    ],
)
def test_a_virtual_raster_that_does_more_is_refused(tmp_path: Path, body: str, head: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        raster_driver(virtual(tmp_path, body, head=head))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.ecw", b"e\x02\x03\x01" * 8, "ECW"),
        ("a.sid", b"msid" + bytes(20), "MrSID"),
        ("b.dat", b"msid" + bytes(20), "MrSID"),
        ("a.jxl", b"\xff\x0a" + bytes(20), "JPEG XL"),
        ("b.tif", b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
    ],
)
def test_formats_that_must_be_converted_are_one_sentence_with_the_command(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    stem = Path(name).stem
    for read in (raster_driver, lambda path: inspect_source(path, None)):
        with pytest.raises(DataError, match=rf"{kind}.*gdal_translate {name} {stem}\.tif"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "door",
    [raster_driver, read_info, read_image, lambda path: inspect_source(path, None), raster_gsd, read_footprint],
    ids=["driver", "import", "image", "predict", "areas", "stac"],
)
@pytest.mark.parametrize(("driver", "suffix"), [("HFA", ".img"), ("BMP", ".bmp"), ("PCIDSK", ".pix"), ("GIF", ".tif")])
def test_what_gdal_would_read_but_the_list_does_not_name_is_refused_at_every_door(
    tmp_path: Path, driver: str, suffix: str, door: Callable[[Path], object]
) -> None:
    source = save(tmp_path / "a.tif", picture(1 if driver == "GIF" else 3))
    copy_raster(source, path := tmp_path / f"b{suffix}", driver=driver)
    with rasterio.open(path) as file:
        assert file.driver == driver
        assert driver not in DRIVERS
    with pytest.raises(DataError, match=r"starts with .*; expected a GeoTIFF, PNG or JPEG, or one of .*gdal_translate"):
        door(path)


def test_a_virtual_raster_hides_no_other_format(tmp_path: Path) -> None:
    copy_raster(save(tmp_path / "a.tif", picture()), tmp_path / "b.bmp", driver="BMP")
    path = virtual(tmp_path, BAND.format('<SourceFilename relativeToVRT="1">b.bmp</SourceFilename>'))
    with pytest.raises(DataError, match=r"b\.bmp: starts with b'BM"):
        inspect_source(path, None)


def test_a_tiff_named_ecw_is_a_tiff(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture()).rename(tmp_path / "a.ecw")
    assert raster_driver(path) == "GTiff"


def test_an_error_deep_inside_names_the_window(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    with open_reader(inspect_source(path, None)) as reader:
        reader.pixels((0, 0, 32, 96))
        with pytest.raises(DataError, match=r"a\.tif: cannot be read at row 32, column 0, 16x96 px, the rows above it"):
            reader.pixels((32, 0, 16, 96))


def test_an_error_deep_inside_a_whole_image_names_the_block(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_3_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = bytes(40)
    path.write_bytes(data)
    said = r"a\.tif: cannot be read at row 32, column 48, 16x16 px, the rows above it were \("
    for read in (read_image, lambda path: read_layers(path, [1, 2])):
        with pytest.raises(DataError, match=said):
            read(path)


def test_an_error_deep_inside_jpeg_2000_names_the_tile(tmp_path: Path) -> None:
    """Tiles of 64 px, of which the last is cut off: the two above and the first below are whole."""
    rows, columns = np.mgrid[:128, :128]
    source = save(tmp_path / "a.tif", np.stack([rows * 3 + columns, rows ^ columns, columns * 2]).astype(np.uint8))
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64}
    copy_raster(source, path := tmp_path / "a.jp2", driver="JP2OpenJPEG", **options)
    data = path.read_bytes()
    last = data.rindex(b"\xff\x90\x00\n\x00\x03")  # SOT, start of tile 3
    path.write_bytes(data[: last + 40])
    with pytest.raises(
        DataError, match=r"a\.jp2: cannot be read at row 64, column 64, 64x64 px, the rows above it were"
    ):
        read_image(path)


def test_what_lies_among_pictures_is_no_picture(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", picture())
    copy_raster(tmp_path / "a.tif", tmp_path / "all.vrt", driver="VRT")
    assert [entry.name for entry in list_source(tmp_path, Limits()).rasters] == ["a.tif"]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "all.vrt", alone / "all.vrt")
    assert [entry.name for entry in list_source(alone, Limits()).rasters] == ["all.vrt"]
