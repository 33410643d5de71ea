"""docs/tutorial.md, run as it stands: all of its commands, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands() -> str:
    """The lines of all blocks without a language, but for the page that waits for a visitor."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in found if not language]
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("weakseg demo")]
    return "\n".join(["set -euo pipefail", *lines])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What of the repository the commands name, with trainings of two steps."""
    (tmp_path / "configs").mkdir()
    config = (ROOT / "configs" / "tutorial.yaml").read_text()
    short = config.replace("steps: 150", "steps: 2").replace("report_every: 50", "report_every: 1")
    assert short != config
    (tmp_path / "configs" / "tutorial.yaml").write_text(short)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_leads_to_a_map_where_the_image_lies(place: Path) -> None:
    import rasterio

    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "WEAKSEG_TRACKING": "off",
    }
    done = subprocess.run(
        ["bash", "-c", commands()], cwd=place, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"^mIoU +\S+ +\S+ +\S+ +\[", done.stdout, flags=re.MULTILINE)
    photos = place / "work" / "photos"
    with rasterio.open(photos / "new" / "area37.tif") as image, rasterio.open(photos / "map.tif") as found:
        assert (found.crs, found.transform, found.shape) == (image.crs, image.transform, image.shape)
        assert set(found.read(1).ravel()) <= {*range(5), 255}
    assert (photos / "map.gpkg").is_file()
    assert (place / "work" / "tutorial" / "out" / "sheets" / "import.png").is_file()
