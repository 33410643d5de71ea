"""Workspaces: made whole by one command; the README's quick start for ISPRS Vaihingen, as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

import weakseg
from weakseg.core.classes import ISPRS
from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.errors import ParamsError, StageError
from weakseg.core.params import load_params
from weakseg.pipeline.presets import build_params, load_preset
from weakseg.pipeline.workspace import DVC_IGNORES, create_workspace, write_split

PROJECT = Path(__file__).parents[2]
SHAPE = (200, 210)


def tif(layers: np.ndarray) -> bytes:
    """A GeoTIFF of (bands, H, W) with a place."""
    shape = {"count": layers.shape[0], "height": layers.shape[1], "width": layers.shape[2], "dtype": layers.dtype.name}
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.09, 0, 497000, 0, -0.09, 5420000)}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **place, **shape) as file:
            file.write(layers)
        return bytes(memory.read())


ARCHIVE = "ISPRS_semantic_labeling_Vaihingen"


def write_archives(folder: Path) -> None:
    """The two archives of ISPRS, named as theirs outside and inside, every class in every area."""
    areas = load_preset("vaihingen").tiles.areas
    rng = np.random.default_rng(0)
    with (
        zipfile.ZipFile(folder / f"{ARCHIVE}.zip", "w") as images,
        zipfile.ZipFile(folder / f"{ARCHIVE}_ground_truth_COMPLETE.zip", "w") as truth,
    ):
        for area in (*areas.pixel, *areas.tags, *areas.validation):
            mask = np.kron(rng.permutation(20).reshape(4, 5) % 5, np.ones((50, 42))).astype(np.uint8)
            image = (mask * 40 + rng.integers(0, 30, (3, *SHAPE))).astype(np.uint8)
            images.writestr(f"top/top_mosaic_09cm_{area}.tif", tif(image))
            images.writestr(f"dsm/dsm_09cm_matching_{area}.tif", tif(image[:1]))
            truth.writestr(f"top_mosaic_09cm_{area}.tif", tif(np.moveaxis(ISPRS.to_colours(mask), 2, 0)))


def quick_start() -> str:
    """The block of docs/data.md that ends in `dvc repro`."""
    text = (PROJECT / "docs" / "data.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
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
    script = "source .venv/bin/activate\n" + quick_start().rstrip() + " tiles\n"
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"33 areas, {33 * SHAPE[0] * SHAPE[1]:,} px" in done.stdout
    root = tmp_path / "work" / "vaihingen"
    assert len(list((root / "data" / "images").iterdir())) == 33
    assert [len(list((root / "out" / name / "images").iterdir())) for name in ("tiles", "validation")] == [26, 7]
    lock = load_yaml(root / "dvc.lock")
    assert set(lock["stages"]) == {"code", "tiles"}


def test_a_workspace_has_the_packages_pipeline_and_a_link_to_its_code(tmp_path: Path) -> None:
    root = tmp_path / "work" / "mine"
    assert create_workspace(root, "vaihingen").startswith(f"workspace {root} made. Next: weakseg --root")
    assert (root / "params.yaml").read_text() == build_params("vaihingen")[0]
    assert (root / "dvc.yaml").read_text() == (PROJECT / "dvc.yaml").read_text()
    assert (root / "src" / "weakseg").resolve() == Path(weakseg.__file__).parent
    assert "analytics = false" in (root / ".dvc" / "config").read_text()
    assert (root / ".dvcignore").read_text() == "__pycache__/\n*.pyc\n/mlruns/\n/.weakseg/\n.import-*/\n"
    with pytest.raises(StageError, match="choose another --root"):
        create_workspace(root, "vaihingen")


def test_a_workspace_from_a_whole_file_of_version_01(tmp_path: Path) -> None:
    raw = load_yaml(PROJECT / "params.yaml")
    config = tmp_path / "mine.yaml"
    save_yaml(config, raw | {"sources": {"pixel": "tiles/labels"}, "methods": []})
    said = create_workspace(tmp_path / "w", str(config))
    assert said.startswith(
        f"{config} is laid out as in version 0.1 and was brought up to date: sources is a list of names"
    )
    params = load_params(tmp_path / "w" / "params.yaml")
    assert (params.sources, params.methods) == (("pixel",), ())


def test_an_old_workspace_is_renewed(tmp_path: Path) -> None:
    """Anchors are written out, sections move, dvc.yaml and the link are those of today; values stay."""
    text = (PROJECT / "params.yaml").read_text()
    text = text.replace("- pixel\n- full\n", "  pixel: tiles/labels\n").replace("cam:\n  method", "cam: &a\n  method")
    sources = text.index("sources:")
    text = text[:sources] + "sources: {pixel: tiles/labels}\n" + text[text.index("tiles:\n", sources) :]
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    said = create_workspace(tmp_path, None)
    assert said == (
        f"renewed dvc.yaml of {tmp_path}; params.yaml: sources is a list of names, "
        "what anchors shared is written out, and comments are gone"
    )
    assert load_params(tmp_path / "params.yaml").sources == ("pixel",)
    assert (tmp_path / "dvc.yaml").read_text() == (PROJECT / "dvc.yaml").read_text()
    assert create_workspace(tmp_path, None) == f"renewed dvc.yaml of {tmp_path}"
    with pytest.raises(StageError, match=r"say --config for a new one"):
        create_workspace(tmp_path / "nothing", None)


def test_what_is_new_since_a_workspace_was_made_is_added_and_said(tmp_path: Path) -> None:
    """What would train otherwise than before comes as it was before: no hold-out is given back unasked."""
    raw = load_yaml(PROJECT / "params.yaml")
    del raw["segment"]["refit"], raw["segment"]["augment"]["drop_band"], raw["joint"]
    save_yaml(tmp_path / "params.yaml", raw)
    with pytest.raises(ParamsError, match=r"segment\.augment\.drop_band: Field required.*run `weakseg init`"):
        load_params(tmp_path / "params.yaml")
    said = create_workspace(tmp_path, None)
    assert "new are segment.augment.drop_band: 0.0, segment.refit: False, joint: {" in said
    found, today = (load_params(folder / "params.yaml").model_dump() for folder in (tmp_path, PROJECT))
    assert found["segment"].pop("refit") is False
    assert today["segment"].pop("refit") is True
    assert found == today


def test_dvc_goes_on_after_a_promotion(tmp_path: Path) -> None:
    """A registered model carries the code of weakseg, with its dvc.yaml, into mlruns/; so may a study's workspace."""
    from dvc.repo import Repo

    create_workspace(tmp_path / "w", "demo")
    kept = [tmp_path / "w" / "mlruns" / "a" / "code" / "weakseg", tmp_path / "w" / ".weakseg" / "label_cost" / "b"]
    for folder in kept:
        folder.mkdir(parents=True)
        shutil.copy(tmp_path / "w" / "dvc.yaml", folder / "dvc.yaml")
    assert len(Repo(str(tmp_path / "w")).index.stages) > 30
    (tmp_path / "w" / ".dvcignore").write_text("mine/\n")  # as an older release left it, with a line of the user's
    create_workspace(tmp_path / "w", None)
    assert (tmp_path / "w" / ".dvcignore").read_text().splitlines() == ["mine/", *DVC_IGNORES]
    assert len(Repo(str(tmp_path / "w")).index.stages) > 30


