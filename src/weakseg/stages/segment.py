"""Stage segment@SOURCE: train the segmentation network on one source of labels, once per seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.core.classes import IGNORE
from weakseg.core.errors import StageError
from weakseg.core.files import atomic_path
from weakseg.core.methods import ENTRIES, MAKES_MASKS, ORACLE, SELF_TAUGHT, TASK_I, Source
from weakseg.core.params import SegmentParams
from weakseg.core.settings import training_settings
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import StepDataset
from weakseg.data.store import fingerprint, open_array
from weakseg.evaluation.holdout import N1, digest_of_n1, held_blocks, score_holdout
from weakseg.inference.scene import PLAIN
from weakseg.inference.trust import describe_trust
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, open_context, tracked, write_report
from weakseg.pipeline.holdout_choice import allowed_classes
from weakseg.pipeline.mask_making import MaskMaking
from weakseg.pipeline.network_scores import predict, tag_errors
from weakseg.raster.gsd import load_gsd
from weakseg.training.checkpoints import describe_model, load_checkpoint, save_checkpoint
from weakseg.training.fit import FitResult, fit
from weakseg.training.seeds import seed_everything
from weakseg.training.segment import build_pools, segmentation_step, typical_shares
from weakseg.training.segmenter import segmenter_of

if TYPE_CHECKING:
    from weakseg.tracking import Run

CHOOSING = "choosing"  # folder of the networks that never saw the hold-out of N1


def run(root: Path, source: Source) -> None:
    """Train on ``source`` and write checkpoints, curve and summary.

    ``seed<n>.pt`` is the network that is reported and exported. With ``segment.refit`` it has trained on all of N1;
    where something is chosen on the hold-out, a network that never saw it has trained before, ``choosing/seed<n>.pt``,
    and the hold-out metrics are that one's. Without, ``seed<n>.pt`` is what ``segment.selection`` says, and beside it
    lies the other one of the two, ``last/seed<n>.pt`` or ``best/seed<n>.pt`` (best mIoU on the hold-out).
    """
    context = open_context(root)
    check_missing(context)
    params, read = context.params.segment, training_settings(context.params, source)
    identity = fingerprint(context.layout.tiles, *_label_folders(context, source)) + json.dumps(read)
    rows: list[dict[str, float]] = []
    summary: dict[str, dict[str, float]] = {}
    choosing: Segmenter | None = None
    with tracked(context, "segment", _logged(read), source=source) as log:
        for seed in params.seeds:
            with seed_run(context, source, seed, log) as own:
                history, choosing = train_seed(context, source, seed, identity, own, choosing)
            rows += [{"seed": seed, **row} for row in history]
            held = {key: value for key, value in history[-1].items() if key.startswith("holdout/")}
            if held:
                summary[f"seed{seed}"] = held
        if not context.machine.is_main:
            return
        if len(summary) > 1:
            first, *_ = summary.values()
            means = {name: float(np.mean([seed[name] for seed in summary.values()])) for name in first}
            log.log_metrics(run_names(means), step=params.optimiser.steps)
        curve = context.layout.curve(source)
        with atomic_path(curve) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.5f")
        write_report(context.layout.report("segment", source), summary)
        log.log_artifact(curve, "curves")


def check_missing(context: Context) -> None:
    """Refuse (StageError) areas that lack a band where training never leaves one out."""
    lacking = context.bands.missing
    if lacking and context.params.segment.augment.drop_band == 0:
        area, names = next(iter(lacking.items()))
        more = f" ({len(lacking)} areas lack some)" if len(lacking) > 1 else ""
        raise StageError(
            f"{area} lacks {', '.join(names)}{more}",
            expected="segment.augment.drop_band above 0, so that a network learns to do without",
            cure="set it, for instance to 0.3, or take these areas out of tiles.areas",
        )


def train_seed(
    context: Context, source: Source, seed: int, identity: str, own: Run, choosing: Segmenter | None
) -> tuple[list[dict[str, float]], Segmenter | None]:
    """All trainings of a seed with their files; the history of the first, and the network that never saw the hold-out.

    ``choosing``: that network of an earlier seed, for a seed that trains on all of N1 at once.
    """
    params, folder, name = context.params.segment, context.layout.checkpoints(source), f"seed{seed}.pt"
    histories: list[list[dict[str, float]]] = []
    for whole in trainings(params, source, seed):
        prefix = "refit/" if histories else ""

        def report(row: Mapping[str, float], step: int, prefix: str = prefix) -> None:
            own.log_metrics({prefix + key: value for key, value in run_names(row).items()}, step=step)

        labelled, weak = open_sources(context, source, whole=whole)
        result, model = train_segmenter(
            context, source, labelled, weak, seed, identity, report, keep_both=not params.refit, whole=whole
        )
        histories.append(result.history)
        choosing = choosing if whole and choosing is not None else model
        if not context.machine.is_main:
            continue
        if whole != params.refit:
            save_segmenter(folder / CHOOSING / name, model, context)
            continue
        save_segmenter(folder / name, model, context, measure_trust(context, model, choosing))
        used, other = _kinds(params)
        own.log_artifact(folder / name, f"checkpoints/{used}")
        if (folder / other / name).is_file():  # without a hold-out there is no best one
            own.log_artifact(folder / other / name, f"checkpoints/{other}")
    return histories[0], choosing


def trainings(params: SegmentParams, source: Source, seed: int) -> tuple[bool, ...]:
    """Of each training that a seed needs, in their order, whether it sees the hold-out of N1.

    The first seed of every source is measured on the hold-out, and gives the temperatures of the calibration; every
    seed of task (i) has a network on which thresholds are chosen.
    """
    if not params.refit:
        return (False,)
    return (False, True) if source == TASK_I or seed == params.seeds[0] else (True,)


def choosing_network(context: Context, seed: int) -> Path:
    """The file of the task (i) network that never saw the hold-out of N1."""
    folder = context.layout.checkpoints(TASK_I)
    return folder / (CHOOSING if context.params.segment.refit else "") / f"seed{seed}.pt"


@contextmanager
def seed_run(context: Context, source: Source, seed: int, stage: Run) -> Iterator[Run]:
    """Where a seed's training is recorded: the stage's own run, or a child of it if there are several seeds.

    So the metrics of any two trainings have the same names, whichever seeds they had.
    """
    if len(context.params.segment.seeds) == 1:
        stage.set_tags({"seed": str(seed)})
        yield stage
        return
    read = _logged(training_settings(context.params, source))
    with tracked(context, "segment", read, source=source, seed=str(seed)) as own:
        yield own


def _logged(read: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names of MLflow: those of the stage's own section without its name, as for every stage."""
    return {**read["segment"], **{section: values for section, values in read.items() if section != "segment"}}


