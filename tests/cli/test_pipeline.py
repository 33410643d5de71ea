"""`weakseg stage`: every name of dvc.yaml runs a function."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

import weakseg
from weakseg.cli import app
from weakseg.stages import STAGES


def test_every_stage_has_a_run_function() -> None:
    """By source text: importing them all costs seconds."""
    for stage in STAGES:
        text = (Path(weakseg.__file__).parent / "stages" / f"{stage}.py").read_text()
        assert "\ndef run(root: Path" in text


def test_stage_runs_in_the_workspace(workspace: Path) -> None:
    done = CliRunner().invoke(app, ["--root", str(workspace), "stage", "tiles"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    made = sorted(path.name for path in (workspace / "out").iterdir())
    assert made == ["boxes", "experts", "labels", "tiles", "validation"]
