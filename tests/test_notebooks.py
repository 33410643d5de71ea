"""The notebooks: stored without outputs, and run from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_first_map_is_predicted_shown_and_scored(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    import rasterio

    from weakseg.stages import run_stage

    for stage, source in (("code", None), ("settings", None), ("tiles", None), ("segment", "pixel")):
        run_stage(workspace, stage, source)
    monkeypatch.setenv("WEAKSEG_WORKSPACE", str(workspace))
    monkeypatch.setenv("WEAKSEG_AREA", "v1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    book = nbformat.read(ROOT / "notebooks" / "first_map.ipynb", as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = "".join(output.get("text", "") for output in outputs)
    assert 0 <= float(text.split("mIoU")[1]) <= 1
    with rasterio.open(workspace / "out" / "v1_map.tif") as file:
        assert file.shape == (64, 64)
        assert set(np.unique(file.read(1))) <= {*range(5), 255}