def test_a_folder_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "src" / "weakseg").mkdir(parents=True)
    with pytest.raises(StageError, match="move it away"):
        create_workspace(tmp_path, "demo")


def test_a_split_changes_its_lists_alone(tmp_path: Path, make_workspace: Callable[[Path], Path]) -> None:
    root = make_workspace(tmp_path)
    before = (PROJECT / "params.yaml").read_text()
    (root / "params.yaml").write_text(before)
    write_split(root, (2, 2, 1), seed=0, every_class=False)
    after = (root / "params.yaml").read_text()
    first, last = before.index("    pixel:"), before.index("  holdout:")
    assert after.startswith(before[:first])
    assert after.endswith(before[last:])
    areas = load_params(root / "params.yaml").tiles.areas
    assert sorted([*areas.pixel, *areas.tags, *areas.validation]) == ["p1", "p2", "t1", "t2", "v1"]


def test_without_masks_of_n2_there_is_no_oracle(tmp_path: Path, make_workspace: Callable[[Path], Path]) -> None:
    root = make_workspace(tmp_path)
    (root / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    assert "oracle" not in write_split(root, (2, 2, 1), seed=0, every_class=False)
    assert "full" in load_params(root / "params.yaml").sources
    for area in ("t1", "t2"):
        (root / "data" / "labels" / f"{area}.tif").unlink()
    said = write_split(root, (2, 0, 1), seed=0, every_class=False)
    assert said.endswith("no area of N2 has a mask: there is no oracle, so full left sources")
    assert load_params(root / "params.yaml").sources == ("pixel", "untagged", "joint")


def test_dvc_notices_code_and_not_comments(tmp_path: Path) -> None:
    """Real `dvc status` in a workspace outside the repository, whose code is a link to a copy of the package."""
    copy = shutil.copytree(Path(weakseg.__file__).parent, tmp_path / "site" / "weakseg")
    root = tmp_path / "w"
    create_workspace(root, "demo")
    (root / "src" / "weakseg").unlink()
    (root / "src" / "weakseg").symlink_to(copy)
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "WEAKSEG", "DVC"))}
    environment = keep | {"PYTHONPATH": str(copy.parent), "DVC_SITE_CACHE_DIR": str(tmp_path / "cache")}

    def dvc(*words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def digests() -> dict[str, str]:
        return {file.stem: file.read_text() for file in (root / "out" / "code").iterdir()}

    dvc("repro", "settings")
    before = digests()
    assert "up to date" in dvc("status", "code", "settings")
    augment = copy / "data" / "crops" / "augment.py"
    augment.write_text("# a comment\n" + augment.read_text())
    assert "src/weakseg" in dvc("status", "code")
    assert "'settings' didn't change" in dvc("repro", "settings")
    assert digests() == before
    augment.write_text(augment.read_text() + "\nCHANGED = 1\n")
    assert "'settings' didn't change" in dvc("repro", "settings")
    changed = {stage for stage, text in digests().items() if text != before[stage]}
    assert {"segment", "teacher", "classifier"} <= changed
    assert not {"tiles", "pseudo", "fused", "report"} & changed


def test_a_stage_without_methods_is_not_taken_for_the_whole_pipeline(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("methods: []\nsources: [pixel]\n")
    root = tmp_path / "w"
    create_workspace(root, str(tmp_path / "mine.yaml"))
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "WEAKSEG", "DVC"))}
    environment = keep | {
        "PYTHONPATH": str(Path(weakseg.__file__).parents[1]),
        "DVC_SITE_CACHE_DIR": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-m", "dvc", "repro", "pseudo"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "`dvc repro pseudo` with an empty list of methods" in done.stderr
    assert not (root / "out").exists()
