"""`weakseg ablate`: what each ingredient is worth, by training again with one thing changed at a time.

A command, not a stage: it trains the segment stage's own networks in places of their own and reads the validation areas
to report, never to choose. A row may have stages run again before, so that its change reaches the pseudo-masks too.
Finished rows are kept, so an interrupted ablation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weakseg.core.bands import Bands
from weakseg.core.errors import ParamsError
from weakseg.core.files import write_text
from weakseg.core.layout import Layout
from weakseg.core.params import Params, with_changes
from weakseg.core.settings import training_settings
from weakseg.data.areas import Area, open_area
from weakseg.data.store import fingerprint, list_areas
from weakseg.evaluation.metrics import over_seeds
from weakseg.labels.prices import read_prices
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.pipeline.context import Context, open_context, write_report
from weakseg.stages import STAGES
from weakseg.stages.evaluate import measure, predict_areas
from weakseg.stages.segment import open_sources, train_segmenter
from weakseg.studies.apart import kept_outputs, link_data, link_inputs, link_outputs, run_unfinished, segment_inputs
from weakseg.studies.variants import Variant
from weakseg.tracking import file_lock
from weakseg.training.fit import FitResult
from weakseg.training.machine import machine_from_environment


class Wanted(NamedTuple):
    """One training of a table; ``digest`` names all that its numbers depend on."""

    variant: Variant
    params: Params
    seed: int
    digest: str


def run_ablation(
    root: Path,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    say: Callable[[str], None],
    *,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and measure every variant with every seed; writes reports/ablation.json and reports/ablation.md.

    Args:
        say: gets one line per finished training.
        only: names of rows to train now; the others enter where they have been trained before. None: all.

    Returns:
        ``{"rows": [{name, source, changes, digest, seed, miou, iou_batch_mean, iou: {class}, curve, seconds}]}``, rows
        of earlier calls whose params and data are still the same included; ``curve`` is mIoU on the hold-out by step;
        with ``lacking: {bands, miou, iou}`` where the variant has it.

    Raises:
        ParamsError: ``only`` names a row that is not there.
    """
    strays = sorted(set(only) - {variant.name for variant in variants})
    if strays:
        raise ParamsError(f"no row {', '.join(strays)}", expected="names in the table", cure="mend --only")
    base = open_context(root)
    wanted: list[Wanted] = []
    for variant in variants:
        params = with_changes(base.params, variant.changes)
        wanted += [Wanted(variant, params, seed, _digest(base, variant, params, seed)) for seed in seeds]
    rows: list[dict[str, Any]] = []
    for variant in variants:
        chosen = not only or variant.name in only
        for one in (one for one in wanted if one.variant is variant):
            found = _stored(base).get(one.digest)
            if found or chosen:
                row = found or _train_and_measure(base, one)
                rows = _store(base, row, wanted)
                say(f"{variant.name}, seed {one.seed}: mIoU {row['miou']:.4f}" + (" (kept)" if found else ""))
        if variant.stages and chosen:
            shutil.rmtree(_mask_place(base, variant, with_changes(base.params, variant.changes)), ignore_errors=True)
    return {"rows": rows}


def _stored(base: Context) -> dict[str, dict[str, Any]]:
    """Finished rows by digest."""
    file = base.layout.report("ablation")
    return {row["digest"]: row for row in json.loads(file.read_text())["rows"]} if file.is_file() else {}


