"""The table of results: a row per source with its gains and share of the gap closed, and the quality of the masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weakseg.core.layout import Layout
from weakseg.core.methods import ORACLE, TASK_I, UNTAGGED, label_of
from weakseg.core.params import ReportParams
from weakseg.evaluation.bootstrap import Interval, gap_closed, paired_bootstrap
from weakseg.evaluation.reports import AuditReport, EvaluationReport, order_among, read_audit, read_evaluation
from weakseg.report.many_classes import are_many


def read_evaluations(layout: Layout, classes: Sequence[str]) -> dict[str, EvaluationReport]:
    """reports/evaluate/*.json by source, in this order of the classes; StageError where a report has other classes."""
    files = sorted((layout.reports / "evaluate").glob("*.json"))
    return {file.stem: read_evaluation(file).aligned_to(classes, str(file)) for file in files}


def read_audits(layout: Layout, classes: Sequence[str]) -> dict[str, AuditReport]:
    """reports/audit/*.json by method; StageError where a report has other classes."""
    files = sorted((layout.reports / "audit").glob("*.json"))
    audits = {file.stem: read_audit(file) for file in files}
    for file in files:
        order_among(list(audits[file.stem].iou), classes, str(file))
    return audits


def compare(source: str, reports: Mapping[str, EvaluationReport], params: ReportParams) -> dict[str, Any]:
    """One row of the table: metrics, differences to task (i) and to untagged, and share of the gap closed."""
    report = reports[source]
    names = report.classes
    row: dict[str, Any] = {
        "source": source,
        "classes": names,
        "miou": report.miou,
        "miou_objects": report.miou_objects,
        "iou": report.iou,
        "oa": report.oa,
        "mf1": report.mf1,
        "miou_eroded": report.miou_eroded,
        "iou_batch_mean": report.iou_batch_mean,
        "ece": (report.ece, report.ece_calibrated),
        "spread": report.miou_over_seeds,
        "selection": report.selection,
        "gain": None,
        "gain_by_tags": None,
        "gap_closed": None,
    }
    if source == TASK_I:
        return row
    base, mine = reports[TASK_I].aligned_to(names, TASK_I).confusions, report.confusions
    row["gain"] = paired_bootstrap(base, mine, names, draws=params.draws, seed=params.seed).miou
    if UNTAGGED in reports and source not in (UNTAGGED, ORACLE):
        seen = reports[UNTAGGED].aligned_to(names, UNTAGGED).confusions
        row["gain_by_tags"] = paired_bootstrap(seen, mine, names, draws=params.draws, seed=params.seed).miou
    if ORACLE in reports and source != ORACLE:
        oracle = reports[ORACLE].aligned_to(names, ORACLE).confusions
        row["gap_closed"] = gap_closed(base, mine, oracle, names, draws=params.draws, seed=params.seed)
    return row


def describe_untested(reports: Mapping[str, EvaluationReport]) -> str:
    """A sentence on the classes that are in no pixel of the validation areas, "" where there are none."""
    if not reports:
        return ""
    first = next(iter(reports.values()))
    names = [name for name, pixels in zip(first.classes, first.pooled.sum(1), strict=True) if not pixels]
    if not names:
        return ""
    return (
        f"In no pixel of the validation areas: {', '.join(name.replace('_', ' ') for name in names)}. Nothing here "
        "says how well it is found; a network that shows it all the same has an IoU of 0 there, which its mean counts, "
        "and one that does not has none."
    )


def render(rows: list[dict[str, Any]], audits: Mapping[str, AuditReport], untested: str = "") -> str:
    """The table as Markdown: segmentation rows, then the quality of the pseudo-masks.

    ``untested``: of :func:`describe_untested`.
    """
    names, objects = rows[0]["classes"], _has_background(rows)
    columns = [] if are_many(names) else names
    head = [
        "source",
        "mIoU",
        *["mIoU objects"] * objects,
        "seeds",
        *[name.replace("_", " ") for name in columns],
        "OA",
        "mIoU eroded",
        "gain over (i)",
        "over untagged",
    ]
    lines = [_line([*head, "gap closed"]), _line(["---"] * (len(head) + 1))]
    for row in rows:
        spread = row["spread"]
        cells = [label_of(row["source"]), _number(row["miou"]), *[_number(row["miou_objects"])] * objects]
        cells.append(f"{_number(spread.low)} to {_number(spread.high)} ({spread.count})")
        cells += [_number(row["iou"][name]) for name in columns] + [_number(row["oa"]), _number(row["miou_eroded"])]
        gains = [_interval(row[name], signed=True) for name in ("gain", "gain_by_tags")]
        lines.append(_line([*cells, *gains, _percent(row["gap_closed"])]))
    text = "\n".join(lines) + "\n\nIntervals: 95 %, paired bootstrap over validation areas, seeds pooled.\n"
    text += f"{untested}\n" if untested else ""
    if any(row["selection"] == "validation" for row in rows):
        text += "Checkpoints were chosen on the validation areas (the published protocol): compare with nothing else.\n"
    if audits:
        head = [
            "pseudo-masks on N2",
            "coverage",
            "accuracy inside",
            "mIoU inside",
            *["mIoU objects"] * objects,
            *[n.replace("_", " ") for n in columns],
        ]
        lines = [_line(head), _line(["---"] * len(head))]
        for name, audit in _audited(audits):
            cells = [name, *map(_number, (audit.coverage, audit.accuracy, audit.miou))]
            cells += [_number(audit.miou_objects)] * objects
            lines.append(_line(cells + [_number(audit.iou[n]) for n in columns]))
        text += "\n" + "\n".join(lines) + "\n"
    return text if columns else f"{text}\n{_by_class(rows, audits)}"


def _by_class(rows: Sequence[Mapping[str, Any]], audits: Mapping[str, AuditReport]) -> str:
    """IoU with a row per class and a column per source and method, for classes too many to have columns."""
    columns = {row["source"]: row["iou"] for row in rows}
    masks = {f"masks: {name}": audit.iou for name, audit in _audited(audits)}
    lines = [_line(["IoU", *columns, *masks]), _line(["---"] * (1 + len(columns) + len(masks)))]
    for name in rows[0]["classes"]:
        values = [table[name] for table in (*columns.values(), *masks.values())]
        lines.append(_line([name.replace("_", " "), *map(_number, values)]))
    return "\n".join(lines) + "\n"


def _has_background(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a mean without the background to show."""
    return any(not math.isnan(row.get("miou_objects", math.nan)) for row in rows)


def _audited(audits: Mapping[str, AuditReport]) -> Iterator[tuple[str, AuditReport]]:
    """Methods and, before the masks in force, the earlier rounds of a method that has some."""
    for name, audit in audits.items():
        yield from ((f"{name}, round {number}", row) for number, row in enumerate(audit.rounds[:-1], 1))
        yield name, audit


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _interval(interval: Interval | None, *, signed: bool) -> str:
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    if interval.low != interval.low:
        return f"{interval.value:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _percent(interval: Interval | None) -> str:
    if interval is None or interval.value != interval.value:
        return "-"
    if interval.low != interval.low:  # the oracle beats task (i) in too few draws: a share of nothing
        return "gap not established"
    return f"{100 * interval.value:.0f} % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
