"""Tags of other programs as they are typed in, up to the tag table; people keep their answers, and their disputes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.labels.test_label_studio import annotation, choices, task
from typer.testing import CliRunner, Result

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import ImportProblems, ParamsError, StageError, WeaksegError
from weakseg.labels.answer_file import read_answers
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.labels.tags import TagWindow
from weakseg.tagging.server import only_server


def run(workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--root", str(workspace), *words])


def say(workspace: Path, *words: str) -> str:
    result = run(workspace, "data", "tags", *words)
    if isinstance(result.exception, WeaksegError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def write(workspace: Path, content: Any, name: str = "export.json") -> str:
    path = workspace / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def rows(workspace: Path) -> list[TagWindow]:
    return read_tags(workspace / "data" / "tags" / "tags.csv", ISPRS, raster_sizes(workspace / "data" / "images"))


def by(who: str, *names: str, time: str = "2026-01-01T10:00:00Z") -> dict[str, Any]:
    return annotation(choices(*names), completed_by={"email": who}, updated_at=time)


def chip(name: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return task(*annotations, image=f"/data/upload/1/0a1b2c3d-{name}.png")


ANA, BEN = "ana@x.org", "ben@x.org"


def test_two_people_of_label_studio_keep_their_answers_and_their_dispute(workspace: Path) -> None:
    export = [
        chip("t1__0_0_16_16", by(ANA, "tree", "car"), by(BEN, "tree")),
        chip("t1__0_16_16_48", by(ANA, "building")),
    ]
    output = say(workspace, write(workspace, export))
    assert f"2 crops by 2 annotator(s), 3 new answers in {workspace}/tagging/answers.jsonl" in output
    assert "low_vegetation marked nowhere, so absent everywhere" in output
    assert "1 crop(s) are disputed" in output
    assert rows(workspace) == [
        TagWindow("t1", 0, 0, 16, 16, ("tree",), ("car",)),
        TagWindow("t1", 0, 16, 16, 48, ("building",)),
    ]
    answers = read_answers(workspace / "tagging" / "answers.jsonl", ISPRS)
    assert [(one.annotator, one.seconds, one.mode, one.batch) for one in answers] == [
        (ANA, 4.288, "crop", "label-studio"),
        (BEN, 4.288, "crop", "label-studio"),
        (ANA, 4.288, "crop", "label-studio"),
    ]
    agreement = run(workspace, "labels", "agreement").output
    assert "1 disputed crops" in agreement
    assert f"car: {ANA} yes, {BEN} no" in agreement


def test_importing_again_adds_nothing_and_a_later_export_changes_what_people_changed(workspace: Path) -> None:
    file = write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree", "car"))])
    say(workspace, file)
    kept = (workspace / "tagging" / "answers.jsonl").read_bytes()
    assert "0 new answers" in say(workspace, file)
    assert (workspace / "tagging" / "answers.jsonl").read_bytes() == kept
    later = write(workspace, [chip("t1__0_0_16_16", by(ANA, "building", "car", time="2026-02-01T10:00:00Z"))])
    assert "1 new answers" in say(workspace, later)
    assert [row.present for row in rows(workspace)] == [("building", "car")]
    assert "1 new answers" in say(workspace, write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree", "car"))]))
    assert [row.present for row in rows(workspace)] == [("tree", "car")]


def test_the_later_of_two_answers_of_one_person_counts(workspace: Path) -> None:
    early, late = by(ANA, "tree", "car"), by(ANA, "building", "car", time="2026-02-01T10:00:00Z")
    say(workspace, write(workspace, [chip("t1__0_0_16_16", late, early)]))
    assert [row.present for row in rows(workspace)] == [("building", "car")]


def test_what_a_file_says_no_longer_is_not_known_any_more(workspace: Path) -> None:
    first = [chip("t1__0_0_16_16", by(ANA, "tree", "car"))]
    say(workspace, "--unmarked", "unknown", write(workspace, first))
    assert rows(workspace)[0].present == ("tree", "car")
    say(workspace, "--unmarked", "unknown", write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree"))]))
    assert rows(workspace) == [
        TagWindow("t1", 0, 0, 16, 16, ("tree",), ("impervious_surface", "building", "low_vegetation", "car"))
    ]


def test_all_programs_say_the_same_of_the_same_crop(workspace: Path, tmp_path: Path) -> None:
    name = "t1__0_16_32_48.png"
    tags = '<tag label="tree"/><tag label="car"/>'
    xml = f'<annotations><image id="0" name="{name}" width="48" height="32">{tags}</image></annotations>'
    via = {"x": {"filename": name, "size": 1, "regions": [], "file_attributes": {"c": {"tree": True, "car": True}}}}
    one = {"_cls": "Classification", "label": "tree"}
    both = {"_cls": "Classifications", "classifications": [one, {**one, "label": "car"}]}
    files = {
        "cvat": write(workspace, xml, "a.xml"),
        "via": write(workspace, via, "b.json"),
        "fiftyone": write(workspace, {"samples": [{"filepath": name, "cover": both}]}, "c.json"),
        "label-studio": write(workspace, [chip(name[:-4], by(ANA, "tree", "car"))], "d.json"),
    }
    for kind, file in files.items():
        assert "1 new answers" in say(workspace, "--from", kind, file)
    assert rows(workspace) == [TagWindow("t1", 0, 16, 32, 48, ("tree", "car"))]
    answers = read_answers(workspace / "tagging" / "answers.jsonl", ISPRS)
    assert [one.annotator for one in answers] == ["cvat", "via", "fiftyone", ANA]


def test_tags_that_the_table_knows_otherwise_change_nothing_unasked(workspace: Path) -> None:
    table = workspace / "data" / "tags" / "tags.csv"
    table.parent.mkdir()
    table.write_text("area,row,column,height,width,tags\nt1,0,0,16,16,building\n")
    file = write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree", "car"))])
    with pytest.raises(WeaksegError, match="answers contradict 1 crop"):
        say(workspace, file)
    assert table.read_text().endswith("building\n")
    assert not (workspace / "tagging" / "answers.jsonl").exists()
    say(workspace, "--replace", file)
    assert rows(workspace)[0].present == ("tree", "car")


def test_every_problem_is_reported_and_nothing_written(workspace: Path) -> None:
    good = write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree", "car"))], "good.json")
    strange = write(workspace, [chip("t1__0_0_16_16", by(ANA, "Baum"))], "strange.json")
    lost = write(workspace, [chip("x", by(ANA, "tree", "car")), chip("t1__0_60_16_16", by(ANA, "car"))], "lost.json")
    with pytest.raises(ImportProblems) as caught:
        say(workspace, good, strange, lost, write(workspace, "{}", "empty.json"), str(workspace / "none.json"))
    problems = caught.value.problems
    assert [problem.split(": ", 1)[1][:30] for problem in problems[:2]] == [
        "classes 'Baum'; expected class",
        "every picture has one class; e",
    ]
    assert "x.png shows no crop" in problems[2]
    assert "window at row 0, column 60" in problems[3]
    assert "no export that is known here" in problems[4]
    assert "no file" in problems[5]
    assert not (workspace / "tagging").exists()


def test_two_files_of_people_without_names_that_differ_are_refused(workspace: Path) -> None:
    xml = '<annotations><image id="0" name="t1__0_0_16_16.png"><tag label="tree"/>{}</image></annotations>'
    files = [
        write(workspace, xml.format(more), name)
        for name, more in (("a.xml", '<tag label="car"/>'), ("b.xml", '<tag label="building"/>'))
    ]
    with pytest.raises(ImportProblems, match=r"cvat says two things about t1 at row 0, column 0; .*--annotator NAME"):
        say(workspace, *files)
    for name, file in zip(("Ana", "Ben"), files, strict=True):
        say(workspace, "--annotator", name, file)
    assert rows(workspace) == [TagWindow("t1", 0, 0, 16, 16, ("tree",), ("building", "car"))]


def test_a_file_that_may_be_of_two_programs_and_words_that_are_none(workspace: Path) -> None:
    with pytest.raises(ParamsError, match="--from excel; expected one of label-studio"):
        say(workspace, "--from", "excel", write(workspace, "{}"))
    with pytest.raises(ParamsError, match="--from cvat without files"):
        say(workspace, "--from", "cvat")
    with pytest.raises(ImportProblems, match="no tag; expected one at least"):
        say(workspace, "--unmarked", "unknown", write(workspace, [chip("t1", by(ANA, "clutter", "boundary"))]))


def test_a_page_that_serves_the_workspace_keeps_files_out(workspace: Path) -> None:
    with only_server(workspace), pytest.raises(StageError, match="another `weakseg tag` serves"):
        say(workspace, write(workspace, [chip("t1__0_0_16_16", by(ANA, "tree", "car"))]))
