"""Stage irnet: learn boundaries from confident labels, then walk scores up to them; the walk is chosen inside N1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.data.areas import Area
from weakseg.data.crops.augment import jitter_colour, normalise
from weakseg.data.crops.dataset import Pool, StepDataset
from weakseg.data.crops.sampler import CropSampler
from weakseg.data.store import fingerprint, open_array, save_array
from weakseg.data.windows import cover_windows
from weakseg.evaluation.holdout import score_holdout
from weakseg.methods.fusion import allowed_planes, silence_ignored
from weakseg.methods.irnet.affinity import count_classes, crop_weights
from weakseg.methods.irnet.forms import FORMS, Walk, candidates, in_force
from weakseg.methods.irnet.network import IRNet, irnet_loss
from weakseg.methods.irnet.walk import Drift, boundary_of_area, walk_area
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import load_scores, save_scores
from weakseg.networks.build import build_encoder
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.training.checkpoints import save_checkpoint
from weakseg.training.fit import Batch, TrainState, fit
from weakseg.training.seeds import seed_everything, step_generator

DRAWS = 4096  # crop centres drawn in advance, by weights that cap single-class crops
COLOUR = 0.2  # jitter of the training crops


def run(root: Path) -> None:
    """Write the network, out/scores/irnet/<area>.npz and boundaries/<area>.npy, and reports/irnet.json."""
    context = open_context(root)
    layout, params, machine = context.layout, context.params.irnet, context.machine
    areas = context.pixel_areas() + context.tag_areas()
    with tracked(context, "irnet", params) as log:
        model = train(context, confident_areas(context, areas), log.log_metrics)
        if machine.is_main:
            save_checkpoint(
                layout.networks("irnet") / "model.pt",
                {"weights": model.state_dict(), "params": params.model_dump(mode="json")},
            )
        for area in machine.shard(areas):
            save_array(layout.scores("irnet") / "boundaries", area, predict_boundary(context, model, area))
        machine.wait()
        walks = candidates(in_force(params))
        table = machine.gather([(walk, holdout_miou(context, walk)) for walk in machine.shard(walks)])
        before = holdout_miou(context, replace(walks[0], steps=0))
        chosen = max(table, key=lambda row: row[1])[0]
        walked = machine.gather([walk_one(context, area, chosen) for area in machine.shard(areas)])
        report = describe(context, table, before, chosen, dict(zip(areas, walked, strict=True)))
        if machine.is_main:
            write_report(layout.report("irnet"), report)
        log.log_metrics(
            {"holdout/before": before, "holdout/after": report["holdout_miou"], "fell_back": report["fell_back"]}
        )
        log.log_metrics({f"drift_octaves/{name}": value for name, value in report["drift_octaves"].items()})


def confident_areas(context: Context, names: list[str]) -> list[Area]:
    """Areas with confident labels of the crf scores; N1 too gets tag-made labels, not its truth."""
    layout, params = context.layout, context.params.irnet
    areas = []
    for name in names:
        mask = pseudo_mask(
            load_scores(layout.scores("crf") / f"{name}.npz"),
            np.asarray(open_array(layout.tiles / "allowed", name)),
            min_score=params.label_score,
            min_margin=params.label_margin,
        )
        held = open_array(layout.tiles / "holdout", name) if name in context.pixel_areas() else None
        if held is not None:
            mask[np.asarray(held) != IGNORE] = IGNORE
        areas.append(Area(open_array(layout.tiles / "images", name), mask))
    return areas


def train(context: Context, areas: list[Area], report: Any) -> IRNet:
    """One training on crops of the confident labels."""
    params, classes = in_force(context.params.irnet), len(context.scheme)
    form = FORMS[params.preset]
    seed_everything(params.seed)
    model = IRNet(build_encoder(params.encoder, weights=params.weights), displacement=form.displacement)
    preprocessing = model.encoder.preprocessing
    sampler = capped_sampler(areas, params.crop, classes, form.most_single, params.seed)
    pool = Pool(areas, sampler, params.optimiser.batch, params.crop, (1.0, 1.0), classes)

    def step(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        generator = step_generator(params.seed, state.step)
        images = normalise(jitter_colour(batch["confident"]["image"], COLOUR, generator), preprocessing)
        labels = batch["confident"]["mask"]
        loss = irnet_loss(
            state.model,  # type: ignore[arg-type]
            images,
            labels,
            form,
            classes,
            radius=params.radius,
            pairs=params.pairs_per_step,
            generator=generator,
        )
        return loss, {}

    plan = params.optimiser
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    result = fit(
        model,
        step,
        parameter_groups=[{"params": trained, "lr": plan.lr, "weight_decay": plan.weight_decay}],
        dataset=lambda rank, world: StepDataset(
            {"confident": pool}, seed=params.seed, steps=plan.steps, rank=rank, world=world
        ),
        plan=plan,
        seed=params.seed,
        machine=context.machine,
        resume_file=context.layout.out / "resume" / "irnet.pt",
        identity=fingerprint(context.layout.tiles, context.layout.scores("crf")) + params.model_dump_json(),
        report=lambda row, at: report(row, step=at),
    )
    return result.model.eval()  # type: ignore[return-value]


def capped_sampler(areas: list[Area], crop: int, classes: int, most_single: float, seed: int) -> CropSampler:
    """Draws crop centres so that at most ``most_single`` of the crops show one confident class only."""
    centres, counts = [], []
    for number, area in enumerate(areas):
        height, width = area.image.shape[:2]
        for row, column in cover_windows(height, width, min(crop, height, width), 0.5):
            labels = torch.from_numpy(np.ascontiguousarray(area.mask[row : row + crop, column : column + crop]))  # type: ignore[index]
            counts.append(count_classes(labels.unsqueeze(0).long(), classes))
            centres.append((number, min(height - 1, row + crop // 2), min(width - 1, column + crop // 2)))
    weights = crop_weights(torch.cat(counts), most_single).numpy()
    drawn = np.random.default_rng(seed).choice(len(centres), DRAWS, p=weights / weights.sum())
    return CropSampler(
        shares=np.full(len(areas), 1 / len(areas)),
        sizes=tuple((area.image.shape[0], area.image.shape[1]) for area in areas),
        favoured=np.array(centres, np.int64)[drawn],
        probability=1.0,
    )


def predict_boundary(context: Context, model: IRNet, area: str) -> np.ndarray:
    """Boundary map float16 (ceil(H / 4), ceil(W / 4))."""
    device = context.machine.torch_device()
    image = torch.from_numpy(np.array(open_array(context.layout.tiles / "images", area)))
    tensor = normalise(image.permute(2, 0, 1)[None].to(device), model.encoder.preprocessing)[0]
    params = context.params.irnet
    views, window = FORMS[params.preset].views, max(64, params.crop)
    return (
        boundary_of_area(model.to(device), tensor, window=window, overlap=0.34, views=views)
        .cpu()
        .numpy()
        .astype(np.float16)
    )


def _walk(context: Context, area: str, options: Walk) -> tuple[Any, Drift]:
    layout, limit = context.layout, in_force(context.params.irnet).max_drift
    maps = load_scores(layout.scores("crf") / f"{area}.npz")
    boundary = torch.from_numpy(open_array(layout.scores("irnet") / "boundaries", area).astype(np.float32))
    walked, drift = walk_area(maps, boundary.to(context.machine.torch_device()), options, max_drift=limit)
    return silence_ignored(walked, np.asarray(open_array(layout.tiles / "allowed", area))), drift


def walk_one(context: Context, area: str, options: Walk) -> Drift:
    """Walk and save one area."""
    maps, drift = _walk(context, area, options)
    save_scores(context.layout.scores("irnet") / f"{area}.npz", maps)
    return drift


def holdout_miou(context: Context, options: Walk) -> float:
    """mIoU of the walked winners, tags applied, on the hold-out blocks of N1."""
    tiles, names = context.layout.tiles, context.scheme.names

    def winners(area: str, part: slice) -> np.ndarray:
        planes = allowed_planes(np.asarray(open_array(tiles / "allowed", area)), len(names))
        return np.asarray(np.where(planes, _walk(context, area, options)[0].scores, -1).argmax(0)[:, part])

    return score_holdout(tiles, names, winners)["miou"]


def describe(
    context: Context,
    table: list[tuple[Walk, float]],
    before: float,
    chosen: Walk,
    drifts: dict[str, Drift],
) -> dict[str, Any]:
    """reports/irnet.json: what was tried, what is in force, and how the classes' areas drifted (octaves, mean)."""
    octaves = np.array([drift.octaves for drift in drifts.values() if len(drift.octaves) == len(context.scheme)])
    names = context.scheme.names
    return {
        "candidates": [{"steps": o.steps, "anchor": o.anchor, "holdout_miou": value} for o, value in table],
        "holdout_miou_unwalked": before,
        "holdout_miou": max(value for _, value in table),
        "steps": chosen.steps,
        "anchor": chosen.anchor,
        "fell_back": sum(drift.fell_back for drift in drifts.values()),
        "areas": len(drifts),
        "drift_octaves": dict(zip(names, octaves.mean(0).tolist(), strict=True)) if len(octaves) else {},
    }
