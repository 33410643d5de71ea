"""What could be labelled next: grids without what is known, never an image of validation, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.labels.answer_file import AnswerFile
from weakseg.labels.answers import TagAnswer
from weakseg.studies.acquisition.places import Places, find_places
from weakseg.tagging.proposals import propose_crops

GRID = [(row, column, 16, 16) for row, column in itertools.product(range(0, 64, 16), repeat=2)]


def found_in(workspace: Path, areas: tuple[str, ...] = (), size: int | None = None) -> Places:
    return find_places(Layout(workspace), load_params(Layout(workspace).params), areas, size)


def to_tag(places: Places) -> set[tuple[str, tuple[int, ...]]]:
    return {crop for crop, asked in zip(places.crops, places.asked.any(1), strict=True) if asked}


def table(workspace: Path, *rows: str) -> None:
    path = Layout(workspace).tags_csv
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["area,row,column,height,width,tags,unknown", *rows, ""]))


def test_without_tags_the_grid_that_tag_serves_and_every_open_image(workspace: Path) -> None:
    places = found_in(workspace)
    assert to_tag(places) == set(propose_crops(workspace).crops)
    assert {area for area, _ in places.crops} == {"p1", "p2", "t1", "t2"}
    assert list(places.images) == ["t1", "t2"]
    assert all(len(crops) == 16 for crops in places.images.values())
    assert places.drawn.sum() == 32
    assert places.boxed[places.drawn].all()
    assert not places.tagged.any()


def test_rows_are_tagged_those_with_unknown_classes_are_asked_about_these(workspace: Path) -> None:
    table(workspace, "t1,0,0,16,16,tree,", "t1,0,16,16,16,tree,car building", "p1,0,0,16,16,tree,")
    places = found_in(workspace)
    place = {crop: index for index, crop in enumerate(places.crops)}
    assert places.tagged[place["t1", GRID[0]]]
    assert not places.asked[place["t1", GRID[0]]].any()
    asked = places.asked[place["t1", GRID[1]]]
    assert [name for name, wanted in zip(ISPRS.names, asked, strict=True) if wanted] == ["building", "car"]
    assert to_tag(places) == set(propose_crops(workspace).crops)
    assert not places.asked[place["p1", GRID[0]]].any()  # N1 has its pixels


def test_an_answer_counts_before_it_is_merged(workspace: Path) -> None:
    names = ISPRS.names
    with AnswerFile(Layout(workspace).answers, ISPRS) as file:
        said = ("t1", GRID[0], (64, 64), names[:1], names[1:], (), "Ana", "2026-11-28T05:00:00.000Z", 1.0)
        part = ("t1", GRID[1], (64, 64), ("car",), (), (), "Ana", "2026-11-28T05:00:01.000Z", 1.0)
        file.add([TagAnswer("a", *said), TagAnswer("b", *part)])
    places = found_in(workspace)
    assert ("t1", GRID[0]) not in to_tag(places)
    index = places.crops.index(("t1", GRID[1]))
    assert places.asked[index].tolist() == [name != "car" for name in names]


def test_images_of_no_split_may_get_boxes_and_pixels_and_tags_where_params_name_no_n2(workspace: Path) -> None:
    params = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(params.replace("    tags:\n    - t1\n    - t2\n", "    tags:\n    - t1\n"))
    places = found_in(workspace)
    assert list(places.images) == ["t1", "t2"]
    assert {area for area, _ in to_tag(places)} == {"t1"}
    (workspace / "params.yaml").write_text(params.replace("    tags:\n    - t1\n    - t2\n", "    tags: []\n"))
    assert {area for area, _ in to_tag(found_in(workspace))} == {"t1", "t2"}


def test_areas_and_size_are_as_asked(workspace: Path) -> None:
    places = found_in(workspace, ("t2",), 32)
    assert to_tag(places) == {("t2", (r, c, 32, 32)) for r, c in itertools.product((0, 32), repeat=2)}
    assert list(places.images) == ["t2"]


@pytest.mark.parametrize(
    ("areas", "error", "message"),
    [
        (("v1",), ParamsError, r"--areas v1, of validation or N1 .*validation areas must stay unseen"),
        (("t1", "p1"), ParamsError, r"--areas p1, of validation or N1"),
        (("x9",), DataError, r"area x9; expected areas of data/images"),
    ],
)
def test_areas_that_must_not_be_labelled_are_refused(
    workspace: Path, areas: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        found_in(workspace, areas)
