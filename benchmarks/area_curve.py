"""CPU time per area of the stages that go through the areas, from 10 to 10,000 of them: constant where nothing grows.

    python benchmarks/area_curve.py [10 100 1000 10000] [--stages tiles fused pseudo]

Areas are 32 px wide, so that what a stage does once per area, and what it should not (reading a table, or a list of all
areas), is most of the time. Stages run in the order of the pipeline up to the last one of ``--stages``. A figure is the
slope between two counts, (t2 - t1) / (n2 - n1): what is done once per stage is in none. The rasters of all areas are
links to ten of each split, the networks are slim and hardly trained.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "WEAKSEG_TRACKING": "off", "WEAKSEG_DEVICE": "cpu", "WEAKSEG_PRECISION": "no"}
os.environ |= {"WEAKSEG_CRF_WORKERS": "1"}

import numpy as np
import yaml

from weakseg.core.classes import ISPRS
from weakseg.raster.write import write_raster

DEMO = Path(__file__).parents[1] / "params.yaml"
SIDE, KINDS = 32, 10
STAGES = (  # in the order of the pipeline; report and code read reports, not areas
    *("tiles", "classifier", "cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes", "pseudo fused"),
    *("audit fused", "segment fused", "experts", "choice joint", "segment joint", "evaluate pixel"),
)
MAKER = "segment pixel"  # of two areas whatever the count; run after tiles, not measured
GROWTH = 1.25  # of a slope over the one before that is still called constant


def make_workspace(root: Path, areas: int) -> None:
    """``areas`` of N2, two of N1 and a tenth as many of validation."""
    names = {"pixel": ["p0", "p1"], "tags": [f"t{number}" for number in range(areas)]}
    names["validation"] = [f"v{number}" for number in range(max(1, areas // 10))]
    kinds = [
        (split, kind) for split in names for kind in range(KINDS)
    ]  # of each its own: validation is never trained on
    for seed, (split, number) in enumerate(kinds):
        rng = np.random.default_rng(seed)
        mask = np.kron(rng.integers(0, 5, (SIDE // 8, SIDE // 8)), np.ones((8, 8))).astype(np.uint8)
        image = 40 * mask[..., None] + rng.integers(0, 40, (SIDE, SIDE, 3))
        write_raster(root / "kinds" / f"images-{split}{number}.tif", image.astype(np.uint8))
        write_raster(root / "kinds" / f"labels-{split}{number}.tif", ISPRS.to_colours(mask))
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
        places = [(f"{split}{number % KINDS}", name) for split in names for number, name in enumerate(names[split])]
        for kind, name in places:
            os.link(root / "kinds" / f"{folder}-{kind}.tif", root / "data" / folder / f"{name}.tif")
    ISPRS.save(root / "data" / "classes.yaml")
    raw = yaml.safe_load(DEMO.read_text())
    raw["tiles"] |= {"areas": names, "tag_source": "masks", "tag_size": 16, "holdout": 0.5}
    few = {"steps": 2, "batch": 2, "report_every": 2}
    raw["classifier"] |= {"arch": "vgg16_bn", "weights": "none", "width": 16, "crop": 16, "pooling": "gap"}
    raw["segment"]["network"] |= {"name": "encdec_unpool", "weights": "none", "width": 16}
    raw["segment"] |= {"crop": 32, "refit": True}
    raw["evaluate"] |= {"window": 32, "batch_mean_tile": 16, "erosion": 1}
    raw["boxes"] |= {"classes": ["building", "car"]}
    raw["irnet"] |= {"weights": "none", "crop": 32}
    raw["single_stage"] |= {"weights": "none", "crop": 32, "channels": 16}
    for section in ("classifier", "irnet", "single_stage", "segment"):
        raw[section]["optimiser"] |= few
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def run_stage(root: Path, words: str) -> None:
    """In a process of its own: one stage; prints its CPU seconds, imports at its head left out."""
    name, _, source = words.partition(" ")
    module = import_module(f"weakseg.stages.{name}")
    start = time.process_time()
    module.run(root, source) if source else module.run(root)
    print(time.process_time() - start)


def measure(root: Path, words: str) -> float:
    """CPU seconds of one stage."""
    command = [sys.executable, __file__, "--run", words, str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def curve(areas: int, stages: list[str]) -> dict[str, float]:
    """CPU seconds of each stage on so many areas."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_workspace(root, areas)
        last = max(STAGES.index(words) for words in stages)
        for words in STAGES[: last + 1]:
            seconds = measure(root, words)
            if words == "tiles":
                measure(root, MAKER)
            if words in stages:
                found[words] = seconds
    return found


def main() -> None:
    """A Markdown row per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=[10, 100, 1000, 10000])
    parser.add_argument("--stages", nargs="*", default=list(STAGES))
    parser.add_argument("--run", nargs=2, metavar=("STAGE", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_stage(Path(given.run[1]), given.run[0])
        return
    counts = sorted(given.counts)
    tables = []
    for areas in counts:
        tables.append(curve(areas, given.stages))
        print(f"{areas} areas: " + ", ".join(f"{name} {value:.1f} s" for name, value in tables[-1].items()), flush=True)
    spans = [f"{low} to {high}" for low, high in itertools.pairwise(counts)]
    print(
        "\n| stage | "
        + " | ".join(f"{span}, ms per area" for span in spans)
        + " | |\n"
        + "|---" * (len(spans) + 2)
        + "|"
    )
    for name in given.stages:
        slopes = [
            (second[name] - first[name]) / (high - low) * 1000
            for first, second, low, high in zip(tables[:-1], tables[1:], counts[:-1], counts[1:], strict=True)
        ]
        steady = all(later <= GROWTH * sooner for sooner, later in itertools.pairwise(slopes[1:]))
        print(f"| {name} | " + " | ".join(f"{slope:.2f}" for slope in slopes) + f" | {'' if steady else 'GROWS'} |")


if __name__ == "__main__":
    main()
