"""Trainings apart from the pipeline (tuning, ablation): the segment stage's inputs, linked to a place of their own."""

from __future__ import annotations

from pathlib import Path

from weakseg.errors import StageError
from weakseg.layout import Layout
from weakseg.params import WEAK_SOURCES, Source


def segment_inputs(layout: Layout, source: Source) -> list[Path]:
    """The folders that a training on ``source`` reads.

    Raises:
        StageError: one is missing.
    """
    folders = [layout.tiles]
    if source == "full":
        folders.append(layout.hidden)
    if source in WEAK_SOURCES:
        folders.append(layout.pseudo(source))
    for folder in folders:
        if not folder.is_dir():
            raise StageError(f"no {folder}", expected="outputs of earlier stages", cure="run `dvc repro` first")
    return folders


def link_inputs(layout: Layout, place: Path, source: Source) -> Layout:
    """A workspace of links in ``place``: trainings there see tiles and labels, their resume files disturb no stage."""
    for there in segment_inputs(layout, source):
        here = place / there.relative_to(layout.root)
        here.parent.mkdir(parents=True, exist_ok=True)
        if not here.is_symlink():
            here.symlink_to(there.resolve(), target_is_directory=True)
    return Layout(place)
