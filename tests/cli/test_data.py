"""`weakseg data`: tags, splits and imports as they are typed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.params import load_params
from weakseg.data.scenes import object_pictures
from weakseg.raster.write import write_raster

PROJECT = Path(__file__).parents[2]


def invoke(root: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["--root", str(root), *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_data_tags_shows_and_writes(workspace: Path) -> None:
    shown = invoke(workspace, "data", "tags", "--size", "16")
    assert "presence rate per crop size" in shown
    assert "most bits per tagged crop" in shown
    assert not (workspace / "data" / "tags").exists()
    assert "wrote 80 tag crops of 5 areas" in invoke(workspace, "data", "tags", "--size", "16", "--write")
    lines = (workspace / "data" / "tags" / "tags.csv").read_text().splitlines()
    assert len(lines) == 81
    assert lines[0] == "area,row,column,height,width,tags,unknown,area_height,area_width"


def dvc_hash(folder: Path) -> str:
    """The md5 by which DVC 3 knows a folder: that of the list of its files with their md5."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    listed = [{"md5": names[name], "relpath": name} for name in sorted(names)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def test_a_fresh_clone_makes_the_data_of_the_committed_pointer(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "data.dvc", tmp_path / "data.dvc")
    shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")
    assert "wrote the embedded scenes" in invoke(tmp_path, "data", "ensure")
    pointer = yaml.safe_load((PROJECT / "data.dvc").read_text())["outs"][0]
    assert len([path for path in (tmp_path / "data").rglob("*") if path.is_file()]) == pointer["nfiles"]
    assert dvc_hash(tmp_path / "data") == pointer["md5"]
    assert invoke(tmp_path, "data", "ensure").strip().endswith("is there")


