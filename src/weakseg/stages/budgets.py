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
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import yaml

from weakseg.classes import ClassScheme, load_classes
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import BoxTable, boxes_from_mask, join_boxes, write_boxes
from weakseg.data.raster import read_mask
from weakseg.data.store import fingerprint
from weakseg.data.tags import TagWindow, read_tags, tags_from_mask, to_tag_windows, window_grid, write_tags
from weakseg.errors import ParamsError
from weakseg.label_cost import Labels, Point, advice, cost_hours, draw_curve, marginal_gains
from weakseg.layout import Layout
from weakseg.params import WEAK_SOURCES, BudgetParams, Params, load_params
from weakseg.stages.context import open_context, tracked, write_report
from weakseg.stages.tiles import SUFFIXES, find_raster, raw_sizes

Item = TypeVar("Item")
ORDER_SEED: Final = 0  # of the order in which crops and areas get their labels: a larger budget holds the smaller ones
UPSTREAM: Final[dict[str, tuple[str, ...]]] = {  # what a source's labels need, tiles before and training after it
    "cam": ("classifier", "cam"),
    "crf": ("classifier", "cam", "crf"),
    "irnet": ("classifier", "cam", "crf", "irnet"),
    "single_stage": ("single_stage",),
    "teacher": ("segment@pixel", "teacher"),
    "boxes": ("segment@pixel", "teacher", "boxes"),
    "fused": ("classifier", "cam", "crf", "irnet", "single_stage", "segment@pixel", "teacher", "fused"),
}
UNUSED: Final = ("methods", "sources", "label_cost", "report", "tune", "promote")  # change no training


def run_label_cost(root: Path, *, steps: int | None = None, only: Sequence[str] = ()) -> tuple[list[Point], str]:
    """Train the budgets that are missing, write reports/label_cost.json and curves/label_cost.svg and .png.

    Args:
        root: the workspace.
        steps: most steps of any training; None: as params.yaml says. Curves of other steps are other curves.
        only: names of budgets to train now; the others enter where they have been trained before.

    Returns:
        The points of the curve, in the order of params.yaml, and the sentence of advice.
    """
    context = open_context(root)
    layout, params = context.layout, context.params
    strays = sorted(set(only) - {budget.name for budget in params.label_cost.budgets})
    if strays:
        raise ParamsError(f"no budget {', '.join(strays)}", expected="names of label_cost.budgets", cure="mend --only")
    scheme = load_classes(layout.classes)
    data = fingerprint(layout.data)
    points: dict[str, Point] = {}
    with tracked(context, "label_cost", params.label_cost) as log:
        for budget in params.label_cost.budgets:
            identity = budget_identity(params, budget, data, steps)
            run = _stored(layout, budget.name, identity)
            if run is None and (not only or budget.name in only):
                run = train_budget(layout, params, budget, scheme, identity, steps)
                _store(layout, budget.name, run)
            if run is not None:
                points[budget.name] = to_point(budget, run, scheme, params)
                log.log_metrics({f"{budget.name}/miou".replace("%", "percent"): points[budget.name].miou})
        sentence = write_curve(layout, params, list(points.values()), scheme)
    return list(points.values()), sentence


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


def to_point(budget: BudgetParams, run: dict[str, Any], scheme: ClassScheme, params: Params) -> Point:
    """A stored run at today's prices."""
    labels = Labels(**run["labels"])
    areas = {name: np.array(matrix, np.int64) for name, matrix in run["areas"].items()}
    hours = cost_hours(labels, len(scheme), params.label_cost)
    return Point(budget.name, budget.source, labels, hours, tuple(run["seeds"]), areas)


