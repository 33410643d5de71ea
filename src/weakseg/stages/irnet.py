"""Stage irnet: learn boundaries from confident labels, then walk scores up to them; walk and classes chosen in N1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weakseg.core.classes import IGNORE, Mask
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import Pool, StepDataset
from weakseg.data.crops.augment import jitter_colour, normalise
from weakseg.data.crops.sampler import CropSampler
from weakseg.data.store import fingerprint, open_allowed, open_array, open_stored, save_array
from weakseg.data.windows import cover_windows
from weakseg.evaluation.holdout import BLOCKS, require_blocks, truth_for
from weakseg.methods.background import (
    POWERS,
    background_first,
    confident_labels,
    draw_background,
    power_of,
    without_background,
)
from weakseg.methods.crf import constant_background
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.irnet.affinity import count_classes, crop_weights
from weakseg.methods.irnet.forms import FORMS, Walk, candidates, in_force
from weakseg.methods.irnet.network import IRNet, irnet_loss
from weakseg.methods.irnet.walk import Drift, boundary_of_area, walk_area
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.refinement import (
    Changes,
    Choice,
    choose_refiners,
    count_changes,
    join_changes,
    mix_maps,
    take_for_all,
)
from weakseg.methods.scores import load_scores, save_scores
from weakseg.networks.build import build_encoder
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.pipeline.holdout_choice import choose_power
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
        powers = dict(machine.gather([(walk, background_power(context, walk)) for walk in machine.shard(walks)]))
        tried = try_walks(context, walks, powers)
        chosen, choice = max(tried, key=lambda row: row[1].miou)  # of equals the first
        power = powers[chosen]
        walked = machine.gather([walk_one(context, area, chosen, choice, power) for area in machine.shard(areas)])
        report = describe(context, tried, chosen, choice, dict(zip(areas, walked, strict=True)))
        report |= {"background_power": power} if context.scheme.background else {}
        if machine.is_main:
            write_report(layout.report("irnet"), report)
        log.log_metrics({"n1/miou_before": report["miou_before"], "n1/miou": report["miou"]})
        log.log_metrics({"fell_back": report["fell_back"]})
        log.log_metrics({f"drift_octaves/{name}": value for name, value in report["drift_octaves"].items()})


def confident_areas(context: Context, names: list[str]) -> list[Area]:
    """Areas with confident labels of the crf scores; N1 too gets tag-made labels, not its truth."""
    layout, pixel = context.layout, set(context.pixel_areas())
    areas = []
    for name in names:
        mask = confident_mask(context, name)
        held = open_array(layout.tiles / "holdout", name) if name in pixel else None
        if held is not None:
            mask[np.asarray(held) != IGNORE] = IGNORE
        areas.append(Area(open_stored(layout.tiles / "images", name), mask))
    return areas


def confident_mask(context: Context, area: str) -> Mask:
    """Confident labels of one area, uint8 (H, W); beside a background by the published rule if the preset has one."""
    layout, params, background = context.layout, context.params.irnet, context.scheme.background_index
    seeds, allowed = FORMS[params.preset].seeds, open_allowed(layout.tiles, area)
    if seeds is None or background is None:
        maps = load_scores(layout.scores("crf") / f"{area}.npz")
        return pseudo_mask(maps, allowed, min_score=params.label_score, min_margin=params.label_margin)
    image = np.array(open_array(layout.tiles / "images", area))  # the CRF wants a writable copy
    maps = load_scores(layout.scores("cam") / f"{area}.npz")
    found = [constant_background(image, maps, background, seed, context.params.crf) for seed in seeds]
    known = maps.scores.any(0) & ~allowed.nothing
    return np.where(known, confident_labels(found[0], found[1], background), np.uint8(IGNORE))


def train(context: Context, areas: list[Area], report: Any) -> IRNet:
    """One training on crops of the confident labels."""
    params, classes = in_force(context.params.irnet), len(context.scheme)
    form = FORMS[params.preset]
    seed_everything(params.seed)
    encoder = build_encoder(params.encoder, weights=params.weights, bands=context.bands)
    model = IRNet(encoder, displacement=form.displacement)
    preprocessing = model.encoder.preprocessing
    sampler = capped_sampler(areas, params.crop, classes, form.most_single, params.seed)
    pool = Pool(areas, sampler, params.optimiser.batch, params.crop, (1.0, 1.0), classes)

    def step(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        generator = step_generator(params.seed, state.step)
        coloured = jitter_colour(batch["confident"]["image"], COLOUR, generator, preprocessing.bands)
        images = normalise(coloured, preprocessing)
        labels = batch["confident"]["mask"]
        labels = background_first(labels, context.scheme.background_index) if form.background else labels
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


def _walk(context: Context, area: str, options: Walk, power: float = 1.0) -> tuple[Any, Drift]:
    layout, limit = context.layout, in_force(context.params.irnet).max_drift
    background = context.scheme.background_index
    before = load_scores(layout.scores("crf") / f"{area}.npz")
    maps = without_background(before, background)
    boundary = torch.from_numpy(open_array(layout.scores("irnet") / "boundaries", area).astype(np.float32))
    walked, drift = walk_area(maps, boundary.to(context.machine.torch_device()), options, max_drift=limit)
    walked = draw_background(walked, background, power, np.asarray(before.scores.any(0)))
    return silence_ignored(walked, open_allowed(layout.tiles, area)), drift


def background_power(context: Context, walk: Walk) -> float:
    """The power of the background, drawn from the walked objects: the preset's, or the best on the hold-out."""
    level = FORMS[context.params.irnet.preset].level
    powers = POWERS if level is None else (power_of(level),)
    return choose_power(context, lambda area: _walk(context, area, walk, 1.0)[0], powers)


