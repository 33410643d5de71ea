"""The list of crops that are likely mistagged: flipped tags first, as CSV, as an order for the page, as a sheet."""

from __future__ import annotations

import csv
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from tests.tagging.test_server import Client
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, StageError
from weakseg.labels.crop_order import read_order, write_order
from weakseg.labels.tag_table import read_tags, write_tags
from weakseg.labels.tags import TagWindow, tags_from_mask, to_tag_windows, window_grid
from weakseg.raster.open import read_mask
from weakseg.tagging import suspects as module
from weakseg.tagging.run import tag_server
from weakseg.tagging.suspects import find_suspects, write_suspects

SIZES = dict.fromkeys(("p1", "p2", "t1", "t2", "v1"), (64, 64))
GRID = window_grid(64, 64, 16)


@pytest.fixture
def tagged(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny workspace with right tags of all areas, and a network that knows the masks."""
    rows: list[TagWindow] = []
    for area in SIZES:
        mask = read_mask(workspace / "data" / "labels" / f"{area}.tif", ISPRS)
        rows += to_tag_windows(area, GRID, *tags_from_mask(mask, GRID, 5), ISPRS)
    write_tags(workspace / "data" / "tags" / "tags.csv", rows, ISPRS, SIZES)

    def predict(area: str, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        mask = read_mask(workspace / "data" / "labels" / f"{area}.tif", ISPRS)
        assert image.shape == (64, 64, 3)
        return np.stack([np.where(mask == index, 0.9, 0.02) for index in range(5)]).astype(np.float32)

    monkeypatch.setattr(module, "_open_network", lambda file, images: (ISPRS.names, predict))
    network = workspace / "out" / "checkpoints" / "pixel" / "seed0.pt"
    network.parent.mkdir(parents=True)
    network.touch()
    return workspace


def flip(workspace: Path, area: str, number: int, name: str) -> tuple[str, tuple[int, int, int, int]]:
    """The other way round: one tag of the crop of that number in the grid."""
    path = workspace / "data" / "tags" / "tags.csv"
    rows = read_tags(path, ISPRS, SIZES)
    place = next(i for i, row in enumerate(rows) if (row.area, row.window) == (area, GRID[number]))
    names = set(rows[place].present) ^ {name}
    assert names  # a row without any would be one without tags
    rows[place] = replace(rows[place], present=tuple(one for one in ISPRS.names if one in names))
    write_tags(path, rows, ISPRS, SIZES)
    return area, GRID[number]


def test_flipped_tags_come_first_and_name_the_class(tagged: Path) -> None:
    flipped = {flip(tagged, "t1", 3, "car"), flip(tagged, "t1", 9, "tree"), flip(tagged, "t2", 5, "building")}
    flip(tagged, "p1", 2, "car")  # N1: the network has seen its pixels
    found = find_suspects(tagged)
    assert len(found) == 32
    assert {one.crop for one in found[:3]} == flipped
    assert {(one.crop[0], one.name) for one in found[:3]} == {("t1", "car"), ("t1", "tree"), ("t2", "building")}
    assert found[2].suspicion > 3 * found[3].suspicion
    for one in found[:3]:
        assert (one.tag == "absent") == (one.model > 0.5)


def test_people_who_disagree_with_a_tag_make_it_suspect(tagged: Path) -> None:
    rows = read_tags(tagged / "data" / "tags" / "tags.csv", ISPRS, SIZES)
    row = next(one for one in rows if one.area == "t2" and "car" not in one.present)
    write_order(tagged / "one.csv", [(row.area, row.window)])
    with tag_server(tagged, model="none", order=tagged / "one.csv") as (server, said):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for who in ("Ana", "Ben"):
            client = Client(said.splitlines()[0], who)
            client.answer({"area": row.area, "window": row.window}, f"{who}1", (*row.present, "car"))
        server.shutdown()
    first = find_suspects(tagged)[0]
    assert (first.crop, first.name, first.tag, first.votes) == ((row.area, row.window), "car", "absent", (0, 2))


def test_the_command_writes_a_list_that_the_page_serves_and_a_sheet(tagged: Path) -> None:
    wrong = flip(tagged, "t1", 3, "car")
    done = CliRunner().invoke(app, ["--root", str(tagged), "labels", "suspects"], catch_exceptions=False)
    assert done.exit_code == 0
    table = tagged / "tagging" / "suspects.csv"
    assert next(iter(read_order(table, SIZES, ISPRS))) == wrong
    first = next(csv.DictReader(table.open()))
    assert (first["class"], first["people_for"], first["people_against"]) == ("car", "0", "0")
    assert done.output.startswith(f"1 {'no car' if first['tag'] == 'absent' else 'car'}? ")
    assert f"`weakseg tag --order {table} --again` serves them" in done.output
    sheet = cv2.imread(str(tagged / "out" / "sheets" / "suspects.jpg"))
    assert sheet is not None
    assert sheet.shape[:2] == (6 * (210 + 22), 6 * (210 + 6))  # 32 panels, six in a row


def test_a_list_is_served_again_to_those_who_have_tagged_it(tagged: Path) -> None:
    """Ana's answer of before the list does not count, and is not prefilled; that of after it does."""
    crops = [("t1", GRID[0]), ("t1", GRID[1])]
    order = tagged / "suspects.csv"

    def session(**options: Any) -> Callable[[Callable[[Client], Any]], Any]:
        def use(what: Callable[[Client], Any]) -> Any:
            with tag_server(tagged, model="none", order=order, **options) as (server, said):
                threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
                try:
                    return what(Client(said.splitlines()[0]))
                finally:
                    server.shutdown()

        return use

    write_order(order, crops)
    session()(lambda client: client.answer({"area": "t1", "window": GRID[0]}, "x1"))
    write_order(order, crops)
    later = order.stat().st_mtime + 0.05
    os.utime(order, (later, later))
    assert [one["window"] for one in session()(lambda client: client.next(9))["crops"]] == [list(GRID[1])]

    def again(client: Client) -> list[list[int]]:
        told = client.next(9)["crops"]
        assert [one["known"] for one in told] == [{}, {}]
        time.sleep(max(0.0, later - time.time()) + 0.01)
        client.answer({"area": "t1", "window": GRID[0]}, "x2", ("car",))
        return [one["window"] for one in told]

    assert session(again=True)(again) == [list(GRID[0]), list(GRID[1])]
    left = session(again=True)(lambda client: client.next(9))["crops"]  # a server that comes back goes on
    assert [one["window"] for one in left] == [list(GRID[1])]


def test_what_is_missing_is_said(tagged: Path) -> None:
    (tagged / "out" / "checkpoints" / "pixel" / "seed0.pt").unlink()
    with pytest.raises(StageError, match=r"no network .*seed0\.pt; .* run `dvc repro segment@pixel`"):
        find_suspects(tagged)
    params = yaml.safe_load((tagged / "params.yaml").read_text())
    params["tiles"]["areas"]["tags"] = []
    (tagged / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(DataError, match=r"no tags of N2 areas in .*tags\.csv; .*`weakseg tag`"):
        find_suspects(tagged)
    done = CliRunner().invoke(app, ["--root", str(tagged), "tag", "--again"])
    assert "--again without --order" in str(done.exception)


def test_a_network_of_other_classes_is_refused(tagged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_open_network", lambda file, images: (("a", "b"), None))
    with pytest.raises(StageError, match="knows the classes a, b"):
        find_suspects(tagged)


def test_the_list_is_written_in_its_order(tagged: Path, tmp_path: Path) -> None:
    found = find_suspects(tagged)
    write_suspects(tmp_path / "list.csv", found)
    lines = (tmp_path / "list.csv").read_text().splitlines()
    assert lines[0] == "area,row,column,height,width,suspicion,class,tag,model,people_for,people_against"
    assert [float(line.split(",")[5]) for line in lines[1:]] == sorted(round(s.suspicion, 4) for s in found)[::-1]