def write_curve(layout: Layout, params: Params, points: list[Point], scheme: ClassScheme) -> str:
    """Write the report and, if there is a point, the pictures; returns the advice."""
    options = params.report
    gains = marginal_gains(points, scheme.names, draws=options.draws, seed=options.seed)
    sentence = advice(gains, min((len(point.seeds) for point in points), default=0))
    file = layout.report("label_cost")
    runs = json.loads(file.read_text()).get("runs", {}) if file.is_file() else {}
    prices = params.label_cost.model_dump(exclude={"budgets"})
    report = {
        "curve": [point.row() for point in points],
        "gains": [
            {"kind": gain.kind, "base": gain.base, "more": gain.more, "hours": gain.hours, "miou": gain.miou}
            for gain in gains
        ],
        "advice": sentence,
        "assumed_seconds": prices,
        "runs": {name: run for name, run in runs.items() if name in {point.name for point in points}},
    }
    write_report(file, report)
    if points:
        draw_curve(points, layout.reports / "curves")
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
        done.write_text(json.dumps(vars(labels)) + "\n")
    head, *finished = done.read_text().splitlines()
    with _untracked():
        for stage in stages_of(budget.source):
            if stage not in finished:
                _run_stage(place.root, stage)
                with done.open("a") as file:
                    file.write(f"{stage}\n")
    report = json.loads(place.report("evaluate", budget.source).read_text())
    run = {
        "identity": identity,
        "labels": json.loads(head),
        "steps": report["steps"],
        "seeds": [seed["miou"] for seed in report["seeds"].values()],
        "areas": {name: area["confusion"] for name, area in report["areas"].items()},
    }
    shutil.rmtree(place.root)
    return run


def stages_of(source: str) -> list[str]:
    """Stages to run for a source, in order, ``stage`` or ``stage@source``."""
    pseudo = [f"pseudo@{source}"] if source in WEAK_SOURCES else []
    return ["tiles", *UPSTREAM.get(source, ()), *pseudo, f"segment@{source}", f"evaluate@{source}"]


def _run_stage(root: Path, stage: str) -> None:
    name, _, source = stage.partition("@")
    module = import_module(f"weakseg.stages.{name}")
    module.run(root, source) if source else module.run(root)


@contextmanager
def _untracked() -> Iterator[None]:
    """The stages of a budget are no runs of this workspace."""
    before = os.environ.get("WEAKSEG_TRACKING")
    os.environ["WEAKSEG_TRACKING"] = "off"
    try:
        yield
    finally:
        os.environ.pop("WEAKSEG_TRACKING")
        if before is not None:
            os.environ["WEAKSEG_TRACKING"] = before


def prepare_workspace(
    layout: Layout, place: Layout, params: Params, budget: BudgetParams, scheme: ClassScheme, steps: int | None
) -> Labels:
    """Write params.yaml and data/ of the budget's workspace: links to rasters, and the labels that it buys."""
    pixel, rest = split_areas(layout, params, budget)
    labelled = [area for area in rest if area in params.tiles.areas.tags]
    sizes = raw_sizes(layout)
    place.data.mkdir(parents=True)
    for source in (layout.images, layout.labels, layout.classes):
        (place.data / source.name).symlink_to(source.resolve())
    crops = _share(tag_rows(layout, params, labelled, scheme, sizes), budget.tags, f"{budget.name}: tag crops")
    write_tags(place.tags_csv, crops)
    boxes = BoxTable()
    if budget.boxes > 0:
        table = box_table(layout, params, labelled, scheme, sizes)
        areas = _share(sorted(table.searched), budget.boxes, f"{budget.name}: N2 areas with boxes")
        boxes = table.select(areas, params.boxes.classes)
        write_boxes(place.box_file, boxes, scheme, sizes)
    place.params.write_text(yaml.safe_dump(budget_params(params, pixel, rest, budget, steps), sort_keys=False))
    load_params(place.params)
    pixels = sum(sizes[area][0] * sizes[area][1] for area in pixel)
    return Labels(len(pixel), pixels, len(crops), boxes.count())


