"""`weakseg promote SOURCE`: the evaluated model of a source into the registry, and the alias to it if the gates allow.

A command, not a stage: it acts on the world. Every registration has an MLflow run of its own, which holds the model and
the evaluation that the next candidate is compared with, area by area.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import Source
from weakseg.core.params import Params, load_params
from weakseg.evaluation.bootstrap import Comparison, Interval, bootstrap, paired_bootstrap
from weakseg.evaluation.reports import EvaluationReport, parse_evaluation, read_evaluation
from weakseg.export.held_precision import add_held, measure_bf16
from weakseg.registry.pyfunc import EVALUATION, save_pyfunc
from weakseg.registry.versions import CLASSES, Evidence, Gates, Promotion, champion_of, old_cards, promote, register
from weakseg.tracking import connect, create_run, data_hash, mlflow_errors


def promote_source(root: Path, source: Source, *, name: str, gates: Gates, alias: str = "champion") -> Promotion:
    """Register the first seed's model of ``source`` and move ``alias`` to it if it passes.

    Args:
        root: the workspace; segment@source and evaluate@source must have run.
        name: of the registered model.
        gates: what it must show against the champion.
        alias: ``champion`` or ``challenger``.

    Returns:
        The outcome, with :func:`weakseg.registry.versions.old_cards` as its warnings.

    Raises:
        StageError: if the source has not been evaluated.
        DataError: if its report does not say the order of its classes.
        TrackingError: if MLflow does not answer, or another promotion came first.
    """
    layout, params = Layout(root), load_params(Layout(root).params)
    report = _read_report(layout.report("evaluate", source))
    warnings = old_cards(root, name)
    champion = champion_of(root, name)
    against = champion[0] if champion else None
    gain = _gain(root, name, against, report, params) if against else None
    evidence, options = evidence_of(report), params.report
    own = bootstrap(report.confusions, report.classes, draws=options.draws, seed=options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        _save_model(layout, source, folder)
        version = register(
            root,
            folder,
            name=name,
            run_id=create_run(root, f"promote@{source}", {"source": source}, numbers_of(evidence)),
            evidence=evidence,
            tags={"weakseg.source": source, CLASSES: json.dumps(report.classes)},
            card=model_card(root, source, report, own, gain),
        )
    outcome = promote(root, name, version, alias=alias, gates=gates, gain=gain, against=against)
    return replace(outcome, warnings=tuple(warnings))


def evidence_of(report: EvaluationReport) -> Evidence:
    """What the gates look at; NaN for a class that is nowhere."""
    return Evidence(report.validation_data, report.miou, {name: report.iou[name] for name in report.classes})


def numbers_of(evidence: Evidence) -> dict[str, float]:
    """What MLflow shows beside the registered model, under the names that evaluate has."""
    return {"miou": evidence.miou, **{f"iou/{name}": value for name, value in evidence.iou.items()}}


def model_card(
    root: Path, source: str, report: EvaluationReport, own: Comparison, gain: tuple[float, float] | None
) -> str:
    """Markdown: what the model is, its data, its numbers with intervals, its limits and licence.

    Args:
        own: the report's numbers with intervals.
        gain: interval of the mIoU gain over the champion.
    """
    interval = "no champion to compare with" if gain is None else f"[{gain[0]:+.4f}, {gain[1]:+.4f}]"
    spread = report.miou_over_seeds
    numbers = [("mIoU", report.miou, own.miou), *((n, report.iou[n], own.iou[n]) for n in report.classes)]
    return "\n".join(
        [
            f"# Land cover from source `{source}`",
            f"mIoU {report.miou:.4f} on {len(report.areas)} validation areas, "
            f"{spread.low:.4f} to {spread.high:.4f} over {spread.count} seeds.",
            f"Gain over the champion, paired bootstrap over areas, 95 %: {interval}.",
            "",
            "| class | IoU | 95 %, bootstrap over areas |",
            "|---|---|---|",
            *(f"| {name} | {_number(value)} | {_limits(around)} |" for name, value, around in numbers),
            "",
            f"- Data: {data_hash(root) or 'not under DVC'}; validation {report.validation_data}.",
            f"- Confidence: expected calibration error {_number(report.ece)} as the network says it, "
            f"{_number(report.ece_calibrated)} calibrated on the hold-out, which is what `confidence` is.",
            f"- Checkpoint chosen by: {report.selection}; {report.steps} steps; the first seed's network.",
            "- Input: rows with `file` (GeoTIFF, PNG or JPEG with 8 bits per band, base64 in JSON) or `pixels` "
            "(H x W x 3 of 0 to 255), with the bands and the ground sampling of the training data.",
            "- Output: per row `classes` (H x W, indices into `names`, 255 without data), on request `confidence` "
            "(probability times 254), both as PNG on request.",
            "- Limits: one sensor, one region and one season are what the numbers speak of; other images need an "
            "evaluation of their own. Classes outside the scheme are given one of its classes.",
            "- Licence: Apache-2.0 for code and weights; the licence of the training images applies beside it.",
        ]
    )


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _limits(around: Interval) -> str:
    return "none" if math.isnan(around.low) else f"{around.low:.3f} to {around.high:.3f}"


def _read_report(path: Path) -> EvaluationReport:
    if not path.is_file():
        raise StageError(
            f"no report {path}", expected="an evaluated source", cure=f"run `dvc repro evaluate@{path.stem}`"
        )
    return read_evaluation(path)


def _gain(root: Path, name: str, version: str, report: EvaluationReport, params: Params) -> tuple[float, float] | None:
    """Interval of the mIoU gain over that version; None if it was evaluated on other areas (a gate says so).

    A champion whose evaluation does not say the order of its classes can still be replaced: mIoU is the same in any.
    """
    with tempfile.TemporaryDirectory() as scratch, mlflow_errors(root):
        client = connect(root)
        run_id = client.get_model_version(name, version).run_id
        file = client.download_artifacts(run_id, f"model/artifacts/{EVALUATION}.json", scratch)
        text = Path(file).read_text()
    what = f"the evaluation of version {version} of {name}"
    before = parse_evaluation(text, what, cure="register another version", any_order=True)
    if before.validation_data != report.validation_data:
        return None
    options, names = params.report, report.classes
    try:
        matrices = before.aligned_to(names, what).confusions
        compared = paired_bootstrap(matrices, report.confusions, names, draws=options.draws, seed=options.seed)
    except (DataError, StageError):  # same data, other classes
        return None
    return compared.miou.low, compared.miou.high


def _save_model(layout: Layout, source: Source, folder: Path) -> None:
    """The first seed's model with its evaluation, as MLflow keeps it."""
    weights = next(iter(sorted(layout.checkpoints(source).glob("seed*.pt"))), None)
    if weights is None:
        raise StageError(
            f"no model in {layout.checkpoints(source)}", expected="seed*.pt", cure=f"run `dvc repro segment@{source}`"
        )
    held, _ = measure_bf16(weights, layout.tiles)
    with tempfile.TemporaryDirectory() as scratch:
        file = weights if held is None else add_held(weights, Path(scratch) / weights.name, held)
        save_pyfunc(file, layout.report("evaluate", source), folder)
