"""What missing and wrong tags cost, and what stating their rates brings: gap closed against noise.

    python benchmarks/tag_noise.py train WORKSPACE OUT --missing 0.3 --wrong 0.05 [--source joint] [--stated] [--seed 0]
    python benchmarks/tag_noise.py masks WORKSPACE OUT --missing 0.3 --wrong 0.05 [--rules keep,drop_class,...]
    python benchmarks/tag_noise.py maps WORKSPACE OUT [--seed 0]
    python benchmarks/tag_noise.py references WORKSPACE OUT
    python benchmarks/tag_noise.py table OUT

WORKSPACE has right tags in tags.csv (the embedded scenes' follow from their masks) and everything of a finished
pipeline; nothing there is changed. Of the tags of N2 each yes is dropped with the chance ``--missing``, each no becomes
a yes with the chance ``--wrong``; with one seed, what is dropped at 10 % is dropped at 30 % too. A crop that loses all
its tags is one that nobody has tagged. ``train`` runs the stage tiles on these tags and one training, on all of N1 as
what the tables report (``--stated``: with the rates in the section tags), and measures it on the validation areas.
``masks`` trains the classifier under each rule of ``classifier.missing_labels`` and audits the masks of its CAM on N2.
``maps`` trains nothing: it holds the task (i) network's map of N2 to the tags of every cell, as a training does when
it makes masks. ``references`` keeps what WORKSPACE has with right tags, with pixels and without tags. ``table`` prints
all and draws OUT/tag_noise.png, from the rows alone. Weights of the experts and thresholds are those of
WORKSPACE's choice@joint: on the embedded scenes the experts have weight 0, so what their networks would make of the
noise does not matter. Finished rows are kept in OUT/tag_noise.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, ClassScheme, Mask, load_classes
from weakseg.core.config import save_yaml
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, MAKES_MASKS, TASK_I
from weakseg.core.params import Params, with_changes
from weakseg.core.tag_errors import TagErrors, estimate_tag_errors
from weakseg.data.areas import open_area
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import confusion_matrix, over_seeds, scores_of
from weakseg.inference.scene import DIHEDRAL
from weakseg.labels.tag_table import raster_sizes, read_tags, write_tags
from weakseg.labels.tags import TagWindow, allowed_raster, tag_arrays
from weakseg.methods.fusion import CLAIM_FLOOR, align_scores, claim_missing, constrain_scores, possible_classes
from weakseg.methods.pseudo import pseudo_mask
from weakseg.pipeline.context import Context
from weakseg.pipeline.network_scores import Choice, predict
from weakseg.pipeline.presets import load_preset
from weakseg.stages.evaluate import measure, predict_areas
from weakseg.stages.segment import open_sources, train_segmenter
from weakseg.studies.apart import run_apart
from weakseg.training.machine import machine_from_environment
from weakseg.training.segment import typical_shares
from weakseg.training.segmenter import load_segmenter

Bools = npt.NDArray[np.bool_]
MISSING, WRONG = (0.0, 0.1, 0.3, 0.5), (0.0, 0.05)
RULES = ("keep", "drop_class", "confident_only", "ignore_uncertain")
REFERENCES = (TASK_I, "full", "untagged", "joint")
TRAINED = ("joint", "consistency")


def main() -> None:
    """Run one command and say what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "masks", "maps", "references", "table"))
    parser.add_argument("workspace", type=Path, help="of `table`: OUT")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--wrong", type=float, default=0.0)
    parser.add_argument("--source", default="joint")
    parser.add_argument("--stated", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--drop", default="car", help="the class that drop_class leaves out")
    options = parser.parse_args()
    if options.command == "table":
        rows = load_rows(options.workspace)
        print(describe(rows))
        draw(rows, options.workspace / "tag_noise.png")
    elif options.out is None:
        parser.error(f"{options.command} needs WORKSPACE and OUT")
    else:
        {"train": train, "masks": audit, "maps": maps, "references": keep_references}[options.command](options)


def load_rows(out: Path) -> list[dict[str, Any]]:
    """The finished rows."""
    file = out / "tag_noise.json"
    return json.loads(file.read_text()) if file.is_file() else []


def keep(out: Path, row: Mapping[str, Any]) -> None:
    """Add a finished row, and say it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "tag_noise.json").write_text(json.dumps([*load_rows(out), row], indent=1) + "\n")
    print(json.dumps(row), flush=True)


def noisy_rows(
    rows: Sequence[TagWindow], areas: Sequence[str], scheme: ClassScheme, missing: float, wrong: float, seed: int
) -> list[TagWindow]:
    """The rows, those of ``areas`` with some yes left out and some no turned into a yes; the background stays."""
    noisy = noisy_tags(*tag_arrays(rows, scheme), missing, wrong, seed)
    return [
        replace(row, present=tuple(name for name, here in zip(scheme.names, one, strict=True) if here))
        if row.area in areas
        else row
        for row, one in zip(rows, noisy, strict=True)
    ]


def noisy_tags(present: Bools, known: Bools, missing: float, wrong: float, seed: int) -> Bools:
    """Tags (N, C) of which some yes are left out and some no have become a yes."""
    draws = np.random.default_rng([seed, 21]).random((2, *present.shape))
    return present & (draws[0] >= missing) | known & ~present & (draws[1] < wrong)


def noisy_workspace(workspace: Path, place: Path, params: Params, options: argparse.Namespace) -> Layout:
    """A workspace in ``place`` with these params and noisy tags, its tiles made."""
    base, layout = Layout(workspace.resolve()), Layout(place)
    shutil.rmtree(place, ignore_errors=True)
    layout.tags_csv.parent.mkdir(parents=True)
    for entry in base.data.iterdir():
        if entry.name != "tags":
            (layout.data / entry.name).symlink_to(entry)
    scheme, sizes = load_classes(base.classes), raster_sizes(base.images)
    rows = read_tags(base.tags_csv, scheme, sizes)
    noisy = noisy_rows(rows, params.tiles.areas.tags, scheme, options.missing, options.wrong, options.seed)
    write_tags(layout.tags_csv, noisy, scheme)
    save_yaml(layout.params, params.model_dump(mode="json"))
    run_apart(place, "tiles")
    return layout


def link(base: Layout, layout: Layout, folders: Sequence[Path]) -> None:
    """Links to folders of the base where the place has none of its own."""
    for folder in folders:
        here = layout.root / folder.relative_to(base.root)
        if not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(folder)


def train(options: argparse.Namespace) -> None:
    """One training and its row."""
    started, source, seed = time.monotonic(), options.source, options.seed
    changes: dict[str, Any] = {"segment.seeds": (seed,)}
    if options.stated:
        changes |= {"tags.missing_rate": options.missing, "tags.wrong_rate": options.wrong}
    params = with_changes(load_preset("demo"), changes)
    name = f"{source}-{options.missing}-{options.wrong}-{seed}" + "-stated" * options.stated
    layout = noisy_workspace(options.workspace, (options.out / "places" / name).resolve(), params, options)
    base = Layout(options.workspace.resolve())
    if ENTRIES[source].gives in MAKES_MASKS:
        shutil.rmtree(layout.labels_of(source), ignore_errors=True)
        link(base, layout, [base.labels_of(source), *(base.scores(expert) for expert in params.fused.experts)])
    context = Context(layout, params, machine_from_environment())
    labelled, weak = open_sources(context, source, whole=True)
    _, model = train_segmenter(context, source, labelled, weak, seed, name, lambda _row, _step: None, whole=True)
    validation = layout.validation
    areas = {area: open_area(validation, area, masks=validation / "labels") for area in list_areas(validation)}
    predictions, _ = predict_areas(context, model, areas, params.evaluate)
    scores = measure(areas, predictions, context.scheme, params.evaluate)
    row = {"command": "train", "source": source, "missing": options.missing, "wrong": options.wrong, "seed": seed}
    row |= {"stated": options.stated, "miou": scores["miou"], "iou": scores["iou"]}
    keep(options.out, row | {"seconds": round(time.monotonic() - started)})
    shutil.rmtree(layout.root)


def audit(options: argparse.Namespace) -> None:
    """The classifier under each rule, and its row."""
    for rule in options.rules.split(","):
        started = time.monotonic()
        changes = {"classifier.missing_labels": rule, "methods": ("cam",), "sources": (TASK_I,)}
        if rule == "drop_class":
            changes["classifier.drop_classes"] = (options.drop,)
        params = with_changes(load_preset("demo"), changes)
        name = f"{rule}-{options.missing}-{options.wrong}-{options.seed}"
        place = (options.out / "places" / name).resolve()
        layout = noisy_workspace(options.workspace, place, params, options)
        for stage in ("classifier", "cam", "pseudo@cam", "audit@cam"):
            run_apart(place, stage)
        found = json.loads(layout.report("audit", "cam").read_text())
        tags = json.loads(layout.report("classifier").read_text())
        row = {"command": "masks", "rule": rule, "missing": options.missing, "wrong": options.wrong}
        row |= {"seed": options.seed, "miou": found["miou"], "iou": found["iou"], "coverage": found["coverage"]}
        row |= {"winners": found["winners"]["miou"], "winners_iou": found["winners"]["iou"]}
        precision = [value for value in tags["average_precision"].values() if value is not None]
        row["average_precision"] = float(np.mean(precision))
        keep(options.out, row | {"seconds": round(time.monotonic() - started)})
        shutil.rmtree(layout.root)


def maps(options: argparse.Namespace) -> None:
    """Rows of all cells: what the task (i) network's map of N2 is when it is held to the tags, without any training."""
    started, seed, base = time.monotonic(), options.seed, Layout(options.workspace.resolve())
    params = with_changes(load_preset("demo"), {"segment.seeds": (seed,)})
    context = Context(base, params, machine_from_environment())
    model, _ = load_segmenter(base.checkpoints(TASK_I) / f"seed{seed}.pt")
    model.to(context.machine.torch_device())
    areas, crops = context.tag_areas(), context.crops()
    images = {area: np.asarray(open_array(base.tiles / "images", area)) for area in areas}
    seen = {area: predict(context, model, image, DIHEDRAL) for area, image in images.items()}
    labelled = context.open_areas(context.pixel_areas(), masks=base.tiles / "labels")
    typical = typical_shares(labelled, len(context.scheme), params.tiles.tag_size).numpy()
    choice = Choice.of(json.loads(base.choices("joint").read_text())[f"seed{seed}"])
    weak = crops.take(np.flatnonzero(np.array(crops.splits) == "tags"))
    cells = [(m, w, stated) for w in WRONG for m in MISSING for stated in ((False, True) if m or w else (False,))]
    for missing, wrong, stated in [*cells, (1.0, 0.0, False)]:
        tags = noisy_tags(weak.present, weak.known, missing, wrong, seed)
        known = weak.known & tags.any(1, keepdims=True)  # a crop that has lost all is one that nobody has tagged
        errors = estimate_tag_errors(missing, wrong, tags, known) if stated else None
        tables = np.zeros((2, len(context.scheme), len(context.scheme)), np.int64)
        for area in areas:
            mine = np.array(weak.areas) == area
            held, mask = hold(seen[area], weak.windows[mine], tags[mine], known[mine], typical, choice, errors)
            truth = np.asarray(open_array(base.hidden, area))
            for table, found in zip(tables, (held, mask), strict=True):
                table += confusion_matrix(np.where(found == IGNORE, IGNORE, truth), found, len(context.scheme))
        free, inside = (scores_of(table, context.scheme.names) for table in tables)
        row = {"command": "maps", "missing": missing, "wrong": wrong, "stated": stated, "seed": seed}
        row |= {"miou": free["miou"], "iou": free["iou"], "masks": inside["miou"], "accuracy": inside["oa"]}
        keep(options.out, row | {"coverage": float(tables[1].sum() / tables[0].sum())})
    print(f"{time.monotonic() - started:.0f} s", flush=True)


def hold(
    probabilities: npt.NDArray[np.float32],
    windows: npt.NDArray[np.int64],
    present: Bools,
    known: Bools,
    typical: npt.NDArray[np.float32],
    choice: Choice,
    errors: TagErrors | None,
) -> tuple[Mask, Mask]:
    """Top classes and mask of an area, as ``pipeline.network_scores`` makes them; no tags at all: shares of N1."""
    allowed = allowed_raster(*probabilities.shape[1:], [tuple(one) for one in windows.tolist()], present, known)
    found = align_scores(constrain_scores(probabilities, allowed, errors), allowed, typical, errors)
    floor = CLAIM_FLOOR if errors is None else max(CLAIM_FLOOR, errors.chance / (1 + errors.chance))
    found, _ = claim_missing(found, windows, present, allowed=allowed, floor=floor)
    possible = possible_classes(allowed, errors)
    mask = pseudo_mask(found, possible, min_score=choice.min_score, min_margin=choice.min_margin)
    return found.winners().astype(np.uint8), mask


def keep_references(options: argparse.Namespace) -> None:
    """Rows of what WORKSPACE has trained with right tags, without any, or with pixels, by source and seed."""
    for source in REFERENCES:
        seeds = json.loads(Layout(options.workspace).report("evaluate", source).read_text())["seeds"]
        for name, one in seeds.items():
            row = {"command": "references", "source": source, "seed": int(name.removeprefix("seed"))}
            keep(options.out, row | {"miou": one["miou"], "iou": one["iou"]})


def references(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """mIoU by source and seed of :data:`REFERENCES`."""
    found: dict[str, dict[int, float]] = {source: {} for source in REFERENCES}
    for row in (row for row in rows if row["command"] == "references"):
        found[row["source"]][row["seed"]] = float(row["miou"])
    if not all(found.values()):
        raise DataError(
            f"no rows of {', '.join(source for source, seeds in found.items() if not seeds)}",
            expected="what right tags, pixels and no tag give",
            cure="run `references WORKSPACE OUT`",
        )
    return found


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, as docs/tagging.md has it: the map of N2, each source with the gap closed, CAM's masks by rule."""
    known = references(rows)
    maps_of_n2 = {(r["missing"], r["wrong"], r["stated"]): _short(r["miou"]) for r in rows if r["command"] == "maps"}
    none = maps_of_n2.pop((1.0, 0.0, False), "-")
    parts = [f"Map of N2 (no tag at all: {none}):", pivot(maps_of_n2)]
    for source in (source for source in TRAINED if by_cell(rows, source)):
        found = {
            cell: f"{_short(over_seeds(list(seeds.values())).mean)} ({share_closed(known, seeds):.0%})"
            for cell, seeds in by_cell(rows, source).items()
        }
        parts += [f"{source}:", pivot(found)]
    parts += ["CAM's masks of N2:", _by_rule([row for row in rows if row["command"] == "masks"])]
    return "\n\n".join(parts)


def pivot(cells: Mapping[Cell, str]) -> str:
    """A row per share of missing tags; right tags need no rates."""
    lines = [
        "| missing | taken for certain | rates stated | and 5 % of the no wrong: for certain | rates stated |",
        "| --- | --- | --- | --- | --- |",
    ]
    for missing in MISSING:
        shown = [cells.get((missing, wrong, stated), "-") for wrong in WRONG for stated in (False, True)]
        lines.append(f"| {missing:.0%} | {' | '.join(shown)} |".replace("%", " %"))
    return "\n".join(lines)


def _by_rule(rows: Sequence[Mapping[str, Any]]) -> str:
    found = {(r["missing"], r["wrong"], r["rule"]): f"{_short(r['miou'])} ({_short(r['coverage'])})" for r in rows}
    lines = [f"| missing | {' | '.join(f'`{rule}`' for rule in RULES)} |", "| --- " * (1 + len(RULES)) + "|"]
    for missing, wrong in sorted({(r["missing"], r["wrong"]) for r in rows}, key=lambda cell: cell[::-1]):
        name = f"{100 * missing:.0f} %" + f", and {100 * wrong:.0f} % of the no wrong" * bool(wrong)
        lines.append(f"| {name} | {' | '.join(found.get((missing, wrong, rule), '-') for rule in RULES)} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    """.632 for 0.632."""
    return f"{value:.3f}".removeprefix("0")


Cell = tuple[float, float, bool]
"""Missing, wrong, whether the rates are stated."""


def by_cell(rows: Sequence[Mapping[str, Any]], source: str) -> dict[Cell, dict[int, float]]:
    """mIoU of a source by cell and seed, in the order of the noise; right tags: joint's are the reference's."""
    found: dict[Cell, dict[int, float]] = {}
    for row in rows:
        if row["command"] == "train" and row["source"] == source:
            found.setdefault((row["missing"], row["wrong"], row["stated"]), {})[row["seed"]] = row["miou"]
    seeds = {seed for cell in found.values() for seed in cell}
    clean = {seed: value for seed, value in references(rows).get(source, {}).items() if seed in seeds}
    return dict(sorted((({(0.0, 0.0, False): clean} if clean else {}) | found).items()))


def share_closed(known: Mapping[str, Mapping[int, float]], seeds: Mapping[int, float]) -> float:
    """(mean - task (i)) / (oracle - task (i)) over these seeds."""
    start, end = (np.mean([known[source][seed] for seed in seeds]) for source in (TASK_I, "full"))
    return float((np.mean(list(seeds.values())) - start) / (end - start))


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """The map of N2 held to the tags, and what has been trained, against the share of missing tags."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    trained = [source for source in TRAINED if by_cell(rows, source)]
    figure, (left, *right) = plt.subplots(1, 1 + len(trained), figsize=(5 + 4.5 * len(trained), 4.4), dpi=100)
    found: dict[Cell, dict[int, float]] = {}
    for row in (row for row in rows if row["command"] == "maps"):
        found.setdefault((row["missing"], row["wrong"], row["stated"]), {})[row["seed"]] = row["miou"]
    none = found.pop((1.0, 0.0, False), None)
    _curves(left, {cell: float(np.mean(list(seeds.values()))) for cell, seeds in found.items()})
    if none:
        left.axhline(float(np.mean(list(none.values()))), color="grey", linestyle="--", label="no tag at all")
    left.set_ylabel("mIoU of task (i)'s map of N2, held to tags")
    known = references(rows)
    for axes, source in zip(right, trained, strict=True):
        cells = by_cell(rows, source)
        _curves(axes, {cell: 100 * share_closed(known, seeds) for cell, seeds in cells.items()})
        floor = {seed: known["untagged"][seed] for seed in next(iter(cells.values()))}
        axes.axhline(100 * share_closed(known, floor), color="grey", linestyle="--", label="untagged: no tag at all")
        axes.axhline(0, color="black", linewidth=0.8, label="task (i)")
        axes.set_ylabel(f"gap closed by {source}, %")
        axes.legend(handles=axes.get_lines()[-2:], fontsize=8, loc="lower left")
    bounds = [axes.get_ylim() for axes in right]
    for axes in right:  # side by side they are compared
        axes.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))
    for axes in (left, *right):
        axes.set_xlabel("tags that are missing, %")
        axes.set_xticks([0, 10, 20, 30, 40, 50])
        axes.grid(alpha=0.25)
    low, high = left.get_ylim()
    left.set_ylim(low - 0.35 * (high - low), high)  # room for the legend below the curves
    left.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(file)


def _curves(axes: Any, values: Mapping[Cell, float]) -> None:
    """Tags taken for certain and tags of stated rates; open diamonds where some are wrong too."""
    for stated, colour, name in ((False, "#c1440e", "tags taken for certain"), (True, "#1f6fb2", "rates stated")):
        plain = sorted((cell[0], value) for cell, value in values.items() if cell[2] == stated and not cell[1])
        if stated and (0.0, 0.0, False) in values:
            plain = [(0.0, values[0.0, 0.0, False]), *plain]
        wrong = sorted((cell[0], value) for cell, value in values.items() if cell[2] == stated and cell[1])
        axes.plot([100 * x for x, _ in plain], [y for _, y in plain], "o-", color=colour, label=name)
        label = f"{name}, 5 % of the no wrong too"
        axes.plot([100 * x for x, _ in wrong], [y for _, y in wrong], "D:", mfc="white", color=colour, label=label)


if __name__ == "__main__":
    main()
