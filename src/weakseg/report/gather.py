"""Reads what the page of the report shows: reports, curves, pictures of evaluate, pseudo-masks, hashes, MLflow runs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.core.errors import StageError, TrackingError
from weakseg.core.layout import Layout
from weakseg.core.methods import ORACLE, TASK_I, UNTAGGED, label_of
from weakseg.evaluation.reports import AuditReport, EvaluationReport
from weakseg.pipeline.context import Context
from weakseg.report.content import Audit, CostPoint, Curve, Layer, MeasuredAreas, Page, Role, Row, Scene
from weakseg.report.label_words import read_label_changes
from weakseg.report.safe_colours import SAFE, safe_scheme
from weakseg.report.table import describe_untested
from weakseg.report.text import best_weak, number, plain, shown_first
from weakseg.report.tuning_content import read_tuning

Reports = Mapping[str, EvaluationReport]
_PATIENCE = 60.0  # seconds for the tracking server to name its runs


def gather_page(
    context: Context,
    rows: list[dict[str, Any]],
    reports: Reports,
    audits: Mapping[str, AuditReport],
    runs: dict[str, str],
) -> Page:
    """Everything that ``weakseg.report.render`` needs.

    Args:
        rows: of the table, as ``compare`` makes them.
        reports, audits: reports/evaluate by source and reports/audit by method; their matrices in the scheme's order.
        runs: what :func:`known_runs` found.
    """
    layout, scheme = context.layout, context.scheme
    lines = [row_of(row) for row in rows]
    order = shown_first(lines) + [row.source for row in lines if row.source not in shown_first(lines)]
    validation, missing = validation_scenes(layout, order, lines, reports)
    curves, curve_name = read_curves(layout, lines)
    best = best_weak(lines)
    featured = [row.source for row in lines if row.role == "task_i" or row is best]
    return Page(
        title="weakseg report",
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        scheme=safe_scheme(scheme),
        safe_colours=len(scheme) <= len(SAFE),
        counts=(len(context.pixel_areas()), len(context.tag_areas()), len(reports[TASK_I].areas)),
        rows=lines,
        audits=[Audit(n, a.coverage, a.accuracy, a.miou, dict(a.iou), a.miou_objects) for n, a in audits.items()],
        confusions={row.source: reports[row.source].pooled for row in lines},
        curves=curves,
        curve_name=curve_name,
        tuning=read_tuning(layout.reports / "tuning"),
        measured=read_measured(layout.report("areas")),
        costs=read_costs(layout.report("label_cost")),
        label_changes=read_label_changes(layout.report("labels_diff")),
        costs_said=read_cost_words(layout.report("label_cost")),
        validation=validation,
        validation_all=len(reports[TASK_I].areas),
        weak=weak_scenes(context, audits),
        weak_all=len(context.tag_areas()),
        worst={source: crops for source in featured if (crops := worst_scenes(layout, source))},
        facts=facts(layout.root, reports),
        runs=runs,
        warnings=warnings(reports, missing),
    )


def row_of(row: dict[str, Any]) -> Row:
    """A row of the table as the page has it."""
    source, spread = row["source"], row["spread"]
    roles: dict[str, Role] = {TASK_I: "task_i", UNTAGGED: "untagged", ORACLE: "oracle"}
    role = roles.get(source, "task_ii")
    return Row(
        source=source,
        label=plain(label_of(source)),
        short={"task_i": "task (i)", "oracle": "oracle"}.get(role, plain(source)),
        role=role,
        miou=row["miou"],
        low=spread.low,
        high=spread.high,
        seeds=spread.count,
        iou=row["iou"],
        oa=row["oa"],
        miou_eroded=row["miou_eroded"],
        gain=row["gain"],
        gain_by_tags=row.get("gain_by_tags"),
        gap=row["gap_closed"],
        ece=row.get("ece"),
        miou_objects=row.get("miou_objects"),
    )


def validation_scenes(
    layout: Layout, order: list[str], rows: list[Row], reports: Reports
) -> tuple[list[Scene], list[str]]:
    """Scenes of the validation areas from the pictures of evaluate, and the sources that have none."""
    shared = layout.pictures("evaluate", TASK_I)
    names, scenes = {row.source: row.label for row in rows}, []
    missing = [source for source in order if not (layout.pictures("evaluate", source) / "maps").is_dir()]
    for area in reports[TASK_I].areas if TASK_I not in missing else []:
        layers = [
            Layer("image", "image", (shared / "images" / f"{area}.jpg").read_bytes()),
            Layer("truth", "truth", (shared / "truth" / f"{area}.png").read_bytes()),
        ]
        for source in order:
            if source not in missing:
                note = f"mIoU {number(reports[source].areas[area].miou)}"
                data = (layout.pictures("evaluate", source) / "maps" / f"{area}.png").read_bytes()
                layers.append(Layer(source, names[source], data, note))
        scenes.append(Scene(area, tuple(layers)))
    return scenes, missing


def worst_scenes(layout: Layout, source: str) -> list[Scene]:
    """The worst crops of a source, from the pictures of evaluate; none where it has not drawn them."""
    folder = layout.pictures("evaluate", source)
    if not (folder / "worst.json").is_file():
        return []
    scenes = []
    for index, crop in enumerate(json.loads((folder / "worst.json").read_text())):
        place = f"{crop['area']}, row {crop['row']}, column {crop['column']}"
        why = f"; mostly {plain(crop['truth'])} taken for {plain(crop['taken_for'])}" if crop["truth"] else ""
        parts = {"image": "image.jpg", "truth": "truth.png", "map": "map.png"}
        layers = tuple(
            Layer(key, "prediction" if key == "map" else key, (folder / "worst" / f"{index}-{name}").read_bytes())
            for key, name in parts.items()
        )
        scenes.append(Scene(place + why, layers, f"{100 * crop['error']:.0f} % wrong"))
    return scenes


def weak_scenes(context: Context, methods: Iterable[str]) -> list[Scene]:
    """Image, truth where there is one, and pseudo-masks of some N2 areas, from the pictures of audit."""
    folders = {method: context.layout.pictures("audit", method) for method in methods}
    folders = {method: folder for method, folder in folders.items() if (folder / "maps").is_dir()}
    scenes = []
    for area in context.tag_areas():
        layers: list[Layer] = []
        for method, folder in folders.items():
            kinds = {"image": "images", "truth": "truth"} if not layers else {}
            files = {kind: next(iter((folder / where).glob(f"{area}.*")), None) for kind, where in kinds.items()}
            files[method] = folder / "maps" / f"{area}.png"
            layers += [
                Layer(key, plain(key), file.read_bytes()) for key, file in files.items() if file and file.is_file()
            ]
        if layers:
            scenes.append(Scene(area, tuple(layers)))
    return scenes


def read_curves(layout: Layout, rows: list[Row]) -> tuple[list[Curve], str]:
    """Learning curves of all rows, and what they show: mIoU on the hold-out, or the loss where there is none."""
    tables = [(row, pd.read_csv(layout.curve(row.source))) for row in rows if layout.curve(row.source).is_file()]
    held = all("holdout/miou" in table for _, table in tables)
    column = "holdout/miou" if held else "train/loss"
    curves = []
    for row, table in tables:
        seeds = [
            [(float(step), float(value)) for step, value in zip(seed["step"], seed[column], strict=True)]
            for _, seed in table.groupby("seed")
        ]
        curves.append(Curve(row.source, row.short, tuple(seeds)))
    return curves, "mIoU on the hold-out inside N1" if held else "Training loss (this run has no hold-out)"


def read_costs(path: Path) -> list[CostPoint]:
    """reports/label_cost.json of the command that measures the cost of labels; none where it has not run.

    Raises:
        StageError: if the file is not such a table.
    """
    if not path.is_file():
        return []
    try:
        return [
            CostPoint(
                str(point["budget_name"]),
                str(point["source"]),
                float(point["cost_hours"]),
                float(point["miou"]),
                len(point["seeds"]) if isinstance(point["seeds"], list) else int(point["seeds"]),
            )
            for point in json.loads(path.read_text())["curve"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{path} is no curve of label costs ({type(error).__name__}: {error})",
            expected='{"curve": [{"budget_name", "source", "cost_hours", "miou", "seeds"}, ...]}',
            cure="measure it again, or delete the file",
        ) from error


def read_cost_words(path: Path) -> list[str]:
    """What the same report says of its prices and of an hour more; [] where it has not run, or is of before."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    return [str(content[key]) for key in ("priced", "advice") if content.get(key)]


