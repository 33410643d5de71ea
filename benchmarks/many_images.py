"""Whether 10,000 small images cost ten times what 1,000 cost: import with tags, split, tiles, and opening all of them.

    python benchmarks/many_images.py 1000 10000 [100000] [--steps import,split,tiles,open]

Images are noise of 24 to 48 px a side, as JPEG, a tenth of them with masks; a CSV has the tags of twenty classes. A row
per number: seconds of CPU per 1,000 images, and peak memory of a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from weakseg.core.classes import ClassScheme

CLASSES = ClassScheme(
    (*(f"class{number}" for number in range(20)), "rest"),
    tuple((number + 1, 2 * number + 1, 3) for number in range(21)),
    background="rest",
)
MASKED = 10  # every so manieth image has a mask


def make_images(folder: Path, count: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    with (folder / "tags.csv").open("w") as table:
        table.write("image,tags\n")
        for number in range(count):
            height, width = (int(side) for side in rng.integers(24, 48, 2))
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"i{number:06d}.jpg")
            tags = rng.choice(20, 3, replace=False)
            table.write(f"i{number:06d}.jpg,{' '.join(f'class{one}' for one in tags)}\n")
            if number % MASKED == 0:
                mask = np.full((height, width), 20, np.uint8)
                mask[4:12, 4:12] = tags[0]
                Image.fromarray(mask).save(folder / "labels" / f"i{number:06d}.png")


def run(folder: Path, wanted: list[str]) -> None:
    """One process: prints a cell per step that is wanted."""
    from weakseg.data.importing.dataset import import_dataset
    from weakseg.data.importing.image_tags import TagSource
    from weakseg.labels.class_map import read_class_map
    from weakseg.pipeline.context import open_context
    from weakseg.pipeline.presets import build_params
    from weakseg.pipeline.workspace import write_split
    from weakseg.stages.tiles import run as make_tiles

    count = sum(1 for _ in (folder / "images").iterdir())
    text, _ = build_params("demo")
    root = folder / "work"
    root.mkdir()
    text = text.replace("tag_size: 32", "tag_size: 4096")
    text = text.replace("  - car\n", "  - class0\n").replace("class_name: car", "class_name: class0")
    (root / "params.yaml").write_text(text.replace("class_weights: {car: 2.0}", "class_weights: {}"))

    def open_all() -> None:
        context = open_context(root)
        areas = context.open_areas(context.pixel_areas() + context.tag_areas(), tagged=True)
        assert sum(int(area.image[0, 0, 0]) >= 0 for area in areas) == len(areas)

    source = TagSource(folder / "tags.csv", read_class_map(None, CLASSES))
    held = count // MASKED // 2
    steps = {
        "import": lambda: import_dataset(
            folder / "images", [folder / "labels"], root / "data", classes=CLASSES, tags=source, progress=False
        ),
        "split": lambda: write_split(root, (held, 0, held), seed=0, every_class=False),
        "tiles": lambda: make_tiles(root),
        "open": open_all,
    }
    cells = []
    for name in wanted:
        begun, clock = time.process_time(), time.perf_counter()
        steps[name]()
        used = (time.process_time() - begun, time.perf_counter() - clock)
        cells.append(f"{name} {used[0] * 1000 / count:.2f} ({used[1]:.0f} s by the clock)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {count} | {' | '.join(cells)} | {peak:.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[1000, 10000])
    parser.add_argument("--steps", default="import,split,tiles,open", help="the first of these, with commas")
    parser.add_argument("--folder", type=Path, help="of a run; for the script itself")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        run(arguments.folder, arguments.steps.split(","))
        return
    print("| images | seconds of CPU per 1,000 images |", flush=True)
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder), count)
            subprocess.run([sys.executable, __file__, "--folder", folder, "--steps", arguments.steps], check=True)


if __name__ == "__main__":
    main()
