"""Is the area of applicability worth anything, and is the confidence? Figures and pictures of docs/trust.md.

    python benchmarks/trust.py MODEL WORKSPACE OUT [--other WORKSPACE] [--every N]

MODEL is a model file, WORKSPACE the one it was trained in, --other one with areas of another kind (their classes are
translated by name, what has no counterpart is left out). Temperatures and area of applicability are those of the model
file; where it has none they are measured, as segment does at its end. Nothing here chooses anything. Writes
OUT/trust.json, risk.png, maps.jpg and, for README, side.jpg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.classes import IGNORE
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.calibration import calibrate, reliability_of
from weakseg.evaluation.metrics import confusion_matrix, scores_of
from weakseg.inference.model import load_predictor
from weakseg.inference.scene import PLAIN, predict_scene, sweep_windows
from weakseg.inference.trust import describe_trust
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint, scheme_of
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

Image = npt.NDArray[np.uint8]
CELL: Final = 32  # px; places at which index and error are compared
CALLED: Final = {  # of one data set in another
    "impervious_surface": "road", "impervious": "road", "low_vegetation": "vegetation", "tree": "vegetation",
    "road": "impervious_surface", "vegetation": "low_vegetation",
}  # fmt: skip


def _gamma(power: float) -> Callable[[Image], Image]:
    return lambda image: (255 * (image / 255.0) ** power).astype(np.uint8)


def _blur(sigma: float) -> Callable[[Image], Image]:
    return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)


def _noise(image: Image) -> Image:
    drawn = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.asarray(np.clip(image + drawn, 0, 255), np.uint8)


CHANGES: Final[dict[str, tuple[Callable[[Image], Image], float]]] = {  # how an image is changed, and its new scale
    "darker (gamma 2)": (_gamma(2), 1), "brighter (gamma 0.5)": (_gamma(0.5), 1),
    "blurred, 1 px": (_blur(1), 1), "blurred, 2 px": (_blur(2), 1), "blurred, 4 px": (_blur(4), 1),
    "noise of 25": (_noise, 1), "bands swapped": (lambda image: image[..., ::-1].copy(), 1),
    "half the scale": (lambda image: image, 0.5), "a third of the scale": (lambda image: image, 1 / 3),
    "twice the scale": (lambda image: image, 2.0),
}  # fmt: skip


@dataclass
class Cells:
    """Places of one set of areas: their index, mean confidence, share of wrong px, and how many px are labelled."""

    index: npt.NDArray[np.float64]
    doubt: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.float64]


class Subject:
    """A model with its trust measured, and what it says about images."""

    def __init__(self, file: Path, tiles: Path, out: Path, machine: Machine) -> None:
        model, _ = load_segmenter(file)
        content = load_checkpoint(file)
        self.machine, self.preprocessing = machine, model.preprocessing

        def predict(image: Image) -> npt.NDArray[np.float32]:
            return predict_scene(
                model, image, preprocessing=model.preprocessing, window=256, overlap=0.34, batch=4, views=PLAIN,
                machine=machine,
            )  # fmt: skip

        if not content.get("applicability"):  # not anew: a refitted network has seen the hold-out
            content |= describe_trust(model, tiles, predict=predict, machine=machine)
        save_checkpoint(out / "model.pt", {**content, "temperatures": None, "applicability": None})
        bare = (out / "model.pt").stat().st_size
        save_checkpoint(out / "model.pt", content)
        self.bytes = (out / "model.pt").stat().st_size - bare
        self.predictor = load_predictor(out / "model.pt", PLAIN, machine)
        self.scheme = scheme_of(content)
        assert self.predictor.with_index is not None, "the areas are too small for an area of applicability"
        self.with_index = self.predictor.with_index

    def maps(self, image: Image) -> npt.NDArray[np.float32]:
        """Probabilities and, last, the index over its limit (C + 1, H, W), windows as predict cuts them."""
        options = {"window": 512, "overlap": 0.25, "batch": 4}
        return sweep_windows(self.with_index, image, machine=self.machine, **options)  # type: ignore[arg-type]


def areas_of(folder: Path, names: list[str], labels: Path) -> Iterator[tuple[Image, Image]]:
    """(image, truth) of areas."""
    for name in names:
        yield np.asarray(open_array(folder / "images", name)), np.asarray(open_array(labels, name))


def cells_of(maps: npt.NDArray[np.float32], truth: Image, temperatures: tuple[float, ...]) -> Cells:
    """The places of one area, those with labels."""
    shares = calibrate(maps[:-1], temperatures) if temperatures else maps[:-1]
    known = truth != IGNORE
    wrong = (shares.argmax(0) != truth) & known
    height, width = (side // CELL * CELL for side in truth.shape)

    def mean(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        cut = values[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL)
        return np.asarray(cut.mean((1, 3)), np.float64).ravel()

    pixels = mean(known) * CELL**2
    some = pixels > CELL**2 / 4
    return Cells(
        mean(maps[-1])[some],
        1 - mean(shares.max(0))[some],
        (mean(wrong)[some] * CELL**2 / pixels[some]),
        pixels[some],
    )


def together(parts: list[Cells]) -> Cells:
    """All places of several areas."""
    return Cells(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("index", "doubt", "wrong", "pixels")))


def auroc(score: npt.NDArray[np.float64], cells: Cells) -> float:
    """Chance that a wrong px has a higher score than a right one, every place counted by its px."""
    from sklearn.metrics import roc_auc_score

    labels = np.r_[np.ones(len(score)), np.zeros(len(score))]
    weights = np.r_[cells.wrong * cells.pixels, (1 - cells.wrong) * cells.pixels]
    return float(roc_auc_score(labels, np.r_[score, score], sample_weight=weights))


def told_apart(cells: Cells, known: Cells) -> float:
    """Chance that a place of a set has a higher index than one of the validation areas: wherever the limit lies."""
    from sklearn.metrics import roc_auc_score

    labels = np.r_[np.ones(len(cells.index)), np.zeros(len(known.index))]
    return float(roc_auc_score(labels, np.r_[cells.index, known.index]))


def risk(score: npt.NDArray[np.float64], cells: Cells) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(coverage, share of wrong px among what is kept) when places leave in the order of their score."""
    order = np.argsort(score, kind="stable")
    kept = np.cumsum(cells.pixels[order])
    return kept / kept[-1], np.cumsum((cells.wrong * cells.pixels)[order]) / kept


