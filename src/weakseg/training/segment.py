"""Training a segmentation network from pixel truth and one kind of weak label: pools of crops and the step's loss.

The loss of one step is ``pixel + guessed + known``: cross-entropy on N1 crops; on N2 crops what is guessed,
cross-entropy to pseudo-masks, consistency with the averaged network, or both, which grows over ``students.ramp`` from
``students.start`` on; and, beside consistency, what is known, the tag losses, which grow from the first step (in full
at once, they put cars out before the network has found any).

Where masks and consistency come together (joint) every pixel has one target: the mask where it is sure, the averaged
network elsewhere; the view is the plain one of all trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from weakseg.core.classes import IGNORE, ClassScheme, Mask
from weakseg.core.methods import ENTRIES, MAKES_MASKS, SELF_TAUGHT, Source
from weakseg.core.params import ConsistencyParams, Params, SegmentAugmentParams, SegmentParams
from weakseg.core.tag_errors import TagErrors
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import Pool
from weakseg.data.crops.augment import Preprocessing, blur, drop_bands, jitter_colour, normalise
from weakseg.data.crops.sampler import SPARSE, build_sampler
from weakseg.labels.tags import count_classes, window_grid
from weakseg.methods.selftrain import (
    Targets,
    behind_mask,
    cut_mix,
    expected_shares,
    make_targets,
    no_targets,
    share_loss,
)
from weakseg.networks.class_sets import AllowedBatch
from weakseg.networks.losses import consistency_loss, cross_entropy, presence_loss, tag_loss
from weakseg.training.fit import Batch, StepLoss, TrainState
from weakseg.training.seeds import step_generator

STRONG_COLOUR, STRONG_BLUR = 0.4, 0.5  # of the student's view: jitter as a share, chance of a blur

PixelLoss = Callable[[Tensor, Tensor], Tensor]


def class_weights(weights: dict[str, float], scheme: ClassScheme) -> Tensor:
    """float32 (C,), 1 for classes not named; an unknown name raises DataError."""
    table = torch.ones(len(scheme))
    for name, weight in weights.items():
        table[scheme.index(name)] = weight
    return table


def build_pools(
    source: Source,
    params: Params,
    scheme: ClassScheme,
    labelled: Sequence[Area],
    weak: Sequence[Area],
    seed: int,
) -> dict[str, Pool]:
    """Pools ``pixel`` (areas with truth) and, for task (ii), ``weak`` (N2 areas, with pseudo-masks or tags alone).

    Every source sees ``optimiser.batch`` crops with pixel truth in every step. Weak crops come on top: those with
    pseudo-masks from ``students.start`` on, those whose tags are learnt (consistency) from the first step.
    """
    shared, students = params.segment, params.students
    favoured = scheme.index(shared.favour.class_name) if shared.favour.probability > 0 else None
    pools = {"pixel": _pool(shared, labelled, favoured, shared.optimiser.batch, seed, len(scheme))}
    gives = ENTRIES[source].gives
    if gives in ("masks", *SELF_TAUGHT) and len(weak) > 0:
        begins = 0 if gives in SELF_TAUGHT else round(students.start * shared.optimiser.steps)
        later = _pool(shared, weak, favoured, students.batch, seed, len(scheme), pseudo=True)
        pools["weak"] = replace(later, begins=begins)
    return pools


def _pool(
    params: SegmentParams,
    areas: Sequence[Area],
    favoured: int | None,
    count: int,
    seed: int,
    classes: int,
    *,
    pseudo: bool = False,
) -> Pool:
    sizes = [(area.image.shape[0], area.image.shape[1]) for area in areas]
    sampler = build_sampler(
        sizes,
        [area.mask for area in areas],
        favoured=favoured,
        probability=params.favour.probability,
        seed=seed,
        hints=[_tagged_pixels(area, favoured) for area in areas],
        pseudo=pseudo,
    )
    return Pool(areas, sampler, count, params.crop, params.augment.scale, classes)


def _tagged_pixels(area: Area, favoured: int | None) -> Mask | None:
    """Mask (H, W) with the favoured class in the tag crops that carry its tag, for areas that have tags but no mask."""
    if favoured is None or area.mask is not None or area.windows is None or area.tags is None:
        return None
    tagged = np.append(area.tags[:, favoured], False)  # the last entry serves number -1
    return np.where(tagged[np.asarray(area.windows)], favoured, IGNORE).astype(np.uint8)


def typical_shares(areas: Sequence[Area], classes: int, size: int) -> Tensor:
    """Mean share (C,) of a window of ``size`` px that each class covers where it is present, from areas with masks.

    A class that no mask holds gets the mean of the others: nothing is known of it.
    """
    total, present = np.zeros(classes), np.zeros(classes)
    for area in areas:
        if area.mask is None:
            continue
        counts = count_classes(
            np.asarray(area.mask), window_grid(area.mask.shape[0], area.mask.shape[1], size), classes
        )
        labelled = counts[counts.sum(1) > _least_labelled(np.asarray(area.mask), size)]
        total += (labelled / labelled.sum(1, keepdims=True)).sum(0)
        present += (labelled > 0).sum(0)
    known = present > 0
    means = total[known] / present[known]
    shares = np.full(classes, means.mean() if known.any() else 1.0)
    shares[known] = means
    return torch.from_numpy(shares).float()


def _least_labelled(mask: Mask, size: int) -> float:
    """Labelled px of a window up to which it says nothing about shares: half of it, in areas labelled in part.

    There a window may show one drawn object and nothing of what is around it.
    """
    sparse = np.count_nonzero(mask != IGNORE) < SPARSE * mask.size
    return 0.5 * min(size, mask.shape[0]) * min(size, mask.shape[1]) if sparse else 0.0


def segmentation_step(
    source: Source,
    params: Params,
    scheme: ClassScheme,
    preprocessing: Preprocessing,
    seed: int,
    *,
    typical: Tensor | None = None,
    errors: TagErrors | None = None,
) -> StepLoss:
    """The step of :func:`weakseg.training.fit.fit` for this source of labels.

    ``typical``: (C,) of :func:`typical_shares`, which consistency needs for its shares; None leaves them out.
    ``errors``: of the tags, where consistency and joint shall not take them for certain.
    """
    shared, students = params.segment, params.students
    weights = class_weights(shared.class_weights, scheme)

    def pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
        return cross_entropy(logits, masks, weights.to(logits.device))

    def step(state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        generator = step_generator(seed, state.step)
        pixel = batch["pixel"]
        images = view_crops(pixel["image"], preprocessing, shared.augment, generator)
        if "weak" not in batch:
            loss = pixel_loss(state.model(images).float(), pixel["mask"])
            return loss, {"pixel": loss.detach()}
        ramp = _ramp(state, students.start, students.ramp)
        if ENTRIES[source].gives in SELF_TAUGHT:
            masked = ENTRIES[source].gives in MAKES_MASKS
            return _consistency_step(
                state,
                batch,
                images,
                pixel_loss,
                params,
                preprocessing,
                generator,
                ramp,
                typical,
                masked=masked,
                errors=errors,
            )
        weak = view_crops(batch["weak"]["image"], preprocessing, shared.augment, generator)
        logits = state.model(torch.cat([images, weak])).float()
        truth, pseudo = logits[: len(images)], logits[len(images) :]
        loss = pixel_loss(truth, pixel["mask"])
        weak_loss = cross_entropy(pseudo, batch["weak"]["mask"], weights.to(logits.device))
        total = loss + ramp * students.pseudo_weight.get(source, 1.0) * weak_loss
        return total, {"pixel": loss.detach(), "weak": weak_loss.detach()}

    return step


def view_crops(
    images: Tensor, preprocessing: Preprocessing, augment: SegmentAugmentParams, generator: torch.Generator
) -> Tensor:
    """Crops (B, K, H, W) as they are read -> normalised ones, jittered in colour, some without a band they may lack."""
    coloured = jitter_colour(images, augment.colour, generator, preprocessing.bands)
    return drop_bands(normalise(coloured, preprocessing), augment.drop_band, generator, preprocessing.bands)


def _ramp(state: TrainState, start: float, length: float) -> float:
    """From 0 at ``start`` in a straight line to 1 over ``length`` (both shares of all steps)."""
    begun = state.step / state.steps - start
    if length == 0:
        return float(begun >= 0)
    return min(1.0, max(0.0, begun / length))


def _consistency_step(
    state: TrainState,
    batch: Batch,
    images: Tensor,
    pixel_loss: PixelLoss,
    params: Params,
    preprocessing: Preprocessing,
    generator: torch.Generator,
    ramp: float,
    typical: Tensor | None,
    *,
    masked: bool,
    errors: TagErrors | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    options, augment, weak = params.consistency, params.segment.augment, batch["weak"]
    allowed = AllowedBatch(weak["allowed"], weak["sets"], errors)
    shares = expected_shares(allowed, typical) if typical is not None else None
    if ramp > 0:
        targets = _teach(state, weak, allowed, preprocessing, options, shares if options.align else None)
    else:
        targets = no_targets(allowed, weak["windows"])
    if masked:  # strong views teach shapes against colours, and colours are half of what masks of short trainings teach
        view = jitter_colour(weak["image"], augment.colour, generator, preprocessing.bands)
        taught = behind_mask(targets, weak["mask"])
    else:
        strong = blur(
            jitter_colour(weak["image"], STRONG_COLOUR, generator, preprocessing.bands), STRONG_BLUR, generator
        )
        view, taught = cut_mix(strong, targets, options.cutmix, generator)
    seen = drop_bands(normalise(view, preprocessing), augment.drop_band, generator, preprocessing.bands)
    logits = state.model(torch.cat([images, seen])).float()
    loss, guess = pixel_loss(logits[: len(images)], batch["pixel"]["mask"]), logits[len(images) :]
    consistent = consistency_loss(guess, taught.label, taught.weight)
    tagged = tag_loss(guess, taught.allowed)
    chance = errors.chance if errors is not None else 0.0
    presence = presence_loss(guess, taught.windows, weak["tags"], chance=chance)
    shared = torch.zeros((), device=logits.device)
    if typical is not None and options.share_weight > 0:
        shared = share_loss(guess, taught.allowed, expected_shares(taught.allowed, typical))
    known = options.tag_weight * tagged + options.presence_weight * presence + options.share_weight * shared
    total = loss + ramp * options.weight * consistent + _ramp(state, 0.0, params.students.ramp) * known
    logs = {
        "pixel": loss.detach(),
        "consistency": consistent.detach(),
        "tags": tagged.detach(),
        "presence": presence.detach(),
        "shares": shared.detach(),
        "coverage": targets.weight.mean(),
    }
    if taught.mask is not None:
        mask_loss = pixel_loss(guess, taught.mask)
        total = total + ramp * params.joint.mask_weight * mask_loss
        logs["masks"] = mask_loss.detach()
    return total, logs


@torch.no_grad()
def _teach(
    state: TrainState,
    weak: dict[str, Tensor],
    allowed: AllowedBatch,
    preprocessing: Preprocessing,
    options: ConsistencyParams,
    shares: Tensor | None,
) -> Targets:
    """Targets from the averaged network on the clean view, the mean of it and its mirror image."""
    teacher = state.teacher
    teacher.eval()
    clean = normalise(weak["image"], preprocessing)
    probabilities = teacher(clean).float().softmax(1)
    probabilities = (probabilities + teacher(clean.flip(3)).float().softmax(1).flip(3)) / 2
    if teacher is state.model:
        teacher.train()
    return make_targets(
        probabilities,
        allowed,
        weak["windows"],
        confidence=options.confidence,
        adaptive=options.adaptive,
        shares=shares,
    )
