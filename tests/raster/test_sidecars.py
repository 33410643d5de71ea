"""Where a raster lies, from every kind of file beside it; values by hand: 0.3 m px, corner at 500000, 5300000."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio import Affine
from rasterio.crs import CRS

from weakseg.core.errors import DataError, ImportProblems
from weakseg.data.importing.dataset import import_dataset
from weakseg.raster import sidecars
from weakseg.raster.header import read_info
from weakseg.raster.sidecars import sidecar_name
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_raster

PLACE = (0.3, 0.0, 500000.0, 0.0, -0.3, 5300000.0)
WORLD = "0.3\n0\n0\n-0.3\n500000.15\n5299999.85\n"  # of the centre of the first px
UTM = CRS.from_epsg(25832)
PIXELS = np.zeros((4, 6, 3), np.uint8)


def picture(path: Path) -> Path:
    Image.fromarray(PIXELS).save(path)
    return path


def epsg(path: Path) -> int | None:
    crs = read_info(path).crs
    return CRS.from_wkt(crs).to_epsg() if crs else None


@pytest.mark.parametrize("name", ["a.png.aux.xml", "a.png.AUX.XML", "A.PNG.AUX.XML", "a.aux.xml", "a.AUX.XML"])
def test_gdal_sidecars_of_every_spelling(tmp_path: Path, name: str) -> None:
    layout = {"height": 4, "width": 6, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "b.png", "w", driver="PNG", crs=UTM, transform=Affine(*PLACE), **layout) as file:
        file.write(PIXELS.transpose(2, 0, 1))
    shutil.move(tmp_path / "b.png.aux.xml", tmp_path / name)
    path = picture(tmp_path / "a.png")
    assert read_info(path).transform == pytest.approx(PLACE)
    assert epsg(path) == 25832


@pytest.mark.parametrize(
    ("raster", "world"),
    [
        *(("a.png", "a.pgw"), ("a.png", "a.PGW"), ("a.png", "a.wld"), ("a.jpg", "a.jgw"), ("a.jpg", "a.JPGW")),
        *(("a.jpeg", "a.jpegw"), ("a.tif", "a.tfw"), ("a.tif", "A.TFW"), ("a.tiff", "a.tiffw")),
    ],
)
@pytest.mark.parametrize("prj", ["a.prj", "a.PRJ"])
def test_world_files_with_the_crs_in_a_prj(tmp_path: Path, raster: str, world: str, prj: str) -> None:
    path = picture(tmp_path / raster)
    (tmp_path / world).write_text(WORLD)
    assert (read_info(path).crs, read_info(path).transform) == (None, pytest.approx(PLACE))
    (tmp_path / prj).write_text(UTM.to_wkt(version="WKT1_ESRI"))
    assert epsg(path) == 25832


@pytest.mark.parametrize("world", [".tfw", ".tifw", ".tiffw", ".wld", ".TIFW"])
@pytest.mark.parametrize("raster", ["a.tif", "a.TIF", "a.tiff"])
def test_world_files_beside_a_sidecar_that_holds_only_the_crs(tmp_path: Path, raster: str, world: str) -> None:
    path = picture(tmp_path / raster)
    (tmp_path / f"a{world}").write_text(WORLD)
    assert read_info(path).transform == pytest.approx(PLACE)
    path.with_name(f"{raster}.aux.xml").write_text(f"<PAMDataset><SRS>{escape(UTM.to_wkt())}</SRS></PAMDataset>")
    assert read_info(path).transform == pytest.approx(PLACE)
    assert epsg(path) == 25832


@pytest.mark.parametrize(
    ("raster", "beside"),
    [
        ("Area_A.tif", "area_a"),
        ("Area_A.png", "AREA_a"),
        ("Mu\u0308ller.png", "M\u00fcller"),
        ("M\u00fcller.tif", "mu\u0308ller"),
    ],
)
def test_sidecars_that_differ_in_case_or_in_the_encoding_of_accents(tmp_path: Path, raster: str, beside: str) -> None:
    path = picture(tmp_path / raster)
    (tmp_path / f"{beside}.{'tfw' if raster.endswith('.tif') else 'pgw'}").write_text(WORLD)
    (tmp_path / f"{beside}.Prj").write_text(UTM.to_wkt(version="WKT1_ESRI"))
    assert read_info(path).transform == pytest.approx(PLACE)
    assert epsg(path) == 25832
    assert sidecar_name(raster, f"{beside}.Prj") == f"{path.stem}.prj"  # as members of a zip are unpacked


def test_the_world_file_of_another_format_is_that_of_another_raster(tmp_path: Path) -> None:
    (tmp_path / "a.tfw").write_text(WORLD)
    assert read_info(picture(tmp_path / "a.jpg")).transform is None
    assert read_info(picture(tmp_path / "a.tif")).transform == pytest.approx(PLACE)


def test_a_prj_may_hold_a_code_and_counts_only_for_rasters_with_a_transform(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (tmp_path / "a.prj").write_text("EPSG:25832\n")
    assert epsg(path) is None  # of a shapefile, perhaps
    (tmp_path / "a.pgw").write_text(WORLD)
    assert epsg(path) == 25832


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.tifw", "0.3\n0\n0\n", "no world file of six numbers"),
        ("a.prj", "nonsense", "no coordinate reference system"),
        ("a.prj", 'PROJCS["half', "no coordinate reference system"),
        ("a.aux.xml", "<PAMDataset>", "no element found"),
        ("a.aux.xml", "<PAMDataset><GeoTransform>1, 2</GeoTransform></PAMDataset>", "GeoTransform '1, 2'"),
        ("a.aux.xml", "<PAMDataset><SRS>nowhere</SRS></PAMDataset>", "no coordinate reference system"),
    ],
)
def test_sidecars_that_cannot_be_used_are_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = picture(tmp_path / ("a.tif" if name == "a.tifw" else "a.png"))
    if name != "a.tifw":
        (tmp_path / "a.pgw").write_text(WORLD)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_info(path)
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be used ({reason}")
    assert "\n" not in str(caught.value)


def test_huge_sidecars_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecars, "MAX_BYTES", 10)
    path = picture(tmp_path / "a.png")
    (tmp_path / "a.aux.xml").write_text("<PAMDataset/>")
    with pytest.raises(DataError, match=r"a\.aux\.xml: cannot be used \(13 bytes\)"):
        read_info(path)


def test_a_tie_point_at_the_centre_of_a_pixel_is_moved_to_its_corner(tmp_path: Path) -> None:
    # GTRasterTypeGeoKey 2 is RasterPixelIsPoint: the tie point names the centre of px 0, 0
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2, 3072, 0, 1, 25832)
    tags = {33550: (0.3, 0.3, 0.0), 33922: (0.0, 0.0, 0.0, 500000.15, 5299999.85, 0.0), 34735: keys}
    directory = ImageFileDirectory_v2()
    for tag, values in tags.items():
        directory.tagtype[tag] = 3 if tag == 34735 else 12
        directory[tag] = values
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", tiffinfo=directory)
    assert read_info(tmp_path / "a.tif").transform == pytest.approx(PLACE)
    assert epsg(tmp_path / "a.tif") == 25832


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("top.tif.aux.xml", "top.tif.aux.xml"),
        ("TOP.AUX.XML", "top.aux.xml"),
        ("Top.TFW", "top.tfw"),
        ("top.prj", "top.prj"),
        ("top.tif.msk", "top.tif.msk"),
        ("top.shp", None),
        ("other.tfw", None),
        ("top.png.aux.xml", None),
    ],
)
def test_names_that_belong_to_a_raster(name: str, target: str | None) -> None:
    assert sidecar_name("top.tif", name) == target


@pytest.mark.parametrize(
    "world", ["0\n0\n0\n0\n5\n5\n", "1\n0\n0\n-1\ninf\n5\n", "1\n0\n0\nnan\n5\n5\n", "1\n2\n1\n2\n0\n0\n"]
)
def test_a_place_where_no_px_has_an_area_is_refused(tmp_path: Path, world: str) -> None:
    write_raster(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    (tmp_path / "a.pgw").write_text(world)
    with pytest.raises(DataError, match=r"a\.png: its place on Earth is \(.*\); expected six numbers"):
        read_info(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["http://127.0.0.1:9/crs", "/etc/hostname", "./b.prj", "EPSG:x"])
def test_a_prj_names_a_crs_and_nothing_is_opened_for_it(tmp_path: Path, text: str) -> None:
    write_raster(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    (tmp_path / "a.pgw").write_text("1\n0\n0\n-1\n0.5\n0.5\n")
    (tmp_path / "a.prj").write_text(text)
    with pytest.raises(DataError, match=r"a\.prj: cannot be used \(no coordinate reference system"):
        read_info(tmp_path / "a.png")


def world(columns: float = 0.0, rows: float = 0.0, size: float = 0.3) -> str:
    """The world file of ``PLACE``, moved by so many px."""
    return f"{size}\n0\n0\n{-size}\n{500000 + 0.3 * columns + size / 2}\n{5300000 - 0.3 * rows - size / 2}\n"


def aux(columns: float = 0.0, code: int | None = 25832, *, grid: bool = True) -> str:
    srs = f"<SRS>{escape(CRS.from_epsg(code).to_wkt())}</SRS>" if code else ""
    six = f"<GeoTransform>{500000 + 0.3 * columns}, 0.3, 0, 5300000, 0, -0.3</GeoTransform>" if grid else ""
    return f"<PAMDataset>{srs}{six}<Metadata><MDI key='A'>b</MDI></Metadata></PAMDataset>"


def esri(code: int) -> str:
    return str(CRS.from_epsg(code).to_wkt(version="WKT1_ESRI"))


def tagged(path: Path, *, code: int | None = 25832, driver: str = "GTiff", **options: str) -> Path:
    with rasterio.open(
        path, "w", driver=driver, height=40, width=60, count=3, dtype="uint8", transform=Affine(*PLACE),
        crs=CRS.from_epsg(code) if code else None, **options,
    ) as file:  # fmt: skip
        file.write(np.zeros((3, 40, 60), np.uint8))
    return path


CONTRADICTIONS = [
    (
        "a.png",
        {"a.pgw": world(), "a.wld": world(300)},
        "by a.pgw and at 500090, 5300000 by a.wld, corners up to 300",
    ),
    ("a.png", {"a.pgw": world(), "a.pngw": world(0, 0.2)}, "by a.pgw and at 500000, 5299999.94 by a.pngw"),
    ("a.png", {"a.pgw": world(), "a.wld": world(0.5, 0.5)}, "corners up to 0.707 px"),  # no tags say which
    ("a.jpg", {"a.jgw": world(), "a.jpgw": world(1)}, "by a.jgw and at 500000.3, 5300000 by a.jpgw"),
    ("a.jpg", {"a.jgw": world(), "a.JGW": world(1)}, "by a.JGW and at 500000, 5300000 by a.jgw"),
    ("a.png", {"a.pgw": world(), "a.png.aux.xml": aux(10)}, "by a.png.aux.xml and at 500000, 5300000 by a.pgw"),
    ("a.png", {"a.pgw": world(), "a.aux.xml": aux(10)}, "by a.aux.xml and at 500000, 5300000 by a.pgw"),
    ("a.png", {"a.png.aux.xml": aux(), "a.prj": esri(25833)}, "EPSG:25832 by a.png.aux.xml, in EPSG:25833 by a.prj"),
    (
        "a.png",
        {"a.pgw": world(), "a.prj": esri(25832), "a.aux.xml": aux(code=4326, grid=False)},
        "in EPSG:4326 by a.aux",
    ),
    ("a.tif", {"a.tfw": world(20)}, "500000, 5300000 by the file itself and at 500006, 5300000 by a.tfw"),
    ("a.tif", {"a.tfw": world(size=0.6)}, "corners up to 72.1 px apart"),
    ("a.tif", {"a.tfw": world(0.5, 0)}, "corners up to 0.5 px apart"),  # a corner is half a px off in both directions
    ("a.tif", {"a.tif.aux.xml": aux(20)}, "500000, 5300000 by the file itself and at 500006, 5300000 by a.tif.aux.xml"),
    ("a.tif", {"a.tif.aux.xml": aux(code=25833)}, "EPSG:25832 by the file itself, in EPSG:25833 by a.tif.aux.xml"),
    ("a.tif", {"a.prj": esri(25833)}, "in EPSG:25832 by the file itself, in EPSG:25833 by a.prj"),
    ("a.jp2", {"a.j2w": world(20)}, "500000, 5300000 by the file itself and at 500006, 5300000 by a.j2w"),
]


def beside(folder: Path, raster: str, files: dict[str, str]) -> Path:
    if raster.endswith(".tif"):
        tagged(folder / raster)
    elif raster.endswith(".jp2"):
        tagged(folder / raster, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
        (folder / f"{raster}.aux.xml").unlink(missing_ok=True)
    else:
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / raster)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder / raster


@pytest.mark.parametrize(("raster", "files", "words"), CONTRADICTIONS)
def test_two_places_or_systems_of_one_raster_are_refused(
    tmp_path: Path, raster: str, files: dict[str, str], words: str
) -> None:
    path = beside(tmp_path, raster, files)
    for read in (read_info, lambda one: inspect_source(one, None)):
        with pytest.raises(DataError) as caught:
            read(path)
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("mend the wrong one, or move it away")


@pytest.mark.parametrize(
    ("raster", "files"),
    [
        ("a.png", {"a.pgw": world(), "a.wld": world(0.05), "a.prj": esri(25832), "a.png.aux.xml": aux()}),
        ("a.png", {"a.pgw": world(), "a.wld": world(9), "a.tif": ""}),  # the .wld may be that of a.tif
        ("a.png", {"a.pgw": world(), "a.jgw": world(9)}),
        ("a.tif", {"a.tfw": world(), "a.prj": esri(25832), "a.tif.aux.xml": aux()}),
        ("a.tif", {"a.tfw": world(0.5, 0.5)}),  # the numbers of the corner as those of the centre, or the other way
        ("a.tif", {"a.tfw": world(-0.5, -0.5)}),
        ("a.tif", {"a.tif.aux.xml": aux(code=None, grid=False), "a.tfw": "nonsense"}),
        ("a.tif", {"a.prj": esri(4326), "a.shp": ""}),
        ("a.tif", {"a.prj": "nonsense", "a.aux.xml": "<PAMDataset><SRS>"}),
        ("a.tif", {"a.prj": 'LOCAL_CS["unknown",UNIT["metre",1]]'}),
        ("a.tif", {"a.prj": esri(25832).replace("ETRS_1989_UTM_Zone_32N", "our own name")}),
        ("a.tif", {"a.prj": esri(32632)}),  # WGS 84 instead of ETRS89: the same within a metre
        ("a.jp2", {"a.j2w": world(), "a.jgw": world(9)}),
    ],
)
def test_sidecars_that_say_the_same_or_nothing_are_taken(tmp_path: Path, raster: str, files: dict[str, str]) -> None:
    path = beside(tmp_path, raster, files)
    assert read_info(path).transform == pytest.approx(PLACE)


@pytest.mark.parametrize("point", [False, True])
def test_tie_points_and_world_files_of_one_writer_are_one_place(tmp_path: Path, point: bool) -> None:
    path = tagged(tmp_path / "a.tif", TFW="YES", **({"AREA_OR_POINT": "Point"} if point else {}))
    if point:
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
    assert (tmp_path / "a.tfw").is_file()
    assert read_info(path).transform == pytest.approx(PLACE)


def test_world_files_with_the_ten_decimals_of_gdal_fit_large_rasters_in_degrees(tmp_path: Path) -> None:
    place, size = Affine(1.7966e-6 / 3, 0, 11.5, 0, -1.7966e-6 / 3, 48.25), 20_000
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=size, width=size, count=1, dtype="uint8", transform=place,
        crs="EPSG:4326", TFW="YES", SPARSE_OK="TRUE", TILED="YES",
    ):  # fmt: skip
        pass
    assert read_info(tmp_path / "a.tif").transform == pytest.approx(tuple(place)[:6])


def test_an_import_names_a_raster_of_a_zip_whose_sidecars_contradict_it(tmp_path: Path) -> None:
    beside(tmp_path, "a.png", {"a.pgw": world(), "a.wld": world(300)})
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(tmp_path.glob("a.*")):
            archive.write(path, path.name)
    with pytest.raises(ImportProblems, match=r"images\.zip/a\.png: its upper left corner lies at .* by a\.pgw and at"):
        import_dataset(tmp_path / "images.zip", [], tmp_path / "data", allow_unlabelled=True, progress=False)


@pytest.mark.parametrize(
    ("code", "place", "fine"),
    [
        (25832, (1e-6, 0, 11.5, 0, -1e-6, 48.25), False),  # degrees in a CRS of metres
        (2263, (3e-6, 0, -74.0, 0, -3e-6, 40.7), False),  # and of feet
        (4326, PLACE, False),  # metres in a CRS of degrees
        (4326, (0.1, 0, 11.5, 0, -0.1, 5300000.0), False),
        (4326, (1e-6, 0, 11.5, 0, -1e-6, 48.25), True),
        (4326, (6.5, 0, -180.0, 0, -4.6, 92.0), True),  # a world map, with half a px beyond the pole
        (4326, (6.0, 0, 0.0, 0, -4.5, 90.0), True),
        (25832, (1e-3, 0, 500000.0, 0, -1e-3, 5300000.0), True),  # millimetres
        (None, PLACE, True),
    ],
)
def test_a_place_in_other_units_than_those_of_its_crs_is_refused(
    tmp_path: Path, code: int | None, place: tuple[float, ...], fine: bool
) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=40, width=60, count=3, dtype="uint8", transform=Affine(*place),
        crs=CRS.from_epsg(code) if code else None,
    ) as file:  # fmt: skip
        file.write(np.zeros((3, 40, 60), np.uint8))
    for read in (read_info, lambda one: inspect_source(one, None)):
        if fine:
            read(tmp_path / "a.tif")
        else:
            with pytest.raises(DataError, match=rf"a\.tif: its corner at .* units in EPSG:{code}; expected .* counts"):
                read(tmp_path / "a.tif")
