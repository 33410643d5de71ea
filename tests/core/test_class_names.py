"""Names that people cannot tell apart: refused in a scheme, pointed out where a file's name is no class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weakseg.core.class_names import check_names, did_you_mean, fold_name
from weakseg.core.classes import READY, ClassScheme, load_classes
from weakseg.core.errors import DataError, ImportProblems
from weakseg.labels.box_files import import_boxes
from weakseg.labels.class_lists import split_names
from weakseg.labels.class_map import read_class_map
from weakseg.labels.tag_files import unknown_classes
from weakseg.raster.header import RasterInfo

CYRILLIC = "c\u0430r"  # the second letter is Cyrillic
WHOLLY = "\u0441\u0430\u0440"  # all three are; the last is an r by sound and a p by its looks
SCHEME = ClassScheme(("building", "car", "bare soil"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def classes(path: Path, names: list[str], ignored: tuple[str, ...] = ()) -> Path:
    rows = [[{"name": name, "colour": [index, part, 0]} for index, name in enumerate(each)]
            for part, each in enumerate((names, ignored))]  # fmt: skip
    path.write_text(json.dumps({"classes": rows[0], "ignored": rows[1]}))
    return path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("building", "Building"),
        ("bare soil", "bare_soil"),
        ("bare soil", "bare-soil"),
        ("bare soil", "bare\u00a0soil"),
        ("bare soil", "bare  soil"),
        ("car", "\uff43\uff41\uff52"),  # full width
        ("cap", WHOLLY),
        ("stra\u00dfe", "strasse"),
        ("\ufb01eld", "field"),  # a ligature
        ("geb\u00e4ude", "Geba\u0308ude"),
    ],
)
def test_a_scheme_whose_names_look_alike_is_refused(tmp_path: Path, one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)
    with pytest.raises(DataError) as caught:
        load_classes(classes(tmp_path / "c.yaml", [one, "tree", other]))
    assert str(caught.value).startswith(f"{tmp_path / 'c.yaml'}: classes {one!r} and ")
    assert "which look alike" in str(caught.value)
    with pytest.raises(DataError, match="which look alike"):
        load_classes(classes(tmp_path / "c.yaml", [one, "tree"], (other,)))
    assert load_classes(classes(tmp_path / "c.yaml", [one, "tree"], ("clutter", "Clutter"))).names[1] == "tree"


def test_the_letter_that_nobody_sees_is_named() -> None:
    with pytest.raises(
        DataError, match="look alike, with CYRILLIC SMALL LETTER A, with CYRILLIC SMALL LETTER ER, with"
    ):
        check_names(["cap", WHOLLY], [])
    assert did_you_mean(CYRILLIC, SCHEME.names) == " (did you mean 'car'? It has no CYRILLIC SMALL LETTER A)"
    assert did_you_mean("car", [CYRILLIC]) == f" (did you mean {CYRILLIC!r}? It has a CYRILLIC SMALL LETTER A)"


@pytest.mark.parametrize("name", [CYRILLIC, "bare \u0455oil", "\u0391cre"])
def test_two_scripts_in_a_word_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="among Latin letters; expected one script in a word"):
        load_classes(classes(tmp_path / "c.yaml", [name, "tree"]))


@pytest.mark.parametrize("name", ["ignore", "Ignored", "unlabelled", "UNLABELED", "void", "no_data", "NoData"])
def test_a_class_that_sounds_like_none_belongs_under_ignored(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        DataError, match=f"class called '{name}', which would be learnt, mapped and scored; expected what"
    ):
        load_classes(classes(tmp_path / "c.yaml", ["tree", name]))
    assert load_classes(classes(tmp_path / "c.yaml", ["tree"], (name,))).ignored[0][0] == name


@pytest.mark.parametrize("name", ["nan", "NaN", "NA", "null", "N/A"])
def test_a_class_that_is_an_empty_cell_of_tables_is_refused(tmp_path: Path, name: str) -> None:
    """Tags of a class NaN were read as no tags, where a table had them in small letters."""
    with pytest.raises(DataError, match="which in tables is an empty cell"):
        load_classes(classes(tmp_path / "c.yaml", ["tree", name]))


def test_usual_names_come_in(tmp_path: Path) -> None:
    names = [
        "\u0434\u043e\u043c",
        "d\u00e9bris",
        "\u68ee\u6797",
        "\u0394",
        "road 1",
        "road 2",
        "other",
        "unknown",
        "background",
        "all",
        "255",
    ]
    assert load_classes(classes(tmp_path / "c.yaml", names)).names == tuple(names)
    assert [load_classes(file) for file in sorted(READY.glob("*.yaml"))]


def test_files_that_name_a_class_otherwise_say_which_may_be_meant(tmp_path: Path) -> None:
    """Each door refuses, with the class; none makes a new one, or leaves it out."""
    words = "(did you mean 'building'?)"
    with pytest.raises(DataError) as caught:
        SCHEME.index("Building")
    assert words in str(caught.value)
    with pytest.raises(DataError) as caught:
        split_names("Building;car", SCHEME.names)
    assert words in str(caught.value)
    (tmp_path / "map.yaml").write_text("Haus: Building\n")
    with pytest.raises(DataError) as caught:
        read_class_map(tmp_path / "map.yaml", SCHEME)
    assert words in str(caught.value)
    assert words in str(unknown_classes(tmp_path / "a.json", ["Building"], read_class_map(None, SCHEME)))
    for content in (
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": "Building"}]},
        {"type": "FeatureCollection", "features": [
            {"type": "Feature", "properties": {"class": "Building"},
             "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [0, 2], [2, 2], [0, 0]]]}}]},
    ):  # fmt: skip
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        with pytest.raises(ImportProblems) as problems:
            import_boxes([tmp_path / "boxes.json"], tmp_path / "out.json", SCHEME, {"a": RasterInfo(9, 9, 3, "uint8")})
        assert "(did you mean 'building'?)" in str(problems.value)


def test_a_class_to_skip_that_no_file_has_is_no_other_spelling_of_one_that_it_has(tmp_path: Path) -> None:
    """Cars were taken, where Cars were to be left out."""
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}
    content = {
        "images": [{"id": 1, "file_name": "a.tif"}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "car"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    given = [tmp_path / "boxes.json"], tmp_path / "out.json", SCHEME, {"a": RasterInfo(9, 9, 3, "uint8")}
    with pytest.raises(ImportProblems, match=r"--skip-classes Car, which no file has.*did you mean 'car'"):
        import_boxes(*given, skip_classes=["Car"])
    assert len(import_boxes(*given, skip_classes=["lorry"]).boxes) == 1
