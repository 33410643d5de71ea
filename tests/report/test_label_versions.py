"""`weakseg labels diff` on a workspace under git and DVC: labels of a commit, and the runs that read them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.labels.test_prices import answer
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.labels.box_files import write_boxes
from weakseg.labels.box_table import Box, BoxTable
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow
from weakseg.raster.write import write_raster
from weakseg.report.label_versions import compare_labels
from weakseg.report.label_words import describe_comparison, list_changes, markdown, read_label_changes
from weakseg.tracking.data_versions import cache_folder

SIZES = dict.fromkeys(("p1", "p2", "t1", "t2", "v1"), (64, 64))
CAR = Box("t1", 4, 4, 8, 8, "car")


def run(root: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def dvc(root: Path, *words: str) -> None:
    run(root, sys.executable, "-m", "dvc", *words)


def commit(root: Path, message: str) -> None:
    run(root, "git", "add", "data.dvc", "dvc.lock", "params.yaml")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    run(root, "git", *who, "commit", "-q", "-m", message)


def say_answers(layout: Layout, *numbers: int) -> None:
    lines = [json.dumps(answer(number, 6.0).to_json()) + "\n" for number in numbers]
    layout.merged_answers.write_text("".join(lines))


def evaluated(root: Path, right: int, *, cache: bool) -> None:
    """reports/evaluate/pixel.json of a network with so many right px of two areas, in dvc.lock as DVC has it."""
    matrix = (np.eye(5, dtype=int) * right + 10).tolist()
    layout = Layout(root)
    iou = dict.fromkeys(ISPRS.names, (right + 10) / (2 * (right + 50) - right - 10))
    scores = {"miou": iou["car"], "iou": iou, "oa": 0.5, "mf1": 0.5, "kappa": 0.5}
    report = {
        **scores, "classes": ISPRS.names, "miou_eroded": 0.5, "iou_batch_mean": 0.5, "validation_data": "feed",
        "areas": {name: {"confusion": matrix, **scores} for name in ("v1", "v2")},
    }  # fmt: skip
    path = layout.report("evaluate", "pixel")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    if cache:
        kept = cache_folder(root) / "files" / "md5" / md5[:2] / md5[2:]
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    data = yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"]
    tiles, network = {"path": "out/tiles", "md5": data[::-1]}, {"path": "out/checkpoints/pixel", "md5": f"n{right}"}
    stages = {
        "tiles": {"cmd": "x", "deps": [{"path": "data", "md5": data}], "outs": [tiles]},
        "segment@pixel": {"cmd": "x", "deps": [dict(tiles)], "outs": [dict(network)]},
        "evaluate@pixel": {
            "cmd": "x",
            "deps": [network],
            "outs": [{"path": path.relative_to(root).as_posix(), "md5": md5}],
        },
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Path:
    """Two versions: v1 in a commit with its run; then crops, a box and a mask more, with another run."""
    root = make_workspace(tmp_path_factory.mktemp("versions"))
    layout = Layout(root)
    params = yaml.safe_load((root / "params.yaml").read_text()) | {"sources": ["pixel", "joint"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    run(root, "git", "init", "-q")
    dvc(root, "init", "-q")
    first = TagWindow("t1", 0, 1, 16, 16, ("car",))
    write_tags(layout.tags_csv, [first], ISPRS, SIZES)
    say_answers(layout, 1)
    (layout.labels / "t2.tif").rename(root / "t2.tif")
    dvc(root, "add", "-q", "data")
    evaluated(root, 50, cache=True)
    commit(root, "v1")
    rows = [TagWindow("t1", 0, 1, 16, 16, ("car", "tree")), TagWindow("t1", 0, 2, 16, 16, ("tree",))]
    for path in layout.data.rglob("*"):  # DVC may have put read-only links there
        path.chmod(0o755 if path.is_dir() else 0o644)
    write_tags(layout.tags_csv, rows, ISPRS, SIZES)
    say_answers(layout, 1, 2)
    write_boxes(layout.box_file, BoxTable((CAR,), {"t1": ("car",)}), ISPRS, SIZES)
    mask = np.full((64, 64), 255, np.uint8)
    mask[:10, :10] = 1
    write_raster(layout.labels / "t2.tif", ISPRS.to_colours(mask))
    dvc(root, "add", "-q", "data")
    evaluated(root, 90, cache=False)
    return root


@pytest.fixture
def copy(versions: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(versions, tmp_path / "copy", symlinks=True))


def test_labels_and_runs_of_a_commit_and_of_the_workspace(versions: Path) -> None:
    found = compare_labels(versions, "HEAD")
    assert [(one.crop[1][1], one.what, one.classes) for one in found.crops] == [
        (1, "changed", {"tree": "absent to present"}),
        (2, "added", {name: f"unknown to {'present' if name == 'tree' else 'absent'}" for name in ISPRS.names}),
    ]
    assert (list(found.boxes_added), list(found.boxes_removed)) == ([CAR], [])
    assert [(one.area, one.what, one.labelled, one.changed) for one in found.pixels] == [("t2", "added", (0, 100), 100)]
    assert [(one.annotator, one.answers, one.crops, one.seconds) for one in found.work] == [("Ana", 1, 1, 6.0)]
    assert found.unanswered == 1  # the crop in column 1 was mended by hand
    assert found.estimated == pytest.approx(7.0 + 100 / 1e6 * 2575)
    (pixel,) = found.runs  # joint has not been trained
    assert pixel.before == pytest.approx(60 / 140)  # 50 + 10 of rows and columns of 100 px
    assert pixel.after == pytest.approx(100 / 180)
    assert pixel.difference is not None
    assert pixel.difference.value == pytest.approx(100 / 180 - 60 / 140)
    assert pixel.difference.low == pytest.approx(pixel.difference.high)  # two areas that are alike
    assert all(found.data)


def test_the_command_says_it_and_leaves_it_for_the_report(copy: Path) -> None:
    done = CliRunner().invoke(app, ["--root", str(copy), "labels", "diff", "HEAD"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[:2] == [
        "changed crop t1 (0, 1, 16, 16): tree absent to present",
        "added crop t1 (0, 2, 16, 16): tree",
    ]
    assert "- crops: 1 added, 0 removed, 1 changed (tree absent to present 1)" in lines
    assert "- boxes: 1 added, 0 removed" in lines
    assert "- pixels: t2 added (100 px)" in lines
    assert (
        "- work: Ana 1 answers about 1 crops in 0.1 min; 1 changed crops without an answer in between, imported or "
        "mended in the table; boxes and pixels 0.1 min by the prices of label_cost"
    ) in lines
    assert "| task (i): N1 pixels | 0.429 | 0.556 | +0.127 | +0.127 to +0.127 |" in lines
    changes = read_label_changes(copy / "reports" / "labels_diff.json")
    assert changes == describe_comparison(compare_labels(copy, "HEAD"))
    assert changes is not None
    assert markdown(changes) in done.output


def test_labels_that_dvc_has_not_recorded_have_no_run(copy: Path) -> None:
    layout = Layout(copy)
    layout.tags_csv.unlink()
    write_tags(layout.tags_csv, [], ISPRS, SIZES)
    found = compare_labels(copy, "HEAD")
    assert [one.what for one in found.crops] == ["removed"]
    assert found.data[1] == ""
    assert [one.why for one in found.runs] == ["no run on the data of now"]
    assert "now (data not recorded by DVC yet)" in describe_comparison(found).head


def test_a_network_that_was_trained_before_the_labels_changed_is_not_theirs(copy: Path) -> None:
    lock = yaml.safe_load((copy / "dvc.lock").read_text())
    lock["stages"]["segment@pixel"]["deps"][0]["md5"] = "of before"
    (copy / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert compare_labels(copy, "HEAD").runs[0].why == "no run on the data of now"


def test_two_commits_are_compared_without_the_workspace(copy: Path) -> None:
    commit(copy, "v2")
    shutil.rmtree(copy / "data" / "labels")
    found = compare_labels(copy, "HEAD~1..HEAD")
    assert [one.what for one in found.crops] == ["changed", "added"]
    assert (found.before, found.after) == ("HEAD~1", "HEAD")
    assert found.runs[0].why == "no run on the data of HEAD"  # its report was never in the cache
    same = compare_labels(copy, "HEAD..HEAD")
    assert (same.crops, [one.source for one in same.runs]) == ([], ["pixel", "joint"])
    assert same.runs[0].why == "no run on the data of HEAD and HEAD"


def test_long_lists_are_cut_in_the_terminal(versions: Path) -> None:
    found = compare_labels(versions, "HEAD")
    assert list_changes(found, 1)[1:] == [
        *("... and 1 more", "added box t1 (4, 4, 8, 8): car", "added mask of t2: 100 px"),
    ]


def test_what_is_not_there_is_said(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="git knows no commit 'nothing'"):
        compare_labels(copy, "nothing")
    with pytest.raises(DataError, match=r"revision 'HEAD\.\.'; expected a commit, or two with \.\. between"):
        compare_labels(copy, "HEAD..")
    shutil.rmtree(copy / ".dvc" / "cache")
    with pytest.raises(DataError, match=r"is not in DVC's cache .*; run `dvc fetch --all-commits data.dvc`"):
        compare_labels(copy, "HEAD")
    with pytest.raises(DataError, match="no DVC in"):
        compare_labels(tmp_path, "HEAD")
    (tmp_path / "labels_diff.json").write_text("{}")
    with pytest.raises(StageError, match="is no comparison of labels"):
        read_label_changes(tmp_path / "labels_diff.json")
