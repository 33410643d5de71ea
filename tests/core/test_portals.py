"""Presets of portals: every file is whole, its bands are ones that an import takes, and docs/data.md has its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.bands import DTYPES
from weakseg.core.config import load_yaml
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.portals import FACTS, FOLDER, find_portal, parse_portal, portal_names
from weakseg.raster.band_names import KNOWN, parse_choice

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
STATES = (
    *("baden-wuerttemberg", "bayern", "berlin", "brandenburg", "bremen", "hamburg", "hessen", "mecklenburg-vorpommern"),
    *("niedersachsen", "nrw", "rheinland-pfalz", "saarland", "sachsen", "sachsen-anhalt", "schleswig-holstein"),
    "thueringen",
)


@pytest.mark.parametrize("name", portal_names())
def test_a_portal_names_known_bands_its_source_and_its_evidence(name: str) -> None:
    portal = find_portal(name)
    names = parse_choice(portal.bands).names
    assert portal.bands == ",".join(names)
    assert len(names) >= 3
    assert set(names) <= set(KNOWN)
    assert portal.dtype in DTYPES
    assert portal.source.startswith("http")
    assert portal.unchecked == tuple(fact for fact in FACTS if fact not in portal.evidence)
    assert portal.licence in str(portal)
    assert ("not looked up: " in str(portal)) == bool(portal.unchecked)


@pytest.mark.parametrize("name", portal_names())
def test_the_codes_of_a_portal_are_projections_in_metres(name: str) -> None:
    from rasterio.crs import CRS

    for code in find_portal(name).crs:
        crs = CRS.from_string(code.replace("?", "1"))
        assert crs.is_projected
        assert crs.linear_units == "metre"


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_germany_has_a_portal_of_its_own(state: str) -> None:
    dop = "dop10" if state in ("nrw", "bremen") else "dop20"
    portal = find_portal(f"{state}-{dop}")
    assert portal.crs == (
        "EPSG:25833" if state in ("berlin", "brandenburg", "mecklenburg-vorpommern", "sachsen") else "EPSG:25832",
    )
    assert portal.dtype == "uint8"
    assert portal.resolution[0] == (0.1 if dop == "dop10" else 0.2)


def test_the_table_of_the_docs_is_that_of_the_files() -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    found = [row for row in rows if row.split("`")[1] in portal_names()]
    assert found == [find_portal(name).row() for name in portal_names()]


def test_a_row_says_all_and_what_nobody_has_looked_up() -> None:
    assert find_portal("swissimage-rs").row() == (
        "| `swissimage-rs` | nir,red,green,blue | uint16 | 0.1 or 0.25 | EPSG:2056 | GeoTIFF "
        "| on request from swisstopo | crs |"
    )


def test_one_code_without_a_question_mark_is_the_crs_of_all_images() -> None:
    assert find_portal("hessen-dop20").only_crs == "EPSG:25832"
    assert find_portal("naip").only_crs is None
    assert find_portal("sentinel2-l2a").only_crs is None


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ParamsError, match=r"flair \| hamburg-dop20"):
        find_portal("nowhere")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unchecked": []}, r"keys \['bands', .*'unchecked'\]; expected title, bands"),
        ({"title": None}, "title None; expected a text"),
        ({"licence": " "}, "licence ' '; expected a text"),
        ({"bands": ["red"]}, r"bands \['red'\]; expected a text"),
        ({"dtype": "uint32"}, r"dtype uint32; expected uint8 \| uint16"),
        ({"resolution": 0}, "resolution 0; expected metres per px, one number or several"),
        ({"resolution": []}, r"resolution \[\]; expected metres"),
        ({"resolution": [0.2, "20 cm"]}, "resolution .*'20 cm'.*; expected metres"),
        ({"resolution": float("nan")}, "resolution nan; expected metres"),
        ({"crs": "UTM, NAD83"}, "crs 'UTM, NAD83'; expected codes such as EPSG:25832"),
        ({"crs": 25832}, "crs 25832; expected codes"),
        ({"evidence": {"colour": "here"}}, "evidence .*; expected where it was looked up, for some of bands, dtype"),
        ({"evidence": {"bands": ""}}, "evidence .*; expected where"),
        ({"evidence": ["bands"]}, "evidence .*; expected where"),
    ],
)
def test_a_file_that_is_no_portal_is_refused_with_the_key(change: dict[str, Any], words: str) -> None:
    content = load_yaml(FOLDER / "naip.yaml") | change
    with pytest.raises(DataError, match=f"naip.yaml: {words}.*mend the file"):
        parse_portal("naip", content, "naip.yaml")


def test_what_is_no_mapping_is_no_portal() -> None:
    with pytest.raises(DataError, match=r"a.yaml: keys \[1\]; expected title"):
        parse_portal("a", [1], "a.yaml")
