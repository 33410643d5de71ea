"""The real stages on the tiny workspace: kills at drawn instants, then the state that `dvc repro` alone makes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from weakseg.pipeline.presets import PIPELINE

SOURCE = Path(__file__).parents[2] / "src"
TARGETS = ("evaluate@pixel", "evaluate@untagged", "audit@teacher")


def make(root: Path, make_workspace: Callable[[Path], Path]) -> Path:
    """The tiny workspace under DVC, with the code that runs here."""
    make_workspace(root)
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw |= {"methods": ["teacher"], "sources": ["pixel", "untagged"]}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    shutil.copy(PIPELINE / "dvc.yaml", root)
    (root / "src").mkdir()
    (root / "src" / "weakseg").symlink_to(SOURCE / "weakseg", target_is_directory=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / ".dvcignore").write_text("__pycache__/\n*.pyc\n.weakseg/\n")
    return root


def kill_one(root: Path, environment: dict[str, str], draw: random.Random) -> None:
    command = [sys.executable, "-m", "weakseg", "--root", str(root), "repro", "--jobs", "2", *TARGETS]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(draw.uniform(3, 15))
    family = [psutil.Process(running.pid)]
    family += family[0].children(recursive=True) if running.poll() is None else []
    with contextlib.suppress(psutil.NoSuchProcess):
        draw.choice(family).kill()
    running.wait(300)


@pytest.mark.slow
def test_kills_of_real_stages(tmp_path: Path, make_workspace: Callable[[Path], Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    alone, killed = (make(tmp_path / name, make_workspace) for name in ("alone", "killed"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", *TARGETS], cwd=alone, env=environment, check=True)
    draw = random.Random(0)
    for _ in range(5):
        kill_one(killed, environment, draw)
    command = [sys.executable, "-m", "weakseg", "--root", str(killed), "repro", "--jobs", "2", *TARGETS]
    subprocess.run(command, env=environment, check=True)
    found: list[dict[str, Any]] = [
        yaml.safe_load((root / "dvc.lock").read_text())["stages"] for root in (alone, killed)
    ]
    assert found[0] == found[1]
    words = [sys.executable, "-m", "dvc", "status", *TARGETS]
    done = subprocess.run(words, cwd=killed, env=environment, capture_output=True, text=True, check=True)
    assert "up to date" in done.stdout
