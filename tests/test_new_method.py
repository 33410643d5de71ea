"""A weak-label method is added at the five places of docs/architecture.md: in a copy of the package, run to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import weakseg

PACKAGE = Path(weakseg.__file__).parent
PROJECT = Path(__file__).parents[1]

MODULE = '''"""Constant scores of every class that the tags allow."""

import numpy as np

from weakseg.core.methods import ConstantParams
from weakseg.methods.scores import ScoreMaps


def constant_scores(planes: np.ndarray, params: ConstantParams) -> ScoreMaps:
    """``params.level`` where a class (C, H, W) may be."""
    return ScoreMaps.of((planes * params.level).astype(np.float32))
'''
STAGE = '''"""Stage constant."""

from pathlib import Path

from weakseg.data.store import open_allowed
from weakseg.methods.constant import constant_scores
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.scores import save_scores
from weakseg.pipeline.context import open_context, tracked


def run(root: Path) -> None:
    """Write out/scores/constant/<area>.npz."""
    context = open_context(root)
    with tracked(context, "constant", context.params.constant):
        for area in context.pixel_areas() + context.tag_areas():
            allowed = open_allowed(context.layout.tiles, area)
            maps = constant_scores(allowed.planes(), context.params.constant)
            save_scores(context.layout.scores("constant") / f"{area}.npz", silence_ignored(maps, allowed))
'''
SECTION = '''class ConstantParams(Section):
    """Constant scores."""

    level: Share


class MethodSections(Section):
'''
ENTRY = """  constant:
    desc: the same score for every class that the tags allow
    cmd: python -m weakseg stage constant
    deps:
      - out/tiles
      - out/code/constant.txt
    params:
      - constant
    outs:
      - out/scores/constant

  pseudo:
"""


def insert(path: Path, before: str, text: str) -> None:
    """Put ``text`` in front of the one line ``before`` of a file."""
    content = path.read_text()
    assert content.count(before) == 1
    path.write_text(content.replace(before, text + before))


def add_method(package: Path) -> None:
    """What a developer writes to add the method ``constant``."""
    (package / "methods" / "constant.py").write_text(MODULE)
    (package / "stages" / "constant.py").write_text(STAGE)
    registry = package / "core" / "methods.py"
    insert(registry, '    Entry(\n        "consistency",', '    Entry("constant", "masks", "one score for all"),\n')
    registry.write_text(registry.read_text().replace("class MethodSections(Section):\n", SECTION))
    registry.write_text(registry.read_text() + "    constant: ConstantParams\n")
    (package / "pipeline" / "dvc.yaml").write_text(
        (package / "pipeline" / "dvc.yaml").read_text().replace("  pseudo:\n", ENTRY, 1)
    )
    insert(package / "pipeline" / "base.yaml", "sources: #", "- constant\n")
    insert(package / "pipeline" / "base.yaml", "teacher:\n  rounds", "constant:\n  level: 0.75\n\n")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source folder with a copy of the package and the method in it."""
    place = tmp_path_factory.mktemp("added")
    shutil.copytree(PACKAGE, place / "weakseg", ignore=shutil.ignore_patterns("__pycache__"))
    add_method(place / "weakseg")
    return place


def run(source: Path, root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "weakseg", "--root", str(root), *words]
    result = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(source)}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_five_places(source: Path) -> None:
    before, after = files_of(PACKAGE), files_of(source / "weakseg")
    touched = {name for name in after if after[name] != before.get(name)}
    assert touched == {
        "methods/constant.py",
        "stages/constant.py",
        "core/methods.py",
        "pipeline/dvc.yaml",
        "pipeline/base.yaml",
    }
    text = (PROJECT / "docs" / "architecture.md").read_text().split("## Adding a weak-label method\n", 1)[1]
    for name in touched:
        assert f"`{name.replace('constant', '<method>')}`" in text.split("\n## ", 1)[0]


def test_it_runs_to_its_audit(
    source: Path, tmp_path: Path, workspace: Path, tiny: Callable[[], dict[str, Any]]
) -> None:
    base = yaml.safe_load((source / "weakseg" / "pipeline" / "base.yaml").read_text())
    raw = tiny() | {"methods": base["methods"], "constant": base["constant"]}
    assert base["methods"][-1] == "constant"
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    for stage in (("tiles",), ("constant",), ("pseudo", "constant"), ("audit", "constant"), ("code",), ("settings",)):
        run(source, workspace, "stage", *stage)
    maps = np.load(workspace / "out" / "scores" / "constant" / "t1.npz")
    assert set(np.unique(maps["scores"]).tolist()) == {0.0, 0.75}
    audit = yaml.safe_load((workspace / "reports" / "audit" / "constant.json").read_text())
    assert 0 < audit["coverage"] <= 1
    assert (workspace / "out" / "code" / "constant.txt").is_file()  # DVC knows what it can reach
    assert (workspace / "out" / "settings" / "segment_constant.yaml").is_file()  # and what its training reads


def test_the_stage_is_known_to_dvc(source: Path) -> None:
    stages = yaml.safe_load((source / "weakseg" / "pipeline" / "dvc.yaml").read_text())["stages"]
    assert stages["constant"]["outs"] == ["out/scores/constant"]
    assert stages["pseudo"]["foreach"] == "${methods}"
