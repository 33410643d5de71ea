"""`weakseg runs compare A B`: two evaluations side by side, with intervals paired over the validation areas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.errors import StageError
from weakseg.layout import Layout
from weakseg.metrics import paired_bootstrap, scores_of
from weakseg.params import load_params
from weakseg.stages.report import confusions
from weakseg.tracking import read_artifact


def compare_evaluations(root: Path, a: str, b: str) -> str | None:
    """A table of two evaluations: mIoU and class IoUs of all areas and seeds pooled, and b - a with 95 % intervals.

    Args:
        root: the workspace; its section ``report`` says how many draws the bootstrap takes.
        a: a source whose report is in this workspace (``pixel``), or a run of evaluate as
            :func:`weakseg.tracking.find_run` takes it: its id, or a stage such as ``evaluate@pixel``.
        b: the same; so two runs of one source can be compared, before and after a change.

    Returns:
        The table, or None if one of the two runs is not an evaluation.

    Raises:
        StageError: if they saw different validation data or have different classes.
        TrackingError: if there is no such run, or MLflow does not answer.
    """
    left, right = evaluation_of(root, a), evaluation_of(root, b)
    if left is None or right is None:
        return None
    names = tuple(left["iou"])
    if (left["validation_data"], names) != (right["validation_data"], tuple(right["iou"])):
        raise StageError(
            f"{a} and {b} saw different validation data or classes", expected="the same", cure="evaluate both again"
        )
    options = load_params(Layout(root).params).report
    found = paired_bootstrap(confusions(left), confusions(right), names, draws=options.draws, seed=options.seed)
    one, two = (scores_of(np.sum([*confusions(report).values()], axis=0), names) for report in (left, right))
    rows = [("mIoU", one["miou"], two["miou"], found.miou)]
    rows += [(name, one["iou"][name], two["iou"][name], found.iou[name]) for name in names]
    lines = [f"{'':22} {_short(a):>14} {_short(b):>14}   {'b - a':>8}  95 % interval, paired over areas, seeds pooled"]
    for name, x, y, gain in rows:
        lines.append(f"{name:22} {x:14.4f} {y:14.4f}   {gain.value:+8.4f}  [{gain.low:+.4f}, {gain.high:+.4f}]")
    return "\n".join(lines)


def evaluation_of(root: Path, name: str) -> dict[str, Any] | None:
    """The report of a source in this workspace, or the one that a run has recorded; None if that is no evaluation."""
    file = Layout(root).report("evaluate", name)
    text = file.read_text() if file.is_file() else read_artifact(root, name, "evaluate")
    report: dict[str, Any] | None = json.loads(text) if text else None
    return report


def _short(name: str) -> str:
    return name if len(name) < 32 else name[:8]
