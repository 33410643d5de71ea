"""Sentinel-2 products: bands of 10, 20 and 60 m on one grid, values and places computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.shutil import copy as copy_raster

from weakseg.core.bands import load_bands
from weakseg.core.errors import DataError
from weakseg.core.portals import find_portal
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.products import as_rasters
from weakseg.raster.band_names import parse_choice
from weakseg.raster.listing import list_sources
from weakseg.raster.open import read_bands
from weakseg.raster.safe import CODES, open_product, stack_product

AREA = "T32UMC_20220601T103629"
EAST, NORTH = 600_000, 5_700_000
SIDE = 60  # m


def ramp(metres: int) -> npt.NDArray[np.uint16]:
    """Of SIDE px of 10 m a side: px number column times 1000, plus its row, at the band's resolution, from 2000 on."""
    count = SIDE // (metres // 10)
    rows, columns = np.mgrid[:count, :count]
    return (2000 + 100 * columns + rows).astype(np.uint16)


def band(folder: Path, code: str, metres: int, values: npt.NDArray[np.uint16], *, area: str = AREA) -> Path:
    """A band as ESA delivers it: JPEG 2000 without loss, one band of uint16, its place in the file."""
    path = folder / "GRANULE" / f"L2A_{area}" / "IMG_DATA" / f"R{metres}m" / f"{area}_{code}_{metres}m.jp2"
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": "uint16"}
    place = rasterio.Affine(metres, 0, EAST, 0, -metres, NORTH)
    with rasterio.open(path.with_suffix(".tif"), "w", driver="GTiff", crs="EPSG:32632", transform=place, **layout) as f:
        f.write(values, 1)
    copy_raster(path.with_suffix(".tif"), path, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    path.with_suffix(".tif").unlink()
    return path


def product(folder: Path, *, offset: int | None = None, metadata: bool = True) -> Path:
    """All bands, each a ramp at its own resolution; 10 m bands at 20 m too, as in real ones."""
    for name, code in CODES.items():
        metres = 10 if name in ("blue", "green", "red", "nir") else 60 if name in ("coastal", "water_vapour") else 20
        band(folder, code, metres, ramp(metres))
    band(folder, "B02", 20, ramp(20))
    if metadata:
        entry = "" if offset is None else f'<BOA_ADD_OFFSET band_id="0">{offset}</BOA_ADD_OFFSET>' * 13
        (folder / "MTD_MSIL2A.xml").write_text(f"<n1:Level-2A_User_Product>{entry}</n1:Level-2A_User_Product>")
    return folder


def test_bands_of_three_resolutions_on_the_finest_grid(tmp_path: Path) -> None:
    found = open_product(product(tmp_path / "S2A.SAFE"), ("blue", "red_edge1", "coastal"))
    assert [(layer.code, layer.metres) for layer in found.layers] == [("B02", 10), ("B05", 20), ("B01", 60)]
    stack_product(found, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        values = file.read()
        assert file.descriptions == ("blue", "red_edge1", "coastal")
        assert [file.tags(n)["SOURCE"] for n in (1, 2, 3)] == [
            "Sentinel-2 B02, 10 m",
            "Sentinel-2 B05, 20 m, bilinear to 10 m",
            "Sentinel-2 B01, 60 m, bilinear to 10 m",
        ]
        assert (file.crs.to_epsg(), file.nodata, file.transform) == (
            32632,
            0,
            rasterio.Affine(10, 0, EAST, 0, -10, NORTH),
        )
    np.testing.assert_array_equal(values[0], ramp(10))
    # 20 m: px 3 of 10 m has its centre at 35 m, between the centres 30 m (px 1) and 50 m (px 2): a quarter of the way
    assert values[1, 0, :4].tolist() == [2000, 2025, 2075, 2125]
    # 60 m: centres at 30 m and 90 m; that of px 3 of 10 m at 35 m, 1/12 of the way: 2000 + 100 / 12 = 2008.3
    assert values[2, 0, :5].tolist() == [2000, 2000, 2000, 2008, 2025]
    # down, a step of 1 per row: rows 20 m apart change by half a number a px of 10 m
    assert values[1, 40, 0] - values[1, 0, 0] == 20


def test_a_place_on_earth_has_the_value_of_its_own_band(tmp_path: Path) -> None:
    """A field of 120 m in the 20 m band lies at the same coordinates in the stack: no half px off."""
    values = np.full((SIDE // 2, SIDE // 2), 1000, np.uint16)
    values[10:16, 4:10] = 5000  # 80 to 200 m east, 200 to 320 m south
    folder = product(tmp_path / "S2A.SAFE")
    band(folder, "B11", 20, values)
    stack_product(open_product(folder, ("red", "swir1")), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        swir = file.read(2)
        middle = file.index(EAST + 140, NORTH - 260)
        assert swir[middle] == 5000
        weight = swir.astype(float) - 1000
        rows, columns = np.mgrid[: swir.shape[0], : swir.shape[1]] + 0.5
        centre = [float((axis * weight).sum() / weight.sum()) for axis in (columns, rows)]
        assert file.transform @ tuple(centre) == pytest.approx((EAST + 140, NORTH - 260))


def test_pixels_without_data_do_not_mix_with_others(tmp_path: Path) -> None:
    values = ramp(20)
    values[:, :5] = 0
    folder = product(tmp_path / "S2A.SAFE")
    band(folder, "B05", 20, values)
    stack_product(open_product(folder, ("blue", "red_edge1")), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        edge = file.read(2)[0]
    assert edge[:10].max() == 0
    assert edge[10] == 2500  # px 5 of 20 m alone, not a quarter of nothing


@pytest.mark.parametrize(("offset", "first"), [(None, 2000), (0, 2000), (-1000, 1000), (-5000, 1)])
def test_the_offset_of_newer_products_is_taken_off(tmp_path: Path, offset: int | None, first: int) -> None:
    found = open_product(product(tmp_path / "S2A.SAFE", offset=offset), ("blue", "nir"))
    stack_product(found, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.read(1)[0, 0] == first
        assert file.tags(1)["SOURCE"].endswith(f"{offset:+d}" if offset else "10 m")


def test_an_import_says_which_band_is_resampled_how(tmp_path: Path) -> None:
    product(tmp_path / "in" / "S2A_MSIL2A.SAFE", offset=-1000)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[5:20] = 1
    (tmp_path / "labels").mkdir()
    layout = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32632"}
    place = rasterio.Affine(10, 0, EAST, 0, -10, NORTH)
    with rasterio.open(tmp_path / "labels" / f"{AREA}.tif", "w", driver="GTiff", transform=place, **layout) as file:
        file.write(mask, 1)
    portal = find_portal("sentinel2-l2a")
    choice = parse_choice(portal.bands)
    for where in (tmp_path / "in", tmp_path / "in" / "S2A_MSIL2A.SAFE"):
        with as_rasters(where, choice, tmp_path / "scratch") as images:
            import_dataset(
                images,
                [tmp_path / "labels"],
                tmp_path / "data",
                bands=choice,
                portal=portal,
                progress=False,
                replace=True,
            )
        assert not list((tmp_path / "scratch").iterdir())
        bands = load_bands(tmp_path / "data")
        sources = {band.name: band.source for band in bands.members}
        assert list(sources) == list(CODES)
        assert sources["coastal"] == "Sentinel-2 B01, 60 m, bilinear to 10 m, -1000"
        assert sources["swir2"] == "Sentinel-2 B12, 20 m, bilinear to 10 m, -1000"
        assert sources["nir"] == "Sentinel-2 B08, 10 m, -1000"
        image = read_bands(tmp_path / "data" / "images" / f"{AREA}.tif", bands)
        np.testing.assert_array_equal(image[..., bands.names.index("red")], ramp(10) - 1000)


def test_products_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = product(tmp_path / "S2A.SAFE", metadata=False)
    with pytest.raises(DataError, match=r"no MTD_MSIL2A\.xml .*1000 since baseline 04\.00.*unpack the whole product"):
        open_product(folder, ("blue",))
    next(folder.rglob("*_B05_20m.jp2")).unlink()
    with pytest.raises(DataError, match=r"no file of red_edge1 \(B05\).*level 2A"):
        open_product(folder, ("blue", "red_edge1"))
    with pytest.raises(DataError, match="bands height; expected some of coastal, blue"):
        open_product(folder, ("blue", "height"))
    band(folder, "B02", 10, ramp(10), area="T32UMD_20220601T103629")
    with pytest.raises(DataError, match="2 granules"):
        open_product(folder, ("blue",))


def test_products_are_named_at_every_door(tmp_path: Path) -> None:
    folder = product(tmp_path / "in" / "S2A.SAFE")
    with (
        pytest.raises(DataError, match=r"without names of bands.*--portal sentinel2-l2a"),
        as_rasters(folder, parse_choice(None), tmp_path / "scratch"),
    ):
        pass
    with pytest.raises(DataError, match=r"a Sentinel-2 product.*weakseg data stack"):
        list_sources(str(folder))
    (tmp_path / "in" / "b.tif").write_bytes(b"")
    with (
        pytest.raises(DataError, match=r"Sentinel-2 products beside b\.tif"),
        as_rasters(tmp_path / "in", parse_choice("blue"), tmp_path / "scratch"),
    ):
        pass
