"""The hold-out of N1, rotated: k folds, in each of which a short training does not see one block of every N1 area.

The scores of each network on the block that it never saw make maps of all of N1 that no network knew by heart, on k
times the pixels and places of one block. What is chosen for fold f (a source's masks there) is chosen on the other
blocks, so that the block on which a source is measured has no say in its training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.config import save_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, EXPERTS, MAKES_MASKS, ORACLE, SOURCES, TASK_I, Source
from weakseg.core.params import Params, with_changes
from weakseg.core.settings import training_settings
from weakseg.data.store import fingerprint, open_array, save_array
from weakseg.evaluation.metrics import Confusion, confusion_matrix
from weakseg.inference.scene import PLAIN
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, write_report
from weakseg.pipeline.holdout_choice import candidate_weights, with_experts
from weakseg.pipeline.network_scores import Choice, choose_by, make_mask, network_scores, predict
from weakseg.stages.pseudo import choose_on_holdout, mask_of
from weakseg.stages.segment import open_sources, save_segmenter, train_segmenter
from weakseg.training.segmenter import load_segmenter

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
ROTATED: Final = tuple(source for source in SOURCES if source not in (ORACLE, "boxes"))
"""Sources that can be trained in a fold: the oracle is no choice, and boxes need a stage of their own."""


@dataclass(frozen=True)
class Fold:
    """One fold: the workspace in which its networks are trained, and the block of every N1 area that they never see.

    Attributes:
        context: its ``labels`` are N1 without the block, its ``holdout`` the block. columns: of the block, by area.
    """

    context: Context
    columns: Mapping[str, slice]

    @property
    def place(self) -> Path:
        """Its workspace."""
        return self.context.layout.root


@dataclass(frozen=True)
class Rotation:
    """The folds of one base workspace, their networks trained for ``steps`` steps with ``seed``."""

    base: Context
    folds: tuple[Fold, ...]
    steps: int
    seed: int

    def truths(self, *, without: Fold | None = None) -> dict[str, Mask]:
        """Truth uint8 (H, W) of all N1 areas that have some, 255 on the block of the fold ``without``."""
        tiles = self.base.layout.tiles if without is None else without.context.layout.tiles
        folder = tiles / ("whole" if without is None else "labels")
        found = {area: np.asarray(open_array(folder, area)) for area in self.base.pixel_areas()}
        return {area: truth for area, truth in found.items() if (truth != IGNORE).any()}


def make_rotation(base: Context, blocks: int, steps: int) -> Rotation:
    """The workspaces of the folds under .weakseg/choose, links for all that does not change.

    Raises:
        ParamsError: fewer than two blocks, or more than the widest N1 area has columns of tag crops.
    """
    seed = base.params.segment.seeds[0]
    changes = {"segment.refit": False, "segment.selection": "last", "segment.seeds": (seed,)}
    every = min(steps, base.params.segment.optimiser.report_every)
    changes |= {"segment.optimiser.steps": steps, "segment.optimiser.report_every": every}
    params = with_changes(base.params, changes)
    most = max(len(tag_columns(base, area)) for area in base.pixel_areas())
    if not 2 <= blocks <= most:
        raise ParamsError(
            f"{blocks} blocks", expected=f"2 to {most}, the columns of tag crops in an N1 area", cure="mend --blocks"
        )
    edges = {area: block_edges(base, area, blocks) for area in base.pixel_areas()}
    place = base.layout.root / ".weakseg" / "choose" / _digest(base, params, blocks)
    folds = []
    for number in range(blocks):
        layout = Layout(place / f"fold{number}")
        columns = {area: slice(limits[number], limits[number + 1]) for area, limits in edges.items()}
        link_tiles(base.layout.tiles, layout.tiles, columns)
        save_yaml(layout.params, params.model_dump(mode="json"))
        folds.append(Fold(Context(layout, params, base.machine), columns))
    return Rotation(base, tuple(folds), steps, seed)


def _digest(base: Context, params: Params, blocks: int) -> str:
    """Names all that the folds depend on: another value of it, another place."""
    read = [base.layout.tiles]
    read += [folder for name in EXPERTS if (folder := base.layout.scores(name)).is_dir()]
    sections = ("segment", "students", "consistency", "joint", "fused", "pseudo")
    values = [getattr(params, section).model_dump_json() for section in sections]
    return hashlib.sha256(" ".join([fingerprint(*read), str(blocks), *values]).encode()).hexdigest()[:16]


def block_edges(base: Context, area: str, blocks: int) -> list[int]:
    """First columns of the blocks of an N1 area, and its width: whole columns of tag crops, as the hold-out's.

    (blocks + 1,); an area with fewer columns of tag crops than blocks has empty blocks.
    """
    width = open_array(base.layout.tiles / "whole", area).shape[1]
    starts = tag_columns(base, area)
    return [starts[number * len(starts) // blocks] if number else 0 for number in range(blocks)] + [width]


def tag_columns(base: Context, area: str) -> list[int]:
    """First columns of the tag crops of an area, px."""
    return sorted({int(column) for column in base.crops().select(area=area).windows[:, 1]})


def link_tiles(there: Path, here: Path, columns: Mapping[str, slice]) -> None:
    """``here``: the tiles with ``columns`` of every N1 area as its hold-out."""
    here.mkdir(parents=True, exist_ok=True)
    for path in sorted(there.iterdir()):
        link = here / path.name
        if path.name not in ("labels", "holdout") and not link.is_symlink():
            link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    for area, part in columns.items():
        truth = np.asarray(open_array(there / "whole", area))
        labels, held = truth.copy(), np.full_like(truth, IGNORE)
        labels[:, part], held[:, part] = IGNORE, truth[:, part]
        save_array(here / "labels", area, labels)
        save_array(here / "holdout", area, held)


def trained(fold: Fold, source: Source) -> Segmenter:
    """The network of a source in a fold; a training that was cut goes on, one that has ended is read again."""
    context, seed = fold.context, fold.context.params.segment.seeds[0]
    file = context.layout.checkpoints(source) / f"seed{seed}.pt"
    if not file.is_file():
        labelled, weak = open_sources(context, source)
        inputs = fingerprint(context.layout.tiles) + json.dumps(training_settings(context.params, source))
        _, model = train_segmenter(context, source, labelled, weak, seed, inputs, lambda _row, _step: None)
        save_segmenter(file, model, context)
    return load_segmenter(file, classes=context.scheme, tiles=context.bands)[0]


def maps_of_n1(rotation: Rotation, *, tagged: bool) -> dict[str, ScoreMaps]:
    """Maps of every N1 area, each block from the task (i) network that never saw it; kept beside the folds."""
    name = "own" if tagged else "own_untagged"
    found: dict[str, tuple[Floats, Bools]] = {}
    folder = rotation.folds[0].place.parent / name
    missing = [area for area in rotation.base.pixel_areas() if not (folder / f"{area}.npz").is_file()]
    for fold in rotation.folds if missing else ():
        model = trained(fold, TASK_I)
        for area in missing:
            part = fold.columns[area]
            if part.start == part.stop:
                continue
            maps = network_scores(fold.context, model, area, tagged=tagged)[0]
            planes = maps.dense()
            together = found.setdefault(area, (np.zeros_like(planes), np.zeros_like(maps.present)))
            together[0][:, :, part] = planes[:, :, part]
            np.logical_or(together[1], maps.present, out=together[1])
    for area, (planes, present) in found.items():
        save_scores(folder / f"{area}.npz", ScoreMaps.of(planes, present))
    return {area: load_scores(folder / f"{area}.npz") for area in rotation.base.pixel_areas()}


def count_blocks(
    rotation: Rotation, own: Mapping[str, ScoreMaps], weights: tuple[float, ...]
) -> list[dict[str, Confusion]]:
    """Confusion (C, C) of the winners under weights of the experts, by fold and area; not of blocks without truth."""
    base, classes, truths = rotation.base, len(rotation.base.scheme), rotation.truths()
    found: list[dict[str, Confusion]] = [{} for _ in rotation.folds]
    for area, truth in truths.items():
        winner = with_experts(base, own[area], area, weights).winners().astype(np.uint8)
        for tables, fold in zip(found, rotation.folds, strict=True):
            part = np.s_[:, fold.columns[area]]
            if (truth[part] != IGNORE).any():
                tables[area] = confusion_matrix(truth[part], winner[part], classes)
    return found


def choice_for(rotation: Rotation, source: Source, *, without: Fold | None = None) -> Choice:
    """How a source makes masks of the task (i) network's scores: teacher, fused, joint, untagged.

    Args:
        without: a fold whose block has no say.
    """
    tagged = ENTRIES[source].gives != "images"
    candidates = candidate_weights(rotation.base) if tagged and source != "teacher" else []
    own = maps_of_n1(rotation, tagged=tagged)
    return choose_by(rotation.base, own, rotation.truths(without=without), tagged=tagged, candidates=candidates)


def measure_source(rotation: Rotation, source: Source) -> dict[str, Confusion]:
    """Confusion (C, C) of a source's networks on every block that they never saw, by area and fold.

    Trains what is not trained yet.
    """
    found = {}
    for number, fold in enumerate(rotation.folds):
        layout, classes = fold.context.layout, len(fold.context.scheme)
        kept = layout.report("choose", source)
        if not kept.is_file():
            if source != TASK_I:
                prepare(rotation, fold, source)
            model = trained(fold, source)
            model.to(fold.context.machine.torch_device())
            tables = {}
            for area in fold.columns:
                truth = np.asarray(open_array(layout.tiles / "holdout", area))
                if (truth != IGNORE).any():
                    image = np.asarray(open_array(layout.tiles / "images", area))
                    winner = predict(fold.context, model, image, PLAIN).argmax(0).astype(np.uint8)
                    tables[area] = confusion_matrix(truth, winner, classes).tolist()
            write_report(kept, tables)
        for area, table in json.loads(kept.read_text()).items():
            found[f"{area} {number}"] = np.array(table, np.int64)
    return found


def prepare(rotation: Rotation, fold: Fold, source: Source) -> None:
    """What the training of a source reads beside the tiles, chosen on the blocks of the other folds."""
    base, here = rotation.base.layout, fold.context.layout
    for expert in rotation.base.params.fused.experts:
        link = here.scores(expert)
        link.parent.mkdir(parents=True, exist_ok=True)
        if base.scores(expert).is_dir() and not link.is_symlink():
            link.symlink_to(base.scores(expert).resolve(), target_is_directory=True)
    if ENTRIES[source].gives in MAKES_MASKS:
        choice = choice_for(rotation, source, without=fold)
        write_report(here.choices(source), {f"seed{rotation.seed}": asdict(choice)})
    elif ENTRIES[source].gives == "masks":
        make_masks(rotation, fold, source)


def make_masks(rotation: Rotation, fold: Fold, source: Source) -> None:
    """Masks of N2 for a source that stores them; those of tag-trained maps are chosen on the fold's training part."""
    folder = fold.context.layout.labels_of(source)
    if source in EXPERTS:
        scores = rotation.base.layout.scores(source)
        chosen = choose_on_holdout(rotation.base, scores, rotation.truths(without=fold))
        for area in rotation.base.tag_areas():
            save_array(folder, area, mask_of(rotation.base, scores, area, chosen))
        return
    choice, model = choice_for(rotation, source, without=fold), trained(fold, TASK_I)
    for area in rotation.base.tag_areas():
        save_array(folder, area, make_mask(fold.context, model, area, choice))


def check_rotated(sources: list[str]) -> None:
    """ParamsError where one of these cannot be trained in a fold."""
    strays = [source for source in sources if source not in ROTATED]
    if strays:
        raise ParamsError(
            f"source {', '.join(strays)}", expected=f"some of {', '.join(ROTATED)}", cure="take it out of --sources"
        )
