"""The table over pipeline seeds: runs of the whole pipeline, classifier to student, in a workspace per seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakseg.core.classes import load_classes
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import SOURCES
from weakseg.core.params import load_params
from weakseg.evaluation.metrics import to_json
from weakseg.evaluation.pooling import average_audits, pool_evaluations
from weakseg.pipeline.presets import seeded
from weakseg.report.table import compare, describe_untested, read_audits, read_evaluations, render


def pool_runs(roots: Sequence[Path], folder: Path) -> None:
    """Write report.json and results.md of all of them into ``folder``: sources and masks that every workspace has.

    Raises:
        StageError: params that differ in more than seeds, a seed twice, other classes or other validation areas.
    """
    layouts = [Layout(root) for root in roots]
    params = [load_params(layout.params) for layout in layouts]
    for root, found in zip(roots, params, strict=True):
        if differing := _differing(seeded(found.model_dump(), 0), seeded(params[0].model_dump(), 0)):
            raise StageError(
                f"{root} has another {differing} than {roots[0]}",
                expected="workspaces that differ in their seeds alone (`weakseg init --seed`)",
                cure="leave it out, or make it again",
            )
    names = load_classes(layouts[0].tiles / "classes.yaml").names
    evaluated = [read_evaluations(layout, names) for layout in layouts]
    audited = [read_audits(layout, names) for layout in layouts]
    reports = {
        source: pool_evaluations([found[source] for found in evaluated], f"evaluate@{source}")
        for source in SOURCES
        if all(source in found for found in evaluated)
    }
    audits = {
        method: average_audits([found[method] for found in audited], f"audit@{method}")
        for method in audited[0]
        if all(method in found for found in audited)
    }
    rows = [compare(source, reports, params[0].report) for source in reports]
    summary = {row["source"]: {key: value for key, value in row.items() if key != "source"} for row in rows}
    (folder / "report.json").write_text(json.dumps(to_json(summary), indent=1, sort_keys=True) + "\n")
    note = f"\nSeeds are of the whole pipeline, classifier to student; masks are the mean of {len(roots)} runs.\n"
    (folder / "results.md").write_text(render(rows, audits, describe_untested(reports)) + note)


def _differing(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> str:
    """The path of the first value that differs; empty where none does."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            if inner := _differing(found[key], value, f"{prefix}{key}."):
                return inner
        elif found.get(key) != value:
            return f"{prefix}{key}"
    return next((f"{prefix}{key}" for key in found if key not in wanted), "")
