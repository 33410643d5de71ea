"""Claim: peak memory of the stages cam and crf does not depend on the number of areas and tag crops.

    python benchmarks/stage_memory.py [--areas 4] [--side 512]

Makes two workspaces with areas of one size, the second with four times as many, and runs each stage in a process of its
own. Printed is the peak of resident memory of that process, libraries included (resource.getrusage), and for the CRF in
a pool that of its largest worker. The classifier is a slim VGG16-BN without training: what it finds does not matter.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "WEAKSEG_TRACKING": "off", "WEAKSEG_DEVICE": "cpu", "WEAKSEG_PRECISION": "no"}

import numpy as np
import yaml

from weakseg.core.classes import ISPRS
from weakseg.core.layout import Layout
from weakseg.methods.classifier import build_classifier
from weakseg.pipeline.context import open_context
from weakseg.raster.write import write_raster
from weakseg.stages import tiles
from weakseg.training.checkpoints import save_checkpoint

DEMO = Path(__file__).parents[1] / "params.yaml"
STAGES = (("cam", 1), ("crf", 1), ("crf", 2))  # with how many CRF processes
TAG = 64  # px


def make_workspace(root: Path, areas: int, side: int) -> None:
    """``areas`` tagged areas, one of N1 and one of validation, all tiles cut, and a classifier."""
    names = [f"t{number}" for number in range(areas)]
    for seed, name in enumerate([*names, "p", "v"]):
        rng = np.random.default_rng(seed)
        mask = np.kron(rng.integers(0, 5, (side // 32, side // 32)), np.ones((32, 32))).astype(np.uint8)
        image = 40 * mask[..., None] + rng.integers(0, 40, (side, side, 3))
        write_raster(root / "data" / "images" / f"{name}.tif", image.astype(np.uint8))
        write_raster(root / "data" / "labels" / f"{name}.tif", ISPRS.to_colours(mask))
    ISPRS.save(root / "data" / "classes.yaml")
    params = yaml.safe_load(DEMO.read_text())
    params["tiles"] |= {"areas": {"pixel": ["p"], "tags": names, "validation": ["v"]}, "tag_source": "masks"}
    params["tiles"] |= {"tag_size": TAG}
    params["classifier"] |= {"arch": "vgg16_bn", "weights": "none", "width": 8, "crop": TAG}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    tiles.run(root)
    section = open_context(root).params.classifier
    content = {"weights": build_classifier(section, 5).state_dict(), "params": section.model_dump(mode="json")}
    save_checkpoint(Layout(root).networks("classifier") / "model.pt", content | {"thresholds": [0.5] * 5})


def run_stage(root: Path, stage: str) -> None:
    """In a process of its own: one stage; prints the peak of this process and of its largest child, MB."""
    import_module(f"weakseg.stages.{stage}").run(root)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, in kB on Linux
    print(*(resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def measure(root: Path, stage: str, workers: int) -> tuple[float, float]:
    """Peaks in MB of the stage and of its largest worker."""
    command = [sys.executable, __file__, "--run", stage, str(root)]
    environment = {**os.environ, "WEAKSEG_CRF_WORKERS": str(workers)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    own, worker = (float(value) for value in done.stdout.split()[-2:])
    return own, worker if workers > 1 else 0.0


def main() -> None:
    """Markdown rows of both workspaces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--areas", type=int, default=4)
    parser.add_argument("--side", type=int, default=512, help="of an area, px; a multiple of 64")
    parser.add_argument("--run", nargs=2, metavar=("STAGE", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_stage(Path(given.run[1]), given.run[0])
        return
    crops = (given.side // TAG) ** 2
    print("| stage | areas | tag crops | peak, MB | largest worker, MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for areas in (given.areas, 4 * given.areas):
            make_workspace(Path(folder) / str(areas), areas, given.side)
        for stage, workers in STAGES:
            for areas in (given.areas, 4 * given.areas):
                own, worker = measure(Path(folder) / str(areas), stage, workers)
                name = f"{stage}, {workers} processes" if workers > 1 else stage
                print(f"| {name} | {areas} | {areas * crops} | {own:.0f} | {worker:.0f} |", flush=True)


if __name__ == "__main__":
    main()
