"""Where the seeds of one row differ, and what averaging them brings: a table over the networks of a workspace.

    python scripts/seed_noise.py WORKSPACE pixel untagged joint full

For each source: mIoU of its seeds on the validation areas, of the mean of their probabilities, the range of the seeds
by class, and the share of pixels on which two seeds differ, on validation and on N1 (which the networks know
whole with ``segment.refit``).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import Mask
from weakseg.core.errors import DataError
from weakseg.core.methods import SOURCES, Source
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import Floats, class_iou, confusion_matrix
from weakseg.inference.scene import PLAIN
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, open_context
from weakseg.pipeline.network_scores import predict
from weakseg.training.segmenter import load_segmenter


@dataclass(frozen=True)
class Noise:
    """One source: IoU (S, C) of S seeds and (C,) of their mean, and how often two seeds differ, 0..1."""

    seeds: Floats
    mean: Floats
    differ: float


def compare_seeds(scores: Iterator[npt.NDArray[np.float32]], truths: Iterator[Mask]) -> Noise:
    """Seeds against each other and against truth.

    Args:
        scores: of each area the probabilities (S, C, H, W) of S networks, S >= 2. truths: uint8 (H, W), 255 not scored.

    Raises:
        DataError: one network alone.
    """
    tables: npt.NDArray[np.int64] | None = None
    differ = pixels = 0
    for probabilities, truth in zip(scores, truths, strict=True):
        seeds, classes, *_ = probabilities.shape
        if seeds < 2:
            raise DataError(f"{seeds} network", expected="two seeds at least", cure="train more seeds")
        winners = [one.argmax(0).astype(np.uint8) for one in (*probabilities, probabilities.mean(0))]
        area = np.stack([confusion_matrix(truth, winner, classes) for winner in winners])
        tables = area if tables is None else tables + area
        for first, second in itertools.combinations(winners[:-1], 2):
            differ, pixels = differ + int((first != second).sum()), pixels + first.size
    if tables is None:
        raise DataError("no areas", expected="one at least", cure="check the split in params.yaml")
    iou = class_iou(tables)
    return Noise(iou[:-1], iou[-1], differ / pixels)


def row(source: str, found: Noise, at_home: float) -> list[str]:
    """A line of the table; ``at_home``: how often two seeds differ on N1."""
    miou = np.nanmean(found.seeds, axis=1)
    spread = ", ".join(f"{value:.3f}" for value in found.seeds.max(0) - found.seeds.min(0))
    cells = [", ".join(f"{value:.3f}" for value in miou), f"{miou.max() - miou.min():.3f}"]
    return [source, *cells, f"{np.nanmean(found.mean):.3f}", spread, f"{found.differ:.3f}", f"{at_home:.3f}"]


def noise_of(context: Context, source: Source) -> tuple[Noise, float]:
    """A source's seeds on validation, and how often two differ on N1."""
    folder = context.layout.checkpoints(source)
    models = [load_segmenter(folder / f"seed{seed}.pt")[0] for seed in context.params.segment.seeds]
    layout = context.layout
    validation, home = list_areas(layout.validation), context.pixel_areas()
    found = compare_seeds(
        _scores(context, models, layout.validation / "images", validation),
        (np.asarray(open_array(layout.validation / "labels", area)) for area in validation),
    )
    whole = layout.tiles / "whole"
    there = compare_seeds(
        _scores(context, models, layout.tiles / "images", home), (np.asarray(open_array(whole, area)) for area in home)
    )
    return found, there.differ


def _scores(
    context: Context, models: list[Segmenter], images: Path, areas: list[str]
) -> Iterator[npt.NDArray[np.float32]]:
    for model in models:
        model.to(context.machine.torch_device())
    for area in areas:
        image = np.asarray(open_array(images, area))
        yield np.stack([predict(context, model, image, PLAIN) for model in models])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("sources", nargs="+", choices=SOURCES)
    asked = parser.parse_args()
    context = open_context(asked.workspace)
    names = ", ".join(context.scheme.names)
    head = ["source", "mIoU of the seeds", "range", "their mean", f"range of {names}", "differ", "differ on N1"]
    for line in (head, ["---"] * len(head), *(row(source, *noise_of(context, source)) for source in asked.sources)):
        print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
