"""Tables whose rows can all be read and that may still say something else than was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from weakseg.core.classes import ISPRS
from weakseg.labels.tag_doubts import describe_doubts
from weakseg.labels.tags import TagWindow
from weakseg.stages import tiles

CAR = ("car",)


def test_a_table_without_a_row_of_n2_is_said() -> None:
    assert describe_doubts([], ["t1", "t2"], ISPRS) == ["no rows, none of an area of N2 (t1, t2): no tag is learnt"]
    (said,) = describe_doubts([TagWindow("p1", 0, 0, 32, 32, CAR)], ["t1"], ISPRS)
    assert said == "its 1 rows are of p1, none of an area of N2 (t1): no tag is learnt"
    assert describe_doubts([], [], ISPRS) == []


def test_rows_that_name_no_class_are_counted() -> None:
    rows = [TagWindow("t1", 0, 32 * i, 32, 32, names) for i, names in enumerate((CAR, (), ()))]
    (said,) = describe_doubts([*rows, TagWindow("p1", 0, 0, 32, 32)], ["t1"], ISPRS)
    assert said.startswith("2 of 3 rows of N2 name no class and count as untagged: ")
    unsure = TagWindow("t1", 0, 0, 32, 32, (), CAR)  # says that all others are absent
    assert describe_doubts([rows[0], unsure], ["t1"], ISPRS) == []


@pytest.mark.parametrize(("side", "doubted"), [(1, True), (7, True), (8, False)])
def test_crops_of_a_few_px_are_said(side: int, doubted: bool) -> None:
    rows = [TagWindow("t1", 0, 9 * i, side, 64, CAR) for i in range(3)]
    said = describe_doubts(rows, ["t1"], ISPRS)
    assert [f"sides of {side} px or less" in one for one in said] == [True] * doubted


def test_the_tiles_stage_says_it(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["tiles"]["tag_source"] = "csv"
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    (workspace / "data" / "tags").mkdir()
    (workspace / "data" / "tags" / "tags.csv").write_text("area,row,column,height,width,tags\np1,0,0,16,16,car\n")
    tiles.run(workspace)
    assert "tags.csv: its 1 rows are of p1, none of an area of N2 (t1, t2): no tag is learnt" in capfd.readouterr().err