def _store(base: Context, row: dict[str, Any], wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """Add a finished row to the report and the table, beside what other processes have added; the rows of the table."""
    file = base.layout.report("ablation")
    with file_lock(_places(base).with_suffix(".lock"), patience=math.inf):  # held for milliseconds
        stored = {**_stored(base), row["digest"]: row}
        rows = [
            {**stored[one.digest], "name": one.variant.name, "source": one.variant.source}
            | {"changes": dict(one.variant.changes)}
            for one in wanted
            if one.digest in stored
        ]
        known = {one.digest for one in wanted}
        write_report(file, {"rows": rows + [row for digest, row in stored.items() if digest not in known]})
        write_text(file.with_suffix(".md"), ablation_table(rows, base.scheme.names))
    return rows


def ablation_table(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    """A Markdown table, one line per variant: mean and range over seeds, and the change against the first line."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    lacking = sorted({band for row in rows for band in row.get("lacking", {}).get("bands", ())})
    head = ["what", "source", "mIoU", "seeds", "against the first", *classes]
    timed = any("label_seconds" in row for row in rows)
    head[4:4] = ["minutes of tags"] * timed
    head += [f"mIoU without {', '.join(lacking)}", "seeds without"] if lacking else []
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    first: dict[int, float] = {}
    for name in names:
        mine = [row for row in rows if row["name"] == name]
        first = first or {row["seed"]: row["miou"] for row in mine}
        total = over_seeds([row["miou"] for row in mine])
        pairs = [row["miou"] - first[row["seed"]] for row in mine if row["seed"] in first]
        change = "-" if name == names[0] or not pairs else f"{sum(pairs) / len(pairs):+.3f}"
        cells = [
            name,
            mine[0]["source"],
            f"{total.mean:.3f}",
            f"{total.low:.3f} to {total.high:.3f} ({len(mine)})",
            *[_minutes(mine)] * timed,
            change,
        ]
        cells += [f"{over_seeds([row['iou'][c] for row in mine]).mean:.3f}" for c in classes]
        if lacking:
            poorer = [row["lacking"]["miou"] for row in mine if "lacking" in row]
            less = over_seeds(poorer) if poorer else None
            cells += [f"{less.mean:.3f}", f"{less.low:.3f} to {less.high:.3f}"] if less else ["-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _minutes(rows: Sequence[Mapping[str, Any]]) -> str:
    seconds = [row["label_seconds"] for row in rows if "label_seconds" in row]
    return f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else "-"


def _digest(context: Context, variant: Variant, params: Params, seed: int) -> str:
    layout = context.layout
    read = [layout.tiles] if variant.stages or variant.tags else segment_inputs(layout, variant.source)
    inputs = fingerprint(*read, layout.validation)
    settings = json.dumps(training_settings(params, variant.source))
    text = f"{inputs} {variant.source} {seed} {settings} {params.evaluate.model_dump_json()}"
    if variant.stages:
        text += f" {_mask_digest(context, variant, params)}"
    if file := variant.tags_of(seed):
        text += f" tags {fingerprint(file)}"
    if variant.lacking:
        text += f" lacking {variant.lacking}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mask_digest(context: Context, variant: Variant, params: Params) -> str:
    inputs = fingerprint(*kept_outputs(context.layout, variant.stages))
    names = [
        name for name in (*STAGES, "students") if name in Params.model_fields and name not in ("evaluate", "report")
    ]
    sections = [getattr(params, name).model_dump_json() for name in names]
    return hashlib.sha256(" ".join([inputs, *variant.stages, *sections]).encode()).hexdigest()[:16]


def _train_and_measure(base: Context, wanted: Wanted) -> dict[str, Any]:
    variant, params, seed, digest = wanted
    layout = _tagged_place(base, wanted) if variant.tags else _place(base, variant, params, digest)
    context = Context(layout, params, machine_from_environment())
    started = time.monotonic()
    whole = params.segment.refit  # as what the tables report
    labelled, weak = open_sources(context, variant.source, whole=whole)
    result, model = train_segmenter(
        context, variant.source, labelled, weak, seed, digest, lambda _row, _step: None, whole=whole
    )
    validation = base.layout.validation
    areas = {name: open_area(validation, name, masks=validation / "labels") for name in list_areas(validation)}
    predictions, _ = predict_areas(context, model, areas, params.evaluate)
    scores = measure(areas, predictions, base.scheme, params.evaluate)
    row: dict[str, Any] = {
        "digest": digest,
        "seed": seed,
        **{name: scores[name] for name in ("miou", "iou_batch_mean", "iou")},
    }
    row["curve"] = _curve(result)
    if file := variant.tags_of(seed):
        row["label_seconds"] = _label_seconds(base, file)
    if variant.lacking:
        poorer = withhold(areas, base.bands, variant.lacking)
        predictions, _ = predict_areas(context, model, poorer, params.evaluate)
        scores = measure(areas, predictions, base.scheme, params.evaluate)
        row["lacking"] = {"bands": list(variant.lacking), "miou": scores["miou"], "iou": scores["iou"]}
    row["seconds"] = round(time.monotonic() - started, 1)
    if variant.tags or not variant.stages:  # a killed process does not come here: its resume file stays
        shutil.rmtree(layout.root, ignore_errors=True)
    return row


def withhold(areas: Mapping[str, Area], bands: Bands, names: Sequence[str]) -> dict[str, Area]:
    """The areas as a network sees them that lack these bands; DataError for bands that none may lack."""
    poorer = replace(bands, missing=dict.fromkeys(areas, tuple(names)))
    return {name: replace(area, image=poorer.filled(np.array(area.image), name)) for name, area in areas.items()}


def _curve(result: FitResult) -> dict[str, float]:
    """mIoU on the hold-out inside N1 by step, as JSON keys; empty where a training saw the hold-out."""
    held = [row for row in result.history if "holdout/miou" in row]
    return {f"{row['step']:.0f}": round(row["holdout/miou"], 4) for row in held}


def _place(base: Context, variant: Variant, params: Params, digest: str) -> Layout:
    """Where a row is trained: links to the workspace and, if it has stages, what they made, once for all seeds."""
    if not variant.stages:
        return link_inputs(base.layout, _places(base) / digest, variant.source)
    place = _mask_place(base, variant, params)
    layout = link_outputs(base.layout, place, params, variant.stages)
    run_unfinished(place, variant.stages, place / "done.txt")
    return layout


def _tagged_place(base: Context, wanted: Wanted) -> Layout:
    """Where a row with a table of its own is trained: nothing in it has seen other tags of N2."""
    variant, params, seed, digest = wanted
    place, file = _places(base) / digest, variant.tags_of(seed)
    if file is None:
        raise TypeError(variant)
    link_data(base.layout, place, with_changes(params, {"tiles.tag_source": "csv", "segment.seeds": [seed]}), file)
    run_unfinished(place, ("tiles", *variant.stages), place / "done.txt")
    return Layout(place)


def _label_seconds(base: Context, file: Path) -> float:
    """What the tags of a table cost an annotator by the workspace's prices: of each crop the classes it knows."""
    prices = read_prices(base.layout, base.scheme, base.params.label_cost)
    rows = read_tags(file, base.scheme, raster_sizes(base.layout.images))
    return sum(prices.crop_seconds(len(base.scheme) - len(row.unknown)) for row in rows if row.tagged)


def _mask_place(base: Context, variant: Variant, params: Params) -> Path:
    return _places(base) / _mask_digest(base, variant, params)


def _places(base: Context) -> Path:
    return base.layout.root / ".weakseg" / "ablation"
