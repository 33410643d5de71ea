"""Which program wrote a file, and what its marks say of crops."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.class_map import ClassMap, read_class_map
from weakseg.labels.marks import Mark, Marks
from weakseg.labels.tag_files import ReadTags, Unmarked, _part, answers_of, read_marks, recognise

SIZES = {"t1": (64, 80)}
NAMES = ClassMap(ISPRS)


def read(*rows: Mark, names: ClassMap = NAMES, unmarked: Unmarked | None = None, **about: object) -> ReadTags:
    marks = Marks(Path("f"), list(rows), **about)  # type: ignore[arg-type]
    return answers_of(marks, names, SIZES, kind="cvat", unmarked=unmarked, annotator="cvat", time="2026")


def mark(*present: str, picture: str = "t1__0_0_16_16.png", **more: object) -> Mark:
    return Mark("f: 1", picture, present, **more)  # type: ignore[arg-type]


def test_unmarked_classes_are_absent_where_several_could_be_marked() -> None:
    (answer,) = read(mark("car", "tree", unsure=("building",)), several=True).answers
    assert (answer.crop, answer.raster) == (("t1", (0, 0, 16, 16)), (64, 80))
    assert answer.present == ("tree", "car")
    assert answer.unsure == ("building",)
    assert answer.absent == ("impervious_surface", "low_vegetation")
    assert (answer.annotator, answer.mode, answer.batch, answer.time) == ("cvat", "file", "cvat", "2026")


def test_classes_that_nobody_was_offered_stay_unknown() -> None:
    (answer,) = read(mark("tree"), several=True, offered=("tree", "car", "person")).answers
    assert (answer.present, answer.absent) == (("tree",), ("car",))


def test_one_class_each_can_be_read_in_two_ways() -> None:
    for several in (None, False):
        found = read(mark("tree"), mark("car"), several=several)
        assert found.answers == ()
        assert found.problems == (
            "f: every picture has one class; expected to know whether the other classes are absent or nothing was said "
            "of them; say --unmarked absent, or --unmarked unknown",
        )
    (answer,) = read(mark("tree"), several=False, unmarked="unknown").answers
    assert (answer.present, answer.absent) == (("tree",), ())
    (answer,) = read(mark("tree"), several=False, unmarked="absent").answers
    assert answer.absent == ("impervious_surface", "building", "low_vegetation", "car")


def test_classes_marked_nowhere_are_said_where_they_count_as_absent() -> None:
    found = read(mark("tree", "car"))
    assert found.notices == (
        "f: impervious_surface, building, low_vegetation marked nowhere, so absent everywhere; --unmarked unknown if "
        "nobody was asked",
    )


def test_unknown_names_are_refused_with_the_map_that_mends_them(tmp_path: Path) -> None:
    assert read(mark("Baum", "tree"), several=True).problems == (
        "f: classes 'Baum'; expected classes of impervious_surface, building, low_vegetation, tree, car; say what they "
        "are by a file of lines such as `Baum: impervious_surface` or `Baum: null` (--map FILE)",
    )
    (tmp_path / "map.yaml").write_text("Baum: tree\nWiese: low_vegetation\nsonst: null\n")
    names = read_class_map(tmp_path / "map.yaml", ISPRS)
    found = read(mark("Baum", "Wiese", "sonst", "clutter"), names=names, several=True)
    assert found.answers[0].present == ("low_vegetation", "tree")
    assert found.notices[:2] == ("f: 1 mark(s) of sonst left out", "f: 1 mark(s) of clutter left out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Baum: baum\n", "Baum: baum; expected classes of"),
        ("- tree\n", "is no map"),
        ("a: [\n", "is not YAML"),
        ("a: tree\na: car\n", "is not YAML"),
        ("Baum: 3\n", "Baum: 3; expected"),
    ],
)
def test_maps_that_are_none_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        read_class_map(tmp_path / "map.yaml", ISPRS)
    with pytest.raises(DataError, match="cannot be read"):
        read_class_map(tmp_path / "none.yaml", ISPRS)


def test_a_rectangle_of_a_picture_becomes_its_pixels() -> None:
    row = mark("tree", picture="t1.png", edges=(0.2, 0.25, 0.6, 0.5), size=(64, 80))
    assert read(row, several=True).answers[0].window == (16, 16, 16, 32)
    chip = mark("tree", picture="t1__16_16_32_40.png", edges=(0.5, 0.0, 1.0, 0.5), size=(32, 40))
    assert read(chip, several=True).answers[0].window == (16, 36, 16, 20)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (mark("tree", picture="x.png"), "f: 1: x.png shows no crop"),
        (mark("tree", size=(8, 8)), "a picture of 8x8 px .height x width., its crop has 16x16"),
        (mark("tree", picture="", area="t9", window=(0, 0, 1, 1)), "area 't9'; expected one of t1"),
        (mark("tree", picture="", area="t1", window=(0, 0, 1, 99)), "window at row 0, column 0, 1x99 px"),
        (mark("tree", picture=""), "no picture and no window"),
        (mark("tree", annotator="a\nb"), "annotator 'a.nb'"),
        (mark("tree", picture="t1.png", edges=(0.5, 0.5, 0.5, 0.9)), "window at row 32, column 40, 26x0 px"),
    ],
)
def test_marks_of_no_crop_are_a_problem_each(row: Mark, words: str) -> None:
    (problem,) = read(row, several=True).problems
    assert re.search(words, problem)


def test_files_show_who_wrote_them(tmp_path: Path) -> None:
    contents = {
        "a.json": [{"id": 1, "data": {"image": "a.png"}, "annotations": []}],
        "b.json": {"_via_img_metadata": {}},
        "c.json": {"samples": [{"filepath": "a.png"}]},
        "d.json": {"images": [], "annotations": [], "categories": []},
        "e.geojson": {"type": "FeatureCollection", "features": []},
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>")
    (tmp_path / "g.zip").write_bytes(b"")
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "labels.json").write_text("{}")
    found = {path.name: recognise(path) for path in sorted(tmp_path.iterdir())}
    assert found == {
        "a.json": ("label-studio",),
        "b.json": ("via",),
        "c.json": ("fiftyone",),
        "d.json": (),
        "e.geojson": ("layer",),
        "f.zip": ("cvat",),
        "g.zip": (),
        "h": ("fiftyone",),
    }
    assert recognise(tmp_path / "x.csv") == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "not JSON .nested too deeply"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"{}", "is no export of label-studio; expected one; export it again, or mend --from"),
    ],
)
def test_broken_and_hostile_json_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_marks("label-studio", tmp_path / "a.json")


@pytest.mark.parametrize("edges", [(0.8, 0.0, 1.3, 0.5), (-0.1, 0.0, 0.4, 0.5)], ids=["beyond", "before"])
def test_a_rectangle_that_leaves_its_picture_is_refused_and_not_cut(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(DataError, match="expected one inside the picture"):
        _part((0, 0, 80, 80), edges)
    assert _part((10, 20, 80, 80), (0.5, 0.25, 1.01, 0.75)) == (30, 60, 40, 40)  # a rounding of one px is cut
