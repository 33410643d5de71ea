"""Which crops are served where nobody names an order: what is partly known, and the grid where nothing is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from weakseg.core.classes import ISPRS
from weakseg.labels.answer_file import AnswerFile
from weakseg.labels.answers import Crop, TagAnswer
from weakseg.tagging.proposals import propose_crops

GRID = [(row, column, 16, 16) for row, column in itertools.product(range(0, 64, 16), repeat=2)]


def table(workspace: Path, *rows: str) -> None:
    path = workspace / "data" / "tags" / "tags.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["area,row,column,height,width,tags,unknown", *rows, ""]))


def answered(workspace: Path, *crops: Crop) -> None:
    with AnswerFile(workspace / "tagging" / "answers.jsonl", ISPRS) as file:
        file.add(
            [
                TagAnswer(str(index), *crop, (64, 64), ("tree",), (), (), "Ana", "2026-11-28T05:00:00.000Z", 1.0)
                for index, crop in enumerate(crops)
            ]
        )


def of_t1(workspace: Path, **options: object) -> set[tuple[int, ...]]:
    found = propose_crops(workspace, **options).crops  # type: ignore[arg-type]
    assert len(set(found)) == len(found)
    return {window for area, window in found if area == "t1"}


def test_without_a_table_the_grid_of_all_tagged_areas_in_turn(workspace: Path) -> None:
    found = propose_crops(workspace)
    assert sorted(found.crops) == [(area, window) for area in ("t1", "t2") for window in GRID]
    assert [area for area, _ in found.crops[:6]] == ["t1", "t2"] * 3
    assert [window for area, window in found.crops if area == "t1"] != GRID  # spread over the scene
    assert found.crops == propose_crops(workspace).crops
    assert found.sizes["v1"] == (64, 64)


def test_areas_and_size_are_as_asked(workspace: Path) -> None:
    found = propose_crops(workspace, areas=["v1"], size=32)
    assert sorted(found.crops) == [("v1", (r, c, 32, 32)) for r, c in itertools.product((0, 32), repeat=2)]
    assert found.said == "4 crops of 1 areas (as asked), grid of 32 px"


def test_the_grid_is_in_px_of_the_raster_whatever_the_scale(workspace: Path) -> None:
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("scale: 1.0\n", "scale: 0.5\n", 1))
    assert of_t1(workspace) == {(r, c, 32, 32) for r, c in itertools.product((0, 32), repeat=2)}


def test_rows_on_the_grid_are_done_and_those_with_unknown_classes_are_not(workspace: Path) -> None:
    table(workspace, "t1,0,0,16,16,tree,", "t1,0,16,16,16,tree,car", "t1,0,32,16,16,,")
    assert of_t1(workspace) == set(GRID) - {(0, 0, 16, 16)}


def test_the_grid_leaves_out_what_overlaps_rows_of_another_size(workspace: Path) -> None:
    table(workspace, "t1,10,10,8,8,tree,", "t1,40,16,5,5,tree,car")
    assert of_t1(workspace) == set(GRID) - {
        *((0, 0, 16, 16), (0, 16, 16, 16), (16, 0, 16, 16), (16, 16, 16, 16), (32, 16, 16, 16)),
    } | {(40, 16, 5, 5)}  # fmt: skip


def test_after_a_merge_the_rest_of_the_grid_is_there_and_own_rows_are_counted(workspace: Path) -> None:
    answered(workspace, ("t1", (0, 0, 16, 16)), ("t1", (16, 16, 16, 16)))
    table(workspace, "t1,0,0,16,16,tree,", "t1,16,16,16,16,tree,")
    assert of_t1(workspace) == set(GRID)


def test_a_table_that_knows_everything_leaves_nothing_to_tag(workspace: Path) -> None:
    rows = [f"{area},{','.join(map(str, window))},tree," for area in ("t1", "t2") for window in GRID]
    table(workspace, *rows)
    with pytest.raises(Exception, match=r"nothing to tag: 0 crops .* expected crops without tags, or with unknown"):
        propose_crops(workspace)
