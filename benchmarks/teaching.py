"""What the masks of N2 can teach the network of task (i): who is right where both label a pixel and differ.

    python benchmarks/teaching.py --root WORKSPACE [--areas area2 area20 --picture sheet.jpg]

Needs a workspace with ``segment@pixel`` and the masks of the methods, and the pixel truth of N2. A mask teaches by the
pixels in which it differs from what the network says already: it helps where the mask is right there more often than
the network, and harms where it is the other way round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE
from weakseg.core.methods import TASK_I
from weakseg.data.store import open_array
from weakseg.inference.scene import PLAIN
from weakseg.pipeline.context import Context, open_context
from weakseg.pipeline.network_scores import predict
from weakseg.report.figures import draw_sheet, legend
from weakseg.training.segmenter import load_segmenter

METHODS = ("cam", "crf", "irnet", "single_stage")
Counts = npt.NDArray[np.int64]


def count_sides(truth: Counts, mask: Counts, network: Counts, classes: int) -> Counts:
    """Pixels (classes, 5) by the mask's class: labelled, mask right, network right, mask alone, network alone."""
    scored = (truth != IGNORE) & (mask != IGNORE)
    differ = mask != network
    sides = (scored, mask == truth, network == truth, differ & (mask == truth), differ & (network == truth))
    return np.stack([np.bincount(mask[scored & side], minlength=classes)[:classes] for side in sides], 1)


def print_rows(context: Context, method: str, counts: Counts, total: int) -> None:
    """One row of all classes, then one of each."""
    names = [*context.scheme.names]
    for name, row in (("all", counts.sum(0)), *zip(names, counts, strict=True)):
        labelled, mask, network, mask_alone, network_alone = (int(value) for value in row)
        shares = [labelled / max(1, total), mask / max(1, labelled), network / max(1, labelled)]
        shares += [mask_alone / max(1, labelled), network_alone / max(1, labelled)]
        print(f"| {method} | {name} |", " | ".join(f"{share:.3f}" for share in shares), "|", flush=True)


def main() -> None:
    """A Markdown table, and a sheet of some areas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--areas", nargs="*", default=[], help="of the picture")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--side", type=int, default=230, help="of a panel, px")
    given = parser.parse_args()
    context = open_context(given.root)
    layout, scheme = context.layout, context.scheme
    model, _ = load_segmenter(layout.checkpoints(TASK_I) / "seed0.pt")
    counts = {method: np.zeros((len(scheme), 5), np.int64) for method in METHODS}
    total, sheet = 0, []
    for area in context.tag_areas():
        image, truth = (np.asarray(open_array(f, area)) for f in (layout.tiles / "images", layout.hidden))
        network = predict(context, model, image, PLAIN).argmax(0)
        masks = {method: np.asarray(open_array(layout.pseudo(method), area)) for method in METHODS}
        for method, mask in masks.items():
            counts[method] += count_sides(truth, mask, network, len(scheme))
        total += int((truth != IGNORE).sum())
        if area in given.areas:
            shown = {"truth": truth, "task (i)": network.astype(np.uint8), **{m: masks[m] for m in METHODS[:3]}}
            row = [(area, context.bands.picture(image))]
            sheet.append(row + [(name, scheme.to_colours(np.ascontiguousarray(mask))) for name, mask in shown.items()])
    print("| masks | its class | share of N2 | mask right | task (i) right | mask alone | task (i) alone |")
    print("|" + " --- |" * 7)
    for method in METHODS:
        print_rows(context, method, counts[method], total)
    if given.picture is not None:
        sheet[0].append(("", legend(scheme, 150)))
        draw_sheet(given.picture, sheet, side=given.side)


if __name__ == "__main__":
    main()