def split_areas(layout: Layout, params: Params, budget: BudgetParams) -> tuple[list[str], list[str]]:
    """(areas with pixel labels, all others of N1 and N2): the first of N1, then the first of N2 that have masks."""
    areas = params.tiles.areas
    masked = [a for a in areas.tags if any((layout.labels / f"{a}{suffix}").is_file() for suffix in SUFFIXES)]
    candidates = [*areas.pixel, *masked]
    if budget.pixel > len(candidates):
        raise ParamsError(
            f"budget {budget.name!r}: {budget.pixel} pixel areas",
            expected=f"at most {len(candidates)}, the areas of N1 and those of N2 with masks",
            cure="lower it in label_cost.budgets",
        )
    pixel = candidates[: budget.pixel]
    return pixel, [area for area in (*areas.pixel, *areas.tags) if area not in pixel]


def _share(items: Sequence[Item], share: float, what: str) -> list[Item]:
    """The first part of the items in an order drawn once, one at least; none for a share of 0."""
    if share == 0:
        return []
    if not items:
        raise ParamsError(
            f"budget {what}: none", expected="some to choose from", cure="lower the share to 0, or add some"
        )
    order = np.random.default_rng(ORDER_SEED).permutation(len(items))
    return [items[index] for index in sorted(order[: max(1, round(share * len(items)))])]


def tag_rows(
    layout: Layout, params: Params, areas: Sequence[str], scheme: ClassScheme, sizes: dict[str, tuple[int, int]]
) -> list[TagWindow]:
    """The tagged crops of these areas in px of the raw rasters: the user's, or what the masks imply."""
    tiles = params.tiles
    if tiles.tag_source == "csv":
        rows = read_tags(layout.tags_csv, scheme, sizes)
    else:
        rows, size = [], max(1, round(tiles.tag_size / tiles.scale))
        for area in areas:
            if any((layout.labels / f"{area}{suffix}").is_file() for suffix in SUFFIXES):
                mask = read_mask(find_raster(layout.labels, area), scheme)
                windows = window_grid(mask.shape[0], mask.shape[1], size)
                present, known = tags_from_mask(mask, windows, len(scheme), min_share=tiles.tag_min_share)
                rows += to_tag_windows(area, windows, present, known, scheme)
    return [row for row in rows if row.area in areas and row.tagged]


def box_table(
    layout: Layout, params: Params, areas: Sequence[str], scheme: ClassScheme, sizes: dict[str, tuple[int, int]]
) -> BoxTable:
    """The boxes of these areas in px of the raw rasters: the user's, or what the masks imply."""
    boxes = params.boxes
    if boxes.source == "file":
        return read_boxes(layout.box_file, scheme, sizes).select(areas, boxes.classes)
    least = max(1, round(boxes.min_pixels / params.tiles.scale**2))
    return join_boxes(
        boxes_from_mask(
            area, read_mask(find_raster(layout.labels, area), scheme), scheme, boxes.classes, min_pixels=least
        )
        for area in areas
        if any((layout.labels / f"{area}{suffix}").is_file() for suffix in SUFFIXES)
    )


def budget_params(
    params: Params, pixel: list[str], rest: list[str], budget: BudgetParams, steps: int | None
) -> dict[str, Any]:
    """params.yaml of the budget's workspace. Boxes, where there are some, constrain all sources as tags do."""
    raw: dict[str, Any] = params.model_dump(mode="json")
    raw["tiles"]["tag_source"] = "csv"
    raw["tiles"]["areas"] |= {"pixel": pixel, "tags": rest}
    if budget.boxes > 0:
        raw["boxes"] |= {"source": "file", "constrain": True}
    else:
        raw["boxes"] |= {"source": "masks", "classes": [], "complete": [], "constrain": False}
    for section in ("classifier", "irnet", "single_stage", "segment"):
        plan = raw[section]["optimiser"]
        plan["steps"] = min(plan["steps"], steps or plan["steps"])
        plan["report_every"] = min(plan["report_every"], plan["steps"])
    return raw
