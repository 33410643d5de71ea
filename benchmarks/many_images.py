"""Whether 10,000 small images cost ten times what 1,000 cost: import with tags, split, tiles, opening, masks of them.

    python benchmarks/many_images.py 1000 10000 [100000] [--steps import,split,tiles,open,masks] [--classes 20]

Images are noise of 24 to 48 px a side, as JPEG, a tenth of them with masks; a CSV has three tags of each, of twenty
classes. Of 200 classes (``--classes 200``) nearly every image has a set of its own. ``masks`` makes the pseudo-mask of
every image of N2 from random scores of its classes. A row per number: seconds of CPU per 1,000 images, and peak memory
of a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from weakseg.core.classes import ClassScheme
from weakseg.core.config import set_values

MASKED = 10  # every so manieth image has a mask


def scheme_of(classes: int) -> ClassScheme:
    names = tuple(f"class{number}" for number in range(classes))
    colours = tuple((number + 1, number % 100, 3) for number in range(classes + 1))
    return ClassScheme((*names, "rest"), colours, background="rest")


def make_images(folder: Path, count: int, classes: int, *, every: int = MASKED) -> None:
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
            tags = rng.choice(classes, 3, replace=False)
            table.write(f"i{number:06d}.jpg,{' '.join(f'class{one}' for one in tags)}\n")
            if number % every == 0:
                mask = np.full((height, width), classes, np.uint8)
                mask[4:12, 4:12] = tags[0]
                Image.fromarray(mask).save(folder / "labels" / f"i{number:06d}.png")


def lay_out(folder: Path, root: Path, classes: int) -> None:
    """data/ of ``folder`` as the import leaves it, of links to ten images and masks, and the split in params.yaml."""
    from weakseg.labels.tag_table import raster_sizes, write_tags
    from weakseg.labels.tags import TagWindow

    count, scheme = sum(1 for _ in (folder / "names").open()), scheme_of(classes)
    kinds, rng = sorted((folder / "images").iterdir()), np.random.default_rng(0)
    kind_sizes = raster_sizes(folder / "images")
    for name in ("images", "labels"):
        (root / "data" / name).mkdir(parents=True)
    masked, others, sizes, rows = [], [], {}, []
    for number in range(count):
        area, kind = f"i{number:06d}", kinds[number % len(kinds)]
        os.link(kind, root / "data" / "images" / f"{area}.jpg")
        sizes[area] = kind_sizes[kind.stem]
        tags = tuple(scheme.names[one] for one in sorted(rng.choice(classes, 3, replace=False)))
        rows.append(TagWindow(area, 0, 0, *sizes[area], tags))
        (others if number % MASKED else masked).append(area)
        if number % MASKED == 0:
            os.link(folder / "labels" / f"{kind.stem}.png", root / "data" / "labels" / f"{area}.png")
    scheme.save(root / "data" / "classes.yaml")
    write_tags(root / "data" / "tags" / "tags.csv", rows, scheme, sizes)
    half = len(masked) // 2
    split = {"pixel": masked[:half], "tags": others, "validation": masked[half:]}
    changes = {f"tiles.areas.{name}": areas for name, areas in split.items()}
    (root / "params.yaml").write_text(set_values((root / "params.yaml").read_text(), changes))


def run(folder: Path, wanted: list[str], classes: int) -> None:
    """One process: prints a cell per step that is wanted."""
    from weakseg.data.importing.dataset import import_dataset
    from weakseg.data.importing.image_tags import TagSource
    from weakseg.data.store import open_allowed
    from weakseg.labels.class_map import read_class_map
    from weakseg.methods.pseudo import pseudo_mask
    from weakseg.methods.scores import ScoreMaps
    from weakseg.pipeline.context import open_context
    from weakseg.pipeline.presets import build_params
    from weakseg.pipeline.workspace import write_split
    from weakseg.stages.tiles import run as make_tiles

    count = sum(1 for _ in (folder / "names").open())
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

    def mask_all() -> None:
        context = open_context(root)
        crops, rng = context.crops(), np.random.default_rng(0)
        for area in context.tag_areas():
            allowed, present = open_allowed(context.layout.tiles, area), crops.select(area=area).present[0]
            maps = ScoreMaps(rng.random((int(present.sum()), *allowed.shape), np.float32), present)
            pseudo_mask(maps, allowed, min_score=0.5, min_margin=0.1)

    scheme = scheme_of(classes)
    source = TagSource(folder / "tags.csv", read_class_map(None, scheme))
    held = count // MASKED // 2
    steps = {
        "import": lambda: import_dataset(
            folder / "images", [folder / "labels"], root / "data", classes=scheme, tags=source, progress=False
        ),
        "split": lambda: write_split(root, (held, 0, held), seed=0, every_class=False),
        "tiles": lambda: make_tiles(root),
        "open": open_all,
        "masks": mask_all,
    }
    if "import" not in wanted:
        lay_out(folder, root, classes)
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
    parser.add_argument("--steps", default="import,split,tiles,open,masks", help="the first of these, with commas")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="of a run; for the script itself")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        run(arguments.folder, arguments.steps.split(","), arguments.classes)
        return
    print("| images | seconds of CPU per 1,000 images |", flush=True)
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            linked = "import" not in arguments.steps.split(",")
            make_images(Path(folder), MASKED if linked else count, arguments.classes, every=1 if linked else MASKED)
            (Path(folder) / "names").write_text("\n".join(map(str, range(count))))
            words = ["--folder", folder, "--steps", arguments.steps, "--classes", str(arguments.classes)]
            subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
