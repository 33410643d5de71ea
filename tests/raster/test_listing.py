"""What a path on the command line names: files whatever their name, folders without a silent rest, patterns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from weakseg.core.errors import DataError
from weakseg.raster.listing import list_sources
from weakseg.raster.stream import inspect_source

NAMES = (
    *("scene[1].tif", "a b.tif", "100%.tif", "what?.tif", "no#1.tif", "-a.tif", "*.tif", "a!b.tif", "x.zip!y.tif"),
    *("GTIFF_DIR:1:a.tif", "file:a.tif", "ä ö.tif", "a.TIF", "{a,b}.tif", "a?b=c&d.tif", "vsizip"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the test, which is the current one too."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: Path, value: int = 7) -> Path:
    """A GeoTIFF of one value with a place on Earth."""
    layout = {"driver": "GTiff", "count": 3, "height": 2, "width": value, "dtype": "uint8", "crs": "EPSG:25832"}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path.absolute(), "w", transform=rasterio.Affine(1, 0, 9, 0, -1, 9), **layout) as file:
        file.write(np.full((3, 2, value), value, np.uint8))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_a_file_whatever_its_name(here: Path, name: str) -> None:
    save(here / "scene1.tif", 3)
    save(here / name)
    for where in (name, str(here / name)):
        assert list_sources(where) == [Path(where)]
        assert inspect_source(Path(where), None).width == 7
        assert inspect_source(Path(where), None).gsd == pytest.approx(1, rel=0.6)


def test_names_of_gdal_are_no_files(here: Path) -> None:
    save(here / "a.tif")
    for name in (
        "/vsizip/a.zip/a.tif",
        "/vsicurl/http://a.b/c.tif",
        "/vsimem/a.tif",
        "/vsimem/a.xyz",
        "NETCDF:a.tif:x",
    ):
        with pytest.raises(DataError, match=r"No such file|cannot be opened"):
            inspect_source(list_sources(name)[0], None)


def test_patterns_match_inside_folders_with_brackets(here: Path) -> None:
    for name in ("set[1]/a.tif", "set[1]/b.tif", "set1/c.tif"):
        save(here / name)
    assert [p.name for p in list_sources("set[1]/*.tif")] == ["a.tif", "b.tif"]
    assert [p.name for p in list_sources(str(here / "set[1]" / "[b].tif"))] == ["b.tif"]
    assert [p.name for p in list_sources("set[12]/*.tif")] == ["c.tif"]
    with pytest.raises(DataError, match="no raster at"):
        list_sources("set[1]/*.jp2")


def test_a_folder_names_what_it_would_not_read(here: Path) -> None:
    folder = here / "in"
    save(folder / "a.tif")
    for name in ("a.tif.aux.xml", "a.tfw", "a.prj", "notes.txt", ".hidden", "a.tif.ovr"):
        (folder / name).write_text("x")
    assert [p.name for p in list_sources("in")] == ["a.tif"]
    for name in ("b.img", "c.jp2", "d.ecw", "e.gif", "f.webp", "g.nc"):
        (folder / name).write_text("x")
    with pytest.raises(DataError, match=r"^in: b\.img, c\.jp2, d\.ecw, e\.gif, f\.webp and 1 more would not be read;"):
        list_sources("in")
    assert [p.name for p in list_sources("in", skip_unread=True)] == ["a.tif"]


def test_rasters_of_folders_within_are_not_lost_in_silence(here: Path) -> None:
    save(here / "in" / "a.tif")
    (here / "in" / "documents").mkdir()
    save(here / "in" / "maps" / "a.tif")
    with pytest.raises(DataError, match=r"^in: maps/ would not be read"):
        list_sources("in")
    assert [p.name for p in list_sources("in", outputs=[Path("in/maps")])] == ["a.tif"]


def test_two_rasters_of_one_name_would_give_one_map(here: Path) -> None:
    for name in ("a.tif", "a.vrt"):
        save(here / "in" / name)
    with pytest.raises(DataError, match="several rasters named a"):
        list_sources("in")
    (here / "empty").mkdir()
    with pytest.raises(DataError, match="no raster at empty"):
        list_sources("empty")