def walk_one(context: Context, area: str, options: Walk, choice: Choice, power: float) -> Drift:
    """Walk and save one area, with the pixels of the classes that do not walk as they were."""
    layout = context.layout
    maps, drift = _walk(context, area, options, power)
    before = load_scores(layout.scores("crf") / f"{area}.npz")
    allowed = open_allowed(layout.tiles, area)
    save_scores(layout.scores("irnet") / f"{area}.npz", mix_maps((before, maps), allowed, choice.refiners))
    return drift


def try_walks(
    context: Context, walks: list[Walk], powers: Mapping[Walk, float] | None = None
) -> list[tuple[Walk, Choice]]:
    """Every walk, measured inside N1: of all classes, or of those alone that do not lose by it (``irnet.classes``).

    ``powers``: of the background under each walk; None without a background.
    """
    powers = powers or dict.fromkeys(walks, 1.0)
    machine, asked = context.machine, in_force(context.params.irnet).classes
    tiles = context.layout.tiles
    truths = truth_for(tiles, "irnet") if asked == "best" else require_blocks(tiles)
    jobs = [(walk, area) for walk in walks for area in truths]
    counts = iter(
        machine.gather(
            [count_walk(context, walk, area, truths[area], powers[walk]) for walk, area in machine.shard(jobs)]
        )
    )
    together = [join_changes([next(counts) for _ in truths]) for _ in walks]
    decide = choose_refiners if asked == "best" else take_for_all
    return [(walk, decide(one)) for walk, one in zip(walks, together, strict=True)]


def count_walk(context: Context, walk: Walk, area: str, truth: Mask, power: float = 1.0) -> Changes:
    """What a walk changes on the labelled pixels of an area, see :func:`weakseg.methods.refinement.count_changes`."""
    layout = context.layout
    allowed = open_allowed(layout.tiles, area)
    before = load_scores(layout.scores("crf") / f"{area}.npz")
    return count_changes(truth, (before, _walk(context, area, walk, power)[0]), allowed, blocks=BLOCKS)


def describe(
    context: Context,
    tried: list[tuple[Walk, Choice]],
    chosen: Walk,
    choice: Choice,
    drifts: dict[str, Drift],
) -> dict[str, Any]:
    """reports/irnet.json: what was tried, what is in force, and how the classes' areas drifted (octaves, mean)."""
    octaves = np.array([drift.octaves for drift in drifts.values() if len(drift.octaves) == len(context.scheme)])
    names = context.scheme.names
    return {
        **choice.describe(names, ("walk",)),
        "candidates": [{"steps": o.steps, "anchor": o.anchor, **c.describe(names, ("walk",))} for o, c in tried],
        "steps": chosen.steps,
        "anchor": chosen.anchor,
        "fell_back": sum(drift.fell_back for drift in drifts.values()),
        "areas": len(drifts),
        "drift_octaves": dict(zip(names, octaves.mean(0).tolist(), strict=True)) if len(octaves) else {},
    }
