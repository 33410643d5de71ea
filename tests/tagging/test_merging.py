"""From images alone to tags that the `tiles` stage reads; what a merge refuses; agreement in the terminal."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.bit_sets import bits_of
from tests.tagging.test_server import Client
from typer.testing import CliRunner, Result

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.data.store import open_allowed
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.raster.open import read_mask
from weakseg.raster.write import write_raster
from weakseg.tagging.merging import describe_agreement, merge_tags
from weakseg.tagging.run import tag_server


@pytest.fixture
def client(workspace: Path) -> Iterator[Client]:
    with tag_server(workspace, model="none", overlap=1.0) as (server, said):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Client(said.splitlines()[0])
        server.shutdown()


def say(client: Client, number: str, present: str, row: int = 0, who: str = "Ana", **answer: Any) -> None:
    client.annotator = who
    crop = {"area": "t1", "window": [row, 0, 16, 16]}
    client.answer(crop, f"{who}{number}", tuple(present.split()), answer=answer)


def table(workspace: Path) -> str:
    return (workspace / "data" / "tags" / "tags.csv").read_text()


def run(workspace: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["--root", str(workspace), *words])


def test_answers_become_the_table_and_a_copy_of_them_goes_with_it(workspace: Path, client: Client) -> None:
    say(client, "1", "tree car")
    say(client, "2", "tree", row=16, unsure=["car"], absent=["impervious_surface", "building", "low_vegetation"])
    say(client, "3", "", row=32)
    assert merge_tags(workspace).splitlines() == [
        f"wrote 2 rows to {workspace}/data/tags/tags.csv: 2 new, 0 filled, 0 changed, 0 as they were",
        "1 crop(s) hold none of the classes, which a tag table cannot say: left out",
        "params.yaml has tiles.tag_source: masks; set it to csv to train on these tags",
    ]
    assert table(workspace) == (
        "area,row,column,height,width,tags,unknown,area_height,area_width\n"
        "t1,0,0,16,16,tree car,,64,64\nt1,16,0,16,16,tree,car,64,64\n"
    )
    copied = (workspace / "data" / "tags" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in copied] == ["Ana1", "Ana2", "Ana3"]
    say(client, "4", "tree", row=0)  # she changes her mind: her own row follows
    assert "0 new, 0 filled, 1 changed, 1 as they were" in merge_tags(workspace)
    client.post("undo", id="u1")
    merge_tags(workspace)
    assert "t1,0,0,16,16,tree car,,64,64" in table(workspace)


def test_a_merge_says_how_often_the_model_was_wrong_about_what_is_new(workspace: Path, client: Client) -> None:
    """Tree .9, car .2, building .7 where tree and car are: two of three are wrong."""
    say(client, "1", "tree car")
    file = workspace / "tagging" / "answers.jsonl"
    line = json.loads(file.read_text()) | {"guess": {"tree": 0.9, "car": 0.2, "building": 0.7}, "model": "m"}
    file.write_text(json.dumps(line) + "\n")
    assert "2 of the model's 3 guesses about them were wrong" in merge_tags(workspace).splitlines()
    say(client, "2", "tree", row=16)
    assert "guesses" not in merge_tags(workspace)


def test_another_tagging_is_not_overwritten(workspace: Path, client: Client) -> None:
    (workspace / "data" / "tags").mkdir()
    before = "area,row,column,height,width,tags,unknown\nt1,0,0,16,16,building,\nt1,16,0,16,16,,\n"
    (workspace / "data" / "tags" / "tags.csv").write_text(before)
    say(client, "1", "tree")
    say(client, "2", "car", row=16)
    found = run(workspace, "tag", "--merge")
    assert isinstance(found.exception, DataError)
    assert "contradict 1 crop(s) of tags.csv that were tagged otherwise before: t1 at row 0, column 0" in str(
        found.exception
    )
    assert table(workspace) == before
    assert not (workspace / "data" / "tags" / "answers.jsonl").exists()
    assert "0 new, 1 filled, 1 changed" in run(workspace, "tag", "--merge", "--replace").output
    assert "t1,0,0,16,16,tree,,64,64\nt1,16,0,16,16,car,,64,64\n" in table(workspace)


def test_columns_of_the_users_own_are_not_lost(workspace: Path, client: Client) -> None:
    (workspace / "data" / "tags").mkdir()
    (workspace / "data" / "tags" / "tags.csv").write_text("area,row,column,height,width,tags,Note\nt1,0,0,9,9,tree,x\n")
    say(client, "1", "tree")
    with pytest.raises(DataError, match=r"has the columns note, which a merge would drop"):
        merge_tags(workspace)


def test_answers_about_other_rasters_are_refused(workspace: Path, client: Client) -> None:
    with pytest.raises(DataError, match="no answers in"):
        merge_tags(workspace)
    say(client, "1", "tree")
    write_raster(workspace / "data" / "images" / "t1.tif", np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"answers about t1 of 64 x 64 px, 32 x 64 px now"):
        merge_tags(workspace)
    (workspace / "data" / "images" / "t1.tif").unlink()
    with pytest.raises(DataError, match=r"of 64 x 64 px, no such raster"):
        merge_tags(workspace)


def test_agreement_is_shown_and_disputes_are_served(workspace: Path, client: Client) -> None:
    for who in ("Ana", "Ben"):
        client.page = who
        say(client, "1", "tree car", who=who)
        say(client, "2", "tree" if who == "Ana" else "tree building", row=16, who=who)
    text, divided = describe_agreement(workspace)
    assert text.splitlines()[:2] == [
        "Ana: 2 answers, 0.1 min, median 1.5 s per crop", "Ben: 2 answers, 0.1 min, median 1.5 s per crop",
    ]  # fmt: skip
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[4:]}
    assert rows["tree"] == ["2", "1.000", "-"]
    assert rows["car"] == ["2", "1.000", "1.000"]
    assert rows["building"] == ["2", "0.500", "0.000"]
    assert [str(one) for one in divided] == ["t1 row 16 column 0, 16x16 px; building: Ana no, Ben yes"]
    found = run(workspace, "labels", "agreement", "--disputes", str(workspace / "disputes.csv"))
    assert "1 disputed crops\nt1 row 16 column 0, 16x16 px; building: Ana no, Ben yes\n" in found.output
    assert (workspace / "disputes.csv").read_text() == (
        "area,row,column,height,width,disputed\nt1,16,0,16,16,building\n"
    )
    assert "1 crop(s) are disputed" in merge_tags(workspace)
    assert "t1,16,0,16,16,tree,building,64,64" in table(workspace)


def test_the_third_decides_a_dispute(workspace: Path) -> None:
    for options in ({"overlap": 1.0}, {"disputes": True}):
        with tag_server(workspace, model="none", **options) as (server, said):  # type: ignore[arg-type]
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            client = Client(said.splitlines()[0])
            if "overlap" in options:
                say(client, "1", "tree")
                say(client, "1", "car", who="Ben")
            else:
                assert client.next(9)["crops"] == []  # Ana has said what she thinks
                client.annotator = "Cleo"
                (crop,) = client.next(9)["crops"]
                assert crop["window"] == [0, 0, 16, 16]
                say(client, "1", "tree", who="Cleo")
            server.shutdown()
    assert "disputed" not in merge_tags(workspace)
    assert "t1,0,0,16,16,tree,,64,64" in table(workspace)


@pytest.mark.parametrize("words", [["--replace"], ["--disputes", "--merge"]])
def test_options_that_exclude_each_other_are_refused(workspace: Path, words: list[str]) -> None:
    assert "options that exclude each other" in str(run(workspace, "tag", *words).exception)


def test_from_images_alone_to_a_table_that_the_tiles_stage_reads(workspace: Path, tmp_path: Path) -> None:
    """init, import of images without masks, tags by a script that sees the truth, merge, tiles."""
    mine = tmp_path / "mine"
    (tmp_path / "photos").mkdir()
    for area in ("t1", "t2"):
        shutil.copy(workspace / "data" / "images" / f"{area}.tif", tmp_path / "photos" / f"{area}.tif")
    assert run(mine, "init", "--config", "demo").exit_code == 0
    found = run(mine, "data", "import", str(tmp_path / "photos"))
    assert "no masks; expected zips or folders of masks" in str(found.exception)
    found = run(mine, "data", "import", str(tmp_path / "photos"), "--allow-unlabelled")
    assert found.exit_code == 0, found.output

    with tag_server(mine, size=16, model="none") as (server, said):
        assert "32 crops of 2 areas (all images, since tiles.areas.tags of params.yaml names none of them)" in said
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client = Client(said.splitlines()[0])
        while crops := client.next(1)["crops"]:
            row, column, height, width = crops[0]["window"]
            mask = read_mask(workspace / "data" / "labels" / f"{crops[0]['area']}.tif", ISPRS)
            here = np.unique(mask[row : row + height, column : column + width])
            client.answer(crops[0], crops[0]["key"], tuple(ISPRS.names[index] for index in here if index < 5))
        server.shutdown()
    assert "32 new" in run(mine, "tag", "--merge").output
    rows = read_tags(mine / "data" / "tags" / "tags.csv", ISPRS, raster_sizes(mine / "data" / "images"))
    assert len(rows) == 32

    for area, kind in itertools.product(("p1", "v1"), ("images", "labels")):  # what the stage needs beside them
        (mine / "data" / kind).mkdir(exist_ok=True)
        shutil.copy(workspace / "data" / kind / f"{area}.tif", mine / "data" / kind / f"{area}.tif")
    params = yaml.safe_load((mine / "params.yaml").read_text())
    params["tiles"] |= {"areas": {"pixel": ["p1"], "tags": ["t1", "t2"], "validation": ["v1"]}, "tag_source": "csv"}
    (mine / "params.yaml").write_text(yaml.safe_dump(params))
    found = run(mine, "stage", "tiles")
    assert found.exit_code == 0, (found.output, found.exception)
    truth = read_mask(workspace / "data" / "labels" / "t1.tif", ISPRS)[16:32, 16:32]
    allowed = bits_of(open_allowed(mine / "out" / "tiles", "t1"))[20, 20]
    assert allowed == sum(1 << int(index) for index in np.unique(truth) if index < 5)
