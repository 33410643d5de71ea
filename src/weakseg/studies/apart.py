"""Work apart from the pipeline (tuning, ablation, label cost): links to inputs in a place of its own, stages there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from weakseg.core.config import save_yaml
from weakseg.core.errors import StageError
from weakseg.core.files import append_line
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, MAKES_MASKS, TASK_I, Source
from weakseg.core.params import Params, load_params
from weakseg.stages import run_stage


def segment_inputs(layout: Layout, source: Source) -> list[Path]:
    """The folders that a training on ``source`` reads.

    Raises:
        StageError: one is missing.
    """
    folders = [layout.tiles]
    if ENTRIES[source].gives == "truth":
        folders.append(layout.hidden)
    if ENTRIES[source].gives in ("masks", *MAKES_MASKS):
        folders.append(layout.labels_of(source))
    if ENTRIES[source].gives == "all":
        folders += [layout.scores(expert) for expert in load_params(layout.params).fused.experts]
    for folder in folders:
        if not folder.is_dir():
            raise StageError(f"no {folder}", expected="outputs of earlier stages", cure="run `dvc repro` first")
    return folders


def link_inputs(layout: Layout, place: Path, source: Source) -> Layout:
    """A workspace of links in ``place``: trainings there see tiles and labels, their resume files disturb no stage."""
    return _link(layout, place, segment_inputs(layout, source))


def link_outputs(layout: Layout, place: Path, params: Params, remade: Sequence[str]) -> Layout:
    """A workspace in ``place`` with other params, and links to what the stages ``remade`` do not make again.

    Args:
        params: written to its params.yaml.
        remade: ``stage`` or ``stage@source``; what they make lies in folders of the place, never behind a link.
    """
    place.mkdir(parents=True, exist_ok=True)
    save_yaml(place / "params.yaml", params.model_dump(mode="json"))
    return _link(layout, place, kept_outputs(layout, remade))


def link_data(layout: Layout, place: Path, params: Params, tags: Path) -> Layout:
    """A workspace in ``place`` with the data of this one, but other tags, and the network of task (i), which saw none.

    Args:
        params: written to its params.yaml.
        tags: a table as data/tags/tags.csv.
    """
    here = Layout(place)
    place.mkdir(parents=True, exist_ok=True)
    save_yaml(here.params, params.model_dump(mode="json"))
    table = here.tags_csv
    table.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tags, table)
    data = [source for source in sorted(layout.data.iterdir()) if source.name != table.parent.name]
    pixel = layout.checkpoints(TASK_I)
    return _link(layout, place, [*data, *[pixel] * pixel.is_dir()])


def kept_outputs(layout: Layout, remade: Sequence[str]) -> list[Path]:
    """The outputs of the workspace on which stages that make masks can build, without those that ``remade`` make.

    Pseudo-masks and the networks trained on them are left out: no such stage reads them.

    Raises:
        StageError: there are no tiles.
    """
    if not layout.tiles.is_dir():
        raise StageError(f"no {layout.tiles}", expected="outputs of earlier stages", cure="run `dvc repro` first")
    mine = {folder for stage in remade for folder in _made_by(layout, stage)}
    kept = [folder for folder in (layout.tiles, layout.boxes) if folder.is_dir()]
    for kind in ("networks", "scores", "experts"):
        kept += [folder for folder in sorted((layout.out / kind).glob("*")) if folder not in mine]
    pixel = layout.checkpoints(TASK_I)
    return kept + [pixel] * (pixel.is_dir() and pixel not in mine)


def _made_by(layout: Layout, stage: str) -> tuple[Path, ...]:
    name, _, source = stage.partition("@")
    if name == "segment":
        return (layout.checkpoints(source),)
    if name in ("pseudo", "choice"):
        return (layout.labels_of(source),)
    if name == "experts":
        return (layout.experts("joint"),)
    return layout.networks(name), layout.scores(name)


def _link(layout: Layout, place: Path, folders: Sequence[Path]) -> Layout:
    for there in folders:
        here = place / there.relative_to(layout.root)
        here.parent.mkdir(parents=True, exist_ok=True)
        if not here.is_symlink():
            here.symlink_to(there.resolve(), target_is_directory=there.is_dir())
    return Layout(place)


def run_apart(root: Path, stage: str) -> None:
    """Run ``stage`` or ``stage@source`` in a place, as no MLflow run of the workspace."""
    name, _, source = stage.partition("@")
    with _untracked():
        run_stage(root, name, source or None)


def run_unfinished(root: Path, stages: Sequence[str], record: Path) -> None:
    """Run those of ``stages`` that ``record`` does not name yet, and add each to it when it has ended."""
    finished = record.read_text().splitlines() if record.is_file() else []
    for stage in stages:
        if stage not in finished:
            run_apart(root, stage)
            append_line(record, stage)


@contextmanager
def _untracked() -> Iterator[None]:
    before = os.environ.get("WEAKSEG_TRACKING")
    os.environ["WEAKSEG_TRACKING"] = "off"
    try:
        yield
    finally:
        os.environ.pop("WEAKSEG_TRACKING")
        if before is not None:
            os.environ["WEAKSEG_TRACKING"] = before