def run_names(row: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a report under the names that MLflow users expect: ``val/miou`` and ``val/iou/<class>``.

    ``val`` is the hold-out block inside N1. The validation areas are opened by evaluate alone, whose runs call their
    numbers ``miou`` and ``iou/<class>``.
    """
    return {name.replace("holdout/", "val/", 1): value for name, value in row.items()}


def open_sources(context: Context, source: Source, *, whole: bool = False) -> tuple[list[Area], list[Area]]:
    """(areas with pixel truth, weak areas) of a source; ``whole``: N1 with its hold-out."""
    layout = context.layout
    labelled = context.open_areas(context.pixel_areas(), masks=layout.tiles / ("whole" if whole else "labels"))
    gives = ENTRIES[source].gives
    if gives == "nothing":
        return labelled, []
    if gives == "truth":
        return labelled + _truth_of_n2(context), []
    if not context.tag_areas():
        raise StageError(
            "no N2 areas", expected="areas in tiles.areas.tags", cure=f"add some, or skip segment@{source}"
        )
    return labelled, open_weak(context, source, layout.labels_of(source) if gives == "masks" else None)


def _truth_of_n2(context: Context) -> list[Area]:
    """The N2 areas with their masks; StageError where none has one: an oracle of N1 alone would be task (i) again."""
    areas = context.open_areas(context.tag_areas(), masks=context.layout.hidden)
    if not any((np.asarray(area.mask) != IGNORE).any() for area in areas):
        raise StageError(
            f"no mask of any of {len(areas)} N2 areas",
            expected="pixel truth of N2 for the oracle",
            cure=f"take {ORACLE} out of sources in params.yaml: without truth there is no oracle",
        )
    return areas


def open_weak(context: Context, source: Source, masks: Path | None) -> list[Area]:
    """The N2 areas with these masks, and with their tags unless the source is to know none."""
    tagged = ENTRIES[source].gives != "images"
    areas = context.open_areas(context.tag_areas(), masks=masks, tagged=tagged)
    if tagged:
        return areas
    free = [allowed_classes(context, name, tagged=False) for name in context.tag_areas()]
    return [replace(area, allowed=one) for area, one in zip(areas, free, strict=True)]


def _label_folders(context: Context, source: Source) -> list[Path]:
    if ENTRIES[source].gives == "truth":
        return [context.layout.hidden]
    return [context.layout.labels_of(source)] if ENTRIES[source].gives in ("masks", *MAKES_MASKS) else []


def train_segmenter(
    context: Context,
    source: Source,
    labelled: list[Area],
    weak: list[Area],
    seed: int,
    identity: str,
    report: Callable[[Mapping[str, float], int], None],
    *,
    keep_both: bool = False,
    whole: bool = False,
) -> tuple[FitResult, Segmenter]:
    """One training with one seed; the hold-out inside N1 is measured at every report, or trained on (``whole``).

    Returns the network that ``segment.selection`` names: the last, or the best on the hold-out. ``keep_both`` writes
    the other one too, see :func:`run`.
    """
    params, scheme = context.params.segment, context.scheme
    seed_everything(seed)
    model = segmenter_of(params.network, len(scheme), context.bands)
    self_taught, size = ENTRIES[source].gives in SELF_TAUGHT, context.params.tiles.tag_size
    typical = typical_shares(labelled, len(scheme), size) if self_taught else None
    errors = tag_errors(context) if ENTRIES[source].gives in ("tags", "all") else None
    plan = params.optimiser
    resume = context.layout.out / "resume" / f"segment-{source}-{seed}{'-whole' * whole}.pt"
    training = f"{identity} seed {seed}" + " whole" * whole
    making = MaskMaking(context, source, seed, training)

    def dataset(rank: int, world: int) -> StepDataset:
        taught = open_weak(context, source, making.masks) if making.masks is not None else weak
        pools = build_pools(source, context.params, scheme, labelled, taught, seed)
        return StepDataset(pools, seed=seed, steps=plan.steps, rank=rank, world=world)

    best_file = resume.with_name(f"{resume.stem}-best.pt")
    best: dict[str, Any] = {"miou": -1.0, "weights": None, "identity": identity}
    if resume.is_file() and best_file.is_file():  # the best of an unfinished run may lie before its interruption
        kept = load_checkpoint(best_file)
        best = kept if kept.get("identity") == identity else best

    def keep(net: Segmenter, step: int, row: Mapping[str, float]) -> None:
        if params.selection == "validation":  # evaluate chooses among them: no other stage opens validation
            save_segmenter(context.layout.checkpoints(source) / "steps" / f"seed{seed}-{step:06d}.pt", net, context)
        if params.selection != "holdout" and not keep_both:
            return
        if "holdout/miou" not in row and params.selection == "holdout":
            raise StageError("no hold-out in N1", expected="tiles.holdout above 0", cure="or segment.selection: last")
        if row.get("holdout/miou", -1.0) > best["miou"]:
            best.update(miou=row["holdout/miou"], weights={k: v.clone() for k, v in net.state_dict().items()})
            save_checkpoint(best_file, best)

    result = fit(
        model,
        segmentation_step(source, context.params, scheme, model.preprocessing, seed, typical=typical, errors=errors),
        parameter_groups=model.parameter_groups(
            plan.lr, encoder_factor=plan.encoder_factor, weight_decay=plan.weight_decay
        ),
        dataset=dataset,
        plan=plan,
        seed=seed,
        machine=context.machine,
        resume_file=resume,
        identity=training,
        evaluate=None if whole else lambda net: evaluate_holdout(context, net),  # type: ignore[arg-type]
        report=report,
        on_report=keep,  # type: ignore[arg-type]
        renew=making.renew,  # type: ignore[arg-type]
        renew_at=making.steps,
    )
    making.clear()
    trained = result.model
    if not isinstance(trained, Segmenter):
        raise StageError(f"trained a {type(trained).__name__}", expected="a Segmenter", cure="report this fault")
    if best["weights"] is not None and context.machine.is_main:
        last = {name: value.clone() for name, value in trained.state_dict().items()}
        weights = {"last": last, "best": best["weights"]}
        used, other = _kinds(params)
        if keep_both:
            trained.load_state_dict(weights[other])
            beside = context.layout.checkpoints(source) / other / f"seed{seed}.pt"
            save_segmenter(beside, trained, context, measure_trust(context, trained, trained))
        trained.load_state_dict(weights[used])
        best_file.unlink(missing_ok=True)
    return result, trained


def _kinds(params: SegmentParams) -> tuple[str, str]:
    """(the network that later stages use, the other one)."""
    return ("best", "last") if params.selection == "holdout" else ("last", "best")


def evaluate_holdout(context: Context, model: Segmenter) -> dict[str, float]:
    """Pooled metrics on the hold-out blocks of N1, ``holdout/miou`` and ``holdout/iou/<class>``; {} without blocks."""
    tiles = context.layout.tiles
    if not held_blocks(tiles):
        return {}

    def winners(area: str, part: slice) -> npt.NDArray[np.integer]:
        image = np.asarray(open_array(tiles / "images", area)[:, part])
        return np.asarray(predict(context, model, image, PLAIN).argmax(0))

    scores = score_holdout(tiles, context.scheme.names, winners)
    return {"holdout/miou": scores["miou"], **{f"holdout/iou/{n}": v for n, v in scores["iou"].items()}}


def measure_trust(context: Context, model: Segmenter, choosing: Segmenter) -> dict[str, Any]:
    """Applicability of ``model`` for its file, and the temperatures of ``choosing``, which never saw the hold-out."""

    def probabilities(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return predict(context, choosing, image, PLAIN)

    return describe_trust(model, context.layout.tiles, predict=probabilities, machine=context.machine)


def save_segmenter(path: Path, model: Segmenter, context: Context, trust: Mapping[str, Any] | None = None) -> None:
    """Write a model file: weights and all that inference needs beside them; ``trust`` is of :func:`measure_trust`."""
    params = context.params
    content = describe_model(params.segment.network.model_dump(mode="json"), context.scheme, model.preprocessing)
    tiles = context.layout.tiles
    content |= {"scale": params.tiles.scale, "gsd": load_gsd(tiles), N1: digest_of_n1(tiles)}
    save_checkpoint(path, {**content, **(trust or {}), "weights": model.state_dict()})
