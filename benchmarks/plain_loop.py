"""Training of `weakseg` against the loop that one writes in an afternoon with segmentation-models-pytorch.

    python benchmarks/plain_loop.py WORKSPACE
    python benchmarks/plain_loop.py WORKSPACE --sources pixel --seeds 0 1 2 --steps 400

WORKSPACE is one whose stage tiles has run. Task (i) and oracle are trained twice per seed, by the plain loop and by
the trainer of segment@SOURCE, with the same encoder, ImageNet weights, steps, crops and batch, and measured by the
metrics of evaluate@SOURCE over the validation areas. The plain loop: smp.Unet as it comes, AdamW 2e-3 with one cycle,
quarter turns, flips, brightness, the preset's class weights, half of the crops around the preset's favoured class; no
moving average, dropout, zoom or hold-out: it sees every labelled pixel. Finished trainings are kept in the workspace
(reports/plain_loop.json and reports/ablation.json), so that a second call goes on. Exits with 1 where ours is not
above the plain loop in the mean of every source asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.layout import Layout
from weakseg.core.methods import Source
from weakseg.core.params import SegmentParams
from weakseg.data.areas import Image, open_area
from weakseg.data.store import fingerprint, list_areas, open_array
from weakseg.evaluation.metrics import over_seeds
from weakseg.evaluation.reports import read_evaluation
from weakseg.inference.scene import PLAIN, predict_scene
from weakseg.networks.build import LITE0, LITE0_PREPROCESSING, load_encoder_weights
from weakseg.pipeline.context import Context, open_context
from weakseg.stages.evaluate import measure
from weakseg.studies.ablation import run_ablation
from weakseg.studies.variants import Variant
from weakseg.training.segment import class_weights

LR, BRIGHTNESS, FAVOURED = 2e-3, 0.2, 0.5
Row = dict[str, Any]


def labelled_areas(context: Context, source: Source) -> list[tuple[Image, Mask]]:
    """(image, truth) of N1, hold-out blocks included, and for the oracle of N2."""
    tiles, areas = context.layout.tiles, []
    for name in context.pixel_areas():
        taught, held = (np.asarray(open_array(tiles / folder, name)) for folder in ("labels", "holdout"))
        areas.append((np.asarray(open_array(tiles / "images", name)), np.where(taught == IGNORE, held, taught)))
    if source == "full":
        for name in context.tag_areas():
            areas.append(
                (np.asarray(open_array(tiles / "images", name)), np.asarray(open_array(context.layout.hidden, name)))
            )
    return areas


def batches(
    areas: Sequence[tuple[Image, Mask]], *, crop: int, batch: int, favoured: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (images float32 (B, 3, S, S) in 0..255, masks int64 (B, S, S)), turned, mirrored and brightened."""
    rng = np.random.default_rng(seed)
    places = [(index, *place) for index, (_, mask) in enumerate(areas) for place in np.argwhere(mask == favoured)]
    while True:
        images, masks = [], []
        for number in range(batch):
            image, mask = areas[int(rng.integers(len(areas)))]
            row, column = (int(rng.integers(side)) for side in mask.shape)
            if number < FAVOURED * batch and places:
                index, row, column = places[int(rng.integers(len(places)))]
                image, mask = areas[index]
            here = tuple(_span(pixel, crop, side, rng) for pixel, side in zip((row, column), mask.shape, strict=True))
            turns, flip = int(rng.integers(4)), int(rng.choice([-1, 1]))
            images.append(
                np.rot90(image[here], turns)[:, ::flip] * np.float32(rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS))
            )
            masks.append(np.rot90(mask[here], turns)[:, ::flip].astype(np.int64))
        yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).clamp(0, 255), torch.from_numpy(np.stack(masks))


def _span(pixel: int, crop: int, side: int, rng: np.random.Generator) -> slice:
    """``crop`` px that hold ``pixel``, somewhere inside 0..side."""
    start = int(rng.integers(max(0, pixel - crop + 1), min(pixel, side - crop) + 1))
    return slice(start, start + crop)


def train_plain(context: Context, source: Source, seed: int, steps: int) -> nn.Module:
    """The afternoon's loop; the network in evaluation mode."""
    params, scheme = context.params.segment, context.scheme
    torch.manual_seed(seed)
    model: Any = smp.Unet(f"tu-{LITE0}", encoder_weights=None, classes=len(scheme))
    load_encoder_weights(model.encoder.get_submodule("model"), LITE0, params.network.weights)
    criterion = nn.CrossEntropyLoss(class_weights(params.class_weights, scheme), ignore_index=IGNORE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    drawn = batches(
        labelled_areas(context, source),
        crop=params.crop,
        batch=params.optimiser.batch,
        favoured=scheme.index(params.favour.class_name),
        seed=seed,
    )
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (LITE0_PREPROCESSING.mean, LITE0_PREPROCESSING.std))
    for _, (images, masks) in zip(range(steps), drawn, strict=False):
        loss = criterion(model((images - mean) / std), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    trained: nn.Module = model.eval()
    return trained


def evaluate_plain(context: Context, model: nn.Module) -> dict[str, Any]:
    """The metrics of evaluate@SOURCE, from the same windows."""
    params, folder = context.params.evaluate, context.layout.validation
    areas = {name: open_area(folder, name, masks=folder / "labels") for name in list_areas(folder)}

    def classes_of(image: Image) -> npt.NDArray[np.uint8]:
        maps = predict_scene(
            model,
            image,
            preprocessing=LITE0_PREPROCESSING,
            window=params.window,
            overlap=params.overlap,
            batch=params.batch,
            views=PLAIN,
            machine=context.machine,
        )
        return np.asarray(maps.argmax(0), np.uint8)

    predictions = {name: classes_of(np.asarray(area.image)) for name, area in areas.items()}
    return measure(areas, predictions, context.scheme, params)


def plain_rows(context: Context, sources: Sequence[Source], seeds: Sequence[int], steps: int) -> list[Row]:
    """One row per source and seed; those of an earlier call with the same settings and data are kept."""
    file = context.layout.report("plain_loop")
    kept: list[Row] = json.loads(file.read_text()) if file.is_file() else []
    wanted = []
    for source in sources:
        for seed in seeds:
            key = plain_key(context, source, seed, steps)
            row = next((row for row in kept if row["key"] == key), None)
            if row is None:
                started = time.monotonic()
                found = evaluate_plain(context, train_plain(context, source, seed, steps))
                seconds = round(time.monotonic() - started, 1)
                row = {"key": key, "miou": found["miou"], "iou": found["iou"], "seconds": seconds}
                kept.append(row)
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(kept, indent=1))
                print(f"plain loop, {source}, seed {seed}: mIoU {row['miou']:.4f}", file=sys.stderr, flush=True)
            wanted.append({**row, "who": "plain loop", "source": source, "seed": seed})
    return wanted