def test_data_that_is_not_embedded_is_pulled_not_made(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- {md5: 0.dir, path: data}\n")
    result = CliRunner().invoke(app, ["--root", str(tmp_path), "data", "ensure"])
    assert result.exit_code == 1
    assert "dvc pull" in str(result.exception)
    assert not (tmp_path / "data").exists()


def test_data_split_writes_explicit_lists(workspace: Path) -> None:
    words = ("data", "split", "--pixel", "1", "--tagged", "2", "--validation", "1", "--seed")
    invoke(workspace, *words, "3")
    first = load_params(workspace / "params.yaml")
    areas = first.tiles.areas
    assert [len(areas.pixel), len(areas.tags), len(areas.validation)] == [1, 2, 1]
    assert {*areas.pixel, *areas.tags, *areas.validation} < {"p1", "p2", "t1", "t2", "v1"}
    invoke(workspace, *words, "3")
    assert load_params(workspace / "params.yaml") == first
    draws = set()
    for seed in range(6):
        invoke(workspace, *words, str(seed))
        draws.add(load_params(workspace / "params.yaml").tiles.areas.pixel)
    assert len(draws) > 1


def test_images_without_a_mask_come_in_on_demand_and_serve_n2(workspace: Path) -> None:
    source = workspace.rename(workspace.with_name("source"))
    (source / "data" / "labels" / "t2.tif").unlink()
    workspace.mkdir()
    (workspace / "params.yaml").write_text((source / "params.yaml").read_text())
    words = ("data", "import", str(source / "data" / "images"), str(source / "data" / "labels"))
    result = CliRunner().invoke(app, ["--root", str(workspace), *words])
    assert result.exit_code == 1
    assert "no label for area t2" in str(result.exception)
    assert "--allow-unlabelled" in str(result.exception)
    assert not (workspace / "data").exists()
    assert "without a label: t2\n" in invoke(workspace, *words, "--allow-unlabelled")
    assert not (workspace / "data" / "labels" / "t2.tif").exists()
    invoke(workspace, "data", "split", "--pixel", "2", "--tagged", "1", "--validation", "1")
    areas = load_params(workspace / "params.yaml").tiles.areas
    assert areas.tags[-1] == "t2"
    assert len(areas.tags) == 2
    assert "t2" not in (*areas.pixel, *areas.validation)


def test_import_ends_with_a_sheet_and_a_dry_run_writes_nothing_else(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    write_raster(tmp_path / "s" / "IMG_a_v2.png", image)
    write_raster(tmp_path / "s" / "truth-a.png", np.zeros((8, 8), np.uint8))
    words = ("data", "import", str(tmp_path / "s"), str(tmp_path / "s"))
    words += ("--image-pattern", "IMG_{area}_v2", "--label-pattern", "truth-(?P<area>.*)")
    sheet = tmp_path / "ws" / "out" / "sheets" / "import.png"
    said = invoke(tmp_path / "ws", *words, "--dry-run")
    assert f"nothing written; look at {sheet}: does every mask lie on its image?\n" in said
    assert [p for p in (tmp_path / "ws").rglob("*") if p.is_file()] == [sheet]
    before = sheet.read_bytes()
    assert f"\nlook at {sheet}: does" in invoke(tmp_path / "ws", *words, "--resample-labels")
    assert (tmp_path / "ws" / "data" / "images" / "a.tif").is_file()
    assert sheet.read_bytes() == before


def test_params_survive_a_split(workspace: Path) -> None:
    before = yaml.safe_load((workspace / "params.yaml").read_text())
    invoke(workspace, "data", "split", "--pixel", "2", "--tagged", "2", "--validation", "1")
    after = yaml.safe_load((workspace / "params.yaml").read_text())
    before["tiles"]["areas"] = after["tiles"]["areas"]
    assert after == before
    assert [len(after["tiles"]["areas"][split]) for split in ("pixel", "tags", "validation")] == [2, 2, 1]


def test_images_come_in_with_a_table_of_tags(tmp_path: Path) -> None:
    classes = tmp_path / "classes.yaml"
    rest = "classes: [{name: cat, colour: [1, 2, 3]}, {name: rest, colour: [0, 0, 0]}]\nbackground: rest\n"
    classes.write_text(rest)
    dice = np.random.default_rng(0)
    for name, shape in {"a": (9, 14, 3), "b": (20, 6, 3)}.items():
        write_raster(tmp_path / "s" / f"{name}.png", dice.integers(0, 256, shape, dtype=np.uint8))
    (tmp_path / "tags.csv").write_text("image,tags\na.png,Katze\nb.png,rest\n")
    (tmp_path / "names.yaml").write_text("Katze: cat\n")
    words = ("data", "import", str(tmp_path / "s"), "--classes", str(classes))
    said = invoke(tmp_path / "ws", *words, "--tags", str(tmp_path / "tags.csv"), "--map", str(tmp_path / "names.yaml"))
    assert "tags of 2 images: cat 1, rest 1\n" in said
    table = (tmp_path / "ws" / "data" / "tags" / "tags.csv").read_text().splitlines()
    assert table[1:] == ["a,0,0,9,14,cat,,9,14", "b,0,0,20,6,rest,,20,6"]


def test_options_of_tags_need_tags(tmp_path: Path) -> None:
    words = ("data", "import", str(tmp_path), "--allow-unlabelled", "--tags-from", "csv")
    result = CliRunner().invoke(app, ["--root", str(tmp_path), *words])
    assert "--tags-from, --map or --unmarked alone; expected --tags" in str(result.exception)


def test_objects_are_written_instead_of_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(object_pictures.SETS, 12, 5)
    assert "wrote 5 images of objects" in invoke(tmp_path, "data", "synth", "--objects", "12")
    assert len(list((tmp_path / "data" / "images").iterdir())) == 5
    result = CliRunner().invoke(app, ["--root", str(tmp_path), "data", "synth", "--objects", "7"])
    assert "7 kinds of objects; expected 12 or 200" in str(result.exception)
