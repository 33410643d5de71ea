"""`weakseg stage --shard`: three parts and a joining process write the bytes that one process writes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.slim import slim
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.stages import run_stage
from weakseg.training.shards import SHARDABLE

TWICE = ("fused",)  # weights, then areas
STAGES = tuple((name, "pixel" if name == "evaluate" else None) for name in SHARDABLE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Path:
    """A tiny workspace in which all that can be shared has been made by one process."""
    root = make_workspace(tmp_path_factory.mktemp("shards"))
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    slim(raw)
    raw["boxes"] |= {"classes": ["building", "car"]}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    shutil.copy(Path(__file__).parents[2] / "dvc.yaml", root)
    for name, source in (("tiles", None), ("segment", "pixel"), ("classifier", None), ("cam", None), ("crf", None)):
        run_stage(root, name, source)
    run_stage(root, "teacher")
    layout = Layout(root)
    for expert in ("irnet", "single_stage"):  # any maps will do
        shutil.copytree(layout.scores("crf"), layout.scores(expert))
    for name in ("fused", "boxes"):
        run_stage(root, name)
    run_stage(root, "evaluate", "pixel")
    return root


def digests(root: Path) -> dict[str, str]:
    files = [path for folder in ("out", "reports") for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def remove_outputs(root: Path, name: str) -> None:
    layout = Layout(root)
    places = [layout.scores(name), layout.report(name)]
    if name == "evaluate":
        places = [layout.predictions("pixel"), layout.pictures("evaluate", "pixel"), layout.report("evaluate", "pixel")]
    for place in places:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


@pytest.mark.parametrize(("name", "source"), STAGES, ids=SHARDABLE)
def test_parts_write_the_bytes_of_the_whole(
    whole: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str | None
) -> None:
    for variable in ("WEAKSEG_SHARD", "WEAKSEG_TRACKING"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # the command sets them; this takes them back
    wanted = digests(whole)
    remove_outputs(whole, name)
    assert digests(whole) != wanted
    words = ["--root", str(whole), "stage", name, *filter(None, [source]), "--shard"]
    runner = CliRunner()
    for part in (3, 1):
        done = runner.invoke(app, [*words, f"{part}/3"], catch_exceptions=False)
        assert "still to come: " in done.output
    with pytest.raises(StageError, match="round 1 lacks part 2/3 of these inputs; expected all 3"):
        runner.invoke(app, [*words, "join/3"], catch_exceptions=False)
    runner.invoke(app, [*words, "2/3"], catch_exceptions=False)
    if name in TWICE:
        with pytest.raises(StageError, match="round 2 lacks part 1/3, 3/3 of these inputs"):
            runner.invoke(app, [*words, "join/3"], catch_exceptions=False)
        for part in (1, 3):
            runner.invoke(app, [*words, f"{part}/3"], catch_exceptions=False)
    runner.invoke(app, [*words, "join/3"], catch_exceptions=False)
    found = digests(whole)
    assert {path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)} == set()
    assert not (whole / ".weakseg" / "shards" / name).exists()
