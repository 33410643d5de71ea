"""WEAKSEG_DETERMINISTIC on a CPU: trainings pass what torch checks, and give the bytes that they give without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from weakseg.stages import run_stage
for word in sys.argv[1:]:
    run_stage(Path("."), *word.split("@"))
import torch
print(torch.are_deterministic_algorithms_enabled())
"""
STAGES = ("tiles", "segment@pixel", "segment@consistency", "classifier")


@pytest.mark.slow
def test_on_a_cpu_it_changes_no_byte(workspace: Path) -> None:
    found = []
    for value in ("0", "1"):
        facts = {"PYTHONPATH": str(PROJECT / "src"), "WEAKSEG_DETERMINISTIC": value, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", SCRIPT, *STAGES]
        done = subprocess.run(
            words, cwd=workspace, env={**os.environ, **facts}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(value == "1")
        folders = (workspace / "out" / "checkpoints", workspace / "out" / "networks")
        found.append({file: file.read_bytes() for folder in folders for file in folder.rglob("*.pt")})
    assert {file.parent.name for file in found[0]} >= {"pixel", "consistency", "classifier"}
    assert found[0] == found[1]
