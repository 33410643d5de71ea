"""Peak memory of cam, crf, irnet and pseudo on 20 and on 200 classes, three of them in each image.

    python benchmarks/many_classes.py

Each measurement is a process of its own: 48 images of 128 px with three tags each, the stages' own functions on slim
untrained networks. Printed are the process's peak in MB and the ratio of 200 to 20 classes (wanted: 1.2 at most).
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from weakseg.core.class_sets import Allowed
from weakseg.labels.tags import allowed_raster
from weakseg.methods.cam import area_cam
from weakseg.methods.classifier import Classifier, extra_convolutions, vgg16_bn_trunk
from weakseg.methods.crf import refine_many
from weakseg.methods.irnet.forms import Walk
from weakseg.methods.irnet.walk import walk_area
from weakseg.methods.pseudo import choose_thresholds, count_areas, pseudo_mask
from weakseg.methods.refinement import count_changes, join_changes, take_for_all
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.pipeline.presets import load_preset

IMAGES, SIDE, TAGS = 48, 128, 3
STAGES = ("cam", "crf", "irnet", "pseudo")
GRIDS = {"scores_grid": (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9), "margins_grid": (0.0, 0.1, 0.2, 0.4)}


def example(number: int, classes: int) -> tuple[np.ndarray, np.ndarray, Allowed, ScoreMaps, np.ndarray]:
    """Image, tags (1, C), what they allow, maps of the present classes and a truth."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    tags = np.zeros((1, classes), bool)
    tags[0, rng.choice(classes, TAGS, replace=False)] = True
    allowed = allowed_raster(SIDE, SIDE, [(0, 0, SIDE, SIDE)], tags, np.ones_like(tags))
    maps = ScoreMaps(rng.random((TAGS, SIDE, SIDE), np.float32), tags[0])
    truth = np.flatnonzero(tags[0])[rng.integers(0, TAGS, (SIDE, SIDE))].astype(np.uint8)
    return image, tags, allowed, maps, truth


def run(stage: str, classes: int) -> None:
    """One stage's work on all images, maps going through files as between stages."""
    params, window = load_preset("demo"), np.array([[0, 0, SIDE, SIDE]])
    trunk, neck = vgg16_bn_trunk(width=8), extra_convolutions(64)
    model = Classifier(trunk, neck, channels=64, classes=classes, stride=8, pooling="gap")
    examples = [example(number, classes) for number in range(IMAGES)]
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.npz" for number in range(IMAGES)]
        for path, (image, tags, _, maps, _) in zip(paths, examples, strict=True):
            if stage == "cam":
                maps = area_cam(model, image, window, tags, params.cam, context=0.5, batch_size=8)
            save_scores(path, maps)
        if stage == "crf":
            jobs = ((image, load_scores(path)) for path, (image, *_) in zip(paths, examples, strict=True))
            for path, found in zip(paths, refine_many(jobs, params.crf, workers=1), strict=True):
                save_scores(path, found)
        if stage == "irnet":
            changes = list(_walked(paths, examples))
            take_for_all(join_changes(changes))
        if stage == "pseudo":
            parts = ((load_scores(path), one[2], one[4]) for path, one in zip(paths, examples, strict=True))
            chosen = choose_thresholds(count_areas(parts, **GRIDS), **GRIDS, min_coverage=0.0, per_class=False)
            for path, (_, _, allowed, *_) in zip(paths, examples, strict=True):
                pseudo_mask(load_scores(path), allowed, min_score=chosen.min_score, min_margin=chosen.min_margin)


def _walked(paths: list[Path], examples: list[tuple]) -> Iterator:
    options = Walk(8, 0.85, damp=False, normalise="per_class")
    for path, (_, _, allowed, _, truth) in zip(paths, examples, strict=True):
        before = load_scores(path)
        walked, _ = walk_area(before, torch.rand(SIDE // 4, SIDE // 4), options)
        yield count_changes(truth, (before, walked), allowed, blocks=4)


def main() -> None:
    """The table; with arguments, one measurement."""
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        run(sys.argv[1], int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print("| stage | 20 classes, MB | 200 classes, MB | ratio |\n| --- | --- | --- | --- |")
    for stage in STAGES:
        few, many = (
            float(subprocess.check_output([sys.executable, __file__, stage, n], text=True)) for n in ("20", "200")
        )
        print(f"| {stage} | {few:.0f} | {many:.0f} | {many / few:.2f} |", flush=True)


if __name__ == "__main__":
    main()
