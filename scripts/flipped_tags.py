"""How many of the tags that `weakseg labels suspects` puts first are wrong ones: flips tags, and looks for them.

    python scripts/flipped_tags.py WORKSPACE [--share 0.05] [--seeds 0,1,2] [--by tags|crops]

WORKSPACE has right tags (the embedded scenes' follow from their masks) and a trained task (i) network; nothing there is
changed. ``--by tags`` flips a share of all yes and no, so a crop may hold several; ``--by crops`` flips one tag in a
share of the crops. Prints, per seed of the flips, the share of mistagged crops in the first tenth of the list, what
chance gives, and the same for the task (i) network's own numbers without the cross-fitted regression.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.layout import Layout
from weakseg.labels.suspicion import USUAL, crop_suspicion, wrong_probability
from weakseg.labels.tags import TagWindow, tag_arrays
from weakseg.tagging.suspects import gather_evidence, rank_suspects, tagged_rows


def main() -> None:
    """Print a line per seed and their mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--by", choices=("tags", "crops"), default="tags")
    options = parser.parse_args()
    layout = Layout(options.workspace)
    scheme = load_classes(layout.classes)
    rows = tagged_rows(layout, scheme)
    evidence = gather_evidence(layout, rows, scheme)
    results = []
    for seed in map(int, options.seeds.split(",")):
        flips = draw_flips(len(rows), len(scheme), options.share, options.by, seed)
        wrong = flip_tags(rows, flips, scheme)
        order = [one.crop for one in rank_suspects(evidence, wrong, {}, scheme)]
        mistagged = {(row.area, row.window) for row, flip in zip(rows, flips, strict=True) if flip.any()}
        first = order[: round(len(order) / 10)]
        found = sum(crop in mistagged for crop in first)
        plain = plain_order(evidence.numbers[:, :, USUAL], wrong, scheme)
        raw = sum(plain[number] in mistagged for number in range(len(first)))
        results.append(found / len(first))
        print(
            f"seed {seed}: {len(mistagged)} of {len(rows)} crops mistagged; of the first {len(first)}: "
            f"{found} ({found / len(first):.0%}), by the network's own numbers {raw / len(first):.0%}, by chance "
            f"{len(mistagged) / len(rows):.0%}; {found / len(mistagged):.0%} of all mistagged ones are among them",
            flush=True,
        )
    print(f"mean {np.mean(results):.1%}")


def draw_flips(crops: int, classes: int, share: float, by: str, seed: int) -> np.ndarray:
    """bool (crops, classes): which tags are flipped."""
    rng = np.random.default_rng(seed)
    if by == "tags":
        return np.asarray(rng.random((crops, classes)) < share)
    flips = np.zeros((crops, classes), bool)
    chosen = rng.choice(crops, round(share * crops), replace=False)
    flips[chosen, rng.integers(0, classes, len(chosen))] = True
    return flips


def flip_tags(rows: Sequence[TagWindow], flips: np.ndarray, scheme: ClassScheme) -> list[TagWindow]:
    """The rows with those tags the other way round. A crop that would hold no class at all stays as it is."""
    present, _ = tag_arrays(rows, scheme)
    flips &= ~((present ^ flips).sum(1, keepdims=True) == 0)
    return [
        replace(row, present=tuple(name for name, here in zip(scheme.names, states, strict=True) if here))
        for row, states in zip(rows, present ^ flips, strict=True)
    ]


def plain_order(presence: np.ndarray, rows: Sequence[TagWindow], scheme: ClassScheme) -> list[tuple[str, tuple]]:
    """The crops by the task (i) network's own numbers (N, C) instead of the cross-fitted ones."""
    present, known = tag_arrays(rows, scheme)
    wrong = wrong_probability(presence.clip(1e-4, 1 - 1e-4), present, known, np.zeros((*present.shape, 2), np.int64))
    return [(rows[n].area, rows[n].window) for n in np.argsort(-crop_suspicion(wrong), kind="stable")]


if __name__ == "__main__":
    main()
