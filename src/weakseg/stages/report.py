"""Stage report: results table over all evaluated sources, with the share of the gap closed and its interval."""

from __future__ import annotations

from pathlib import Path

from weakseg.core.errors import StageError
from weakseg.core.files import atomic_path
from weakseg.core.methods import SOURCES, TASK_I
from weakseg.pipeline.context import open_context, tracked, write_report
from weakseg.report.figures import draw_confusion
from weakseg.report.gather import gather_page, known_runs
from weakseg.report.label_words import markdown, read_label_changes
from weakseg.report.render import render_page
from weakseg.report.table import compare, describe_untested, read_audits, read_evaluations, render


def run(root: Path) -> None:
    """Write reports/results.md, index.html and report.json from all reports/evaluate and reports/audit files."""
    context = open_context(root)
    layout = context.layout
    if not layout.report("evaluate", TASK_I).is_file():
        raise StageError(f"no report of source {TASK_I}", expected="task (i) in the table", cure="run `dvc repro`")
    names = context.scheme.names
    reports = read_evaluations(layout, names)
    runs = known_runs(root, reports)  # before our own run: its sender may have to make the database first
    with tracked(context, "report", context.params.report) as log:
        audits = read_audits(layout, names)
        rows = [compare(name, reports, context.params.report) for name in SOURCES if name in reports]
        summary = {row["source"]: {k: v for k, v in row.items() if k != "source"} for row in rows}
        write_report(layout.report("report"), summary)
        changes = read_label_changes(layout.report("labels_diff"))
        with atomic_path(layout.results) as temporary:
            table = render(rows, audits, describe_untested(reports))
            temporary.write_text(table + (f"\n{markdown(changes)}" if changes else ""))
        log.log_artifact(layout.results, "report")
        content = gather_page(context, rows, reports, audits, runs)
        with atomic_path(layout.page) as temporary:
            temporary.write_text(render_page(content))
        log.log_artifact(layout.page, "report")
        for name, report in reports.items():
            picture = layout.sheets("confusion") / f"{name}.png"
            log.log_artifact(draw_confusion(picture, report.pooled, report.classes), "confusion")
        for row in rows:
            value = row["gap_closed"].value if row["gap_closed"] else float("nan")
            log.log_metrics({f"{row['source']}/miou": row["miou"], f"{row['source']}/gap_closed": value})
