"""A delivered map: Cloud Optimized GeoTIFF, legend, STAC item, other grids."""

from __future__ import annotations

import json
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pystac.validation
import pytest
import rasterio
from pystac.extensions.classification import Classification
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rio_cogeo import cog_validate
from shapely.geometry import Point, box

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.maps.cog import is_cog, write_cog
from weakseg.maps.deliver import Delivery, deliver_map
from weakseg.maps.legend import read_legend
from weakseg.maps.warp import warp_map

CLASSES = ClassScheme(
    ("road", "Gebäude & Co", "low vegetation", "water"), ((200, 30, 30), (10, 20, 30), (0, 255, 0), (0, 0, 255))
)
LEFT, TOP = 500000.0, 5500000.0


def draw(height: int, width: int, *, patch: int = 5, seed: int = 0) -> np.ndarray:
    """Classes 0 and 3 in patches, never 1 or 2, which lie between them; a corner without data."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, 3], np.uint8), (height // patch + 1, width // patch + 1))
    values = np.kron(coarse, np.ones((patch, patch), np.uint8))[:height, :width]
    values[: height // 3, : width // 4] = IGNORE
    return values


def save(path: Path, values: np.ndarray, *, colours: bool = True, res: float = 0.5, crs: str = "EPSG:32632") -> Path:
    """A map as ``weakseg predict`` writes it."""
    layout = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": IGNORE, "tiled": True, "compress": "deflate"}
    height, width = values.shape
    place = {"crs": crs, "transform": from_origin(LEFT, TOP, res, res)} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", height=height, width=width, **layout, **place) as file:
            file.write(values, 1)
            file.descriptions = ("class",)
            if colours:
                file.update_tags(WEAKSEG_IDENTITY="x", **{f"CLASS_{i}": name for i, name in enumerate(CLASSES.names)})
                file.write_colormap(1, CLASSES.colour_table())
    return path


def overviews(path: Path) -> list[np.ndarray]:
    with rasterio.open(path) as file:
        count = len(file.overviews(1))
    found = []
    for level in range(count):
        with rasterio.open(path, overview_level=level) as file:
            found.append(file.read(1))
    return found


@pytest.mark.parametrize("colours", [True, False], ids=["table", "no table"])
@pytest.mark.parametrize("shape", [(2048, 1024), (1031, 1777)])
def test_every_pixel_of_an_overview_is_a_class_that_lies_below_it(
    tmp_path: Path, colours: bool, shape: tuple[int, int]
) -> None:
    values = draw(*shape)
    write_cog(save(tmp_path / "map.tif", values, colours=colours), tmp_path / "cog.tif", classes=True)
    found = overviews(tmp_path / "cog.tif")
    assert len(found) >= 1
    for level in found:
        assert set(np.unique(level)) == {0, 3, IGNORE}
        factor = [length // part for length, part in zip(shape, level.shape, strict=True)]
        if all(f * part == length for f, part, length in zip(factor, level.shape, shape, strict=True)):
            blocks = values.reshape(level.shape[0], factor[0], level.shape[1], factor[1])
            assert (blocks == level[:, None, :, None]).any(axis=(1, 3)).all()


def test_an_overview_pixel_is_the_commonest_class(tmp_path: Path) -> None:
    values = np.tile(np.array([[0, 3], [3, 3]], np.uint8), (512, 512))
    write_cog(save(tmp_path / "map.tif", values), tmp_path / "cog.tif", classes=True)
    assert all((level == 3).all() for level in overviews(tmp_path / "cog.tif"))


def test_the_map_is_a_valid_cog_with_all_that_it_had(tmp_path: Path) -> None:
    values = draw(1200, 900)
    path = save(tmp_path / "map.tif", values)
    deliver_map(path, Delivery())
    assert cog_validate(path, strict=True) == (True, [], [])
    assert is_cog(path)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert (file.nodata, file.crs, file.transform) == (255, "EPSG:32632", from_origin(LEFT, TOP, 0.5, 0.5))
        assert file.descriptions == ("class",)
        assert file.tags()["WEAKSEG_IDENTITY"] == "x"
        assert file.colormap(1)[1] == (10, 20, 30, 255)
        known = values[values != IGNORE]
        statistics = {key: float(value) for key, value in file.tags(1).items() if key.startswith("STATISTICS")}
        assert (statistics["STATISTICS_MINIMUM"], statistics["STATISTICS_MAXIMUM"]) == (0, 3)
        assert statistics["STATISTICS_MEAN"] == pytest.approx(known.mean())
    before = path.stat().st_mtime_ns
    deliver_map(path, Delivery())
    assert path.stat().st_mtime_ns == before, "a map that is cloud optimized stays as it is"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("map.clr", "map.qml", "map.stac.json", "map.tif", "map.tif.aux.xml"),
    ]


def test_a_layer_of_confidences_gets_means(tmp_path: Path) -> None:
    values = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (512, 512))
    path, layer = save(tmp_path / "map.tif", draw(1024, 1024)), save(tmp_path / "c.tif", values, colours=False)
    deliver_map(path, Delivery(), layers=(layer,))
    assert {int(value) for level in overviews(layer) for value in np.unique(level)} == {100}


def test_gdal_reads_names_and_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "map.tif", draw(64, 64))
    deliver_map(path, Delivery())
    copy(path, tmp_path / "seen.vrt", driver="VRT")  # GDAL writes down what it found
    band = ET.parse(tmp_path / "seen.vrt").getroot().find("VRTRasterBand")
    assert band is not None
    assert [entry.text for entry in band.iter("Category")] == list(CLASSES.names)
    rows = [[cell.text for cell in row.iter("F")] for row in band.iter("Row")]
    assert rows[1] == ["1", "Gebäude & Co", "10", "20", "30"]
    assert read_legend(path) == CLASSES


def test_qgis_and_arcgis_styles_name_the_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "map.tif", draw(64, 64))
    deliver_map(path, Delivery(cog=False))
    assert not is_cog(path)
    entries = [dict(entry.attrib) for entry in ET.parse(tmp_path / "map.qml").getroot().iter("paletteEntry")]
    assert entries[1] == {"value": "1", "label": "Gebäude & Co", "color": "#0a141e", "alpha": "255"}
    assert (tmp_path / "map.clr").read_text().splitlines() == [
        *("0 200 30 30", "1 10 20 30", "2 0 255 0", "3 0 0 255"),
    ]


def test_no_map_of_classes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "c.tif", draw(64, 64), colours=False)
    with pytest.raises(DataError, match="does not name its classes"):
        deliver_map(path, Delivery())


@pytest.mark.parametrize("crs", ["EPSG:32632", ""], ids=["utm", "nowhere"])
def test_the_stac_item_is_valid(tmp_path: Path, crs: str) -> None:
    path = save(tmp_path / "map.tif", draw(64, 100), crs=crs)
    layer = save(tmp_path / "confidence.tif", draw(64, 100), colours=False, crs=crs)
    deliver_map(path, Delivery(), layers=(layer,))
    text = json.loads((tmp_path / "map.stac.json").read_text())
    check_core(text)
    item = pystac.Item.from_dict(text)
    assert set(item.assets) == {"map", "confidence", "qml", "clr", "xml"}
    assert (tmp_path / item.assets["map"].href).resolve() == path.resolve()
    rows = [Classification(row) for row in text["assets"]["map"]["bands"][0]["classification:classes"]]
    assert [(row.value, row.name, row.color_hint) for row in rows][1] == (1, "Geb_ude___Co", "0A141E")
    if crs:
        assert item.bbox is not None
        assert item.bbox == pytest.approx([9.0, 49.65, 9.0, 49.65], abs=0.01)
        assert text["properties"]["proj:code"] == "EPSG:32632"
        assert text["properties"]["proj:shape"] == [64, 100]
    else:
        assert item.geometry is None


def check_core(item: dict[str, object]) -> None:
    """Validate against the schemas that pystac carries; those of extensions lie on the network."""
    pystac.validation.validate_dict({**item, "stac_extensions": []})


def test_another_crs_holds_no_other_class(tmp_path: Path) -> None:
    values = draw(400, 300)
    warp_map(save(tmp_path / "a.tif", values), tmp_path / "b.tif", classes=True, crs="EPSG:3035", res=None, area=None)
    with rasterio.open(tmp_path / "b.tif") as file:
        found = file.read(1)
        assert (file.crs, file.colormap(1)[1], file.tags()["CLASS_3"]) == ("EPSG:3035", (10, 20, 30, 255), "water")
        assert "WEAKSEG_IDENTITY" not in file.tags(), "it is no longer the map of its raster's grid"
        pixel = abs(file.transform.determinant)
    assert set(np.unique(found)) == {0, 3, IGNORE}
    for value in (0, 3):
        assert (found == value).sum() * pixel == pytest.approx((values == value).sum() * 0.25, rel=0.02)


def test_a_coarser_pixel_is_the_commonest_class(tmp_path: Path) -> None:
    values = np.tile(np.array([[0, 3, 1], [3, 3, 1], [3, 2, 1]], np.uint8), (20, 30))
    warp_map(save(tmp_path / "a.tif", values), tmp_path / "b.tif", classes=True, crs=None, res=1.5, area=None)
    with rasterio.open(tmp_path / "b.tif") as file:
        assert (file.shape, file.transform) == ((20, 30), from_origin(LEFT, TOP, 1.5, 1.5))
        np.testing.assert_array_equal(file.read(1), 3)


def test_a_finer_pixel_is_the_class_it_lies_in(tmp_path: Path) -> None:
    values = draw(40, 50)
    warp_map(save(tmp_path / "a.tif", values), tmp_path / "b.tif", classes=True, crs=None, res=0.25, area=None)
    with rasterio.open(tmp_path / "b.tif") as file:
        np.testing.assert_array_equal(file.read(1), values.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
def test_a_map_is_clipped_to_an_area(tmp_path: Path, crs: str) -> None:
    values = np.zeros((40, 50), np.uint8)
    field = geopandas.GeoDataFrame(geometry=[box(LEFT + 5, TOP - 10, LEFT + 15, TOP - 5)], crs="EPSG:32632")
    field.to_crs(crs).to_file(tmp_path / "field.gpkg")
    path = save(tmp_path / "a.tif", values)
    deliver_map(path, Delivery(area=tmp_path / "field.gpkg"))
    with rasterio.open(path) as file:
        found = file.read(1)
        assert file.transform @ (0, 0) == pytest.approx((LEFT + 5, TOP - 5), abs=0.51)
    assert (found == 0).sum() * 0.25 == pytest.approx(50, abs=1)
    assert set(np.unique(found)) <= {0, IGNORE}
    assert cog_validate(path, strict=True)[0]


def test_areas_that_fit_no_map_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", draw(40, 50))
    far = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32632")
    far.to_file(tmp_path / "far.gpkg")
    geopandas.GeoDataFrame(geometry=[Point(LEFT, TOP)], crs="EPSG:32632").to_file(tmp_path / "points.gpkg")
    far.to_file(tmp_path / "two.gpkg", layer="one")
    far.to_file(tmp_path / "two.gpkg", layer="two")
    for name, message in {
        "far": "lies outside", "points": "expected polygons", "two": "layers one, two", "none": "cannot be read"
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            deliver_map(path, Delivery(area=tmp_path / f"{name}.gpkg"))
    with pytest.raises(ParamsError, match="CRS"):
        deliver_map(path, Delivery(crs="EPSG:1"))
    with pytest.raises(ParamsError, match="above 0"):
        deliver_map(path, Delivery(res=0))
    with pytest.raises(DataError, match="no CRS"):
        deliver_map(save(tmp_path / "b.tif", draw(9, 9), crs=""), Delivery(res=1))
