"""How the first convolution's kernels of new bands should start: the mean of the three, zero, or scaled.

    python benchmarks/new_bands.py FOLDER [--seeds 0 1 2] [--steps 300]

Writes the embedded scenes with heights into a workspace per rule in FOLDER, trains task (i) there with the demo's
network (ImageNet weights) and prints a Markdown row per rule: validation mIoU, mean and range over the seeds. Finished
rules are kept, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.layout import Layout
from weakseg.data.scenes.painting import write_scenes
from weakseg.networks.first_convolution import RULES, widen_first

PARAMS = Path(__file__).parents[1] / "params.yaml"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    print("| new bands start with | validation mIoU | range over seeds |\n| --- | --- | --- |")
    for rule in RULES:
        layout = Layout(options.folder / rule)
        if not layout.report("evaluate", "pixel").is_file():
            train(layout, rule, options.seeds, options.steps)
        seeds = json.loads(layout.report("evaluate", "pixel").read_text())["seeds"]
        found = [seed["miou"] for seed in seeds.values()]
        print(f"| {rule} | {sum(found) / len(found):.3f} | {min(found):.3f} to {max(found):.3f} |", flush=True)


def train(layout: Layout, rule: str, seeds: list[int], steps: int | None) -> None:
    """Task (i) with heights, whose kernel starts by ``rule``."""
    layout.root.mkdir(parents=True, exist_ok=True)
    params = load_yaml(PARAMS)
    params["tiles"]["tag_source"] = "masks"
    params["segment"] |= {"seeds": seeds, "refit": False}
    if steps is not None:
        params["segment"]["optimiser"]["steps"] = steps
    save_yaml(layout.params, params)
    write_scenes(layout.data, seed=0, heights=True)
    assert widen_first.__kwdefaults__ is not None
    widen_first.__kwdefaults__["rule"] = rule
    for stage in (("tiles",), ("segment", "pixel"), ("evaluate", "pixel")):
        import_module(f"weakseg.stages.{stage[0]}").run(layout.root, *stage[1:])


if __name__ == "__main__":
    main()
