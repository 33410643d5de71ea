"""The command line: quick to start, one line per error, wrong words are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import weakseg
from weakseg.cli import app
from weakseg.core.errors import ParamsError

SOURCE = str(Path(weakseg.__file__).parents[1])
HEAVY = (
    *("torch", "torchvision", "accelerate", "timm", "segmentation_models_pytorch", "mlflow", "pandas", "scipy", "cv2"),
    *("rasterio", "matplotlib", "sklearn", "numpy"),
)


def call(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "weakseg", *words]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom weakseg.cli import app\n"
        "sys.argv = ['weakseg', '--help']\n"
        "try:\n    app()\nexcept SystemExit as end:\n"
        f"    print('LOADED', end.code, [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = call(code=code)
    assert "LOADED 0 []" in done.stdout, done.stdout + done.stderr
    assert "Run one pipeline stage" in done.stdout


def test_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = call("--root", str(tmp_path), "stage", "report")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"weakseg: no file {tmp_path / 'params.yaml'}; expected a params.yaml; run `weakseg init --config demo`\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("stage", "nonsense"), r"stage nonsense; expected audit \| boxes \| cam \| .*see dvc\.yaml"),
        (("stage", "segment"), r"stage segment with source None; expected a source exactly for"),
        (("stage", "tiles", "pixel"), r"stage tiles with source pixel; expected a source exactly for"),
        (("stage", "segment", "banana"), r"stage segment with source banana; expected pixel \| full \| "),
        (("stage", "pseudo", "pixel"), r"stage pseudo with source pixel; expected cam \| crf \| "),
        (("stage", "audit", "consistency"), r"stage audit with source consistency; expected cam"),
        (("data", "import", "a", "b", "--bands", "4,x"), r"--bands 4,x; expected 1 to 16 numbers from 1, or names"),
    ],
)
def test_wrong_words_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["--root", str(tmp_path), *words])
    assert isinstance(result.exception, ParamsError)
    with pytest.raises(ParamsError, match=message):
        raise result.exception


def test_help_names_every_group() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for word in ("stage", "init", "data", "show", "runs"):
        assert word in shown
