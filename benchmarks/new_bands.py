"""How the first convolution's kernels of new bands should start: the mean of the three, zero, or scaled.

    python benchmarks/new_bands.py FOLDER [--rules mean zero scaled] [--seeds 0 1 2]

Writes the embedded scenes with two bands that no ImageNet kernel is for, heights and the mean of the three optical ones
(pan; with a single new band "mean" and "scaled" are the same), into FOLDER, trains task (i) there as the tables do
(ImageNet weights, all of N1) under each rule and prints a Markdown row per rule: validation mIoU, mean and range over
the seeds. Finished trainings are kept, so that a second call goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from weakseg.core.bands import FILE, Bands, known_band, load_bands
from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.layout import Layout
from weakseg.data.scenes.painting import write_scenes
from weakseg.networks.first_convolution import RULES, widen_first
from weakseg.raster.header import read_info
from weakseg.raster.open import read_bands
from weakseg.raster.write import write_raster
from weakseg.studies.ablation import run_ablation
from weakseg.studies.variants import Variant

PARAMS = Path(__file__).parents[1] / "params.yaml"
ROW = Variant("task (i)", "pixel", {})


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    layout = Layout(options.folder / "scenes")
    if not layout.tiles.is_dir():
        write_five_bands(layout)
        import_module("weakseg.stages.tiles").run(layout.root)
    print("| new bands start with | validation mIoU | range over seeds |\n| --- | --- | --- |")
    for rule in options.rules:
        found = train(layout, options.folder / rule, rule, options.seeds)
        print(f"| {rule} | {sum(found) / len(found):.3f} | {min(found):.3f} to {max(found):.3f} |", flush=True)


def write_five_bands(layout: Layout) -> None:
    """The scenes with heights, and a fifth band that is the mean of the optical ones."""
    write_scenes(layout.data, seed=0, heights=True)
    params = load_yaml(PARAMS)
    params["tiles"]["tag_source"] = "masks"
    save_yaml(layout.params, params)
    four = load_bands(layout.data)
    five = Bands((*four.members, known_band("pan", dtype="float32", source="mean of nir, red and green")))
    for path in sorted((layout.data / "images").glob("*.tif")):
        image, info = read_bands(path, four), read_info(path)
        pan = image[..., :3].mean(2, dtype=np.float32)
        write_raster(path, np.dstack([image, pan]), replace(info, nodata=None), compress=True, names=five.names)
    five.save(layout.data / FILE)


def train(layout: Layout, root: Path, rule: str, seeds: list[int]) -> list[float]:
    """mIoU per seed of task (i) on these bands, whose new kernels start by ``rule``; kept in ``root``."""
    assert widen_first.__kwdefaults__ is not None
    widen_first.__kwdefaults__["rule"] = rule
    root.mkdir(parents=True, exist_ok=True)
    for name in ("data", "out", "params.yaml"):
        if not (root / name).exists():
            (root / name).symlink_to((layout.root / name).resolve())
    return [row["miou"] for row in run_ablation(root, [ROW], seeds, print)["rows"]]


if __name__ == "__main__":
    main()
