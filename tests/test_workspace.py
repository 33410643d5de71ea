"""Workspaces: made whole by one command; the README's quick start for ISPRS Vaihingen, as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.io import MemoryFile

from weakseg.classes import ISPRS
from weakseg.errors import StageError
from weakseg.params import load_params
from weakseg.workspace import create_workspace

PROJECT = Path(__file__).parents[1]
CONFIG = PROJECT / "configs" / "vaihingen.yaml"
SHAPE = (200, 210)


def tif(layers: np.ndarray) -> bytes:
    """A GeoTIFF of (bands, H, W) with a place."""
    shape = {"count": layers.shape[0], "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.09, 0, 497000, 0, -0.09, 5420000)}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **place, **shape) as file:
            file.write(layers)
        return bytes(memory.read())


def write_archives(folder: Path) -> None:
    """IMAGES.zip and GROUND_TRUTH.zip named inside as those of ISPRS, every class in every area."""
    areas = load_params(CONFIG).tiles.areas
    rng = np.random.default_rng(0)
    with (
        zipfile.ZipFile(folder / "IMAGES.zip", "w") as images,
        zipfile.ZipFile(folder / "GROUND_TRUTH.zip", "w") as truth,
    ):
        for area in (*areas.pixel, *areas.tags, *areas.validation):
            mask = np.kron(rng.permutation(20).reshape(4, 5) % 5, np.ones((50, 42))).astype(np.uint8)
            image = (mask * 40 + rng.integers(0, 30, (3, *SHAPE))).astype(np.uint8)
            images.writestr(f"top/top_mosaic_09cm_{area}.tif", tif(image))
            images.writestr(f"dsm/dsm_09cm_matching_{area}.tif", tif(image[:1]))
            truth.writestr(f"top_mosaic_09cm_{area}.tif", tif(np.moveaxis(ISPRS.to_colours(mask), 2, 0)))


def quick_start() -> str:
    """The block of README.md that ends in `dvc repro`."""
    blocks = re.findall(r"```\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    (found,) = [block for block in blocks if "work/vaihingen" in block]
    assert found.rstrip().endswith("dvc repro")
    return str(found)


@pytest.mark.slow
def test_the_quick_start_for_vaihingen_as_written(tmp_path: Path) -> None:
    """Up to the tiles; the rest of the pipeline is that of every workspace."""
    write_archives(tmp_path)
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "WEAKSEG", "DVC"))}
    environment = keep | {
        "PATH": os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part),
        "PYTHONPATH": str(PROJECT / "src"),
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "OMP_NUM_THREADS": "1",
        "WEAKSEG_TRACKING": "off",
    }
    script = quick_start().rstrip() + " tiles\n"
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"33 areas, {33 * SHAPE[0] * SHAPE[1]:,} px" in done.stdout
    root = tmp_path / "work" / "vaihingen"
    assert len(list((root / "data" / "images").iterdir())) == 33
    assert [len(list((root / "out" / name / "images").iterdir())) for name in ("tiles", "validation")] == [26, 7]
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    assert set(lock["stages"]) == {"tiles"}


def test_the_pipeline_of_a_workspace_depends_on_the_installed_code(tmp_path: Path) -> None:
    said = create_workspace(tmp_path / "work" / "mine", CONFIG)
    assert "Next: weakseg --root" in said
    root = tmp_path / "work" / "mine"
    assert (root / "params.yaml").read_text() == CONFIG.read_text()
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    code = {dep for stage in stages.values() for dep in stage.get("do", stage)["deps"] if "weakseg" in dep}
    assert len(code) > 20
    assert all((root / path).exists() for path in code if "${" not in path)
    assert "analytics = false" in (root / ".dvc" / "config").read_text()
    with pytest.raises(StageError, match="choose another --root"):
        create_workspace(root, CONFIG)
