"""`weakseg labels suspects`: the crops of the tag table that are most likely mistagged, best first.

The evidence is that of ``labels.suspicion``: the task (i) network, which has seen no tag, cross-fitted over areas; and
the annotators, one against the other. Crops of N1 are left out: that network has seen their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.errors import DataError, StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import TASK_I
from weakseg.core.params import load_params
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import Crop
from weakseg.labels.crop_order import write_order
from weakseg.labels.opinions import Opinions, opinions_of
from weakseg.labels.suspicion import (
    Floats,
    crop_suspicion,
    presence_numbers,
    presence_out_of_fold,
    wrong_probability,
)
from weakseg.labels.tag_table import raster_sizes, read_tags
from weakseg.labels.tags import Bools, Counts, TagWindow, tag_arrays
from weakseg.tagging.guesses import Predict, predict_with
from weakseg.tagging.pictures import CropPictures

_WHOLE: Final = 1 << 25  # px of an area that is predicted at once; of larger ones crop by crop with surroundings


@dataclass(frozen=True)
class Suspect:
    """A crop and the tag of it that is most likely wrong.

    Attributes:
        suspicion: how likely any of its tags is wrong, in [0, 1].
        name: the class.  tag: "present", "absent", or "disputed" where as many people say so as say the opposite.
        model: how likely the class is there by the pixels, in (0, 1).
        votes: people who say so and people who say the opposite.
    """

    crop: Crop
    suspicion: float
    name: str
    tag: str
    model: float
    votes: tuple[int, int]


@dataclass(frozen=True)
class Evidence:
    """What the pixels of N crops say: ``numbers`` (N, C, 6) of :func:`weakseg.labels.suspicion.presence_numbers`."""

    rows: tuple[TagWindow, ...]
    numbers: Floats


def find_suspects(root: Path) -> list[Suspect]:
    """All tagged crops of N2, the most suspect first.

    Raises:
        DataError: no tag table, or no tagged crop of an N2 area in it.
        StageError: the task (i) network is not trained.
    """
    layout = Layout(root)
    scheme = load_classes(layout.classes)
    rows = tagged_rows(layout, scheme)
    opinions = opinions_of(read_answers(layout.answers, scheme))
    return rank_suspects(gather_evidence(layout, rows, scheme), rows, opinions, scheme)


def tagged_rows(layout: Layout, scheme: ClassScheme) -> list[TagWindow]:
    """The tagged crops of N2 areas."""
    areas = load_params(layout.params).tiles.areas.tags
    rows = read_tags(layout.tags_csv, scheme, raster_sizes(layout.images)) if layout.tags_csv.is_file() else []
    mine = [row for row in rows if row.tagged and row.area in areas]
    if not mine:
        raise DataError(
            f"no tags of N2 areas in {layout.tags_csv}",
            expected="tagged crops of areas in tiles.areas.tags",
            cure="tag some (`weakseg tag`, then `weakseg tag --merge`)",
        )
    return mine


def gather_evidence(layout: Layout, rows: Sequence[TagWindow], scheme: ClassScheme) -> Evidence:
    """What the task (i) network of a workspace says of these crops; their tags are not looked at.

    Raises:
        StageError: it is not trained, or on other classes.
    """
    file = layout.checkpoints(TASK_I) / f"seed{load_params(layout.params).segment.seeds[0]}.pt"
    if not file.is_file():
        raise StageError(
            f"no network {file}", expected=f"a trained segment@{TASK_I}", cure=f"run `dvc repro segment@{TASK_I}`"
        )
    names, predict = _open_network(file, layout.images)
    if list(names) != list(scheme.names):
        raise StageError(
            f"{file} knows the classes {', '.join(names)}", expected=", ".join(scheme.names), cure="train it again"
        )
    pictures = CropPictures(layout.images, raster_sizes(layout.images), layout.root / ".weakseg" / "overviews")
    ordered = sorted(rows, key=lambda row: row.area)
    found: dict[Crop, Floats] = {}
    for area, mine in groupby(ordered, key=lambda row: row.area):
        found |= _numbers_of(area, list(mine), pictures, predict, raster_sizes(layout.images)[area])
    return Evidence(tuple(rows), np.array([found[row.area, row.window] for row in rows]))


def _open_network(file: Path, images: Path) -> tuple[Sequence[str], Predict]:
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import MIRRORED
    from weakseg.training.machine import machine_from_environment

    machine = machine_from_environment()
    predictor = load_predictor(file, MIRRORED, machine)
    return predictor.scheme.names, predict_with(predictor, images, machine)


def _numbers_of(
    area: str, rows: Sequence[TagWindow], pictures: CropPictures, predict: Predict, size: tuple[int, int]
) -> dict[Crop, Floats]:
    if size[0] * size[1] <= _WHOLE:
        maps = predict(area, pictures.pixels(area, (0, 0, *size)))
        return {(area, row.window): presence_numbers(maps, row.window) for row in rows}
    found = {}
    for row in rows:
        frame = pictures.frame((area, row.window))
        inside = (row.row - frame[0], row.column - frame[1], row.height, row.width)
        found[area, row.window] = presence_numbers(predict(area, pictures.pixels(area, frame)), inside)
    return found


def rank_suspects(
    evidence: Evidence, rows: Sequence[TagWindow], opinions: Opinions, scheme: ClassScheme
) -> list[Suspect]:
    """The crops of the evidence, the most suspect first; equally suspect ones in the order of the table.

    Args:
        rows: the same crops as the evidence has, with the tags that are to be judged.
        opinions: of annotators about any crops.
    """
    present, known = tag_arrays(rows, scheme)
    votes = count_votes(rows, present, opinions, scheme)
    presence = presence_out_of_fold(evidence.numbers, present, known, [row.area for row in rows])
    wrong = wrong_probability(presence, present, known, votes)
    suspicion, worst = crop_suspicion(wrong), wrong.argmax(1)
    found = []
    for number in np.argsort(-suspicion, kind="stable"):
        index = int(worst[number])
        tag = ("present" if present[number, index] else "absent") if known[number, index] else "disputed"
        row, said = rows[number], votes[number, index]
        found.append(
            Suspect(
                (row.area, row.window), float(suspicion[number]), scheme.names[index], tag,
                float(presence[number, index]), (int(said[0]), int(said[1])),
            )
        )  # fmt: skip
    return found


def count_votes(rows: Sequence[TagWindow], present: Bools, opinions: Opinions, scheme: ClassScheme) -> Counts:
    """int (N, C, 2): annotators who say what the tag says, and who say the opposite; of unknown classes no and yes."""
    votes = np.zeros((len(rows), len(scheme), 2), np.int64)
    for number, row in enumerate(rows):
        for opinion in opinions.get((row.area, row.window), {}).values():
            for name, state in opinion.items():
                if state is not None:
                    index = scheme.index(name)
                    votes[number, index, int(state != present[number, index])] += 1
    return votes


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """A CSV of all of them that `weakseg tag --order` serves, with the tag in question and who speaks against it."""
    write_order(
        path,
        [one.crop for one in suspects],
        {
            "suspicion": [f"{one.suspicion:.4f}" for one in suspects],
            "class": [one.name for one in suspects],
            "tag": [one.tag for one in suspects],
            "model": [f"{one.model:.4f}" for one in suspects],
            "people_for": [one.votes[0] for one in suspects],
            "people_against": [one.votes[1] for one in suspects],
        },
    )
