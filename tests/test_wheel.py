"""The wheel, outside the repository: it carries the pipeline, and a workspace of one's own runs with it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from weakseg.core.config import load_yaml

PROJECT = Path(__file__).parents[1]
CARRIED = (
    *("py.typed", "pipeline/dvc.yaml", "pipeline/base.yaml", "pipeline/dubai.yaml", "pipeline/classes/loveda.yaml"),
    *(
        "report/templates/index.html",
        "serving/demo.html",
        "serving/page/view.html",
        "serving/page/view.css",
        "serving/page/view.js",
        "serving/page/drop.js",
        "serving/page/layers.js",
        "tagging/page/tag.html",
        "tagging/page/tag.js",
        "serving/registered_model.py",
    ),
)
PARAMS = """base: demo
methods: []
sources: [pixel]
segment:
  optimiser: {steps: 2, batch: 2, report_every: 2}
report: {draws: 20}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_carries_what_is_no_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"weakseg/{name}" for name in CARRIED} <= names
    assert not [name for name in names if name.startswith("tests/") or name.endswith(".pyc")]


def draw_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "img").mkdir()
    (folder / "gt").mkdir()
    for area in "abcd":
        mask = np.kron(rng.integers(0, 3, (8, 8)), np.ones((16, 16))).astype(np.uint8)
        image = (mask[..., None] * 80 + rng.integers(0, 40, (128, 128, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / "img" / f"{area}.png")
        Image.fromarray(mask).save(folder / "gt" / f"{area}.png")
    (folder / "classes.yaml").write_text(
        "classes:\n"
        + "".join(f"  - {{name: {name}, colour: [{i}, 9, 9]}}\n" for i, name in enumerate(("field", "road", "car")))
    )
    (folder / "params.yaml").write_text(PARAMS)


@pytest.mark.slow
def test_a_workspace_runs_with_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "WEAKSEG", "DVC"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = keep | {"PYTHONPATH": str(site), "PATH": path, "WEAKSEG_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    environment["DVC_SITE_CACHE_DIR"] = str(tmp_path / "dvc")
    draw_images(tmp_path)
    root = tmp_path / "mine"

    def run(*words: str | Path, cwd: Path = tmp_path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("weakseg", "--root", root, "init", "--config", tmp_path / "params.yaml")
    run("weakseg", "--root", root, "data", "import", "img", "gt", "--classes", "classes.yaml")
    run("weakseg", "--root", root, "data", "split", "--pixel", "1", "--tagged", "2", "--validation", "1")
    run("weakseg", "--root", root, "data", "tags", "--size", "32", "--write")
    assert (root / "dvc.yaml").read_bytes() == (PROJECT / "dvc.yaml").read_bytes()
    assert (root / "src" / "weakseg").resolve() == (site / "weakseg").resolve()
    run("dvc", "repro", "evaluate@pixel", cwd=root)
    assert {"code", "settings", "tiles", "segment@pixel", "evaluate@pixel"} <= set(
        load_yaml(root / "dvc.lock")["stages"]
    )
    run("weakseg", "predict", "img/a.png", "map.tif", "--model", root / "out/checkpoints/pixel/seed0.pt")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert set(np.unique(file.read(1))) <= {0, 1, 2}
