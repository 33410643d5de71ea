"""Stage classifier: a multi-label network on tag crops, with thresholds per class from the hold-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from weakseg.core.methods import ClassifierParams
from weakseg.core.removed_params import drop_removed
from weakseg.data.crops.augment import jitter_colour, normalise
from weakseg.data.crops.tag_dataset import cut_crop
from weakseg.data.manifest import TagCrops
from weakseg.data.store import open_array
from weakseg.labels.tags import says_something
from weakseg.methods.classifier import (
    Classifier,
    apply_missing_label_policy,
    build_classifier,
    f1_thresholds,
    positive_weights,
    tag_metrics,
)
from weakseg.networks.build import parameter_groups
from weakseg.networks.losses import multi_label_bce
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.pipeline.tag_training import fit_on_crops
from weakseg.training.checkpoints import (
    bands_of,
    check_bands,
    describe_bands,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from weakseg.training.fit import Batch, TrainState
from weakseg.training.seeds import seed_everything, step_generator

Flags = npt.NDArray[np.bool_]


def run(root: Path) -> None:
    """Train on the tags of N2 and of N1 outside the hold-out; report quality on the hold-out."""
    context = open_context(root)
    params, layout = context.params.classifier, context.layout
    crops = context.crops()
    says = says_something(crops.present, crops.known, context.scheme)
    tagged = np.array([split != "holdout" for split in crops.splits]) & crops.known.any(1) & says
    held = np.array([split == "holdout" for split in crops.splits]) & crops.known[:, context.scheme.objects].all(1)
    with tracked(context, "classifier", params) as log:
        known = crops.known.copy()
        if params.missing_labels in ("confident_only", "ignore_uncertain"):
            first = train(context, crops, known, tagged, "first", log.log_metrics)
            known = _reconsider(context, first, crops, known)
        elif params.missing_labels == "drop_class":
            known = _policy(context, crops, known, np.zeros(known.shape, np.float32))
        model = train(context, crops, known, tagged, "final", log.log_metrics)
        if not context.machine.is_main:
            return
        probabilities = predict_crops(context, model, crops, np.flatnonzero(held))
        thresholds = f1_thresholds(crops.present[held], probabilities)
        report = describe(crops.present[held], probabilities, thresholds, context.scheme.names)
        report |= {"crops_trained_on": int(tagged.sum()), "crops_without_tags": int((~says).sum())}
        save_checkpoint(
            layout.networks("classifier") / "model.pt",
            {
                "weights": model.state_dict(),
                "params": params.model_dump(mode="json"),
                "thresholds": thresholds.tolist(),
                **describe_bands(context.bands),
            },
        )
        write_report(layout.report("classifier"), report)
        log.log_metrics({f"holdout/ap/{name}": value for name, value in report["average_precision"].items()})
        log.log_metrics({"holdout/exact_match": report["exact_match"]})


def _reconsider(context: Context, model: Classifier, crops: TagCrops, known: Flags) -> Flags:
    probabilities = predict_crops(context, model, crops, np.arange(len(crops.ids)))
    return _policy(context, crops, known, probabilities)


def _policy(context: Context, crops: TagCrops, known: Flags, probabilities: npt.NDArray[np.float32]) -> Flags:
    params = context.params.classifier
    return apply_missing_label_policy(
        crops.present,
        known,
        probabilities,
        policy=params.missing_labels,
        drop_classes=tuple(context.scheme.index(name) for name in params.drop_classes),
        confidence=params.confidence,
        uncertain=params.uncertain,
    )


def train(context: Context, crops: TagCrops, known: Flags, chosen: Flags, name: str, report: Any) -> Classifier:
    """One training on the chosen crops."""
    params = context.params.classifier
    seed_everything(params.seed)
    model = build_classifier(params, len(context.scheme), context.bands)
    part = replace(crops, known=known).take(np.flatnonzero(chosen & known.any(1)))
    weight = torch.from_numpy(positive_weights(part.present, part.known))

    def step(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = batch["crops"]
        generator = step_generator(params.seed, state.step)
        coloured = jitter_colour(inputs["image"], params.augment.colour, generator, model.preprocessing.bands)
        logits = state.model(normalise(coloured, model.preprocessing))
        loss = multi_label_bce(logits.float(), inputs["tags"], inputs["known"], weight.to(logits.device))
        return loss, {}

    plan = params.optimiser
    return fit_on_crops(  # type: ignore[return-value]
        context,
        model,
        step,
        part,
        params,
        name=f"classifier-{name}",
        parameter_groups=parameter_groups(
            model, model.trunk, lr=plan.lr, encoder_factor=plan.encoder_factor, weight_decay=plan.weight_decay
        ),
        report=lambda row, at: report({f"{name}/{key}": value for key, value in row.items()}, step=at),
    )


@torch.no_grad()
def predict_crops(
    context: Context, model: nn.Module, crops: TagCrops, index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Probabilities (N, C) of the crops numbered by ``index``."""
    side, batch = context.params.classifier.crop, context.params.classifier.optimiser.batch
    model.eval()
    parts = [np.zeros((0, len(context.scheme)), np.float32)]
    for first in range(0, len(index), batch):
        cuts = [
            cut_crop(open_array(context.layout.tiles / "images", crops.areas[i]), crops.windows[i], side)
            for i in index[first : first + batch]
        ]
        images = torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).to(next(model.parameters()).device)
        parts.append(model(normalise(images, model.preprocessing)).float().sigmoid().cpu().numpy())  # type: ignore[arg-type]
    return np.concatenate(parts)


def describe(
    tags: Flags, probabilities: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float64], names: tuple[str, ...]
) -> dict[str, Any]:
    """reports/classifier.json: average precision and F1 per class, exact match, thresholds."""
    metrics = tag_metrics(tags, probabilities, thresholds)

    def named(values: npt.NDArray[np.float64]) -> Mapping[str, float]:
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    return {
        "average_precision": named(metrics.average_precision),
        "f1": named(metrics.f1),
        "exact_match": metrics.exact_match,
        "thresholds": named(thresholds),
        "presence_rate": named(tags.mean(0) if len(tags) else np.full(len(names), np.nan)),
    }


def load_classifier(context: Context) -> tuple[Classifier, npt.NDArray[np.float64]]:
    """(network, thresholds (C,)) that this stage saved."""
    path = context.layout.networks("classifier") / "model.pt"
    content = load_checkpoint(path)
    check_bands(bands_of(content), context.bands, path)
    drop_removed({"classifier": content["params"]}, str(path))
    params = ClassifierParams.model_validate({**content["params"], "weights": "none"})
    model = build_classifier(params, len(content["thresholds"]), context.bands)
    load_weights(model, content["weights"], str(path))
    return model.eval().to(context.machine.torch_device()), np.array(content["thresholds"], np.float64)