def read_measured(path: Path) -> MeasuredAreas | None:
    """reports/areas.json of `weakseg areas`; None where there is none.

    Raises:
        StageError: the file is another one.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        return MeasuredAreas(
            str(found["map"]), found["errors"] is not None, tuple(map(str, found["notes"])), list(found["zones"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{path} is no table of areas ({type(error).__name__}: {error})",
            expected="what `weakseg areas --json` writes",
            cure="measure again, or delete the file",
        ) from error


def facts(root: Path, reports: Reports) -> list[tuple[str, str]]:
    """Versions and hashes of what made the numbers."""
    from weakseg.tracking import provenance

    tags = provenance(root)
    dirty = " (with uncommitted changes)" if tags.get("weakseg.git_dirty") == "true" else ""
    first = reports[TASK_I]
    known = {
        "code, git commit": tags.get("mlflow.source.git.commit", "not in git") + dirty,
        "weakseg": version("weakseg"),
        "data, md5 in data.dvc": tags.get("weakseg.data_md5", ""),
        "dvc.lock before this stage, md5": tags.get("weakseg.dvc_lock", ""),
        "params.yaml, md5": tags.get("weakseg.params", ""),
        "validation areas, blake2b": first.validation_data,
        "training steps": str(first.steps or ""),
        "checkpoint used": {"last": "the last", "holdout": "the best on the hold-out inside N1"}.get(
            first.selection, first.selection
        ),
    }
    return [(name, value) for name, value in known.items() if value]


def known_runs(root: Path, reports: Reports) -> dict[str, str]:
    """MLflow run ids of the evaluate stages whose mIoU is the reported one; {} where tracking is off or silent.

    A database file that is not there yet is left to the sender: two processes that make its tables disturb each other.
    """
    from weakseg.tracking import tracking_uri

    found: dict[str, str] = {}
    is_on = (os.environ.get("WEAKSEG_TRACKING") or "on") == "on"
    uri = tracking_uri(root)
    if is_on and (not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()):
        worker = threading.Thread(target=_ask_runs, args=(root, reports, found), daemon=True)
        worker.start()
        worker.join(_PATIENCE)
    return dict(found)


def _ask_runs(root: Path, reports: Reports, found: dict[str, str]) -> None:
    from weakseg.tracking import find_run

    with contextlib.suppress(TrackingError):  # no such run, or a server that does not answer: then they are not known
        for source, report in reports.items():
            run = find_run(root, f"evaluate@{source}")
            if abs(run.data.metrics.get("miou", np.inf) - report.miou) < 1e-9:
                found[f"evaluate@{source}"] = run.info.run_id


def warnings(reports: Reports, missing: list[str]) -> list[str]:
    """What makes the rows of this run hard to compare."""
    said = []
    if any(report.selection == "validation" for report in reports.values()):
        said.append(
            "Checkpoints were chosen on the validation areas (the published protocol): compare with nothing else."
        )
    if len({report.validation_data for report in reports.values()}) > 1:
        said.append("Not all sources were evaluated on the same state of the validation data: evaluate them again.")
    if len({report.steps for report in reports.values()}) > 1:
        said.append("Not all networks were trained for the same number of steps.")
    if untested := describe_untested(reports):
        said.append(untested)
    if missing:
        said.append(
            f"There are no maps of {', '.join(map(plain, missing))}: their evaluate stage is older than this page."
        )
    return said
