"""Images that contradict what their portal delivers: each in one sentence with all that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from weakseg.core.errors import DataError
from weakseg.core.portals import Portal, find_portal, parse_portal
from weakseg.data.importing.delivery import check_delivery

CURE = "leave --portal out and name the bands with --bands"


def image(
    folder: Path,
    count: int = 4,
    dtype: str = "uint8",
    crs: Any = "EPSG:25832",
    size: float = 0.2,
    corner: tuple[float, float] = (500_000, 5_700_000),
    names: tuple[str, ...] = (),
    **options: Any,
) -> Path:
    """A GeoTIFF of 8 x 8 px, as schleswig-holstein-dop20 has it where nothing is said."""
    path = folder / "a.tif"
    place = {} if size == 0 else {"transform": rasterio.Affine(size, 0, corner[0], 0, -size, corner[1])}
    layout = {"count": count, "height": 8, "width": 8, "dtype": dtype, "crs": crs}
    with rasterio.open(path, "w", driver="GTiff", **layout, **place, **options) as file:
        file.write(np.ones((count, 8, 8), dtype))
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return path


def complaint(path: Path, portal: str | Portal = "schleswig-holstein-dop20") -> str:
    with pytest.raises(DataError) as caught:
        check_delivery(path, find_portal(portal) if isinstance(portal, str) else portal)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith(f"; {CURE}")
    return text.removeprefix(f"{path}: ").removesuffix(f"; {CURE}")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crs": None},
        {"crs": None, "size": 0},
        {"size": 0.2001},
        {"names": ("Red", "Green", "Blue", "NIR")},
        {"names": ("Band_1", "Band_2", "Band_3", "Band_4")},
        {"photometric": "RGB", "alpha": "unspecified"},
        {"photometric": "RGB", "alpha": "yes"},  # as GDAL flags the fourth of most GeoTIFFs
        {"crs": "EPSG:5555"},  # the same zone, with heights
        {"crs": "+proj=utm +zone=32 +ellps=GRS80 +units=m +no_defs"},
    ],
)
def test_what_the_portal_delivers_is_taken(tmp_path: Path, options: dict[str, Any]) -> None:
    check_delivery(image(tmp_path, **options), find_portal("schleswig-holstein-dop20"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 3}, "3 band(s); expected 4 (red,green,blue,nir), as schleswig-holstein-dop20 delivers"),
        ({"dtype": "uint16"}, "uint16; expected uint8, as schleswig-holstein-dop20 delivers"),
        ({"crs": "EPSG:25833"}, "in EPSG:25833; expected EPSG:25832, as schleswig-holstein-dop20 delivers"),
        ({"crs": "EPSG:4647"}, "in EPSG:4647; expected EPSG:25832, as schleswig-holstein-dop20 delivers"),
        ({"crs": "EPSG:4326", "corner": (9, 54)}, "in EPSG:4326; expected EPSG:25832"),
        ({"size": 0.4}, "px of 0.4 m; expected 0.2 m, as schleswig-holstein-dop20 delivers"),
        ({"size": 0.4, "crs": None}, "px of 0.4 m; expected 0.2 m, as schleswig-holstein-dop20 delivers"),
        ({"names": ("NIR", "R", "G", "B")}, "band 1 nir by its description, band 2 red by its description, "),
        (
            {"count": 3, "dtype": "uint16", "crs": "EPSG:31467"},
            "3 band(s), uint16, in EPSG:31467; expected 4 (red,green,blue,nir), uint8, EPSG:25832, as ",
        ),
    ],
)
def test_what_contradicts_the_portal_is_said_in_one_sentence(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    assert complaint(image(tmp_path, **options)).startswith(said)


def test_alpha_beside_colours_is_no_band_of_a_portal(tmp_path: Path) -> None:
    path = image(tmp_path, photometric="RGB", alpha="yes")
    check_delivery(path, find_portal("rheinland-pfalz-dop20"))
    with rasterio.open(path, "r+") as file:
        file.set_band_description(1, "nir")
    assert complaint(path, "rheinland-pfalz-dop20").startswith("band 1 nir by its description; expected red, as ")


@pytest.mark.parametrize("size", [0.25, 0.08])
def test_portals_of_several_resolutions(tmp_path: Path, size: float) -> None:
    corner = (150_000, 450_000)
    portal = find_portal("pdok-luchtfoto")
    check_delivery(image(tmp_path, 3, crs="EPSG:28992", size=size, corner=corner), portal)
    found = complaint(image(tmp_path, 3, crs="EPSG:28992", size=0.1, corner=corner), portal)
    assert found == "px of 0.1 m; expected 0.25 m or 0.08 m, as pdok-luchtfoto delivers"


@pytest.mark.parametrize("crs", ["EPSG:26913", "EPSG:26904", "EPSG:6342"])  # the last: NAD83(2011) / UTM zone 13N
def test_all_zones_of_a_family_are_one_portal_s(tmp_path: Path, crs: str) -> None:
    check_delivery(image(tmp_path, crs=crs, size=0.6, corner=(500_000, 4_400_000)), find_portal("naip"))


def test_another_family_of_zones_is_refused_with_the_pattern(tmp_path: Path) -> None:
    found = complaint(image(tmp_path, crs="EPSG:26713", size=0.6, corner=(500_000, 4_400_000)), "naip")
    assert found == "in EPSG:26713; expected EPSG:2690? or EPSG:2691? or EPSG:26920, as naip delivers"


def test_a_crs_without_code_goes_by_its_name(tmp_path: Path) -> None:
    found = complaint(image(tmp_path, crs="+proj=laea +lat_0=53 +lon_0=9 +ellps=GRS80 +units=m"))
    assert found.startswith("in unknown; expected EPSG:25832")


def test_jpeg_2000_and_a_world_file_are_read_by_the_same_rules(tmp_path: Path) -> None:
    layout = {"count": 3, "height": 64, "width": 64, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.jpg", "w", driver="JPEG", **layout) as file:
        file.write(np.ones((3, 64, 64), np.uint8))
    (tmp_path / "a.jgw").write_text("0.2\n0\n0\n-0.2\n480000.1\n5899999.9\n")
    check_delivery(tmp_path / "a.jpg", find_portal("hessen-dop20"))
    assert complaint(tmp_path / "a.jpg", "bremen-dop10") == "px of 0.2 m; expected 0.1 m, as bremen-dop10 delivers"
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.1, 0, 480_000, 0, -0.1, 5_700_000)}
    with rasterio.open(tmp_path / "a.jp2", "w", driver="JP2OpenJPEG", **layout, **place) as file:
        file.write(np.ones((3, 64, 64), np.uint8))
    found = complaint(tmp_path / "a.jp2", "nrw-dop10")
    assert found == "3 band(s); expected 4 (red,green,blue,nir), as nrw-dop10 delivers"


def test_an_unknown_code_of_a_pattern_is_passed_over(tmp_path: Path) -> None:
    content = {
        **dict.fromkeys(("title", "format", "licence", "source"), "x"),
        **{"bands": "red,green,blue,nir", "dtype": "uint8", "resolution": 0.2, "crs": "EPSG:2583?", "evidence": {}},
    }
    portal = parse_portal("mine", content, "mine.yaml")
    check_delivery(image(tmp_path, crs="EPSG:25832"), portal)
    assert complaint(image(tmp_path, crs="EPSG:31467"), portal).endswith("expected EPSG:2583?, as mine delivers")
