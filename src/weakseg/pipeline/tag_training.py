"""What the stages classifier and single_stage have in common: one training on tag crops of the workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from weakseg.core.methods import ClassifierParams, SingleStageParams
from weakseg.data.crops.tag_dataset import TagCropDataset
from weakseg.data.manifest import TagCrops
from weakseg.data.store import fingerprint, open_stored
from weakseg.methods.classifier import balanced_crop_weights
from weakseg.pipeline.context import Context
from weakseg.training.fit import StepLoss, fit


def fit_on_crops(
    context: Context,
    model: nn.Module,
    step: StepLoss,
    crops: TagCrops,
    params: ClassifierParams | SingleStageParams,
    *,
    name: str,
    parameter_groups: list[dict[str, Any]],
    report: Callable[[Mapping[str, float], int], None],
) -> nn.Module:
    """Train ``model`` on crops drawn by weights that favour rare presences and rare absences; the network to use.

    Args:
        step: see :data:`weakseg.training.fit.StepLoss`; its batches are those of :class:`TagCropDataset`.
        params: the stage's section: seed, side of the crops and optimiser are read here, all of it names the run.
        name: of the resume file; the other arguments are those of :func:`weakseg.training.fit.fit`.
    """
    tiles, plan = context.layout.tiles, params.optimiser
    images = {area: open_stored(tiles / "images", area) for area in sorted(set(crops.areas))}
    weights = balanced_crop_weights(crops.present)
    result = fit(
        model,
        step,
        parameter_groups=parameter_groups,
        dataset=lambda rank, world: TagCropDataset(
            images,
            crops,
            crops.known,
            weights,
            side=params.crop,
            batch=plan.batch,
            steps=plan.steps,
            seed=params.seed,
            rank=rank,
            world=world,
        ),
        plan=plan,
        seed=params.seed,
        machine=context.machine,
        resume_file=context.layout.out / "resume" / f"{name}.pt",
        identity=fingerprint(tiles) + params.model_dump_json(),
        report=report,
    )
    return result.model
