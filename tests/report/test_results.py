"""results/: what is kept of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import StageError
from weakseg.data.store import save_array
from weakseg.report.results import best_source, save_results

REPORT = {
    "pixel": {"miou": 0.4},
    "cam": {"miou": 0.5},
    "fused": {"miou": 0.45},
    "full": {"miou": 0.9},
}


def finished(root: Path) -> Path:
    (root / "reports").mkdir(parents=True)
    (root / "reports" / "report.json").write_text(json.dumps(REPORT))
    (root / "reports" / "results.md").write_text("| a table |\n")
    (root / "out" / "tiles").mkdir(parents=True)
    ISPRS.save(root / "out" / "tiles" / "classes.yaml")
    mask = np.tile(np.arange(4, dtype=np.uint8), (8, 2))
    for folder in ("validation/labels", "predictions/pixel", "predictions/cam"):
        save_array(root / "out" / folder, "a1", mask)
    (root / "out" / "validation" / "areas.csv").write_text("area,split\na1,validation\n")
    save_array(root / "out" / "validation" / "images", "a1", np.full((8, 8, 3), 90, np.uint8))
    return root


def test_the_best_of_task_ii_is_neither_task_i_nor_the_oracle() -> None:
    assert best_source(REPORT) == "cam"
    assert best_source({"pixel": {"miou": 0.4}, "full": {"miou": 0.5}}) is None


def test_tables_machine_and_maps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    folder = tmp_path / "results" / "mine"
    folder.mkdir(parents=True)
    (folder / "ablation.md").write_text("of an earlier day\n")
    names = save_results(finished(tmp_path / "w"), folder)
    assert names == ["machine.json", "maps.jpg", "report.json", "results.md"]
    assert (folder / "ablation.md").read_text() == "of an earlier day\n"
    assert (folder / "results.md").read_text() == "| a table |\n"
    facts = json.loads((folder / "machine.json").read_text())
    assert {"date", "processor", "torch", "python"} <= set(facts)
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in facts["environment"]
    picture = cv2.imread(str(folder / "maps.jpg"))
    assert picture.shape[1] > 4 * 320
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "ablation.md"])


def test_an_unfinished_run_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "w" / "reports").mkdir(parents=True)
    with pytest.raises(StageError, match=r"no .*results\.md; .*run `dvc repro` first"):
        save_results(tmp_path / "w", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
