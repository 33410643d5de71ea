"""`weakseg label-cost`: train at several budgets of labels and draw mIoU against hours of labelling.

A command, not a stage. Every budget is a workspace of its own under .weakseg/label_cost/, with fewer labels than this
one and the same images: what nobody has labelled is unlabelled, not missing. The stages run there as they run here, so
an interrupted training resumes; a finished budget leaves its numbers in reports/label_cost.json and is not trained
again for the same data and params (delete the file to train all of them with changed code). Validation areas are read
to report; nothing is chosen on them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import ParamsError
from weakseg.core.files import write_text
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, EXPERTS, WEAK_SOURCES, recipe_of, stages_before
from weakseg.core.params import BudgetParams, Params
from weakseg.data.store import fingerprint
from weakseg.evaluation.reports import order_among, read_evaluation
from weakseg.labels.prices import LabelPrices, read_prices
from weakseg.pipeline.context import open_context, tracked, write_report
from weakseg.studies.apart import run_unfinished
from weakseg.studies.budget_workspace import prepare_workspace
from weakseg.studies.label_cost import Labels, Point, advice, cost_hours, describe_prices, draw_curve, marginal_gains

UNUSED: Final = ("methods", "sources", "label_cost", "report", "tune", "promote")  # change no training


def run_label_cost(root: Path, *, steps: int | None = None, only: Sequence[str] = ()) -> tuple[list[Point], list[str]]:
    """Train the budgets that are missing, write reports/label_cost.json and curves/label_cost.svg and .png.

    Args:
        root: the workspace.
        steps: most steps of any training; None: as params.yaml says. Curves of other steps are other curves.
        only: names of budgets to train now; the others enter where they have been trained before.

    Returns:
        The points of the curve, in the order of params.yaml; and sentences: what labels cost, and the advice.
    """
    context = open_context(root)
    layout, params = context.layout, context.params
    strays = sorted(set(only) - {budget.name for budget in params.label_cost.budgets})
    if strays:
        raise ParamsError(f"no budget {', '.join(strays)}", expected="names of label_cost.budgets", cure="mend --only")
    scheme = load_classes(layout.classes)
    data, prices = fingerprint(layout.data), read_prices(layout, scheme, params.label_cost)
    points: dict[str, Point] = {}
    with tracked(context, "label_cost", params.label_cost) as log:
        for budget in named_budgets(params):
            identity = budget_identity(params, budget, data, steps)
            run = _stored(layout, budget.name, identity)
            if run is None and (not only or budget.name in only):
                run = train_budget(layout, params, budget, scheme, identity, steps)
                _store(layout, budget.name, run)
            if run is not None:
                points[budget.name] = to_point(budget, run, scheme, prices)
                log.log_metrics({f"{budget.name}/miou".replace("%", "percent"): points[budget.name].miou})
        sentence = write_curve(layout, params, list(points.values()), scheme, prices)
    return list(points.values()), [describe_prices(prices), sentence]


def named_budgets(params: Params) -> list[BudgetParams]:
    """The budgets, each with the source that it trains on: ``auto`` is what the workspace makes most of tags with."""
    recipe = recipe_of(params.sources)
    if recipe is None and any(budget.source == "auto" for budget in params.label_cost.budgets):
        raise ParamsError(
            f"budgets of source auto, sources {', '.join(params.sources)}",
            expected="a source that learns from tags, such as joint",
            cure="add one to sources, or name one in label_cost.budgets",
        )
    return [
        budget.model_copy(update={"source": recipe}) if budget.source == "auto" else budget
        for budget in params.label_cost.budgets
    ]


def budget_identity(params: Params, budget: BudgetParams, data: str, steps: int | None) -> str:
    """Digest of all that a budget's numbers depend on; prices are not among it."""
    used = params.model_dump(mode="json", exclude=set(UNUSED))
    text = json.dumps([used, budget.model_dump(), data, steps], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _stored(layout: Layout, name: str, identity: str) -> dict[str, Any] | None:
    file = layout.report("label_cost")
    runs = json.loads(file.read_text()).get("runs", {}) if file.is_file() else {}
    run = runs.get(name)
    return run if run is not None and run["identity"] == identity else None


def _store(layout: Layout, name: str, run: dict[str, Any]) -> None:
    """Add a finished budget at once: the next may take hours."""
    file = layout.report("label_cost")
    content = json.loads(file.read_text()) if file.is_file() else {"curve": [], "runs": {}}
    content["runs"][name] = run
    write_report(file, content)


def to_point(budget: BudgetParams, run: dict[str, Any], scheme: ClassScheme, prices: LabelPrices) -> Point:
    """A stored run at today's prices, its matrices in the order of ``scheme``.

    A run of before ``classes`` was written has the scheme's: its identity is a digest of data and class table.
    """
    labels = Labels(**run["labels"])
    order = order_among(run.get("classes", scheme.names), scheme.names, f"the budget {budget.name}")
    areas = {name: np.array(matrix, np.int64)[np.ix_(order, order)] for name, matrix in run["areas"].items()}
    hours = cost_hours(labels, len(scheme), prices)
    return Point(budget.name, budget.source, labels, hours, tuple(run["seeds"]), areas)


def write_curve(layout: Layout, params: Params, points: list[Point], scheme: ClassScheme, prices: LabelPrices) -> str:
    """Write the report and, if there is a point, the pictures; returns the advice."""
    options = params.report
    gains = marginal_gains(points, scheme.names, draws=options.draws, seed=options.seed)
    sentence = advice(gains, min((len(point.seeds) for point in points), default=0))
    file = layout.report("label_cost")
    runs = json.loads(file.read_text()).get("runs", {}) if file.is_file() else {}
    report = {
        "curve": [point.row() for point in points],
        "gains": [
            {"kind": gain.kind, "base": gain.base, "more": gain.more, "hours": gain.hours, "miou": gain.miou}
            for gain in gains
        ],
        "advice": sentence,
        "prices": asdict(prices),
        "priced": describe_prices(prices),
        "runs": {name: run for name, run in runs.items() if name in {point.name for point in points}},
    }
    write_report(file, report)
    if points:
        draw_curve(points, layout.reports / "curves", tags_by=prices.tag.source)
    return sentence


def train_budget(
    layout: Layout, params: Params, budget: BudgetParams, scheme: ClassScheme, identity: str, steps: int | None
) -> dict[str, Any]:
    """Make the budget's workspace, run its stages there and return its numbers; at the end the workspace is deleted."""
    place = Layout(layout.root.resolve() / ".weakseg" / "label_cost" / identity)
    done = place.root / "done.txt"
    if not done.is_file():
        shutil.rmtree(place.root, ignore_errors=True)
        labels = prepare_workspace(layout, place, params, budget, scheme, steps)
        write_text(done, json.dumps(vars(labels)) + "\n")
    run_unfinished(place.root, stages_of(budget.source, tagged=budget.tags > 0), done)
    head = done.read_text().splitlines()[0]
    report = read_evaluation(place.report("evaluate", budget.source))
    run = {
        "identity": identity,
        "labels": json.loads(head),
        "steps": report.steps,
        "seeds": [seed.miou for seed in report.seeds.values()],
        "classes": report.classes,
        "areas": report.confusions,
    }
    shutil.rmtree(place.root)
    return run


def stages_of(source: str, *, tagged: bool = True) -> list[str]:
    """Stages to run for a source, in order, ``stage`` or ``stage@source``.

    ``tagged``: whether the budget buys tags. Without any, joint trains without its experts, which need tags.
    """
    masks = [source, f"pseudo@{source}"] if source in WEAK_SOURCES else []
    idle = set() if tagged or ENTRIES[source].gives != "all" else {s for e in EXPERTS for s in (*stages_before(e), e)}
    before = [stage for stage in stages_before(source) if stage not in idle]
    return ["tiles", *before, *masks, f"segment@{source}", f"evaluate@{source}"]