def _changed(change: Callable[[Image], Image], scale: float, area: tuple[Image, Image]) -> tuple[Image, Image]:
    """An image and its truth, changed and resized."""
    image, truth = area
    if scale != 1:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)
        truth = np.asarray(cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    return change(image), truth


def translated(truth: Image, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Image:
    """Truth of another data set in our classes; what has no counterpart is left out."""
    table = np.full(256, IGNORE, np.uint8)
    for index, name in enumerate(theirs):
        named = name if name in ours else CALLED.get(name)
        if named in ours:
            table[index] = ours.index(named)
    return np.asarray(table[truth], np.uint8)


def measure(subject: Subject, areas: Iterator[tuple[Image, Image]]) -> tuple[dict[str, Any], Cells]:
    """Numbers and places of a set of areas."""
    predictor, names = subject.predictor, subject.scheme.names
    parts, said, spoken, unlike, total = [], None, None, 0, 0
    pooled = np.zeros((len(names), len(names)), np.int64)
    for image, truth in areas:
        maps = subject.maps(image)
        parts.append(cells_of(maps, truth, predictor.temperatures))
        winners = maps[:-1].argmax(0)
        pooled += confusion_matrix(truth, winners, len(names))
        one = reliability_of(maps[:-1].max(0), winners, truth)
        two = reliability_of(calibrate(maps[:-1], predictor.temperatures).max(0), winners, truth)
        said, spoken = (one if said is None else said + one), (two if spoken is None else spoken + two)
        unlike += int((maps[-1] > 1).sum())
        total += maps[-1].size
    cells = together(parts)
    row = {
        "unlike": unlike / total,
        "index": float(np.median(cells.index)),
        "error": float((cells.wrong * cells.pixels).sum() / cells.pixels.sum()),
        "miou": scores_of(pooled, names)["miou"],
        "ece": said.error if said else None,
        "ece_calibrated": spoken.error if spoken else None,
    }
    return row, cells


def draw_risk(path: Path, cells: Cells, title: str) -> None:
    """Risk-coverage curves of the index, of the confidence, and of knowing the truth."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, score in (("index", cells.index), ("1 - confidence", cells.doubt), ("the truth", cells.wrong)):
        axes.plot(*risk(score, cells), label=name)
    axes.set(xlabel="share of the area that is kept", ylabel="wrong px of what is kept", title=title, ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_maps(path: Path, subject: Subject, images: list[tuple[str, Image]]) -> None:
    """Image, map, confidence and index of some images, with the classes below."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    size = (12.5, 3.05 * len(images) + 0.5)
    figure, axes = plt.subplots(len(images), 4, figsize=size, layout="constrained", squeeze=False)
    for row, (name, image) in zip(axes, images, strict=True):
        maps = subject.maps(image)
        shares = calibrate(maps[:-1], subject.predictor.temperatures)
        row[0].imshow(image)
        row[1].imshow(subject.scheme.to_colours(shares.argmax(0).astype(np.uint8)))
        sure = row[2].imshow(shares.max(0), vmin=0, vmax=1, cmap="viridis")
        index = row[3].imshow(maps[-1], vmin=0, vmax=2, cmap="RdBu_r")
        row[0].set_ylabel(name)
        row[3].set_xlabel(f"{(maps[-1] > 1).mean():.0%} unlike the training")
        for axis in row:
            axis.set(xticks=[], yticks=[])
        figure.colorbar(sure, ax=row[2], shrink=0.75)
        figure.colorbar(index, ax=row[3], shrink=0.75)
    for axis, title in zip(axes[0], ("image", "map", "confidence", "applicability (above 1: unlike)"), strict=True):
        axis.set_title(title)
    pairs = zip(subject.scheme.names, subject.scheme.colours, strict=True)
    classes = [
        Patch(facecolor=[part / 255 for part in colour], edgecolor="grey", label=name.replace("_", " "))
        for name, colour in pairs
    ]
    figure.legend(handles=classes, loc="outside lower center", ncols=len(classes), frameon=False)
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 75})
    plt.close(figure)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the validation areas take every n-th")
    parser.add_argument("--other", type=Path, help="a workspace of another data set")
    parser.add_argument("--draw", action="store_true", help="only draw maps.jpg and side.jpg")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    out = options.workspace / "out"
    subject = Subject(options.model, out / "tiles", options.out, Machine(device="cpu", precision="no", quiet=True))
    validation = list_areas(out / "validation")[:: options.every]
    own = list(areas_of(out / "validation", validation, out / "validation" / "labels"))
    sets = {"validation": iter(own)}
    sets |= {name: map(partial(_changed, change, scale), own) for name, (change, scale) in CHANGES.items()}
    others: list[tuple[Image, Image]] = []
    if options.other:
        import yaml

        there = options.other / "out"
        theirs = tuple(row["name"] for row in yaml.safe_load((there / "tiles" / "classes.yaml").read_text())["classes"])
        names = list_areas(there / "validation")[:: options.every]
        found = areas_of(there / "validation", names, there / "validation" / "labels")
        others = [(image, translated(truth, theirs, subject.scheme.names)) for image, truth in found]
        sets["another data set"] = iter(others)
    first = own[0][0]
    shown = [("validation", first), ("blurred, 2 px", _blur(2)(first)), ("darker", _gamma(2)(first))]
    elsewhere = [("another data set", image) for image, _ in others[:2]]
    draw_maps(options.out / "maps.jpg", subject, [*shown, *elsewhere])
    draw_maps(options.out / "side.jpg", subject, [*shown[:1], *elsewhere[:1]])
    if options.draw:
        return
    rows, cells = {}, {}
    for name, areas in sets.items():
        rows[name], cells[name] = measure(subject, areas)
        rows[name]["apart"] = told_apart(cells[name], cells["validation"])
        print(name, {key: round(value, 4) for key, value in rows[name].items() if value is not None}, flush=True)
    everything = together(list(cells.values()))
    pairs = {"validation": cells["validation"], "all sets": everything}
    if others:
        pairs["validation and another data set"] = together([cells["validation"], cells["another data set"]])
    curves = {
        name: {
            "auroc_index": auroc(some.index, some),
            "auroc_confidence": auroc(some.doubt, some),
            "risk_index": {
                str(share): float(np.interp(share, *risk(some.index, some))) for share in (1, 0.8, 0.6, 0.4, 0.2)
            },
            "risk_confidence": {
                str(share): float(np.interp(share, *risk(some.doubt, some))) for share in (1, 0.8, 0.6, 0.4, 0.2)
            },
            "inside": float((some.wrong * some.pixels)[some.index <= 1].sum() / some.pixels[some.index <= 1].sum()),
            "outside": float(
                (some.wrong * some.pixels)[some.index > 1].sum() / max(1, some.pixels[some.index > 1].sum())
            ),
        }
        for name, some in pairs.items()
    }
    found_all = {
        "temperatures": subject.predictor.temperatures,
        "bytes": subject.bytes,
        "sets": rows,
        "error": curves,
    }
    (options.out / "trust.json").write_text(json.dumps(found_all, indent=1) + "\n")
    print(json.dumps(curves, indent=1))
    draw_risk(options.out / "risk.png", everything, "all sets")


if __name__ == "__main__":
    main()
