"""Stage single_stage: one network from tags alone, its own refined masks as teacher (Araslanov and Roth, CVPR 2020)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.bands import PLAIN, Bands
from weakseg.core.classes import ClassScheme
from weakseg.core.methods import SingleStageParams
from weakseg.data.crops.augment import displayed, fit_preprocessing, jitter_colour, normalise
from weakseg.data.manifest import TagCrops
from weakseg.data.store import open_allowed, open_array
from weakseg.inference.scene import MIRRORED, sweep_windows, undo_view, view_of
from weakseg.labels.tags import says_something
from weakseg.methods.background import draw_background, to_scheme_order
from weakseg.methods.classifier import positive_weights
from weakseg.methods.fusion import constrain_scores, normalise_in_crops
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.methods.single_stage.network import (
    EncoderBackbone,
    SingleStage,
    parameter_groups,
    soft_masks,
)
from weakseg.methods.single_stage.self_training import single_stage_loss
from weakseg.networks.build import build_encoder
from weakseg.networks.first_convolution import widen_first
from weakseg.networks.resnet38 import ResNet38, load_resnet38
from weakseg.pipeline.context import Context, open_context, tracked
from weakseg.pipeline.holdout_choice import choose_power
from weakseg.pipeline.tag_training import fit_on_crops
from weakseg.training.checkpoints import save_checkpoint
from weakseg.training.fit import Batch, TrainState
from weakseg.training.machine import Machine
from weakseg.training.seeds import seed_everything, step_generator

WINDOW_BATCH = 4
COLOUR = 0.2  # jitter of the training crops


def run(root: Path) -> None:
    """Write the network and out/scores/single_stage/<area>.npz."""
    context = open_context(root)
    params, layout, machine = context.params.single_stage, context.layout, context.machine
    with tracked(context, "single_stage", params) as log:
        model = train(context, context.crops(), log.log_metrics)
        if machine.is_main:
            save_checkpoint(
                layout.networks("single_stage") / "model.pt",
                {"weights": model.state_dict(), "params": params.model_dump(mode="json")},
            )
        zoom = training_zoom(context.crops(), params.crop)
        redraws = bool(context.scheme.background) and params.normalise == "per_class"
        power = choose_power(context, lambda area: predict_area(context, model, area, zoom)) if redraws else None
        log.log_metrics({} if power is None else {"background_power": power})
        for area in machine.shard(context.pixel_areas() + context.tag_areas()):
            maps = predict_area(context, model, area, zoom)
            if power is not None:
                known = np.asarray(maps.scores.any(0))
                maps = draw_background(maps, context.scheme.background_index, power, known)
            save_scores(layout.scores("single_stage") / f"{area}.npz", maps)
        machine.wait()


def of_objects(crops: TagCrops, scheme: ClassScheme) -> TagCrops:
    """The tags without the column of a background, which the network has as a channel that nobody tags."""
    return replace(crops, present=crops.present[:, scheme.objects], known=crops.known[:, scheme.objects])


def build(params: SingleStageParams, scheme: ClassScheme, bands: Bands = PLAIN) -> SingleStage:
    """The network of the params: ResNet38 (``weights`` none or its published file), or a timm encoder.

    With a background it has the published channel of constant logit for it, before those of the objects.
    """
    classes, background = len(scheme.objects), bool(scheme.background)
    if params.backbone != "resnet38":
        dilated_to = params.output_stride if params.dilate else 32
        encoder = build_encoder(params.backbone, weights=params.weights, output_stride=dilated_to, bands=bands)
        trunk = EncoderBackbone(encoder, deep_stride=params.output_stride)
        return SingleStage(trunk, classes, params, background=background)
    # BatchNorm can only be frozen where there is something pretrained to freeze
    backbone = ResNet38(width=params.width, frozen=params.weights != "none")
    if params.weights != "none":
        load_resnet38(backbone, Path(params.weights))
    backbone.preprocessing = fit_preprocessing(backbone.preprocessing, bands)
    widen_first(backbone, bands, pretrained=params.weights != "none")
    return SingleStage(backbone, classes, params, background=background)


def train(context: Context, crops: TagCrops, report: Any) -> SingleStage:
    """Tags only for the first ``pretrain`` share of the steps, then tags and the network's own pseudo labels."""
    params = context.params.single_stage
    seed_everything(params.seed)
    model = build(params, context.scheme, context.bands)
    says = says_something(crops.present, crops.known, context.scheme)
    usable = np.array([split != "holdout" for split in crops.splits]) & says
    part = of_objects(crops.take(np.flatnonzero(usable)), context.scheme)
    weight = torch.from_numpy(positive_weights(part.present, part.known)) if params.balance_tags else None

    def step(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = batch["crops"]
        coloured = jitter_colour(
            inputs["image"], COLOUR, step_generator(params.seed, state.step), model.preprocessing.bands
        )
        pictures = normalise(coloured, model.preprocessing)
        own = params.self_training and state.step >= params.pretrain * state.steps
        loss = single_stage_loss(
            state.model(pictures),
            displayed(pictures, model.preprocessing),
            inputs["tags"],
            params,
            self_train=own,
            known=inputs["known"],
            pos_weight=None if weight is None else weight.to(pictures.device),
        )
        logs = {"tags": loss.tags.detach()}
        if loss.self_training is not None:
            logs["self"] = loss.self_training.loss.detach()
            logs["coverage"] = (loss.self_training.labels != 255).float().mean()
            logs["gate_passed"] = loss.self_training.passed.float().mean()
        return loss.total, logs

    plan = params.optimiser
    trained = fit_on_crops(
        context,
        model,
        step,
        part,
        params,
        name="single_stage",
        parameter_groups=[
            group
            for group in parameter_groups(
                model, rate=plan.lr, weight_decay=plan.weight_decay, head_factor=params.head_factor
            )
            if group["params"]
        ],
        report=lambda row, at: report(row, step=at),
    )
    return trained.eval()  # type: ignore[return-value]


def training_zoom(crops: TagCrops, side: int) -> float:
    """How much larger than life training shows the ground: tag crops (their median side) are resized to ``side`` px."""
    return side / float(np.median(crops.windows[:, 2:]))


@torch.no_grad()
def predict_area(context: Context, model: SingleStage, area: str, zoom: float) -> ScoreMaps:
    """Soft masks of an area over scales and mirror images (as published), held to the tags.

    Classes without a tag get zero and the others their mass; with ``normalise: per_class`` every class then reaches 1
    in each tag crop that holds it. The background is then as the network says it: it has to be drawn anew.

    Args:
        zoom: of :func:`training_zoom`: the network must see objects as large as it learnt them.
    """
    params, device = context.params.single_stage, context.machine.torch_device()
    model.to(device)

    def forward(cut: Tensor) -> Tensor:
        size = (cut.shape[-2], cut.shape[-1])
        views = [
            undo_view(_masks(model, view_of(cut.float(), view), zoom * scale, context.machine), view)
            for scale in params.scales
            for view in MIRRORED
        ]
        return F.interpolate(torch.stack(views).mean(0), size, mode="bilinear", align_corners=False)

    image = np.asarray(open_array(context.layout.tiles / "images", area))
    probabilities = sweep_windows(
        forward,
        image,
        window=round(2 * params.crop / zoom),
        overlap=0.34,
        batch=WINDOW_BATCH,
        machine=context.machine,
    )
    probabilities = to_scheme_order(probabilities, context.scheme)
    maps = constrain_scores(probabilities, open_allowed(context.layout.tiles, area))
    if params.normalise == "none":
        return maps
    crops = context.crops().select(area=area)
    return normalise_in_crops(maps, crops.windows, crops.present)


def _masks(model: SingleStage, images: Tensor, scale: float, machine: Machine) -> Tensor:
    size = (images.shape[-2], images.shape[-1])
    if scale != 1:
        images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
    with machine.autocast():
        logits = model(normalise(images, model.preprocessing)).logits
    return soft_masks(logits, size)
