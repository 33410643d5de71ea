"""`weakseg runs compare A B`: two evaluations side by side, with intervals paired over the validation areas."""

from __future__ import annotations

from pathlib import Path

from weakseg.core.errors import StageError, TrackingError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.evaluation.bootstrap import paired_bootstrap
from weakseg.evaluation.metrics import scores_of
from weakseg.evaluation.reports import EvaluationReport, parse_evaluation, read_evaluation
from weakseg.registry.versions import old_cards
from weakseg.tracking import read_artifact, tracking_uri


def compare_evaluations(root: Path, a: str, b: str) -> str | None:
    """A table of two evaluations: mIoU and class IoUs of all areas and seeds pooled, and b - a with 95 % intervals.

    Args:
        root: the workspace; its section ``report`` says how many draws the bootstrap takes.
        a: a source whose report is in this workspace (``pixel``), or a run of evaluate as
            :func:`weakseg.tracking.find_run` takes it: its id, or a stage such as ``evaluate@pixel``.
        b: the same; so two runs of one source can be compared, before and after a change.

    Returns:
        The table, or None if one of the two runs is not an evaluation. Its rows are ``a``'s classes in their order;
        where ``b`` has them in another order, they are put side by side by name.

    Raises:
        StageError: if they saw different validation data or have different classes.
        TrackingError: if there is no such run, or MLflow does not answer.
    """
    left, right = evaluation_of(root, a), evaluation_of(root, b)
    if left is None or right is None:
        return None
    if left.validation_data != right.validation_data:
        raise StageError(f"{a} and {b} saw different validation data", expected="the same", cure="evaluate both again")
    names = left.classes
    right = right.aligned_to(names, b)
    options = load_params(Layout(root).params).report
    found = paired_bootstrap(left.confusions, right.confusions, names, draws=options.draws, seed=options.seed)
    one, two = (scores_of(report.pooled, names) for report in (left, right))
    rows = [("mIoU", one["miou"], two["miou"], found.miou)]
    rows += [(name, one["iou"][name], two["iou"][name], found.iou[name]) for name in names]
    lines = [f"{'':22} {_short(a):>14} {_short(b):>14}   {'b - a':>8}  95 % interval, paired over areas, seeds pooled"]
    for name, x, y, gain in rows:
        lines.append(f"{name:22} {x:14.4f} {y:14.4f}   {gain.value:+8.4f}  [{gain.low:+.4f}, {gain.high:+.4f}]")
    return "\n".join(lines)


def evaluation_of(root: Path, name: str) -> EvaluationReport | None:
    """The report of a source in this workspace, or the one that a run has recorded; None if that is no evaluation."""
    file = Layout(root).report("evaluate", name)
    if file.is_file():
        return read_evaluation(file)
    text = read_artifact(root, name, "evaluate")
    return parse_evaluation(text, f"the report of {name}", cure="evaluate that source again") if text else None


def card_warnings(root: Path) -> list[str]:
    """:func:`weakseg.registry.versions.old_cards` of the registered model; [] where no registry is there or answers.

    A database file that is not there yet is left alone: a comparison of two files makes none.
    """
    uri = tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    try:
        return old_cards(root, load_params(Layout(root).params).promote.model)
    except TrackingError:  # the two evaluations may both be files here: they are compared without a server
        return []


def _short(name: str) -> str:
    return name if len(name) < 32 else name[:8]