def plain_key(context: Context, source: Source, seed: int, steps: int) -> str:
    """All that a training of the plain loop depends on."""
    params = context.params.segment
    settings = [params.crop, params.optimiser.batch, params.favour.class_name, params.class_weights]
    return json.dumps([source, seed, steps, settings, fingerprint(context.layout.tiles, context.layout.validation)])


def our_rows(root: Path, sources: Sequence[Source], seeds: Sequence[int], steps: int) -> list[Row]:
    """By the trainer of segment@SOURCE: what evaluate@SOURCE has reported, else trained apart from the pipeline."""
    reported = [row for source in sources for row in reported_rows(root, source, seeds, steps)]
    missing = [source for source in sources if source not in {row["source"] for row in reported}]
    if not missing:
        return reported
    variants = [Variant(f"{source}, {steps} steps", source, {"segment.optimiser.steps": steps}) for source in missing]
    rows = run_ablation(root, variants, seeds, lambda text: print(f"weakseg, {text}", file=sys.stderr, flush=True))[
        "rows"
    ]
    return reported + [{**row, "who": "weakseg"} for row in rows]


def reported_rows(root: Path, source: Source, seeds: Sequence[int], steps: int) -> list[Row]:
    """From reports/evaluate/SOURCE.json, if it has all of these seeds at these steps; else none."""
    file = Layout(root).report("evaluate", source)
    report = read_evaluation(file) if file.is_file() else None
    if report is None or report.steps != steps or not {f"seed{seed}" for seed in seeds} <= set(report.seeds):
        return []
    found = {seed: report.seeds[f"seed{seed}"] for seed in seeds}
    common = {"who": "weakseg", "source": source, "seconds": float("nan")}
    return [{**common, "seed": seed, "miou": scores.miou, "iou": scores.iou} for seed, scores in found.items()]


def table(rows: Sequence[Row], classes: Sequence[str]) -> str:
    """A Markdown table: each training, and the means of each source."""
    head = ["source", "trained by", "seed", "mIoU", *classes, "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for source, who in dict.fromkeys((row["source"], row["who"]) for row in rows):
        mine = [row for row in rows if (row["source"], row["who"]) == (source, who)]
        for row in mine:
            cells = [row["miou"], *(row["iou"][name] for name in classes)]
            lines.append(
                f"| {source} | {who} | {row['seed']} | "
                + " | ".join(f"{v:.3f}" for v in cells)
                + f" | {row['seconds']:.0f} |"
            )
        total = over_seeds([row["miou"] for row in mine])
        means = [over_seeds([row["iou"][name] for row in mine]).mean for name in classes]
        cells = [f"{total.mean:.3f} ({total.low:.3f} to {total.high:.3f})", *(f"{v:.3f}" for v in means)]
        lines.append(f"| {source} | **{who}** | mean of {total.count} | " + " | ".join(cells) + " | |")
    return "\n".join(lines)


def is_above(rows: Sequence[Row], source: Source) -> bool:
    """Whether our mean over the seeds is above the plain loop's."""
    means = {
        who: over_seeds([row["miou"] for row in rows if (row["source"], row["who"]) == (source, who)]).mean
        for who in ("weakseg", "plain loop")
    }
    return means["weakseg"] > means["plain loop"]


def main() -> int:
    """Print the table; 1 where ours is not above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--sources", nargs="+", choices=["pixel", "full"], default=["pixel", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="default: those of params.yaml")
    arguments = parser.parse_args()
    context = open_context(arguments.workspace)
    check(context.params.segment)
    torch.set_num_threads(context.machine.threads)
    steps = arguments.steps or context.params.segment.optimiser.steps
    rows = plain_rows(context, arguments.sources, arguments.seeds, steps)
    rows += our_rows(arguments.workspace, arguments.sources, arguments.seeds, steps)
    rows.sort(key=lambda row: (arguments.sources.index(row["source"]), row["who"], row["seed"]))
    print(table(rows, context.scheme.names))
    return int(not all(is_above(rows, source) for source in arguments.sources))


def check(params: SegmentParams) -> None:
    """Refuse presets whose network the plain loop would not share."""
    if (params.network.name, params.network.encoder) != ("unet", LITE0):
        sys.exit(f"a {params.network.name} with {params.network.encoder}: set segment.network to unet and {LITE0}")


if __name__ == "__main__":
    sys.exit(main())
