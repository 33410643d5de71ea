"""What git keeps of finished runs: results/NAME with tables, numbers, a picture, and the machine that made them.

``reports/`` is what the stages of a workspace write, scratch like ``out/``; a run worth keeping is copied out of it.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.bands import load_bands
from weakseg.core.classes import load_classes
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import ORACLE, TASK_I, UNTAGGED, label_of
from weakseg.data.store import list_areas, open_array
from weakseg.report.figures import draw_sheet
from weakseg.report.pooled import pool_runs
from weakseg.tracking import provenance

TABLES: Final = (
    *("results.md", "report.json", "ablation.md", "ablation.json"),
    *("label_cost.json", "single_stage.md", "choose.json"),
)
MACHINE, PICTURE = "machine.json", "maps.jpg"
CAPS: Final = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "WEAKSEG_THREADS", "WEAKSEG_PRECISION", "WEAKSEG_DEVICE")


def save_results(root: Path, folder: Path, also: Sequence[Path] = ()) -> list[str]:
    """Copy the finished run of the workspace ``root`` into ``folder``, whole or not at all; what is written, sorted.

    Tables that the workspace does not have (an ablation, label costs) stay as they are in ``folder``.

    Args:
        also: workspaces of the same pipeline with other seeds (``weakseg init --seed``), pooled with it into one table.

    Raises:
        StageError: a workspace has no report.json or results.md yet, or another of them differs in more than seeds.
    """
    layout = Layout(root)
    for workspace in (root, *also):
        reports = Layout(workspace).reports
        if missing := [name for name in TABLES[:2] if not (reports / name).is_file()]:
            raise StageError(f"no {reports / missing[0]}", expected="a finished run", cure="run `dvc repro` first")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        staged = Path(scratch)
        for name in TABLES:
            if (layout.reports / name).is_file():
                shutil.copyfile(layout.reports / name, staged / name)
        if also:
            pool_runs((root, *also), staged)
        (staged / MACHINE).write_text(json.dumps(machine_facts(root), indent=2) + "\n")
        draw_maps(layout, staged / PICTURE)
        names = sorted(path.name for path in staged.iterdir())
        for name in names:
            os.replace(staged / name, folder / name)
    return names


def machine_facts(root: Path) -> dict[str, str]:
    """The machine, versions and state of the code that a run was made with, and the date, as text."""
    import torch

    made_by = provenance(root)
    facts = {
        "date": datetime.date.today().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": made_by.get("mlflow.source.git.commit", ""),
        "data": made_by.get("weakseg.data_md5", ""),
        "environment": " ".join(f"{name}={os.environ[name]}" for name in CAPS if name in os.environ),
    }
    return {name: value for name, value in facts.items() if value}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def best_source(report: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The source of task (ii) with the highest mIoU of a report.json; None where there is none."""
    rows = {source: row["miou"] for source, row in report.items() if source not in (TASK_I, ORACLE, UNTAGGED)}
    return max(rows, key=lambda source: rows[source], default=None)


def draw_maps(layout: Layout, path: Path, *, count: int = 2) -> Path | None:
    """Image, truth, task (i) and the best task (ii) of the first validation areas; None without predictions."""
    best = best_source(json.loads(layout.report("report").read_text()))
    if best is None or not all(layout.predictions(source).is_dir() for source in (TASK_I, best)):
        return None
    scheme, bands = load_classes(layout.tiles / "classes.yaml"), load_bands(layout.tiles)

    def colours(folder: Path, area: str) -> Any:
        return scheme.to_colours(np.asarray(open_array(folder, area)))

    rows = [
        [
            ("image", bands.picture(np.asarray(open_array(layout.validation / "images", area)))),
            ("truth", colours(layout.validation / "labels", area)),
            (label_of(TASK_I), colours(layout.predictions(TASK_I), area)),
            (label_of(best), colours(layout.predictions(best), area)),
        ]
        for area in list_areas(layout.validation)[:count]
    ]
    return draw_sheet(path, rows, side=320)
