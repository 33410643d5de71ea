"""Images find their labels by name, and nobody stays alone without a word."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from weakseg.core.area_names import area_name, bare_name
from weakseg.core.errors import DataError, ParamsError
from weakseg.data.importing.archives import Entry
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.pairing import choose_entries, pair_up


def entries(source: str, *names: str) -> list[Entry]:
    return [Entry(Path(source), name) for name in names]


@pytest.mark.parametrize(
    ("stem", "area"),
    [
        ("top_mosaic_09cm_area12", "area12"),
        ("top_mosaic_09cm_area7_noBoundary", "area7"),
        ("top_potsdam_2_10_RGB", "top_potsdam_2_10"),
        ("top_potsdam_2_10_label_noBoundary", "top_potsdam_2_10"),
        ("x_RGB_label", "x"),
        ("104_sat", "104"),
        ("104_mask", "104"),
        ("tile1_001", "tile1_001"),
        ("_mask", "_mask"),
        ("smart", "smart"),
        ("IMG_0012", "IMG_0012"),
        ("tile_m", "tile_m"),
        (unicodedata.normalize("NFD", "Müllheim_été"), "Müllheim_été"),
    ],
)
def test_area_names(stem: str, area: str) -> None:
    assert area_name(stem) == area


def test_isprs_archives_give_only_the_folder_of_the_role() -> None:
    archive = entries("z.zip", "dsm/dsm_area1.tif", "gts_for_participants/a.tif", "top/a.tif")
    assert [e.name for e in choose_entries(archive, "image")] == ["top/a.tif"]
    assert [e.name for e in choose_entries(archive, "label")] == ["gts_for_participants/a.tif"]
    assert choose_entries(archive[:1], "image") == archive[:1]


def test_complete_and_eroded_labels_find_their_image() -> None:
    pairs, problems = pair_up(
        entries("i", "area2.tif", "area1.tif"),
        entries("l", "area1.png", "area2.png", "area1_noBoundary.tif", "area2_noBoundary.tif"),
    )
    assert problems == []
    assert [(p.area, p.image.name, p.label and p.label.name, p.eroded and p.eroded.name) for p in pairs] == [
        ("area1", "area1.tif", "area1.png", "area1_noBoundary.tif"),
        ("area2", "area2.tif", "area2.png", "area2_noBoundary.tif"),
    ]


def test_eroded_labels_alone_are_the_labels() -> None:
    (pair,), problems = pair_up(entries("i", "a.tif"), entries("l", "a_noBoundary.tif"))
    assert problems == []
    assert pair.label is not None
    assert pair.label.name == "a_noBoundary.tif"
    assert pair.eroded is None


def test_missing_partners_are_reported_on_every_side() -> None:
    _, problems = pair_up(
        entries("i", "a.tif", "b.tif", "c.tif"), entries("l", "a.tif", "c.tif", "d.tif", "a_noBoundary.tif")
    )
    assert [problem.split(";")[0] for problem in problems] == [
        "i/b.tif: no label for area b",
        "i/c.tif: no eroded label for area c",
        "l/d.tif: no image for area d",
    ]


def test_images_may_stand_alone_if_allowed() -> None:
    pairs, problems = pair_up(entries("i", "a.tif", "b.tif"), entries("l", "a.tif"), allow_unlabelled=True)
    assert problems == []
    assert [(pair.area, pair.label is None) for pair in pairs] == [("a", False), ("b", True)]


def test_one_area_twice_is_reported() -> None:
    _, problems = pair_up(entries("i", "x_RGB.tif", "x_IRRG.tif"), entries("l", "x.tif", "x_mask.png"))
    assert [problem.split(";")[0] for problem in problems] == [
        "area x has 2 images: i/x_RGB.tif, i/x_IRRG.tif",
        "area x has 2 labels: l/x.tif, l/x_mask.png",
    ]


@pytest.mark.parametrize(
    ("stem", "area"),
    [
        ("IMG_0012", "0012"),
        ("msk_0012", "0012"),
        ("GT-a_1", "a_1"),
        ("image_sat_7_m", "7"),
        ("label_", "label_"),
        ("masked_3", "masked_3"),
        ("top_mosaic_09cm_area7", "area7"),
    ],
)
def test_bare_names(stem: str, area: str) -> None:
    assert bare_name(stem) == area


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (("IMG_1", "IMG_2"), ("MSK_1", "MSK_2")),
        (("1", "2"), ("1_m", "2_m")),
        (("image_1", "image_2"), ("label_1", "label_2")),
        (("sat_1", "sat_2"), ("gt_1", "gt_2")),
    ],
)
def test_prefixes_and_short_endings_pair(images: tuple[str, ...], labels: tuple[str, ...]) -> None:
    pairs, problems = pair_up(entries("i", *(f"{n}.jpg" for n in images)), entries("l", *(f"{n}.png" for n in labels)))
    assert problems == []
    assert [(p.area, p.image.stem, p.label and p.label.stem) for p in pairs] == [
        ("1", images[0], labels[0]),
        ("2", images[1], labels[1]),
    ]


def test_names_that_pair_as_they_are_keep_their_prefixes() -> None:
    files = ("IMG_1.tif", "tile_m.tif", "tile.tif")
    pairs, problems = pair_up(entries("i", *files), entries("l", *files))
    assert problems == []
    assert [pair.area for pair in pairs] == ["IMG_1", "tile", "tile_m"]


def test_one_missing_mask_among_prefixed_names_is_one_problem() -> None:
    _, problems = pair_up(entries("i", "IMG_1.tif", "IMG_2.tif", "IMG_3.tif"), entries("l", "MSK_1.tif", "MSK_3.tif"))
    assert [problem.split(";")[0] for problem in problems] == ["i/IMG_2.tif: no label for area 2"]


def test_composed_and_decomposed_letters_are_the_same() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Grünfläche_é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    (pair,), problems = pair_up(entries("i", f"{decomposed}.tif"), entries("l", f"{composed}_mask.png"))
    assert problems == []
    assert pair.area == composed
    _, problems = pair_up(entries("i", f"{decomposed}.tif", f"{composed}.tif"), entries("l", f"{composed}.png"))
    assert problems[0].startswith(f"area {composed} has 2 images: i/{decomposed}.tif, i/{composed}.tif;")


def test_names_that_differ_in_case_only_are_refused_naming_both() -> None:
    _, problems = pair_up(entries("i", "Area1.tif", "area1.tif"), entries("l", "Area1.tif", "area1.tif"))
    assert [p.split(";")[0] for p in problems] == ["i/Area1.tif and i/area1.tif differ in upper and lower case only"]


@pytest.mark.parametrize("name", ["Parcelle n°3 (été) #2", "Müllheim [1],x", "NA", "2_10", "1e3", "null", "-1", "a.b"])
def test_unusual_names_of_areas_stay_as_they_are(name: str) -> None:
    (pair,), problems = pair_up(entries("i", f"{name}.png"), entries("l", f"{name}.png"))
    assert (pair.area, problems) == (name, [])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (" a", "begins or ends with a space or dot"),
        ("a ", "begins or ends with a space or dot"),
        ("a\nb", "has a control character"),
        ("a\u200bb", "has a control character"),
        ("é" * 101, "is 202 bytes long"),
    ],
)
def test_names_that_no_file_should_have_are_refused(name: str, fault: str) -> None:
    _, problems = pair_up(entries("i", f"{name}.png"), entries("l", f"{name}.png"))
    assert len(problems) == 1
    assert fault in problems[0]
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    ("pattern", "names", "areas"),
    [
        ("IMG_{area}_v2", ["IMG_a_1_v2.tif", "IMG_b_v2.png"], ["a_1", "b"]),
        ("*_{area}", ["x_y_7.tif"], ["7"]),
        ("{area}/rgb", ["north/rgb.tif", "sub/south/rgb.tif", "north/mask.tif"], ["north"]),
        ("*/{area}/rgb", ["north/rgb.tif", "sub/south/rgb.tif"], ["south"]),
        (r"(?P<area>\d+)-.*", ["12-ortho.final.tif", "x-1.tif"], ["12"]),
        ("Grün_{area}", [unicodedata.normalize("NFD", "Grün_Süd.tif")], ["Süd"]),
        ("a[1]_{area}", ["a[1]_b.tif"], ["b"]),
    ],
)
def test_patterns_select_files_and_name_areas(pattern: str, names: list[str], areas: list[str]) -> None:
    found = NamePattern(pattern)
    assert [found(entry) for entry in choose_entries(entries("s", *names), "image", found)] == areas


def test_patterns_of_both_sides_pair() -> None:
    files = entries("s", "a/rgb.tif", "a/truth.png", "b/rgb.tif", "b/truth.png", "b/height.tif")
    image, label = NamePattern("{area}/rgb"), NamePattern("{area}/truth")
    pairs, problems = pair_up(image.select(files), label.select(files), image_name=image, label_name=label)
    assert problems == []
    assert [(p.area, p.image.name, p.label and p.label.name) for p in pairs] == [
        ("a", "a/rgb.tif", "a/truth.png"),
        ("b", "b/rgb.tif", "b/truth.png"),
    ]


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("IMG_*", "names no area"),
        ("{area}_{area}", "names no area"),
        ("(?P<area>a", "is no regular expression"),
        ("(?P<name>a)", "names no area"),
    ],
)
def test_patterns_without_an_area_are_refused(pattern: str, fault: str) -> None:
    with pytest.raises(ParamsError, match=fault) as caught:
        NamePattern(pattern)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"pattern 'x_\{area\}' fits none of 2 files, the first: s/a\.tif"):
        NamePattern("x_{area}").select(entries("s", "a.tif", "b.tif"))
