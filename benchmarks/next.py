"""Does `weakseg next` save labelling time? mIoU against seconds for its order, a random one, and entropy alone.

    python benchmarks/next.py WORKSPACE OUT [--seeds 0,1,2] [--budgets 80,160,320] [--orders random,entropy,next]

WORKSPACE has networks of `pixel` and `untagged` (neither knows a tag) and masks of N2, from which an annotator is
simulated **here alone**: they answer for a crop when it is bought. Every order buys in rounds: what networks there are
say what to tag next (task (i), untagged, and the student of the round before), the answers come, a student is trained.
The cheapest honest student: its masks are the untagged network's map of N2 held to the tags bought (as stage teacher
makes them), and the untagged network is trained further on N1's pixels and those masks for ``--steps``, in every round
from the same start and with the same draws. Points are the student's mIoU on the validation areas, and that of the map
of N2 held to the tags, in which no training is; ``--steps 0`` measures that map alone. Writes OUT/next.json and
next.png; finished rows are kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.classes import IGNORE
from weakseg.core.params import with_changes
from weakseg.data.areas import Area
from weakseg.data.crops.augment import normalise
from weakseg.data.crops.dataset import StepDataset
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import confusion_matrix, scores_of
from weakseg.labels.answers import Crop
from weakseg.labels.prices import LabelPrices, price_labels
from weakseg.labels.tags import allowed_raster, window_grid
from weakseg.methods.fusion import align_scores, claim_missing, constrain_scores
from weakseg.methods.scores import ScoreMaps
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import open_context
from weakseg.studies.acquisition.change import as_miou, join_looks, look_at, tag_changes
from weakseg.studies.acquisition.looks import Image, Maps, Seen, encode_image, pool
from weakseg.studies.acquisition.places import Places
from weakseg.studies.acquisition.suggest import Scorer
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.fit import fit
from weakseg.training.seeds import seed_everything
from weakseg.training.segment import build_pools, segmentation_step, typical_shares
from weakseg.training.segmenter import load_segmenter

Index = npt.NDArray[np.intp]
SURE: Final = 0.6  # of a pixel that teaches
RATE: Final = 0.001
NONE: Final = np.zeros(0, np.intp)


@dataclass
class Row:
    """One point: an order, a seed, crops bought, and what came of them."""

    order: str
    seed: int
    crops: int
    seconds: float
    miou: float
    masks: float
    iou: dict[str, float]
    bought: list[int]


Record = Callable[[Row], None]


class Bench:
    """A workspace whose tags are still to be bought."""

    def __init__(self, root: Path, seed: int, steps: int, out: Path) -> None:
        context = open_context(root)
        self.seed, self.steps, self.out, self.machine = seed, steps, out, context.machine
        self.scheme = context.scheme
        changes = {"students.start": 0.0, "students.ramp": 0.0}  # the network is no beginner: masks count at once
        self.params = with_changes(context.params, changes)
        layout, tiles = context.layout, context.layout.tiles
        self.n1, self.n2, checked = context.pixel_areas(), context.tag_areas(), list_areas(layout.validation)
        self.images = {name: np.asarray(open_array(tiles / "images", name)) for name in (*self.n1, *self.n2)}
        self.images |= {name: np.asarray(open_array(layout.validation / "images", name)) for name in checked}
        self.truth = {name: np.asarray(open_array(layout.validation / "labels", name)) for name in checked}
        self.hidden = {name: np.asarray(open_array(layout.hidden, name)) for name in self.n2}
        self.pixels = context.open_areas(self.n1, masks=tiles / "labels")
        self.typical = typical_shares(self.pixels, len(self.scheme), self.params.tiles.tag_size).numpy()
        self.answers = context.crops().select(split="tags")  # what the annotator says when asked
        rows = zip(self.answers.areas, self.answers.windows.tolist(), strict=True)
        self.crops: list[Crop] = [(area, (r, c, h, w)) for area, (r, c, h, w) in rows]
        size = self.params.tiles.tag_size
        drawn = [(name, window) for name in self.n1 for window in window_grid(*self.images[name].shape[:2], size)]
        self.places: list[Crop] = [*self.crops, *drawn]
        self.prices: LabelPrices = price_labels([], self.params.label_cost)
        task_i, self.untagged = (
            load_segmenter(layout.checkpoints(source) / f"seed{seed}.pt")[0] for source in ("pixel", "untagged")
        )
        self.base = self.predict_all(self.untagged)
        self.committee = [self.predict_all(task_i), self.base]
        grids = {name: encode_image(self.untagged, self.images[name], self.machine) for name in (*self.n1, *self.n2)}
        self.features = np.stack([pool(grids[area][0], window) for area, window in self.places])
        self.scales = next(iter(grids.values()))[1]
        self.first: Seen | None = None  # what the first round sees

    def predict(self, model: Segmenter, image: Image) -> Maps:
        """Probabilities (C, H, W) of a whole area at once."""
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
        with torch.inference_mode(), self.machine.autocast():
            batch = normalise(torch.from_numpy(padded).permute(2, 0, 1)[None], model.preprocessing)
            maps = model.eval()(batch).float().softmax(1)[0, :, :height, :width]
        return np.asarray(maps.numpy(), np.float32)

    def predict_all(self, model: Segmenter) -> dict[str, Maps]:
        """What a network says of N1 and N2."""
        return {name: self.predict(model, self.images[name]) for name in (*self.n1, *self.n2)}

    def held(self, name: str, bought: Index) -> ScoreMaps:
        """The untagged map of an N2 area held to the tags bought."""
        maps = self.base[name]
        mine = [int(i) for i in bought if self.answers.areas[i] == name]
        present, known = self.answers.present[mine], self.answers.known[mine]
        windows = [self.crops[i][1] for i in mine]
        allowed = allowed_raster(maps.shape[1], maps.shape[2], windows, present, known)
        scores = align_scores(constrain_scores(maps, allowed), allowed, self.typical)
        return claim_missing(scores, self.answers.windows[mine], present, allowed=allowed)[0]

    def train(self, masks: dict[str, Maps]) -> Segmenter:
        """The untagged network, trained further on N1's pixels and the sure pixels of these maps of N2."""
        sure = {name: np.where(m.max(0) >= SURE, m.argmax(0), IGNORE).astype(np.uint8) for name, m in masks.items()}
        weak = [Area(self.images[name], mask) for name, mask in sure.items()]
        pools = build_pools("teacher", self.params, self.scheme, self.pixels, weak, self.seed)
        seed_everything(self.seed)
        model = copy.deepcopy(self.untagged)
        plan = self.params.segment.optimiser.replaced(steps=self.steps, lr=RATE, report_every=self.steps, ema=0.95)
        result = fit(
            model,
            segmentation_step("teacher", self.params, self.scheme, model.preprocessing, self.seed),
            parameter_groups=model.parameter_groups(
                RATE, encoder_factor=plan.encoder_factor, weight_decay=plan.weight_decay
            ),
            dataset=lambda rank, world: StepDataset(pools, seed=self.seed, steps=plan.steps, rank=rank, world=world),
            plan=plan,
            seed=self.seed,
            machine=self.machine,
            resume_file=self.out / f"resume-{self.seed}.pt",
            identity=f"{time.time()}",
        )
        if not isinstance(result.model, Segmenter):
            raise TypeError(type(result.model))
        return result.model

    def see(self, student: Segmenter | None) -> Seen:
        """What the committee sees; with the student of the round before."""
        if student is None and self.first is not None:
            return self.first
        members = [*self.committee, *([self.predict_all(student)] if student is not None else [])]
        looks = []
        for area, (r, c, h, w) in self.places:
            looks.append(look_at(np.stack([maps[area][:, r : r + h, c : c + w] for maps in members])))
        seen = Seen(join_looks(looks), self.features, self.scales)
        self.first = seen if student is None else self.first
        return seen

    def situation(self, bought: Index) -> Places:
        """Where the workspace stands, as `weakseg next` reads it from files."""
        tagged, drawn = np.zeros((2, len(self.places)), bool)
        tagged[bought], drawn[len(self.crops) :] = True, True
        asked = np.repeat(~(tagged | drawn)[:, None], len(self.scheme), 1)
        images = {name: np.array([i for i, (a, _) in enumerate(self.crops) if a == name]) for name in self.n2}
        sizes = {name: (image.shape[0], image.shape[1]) for name, image in self.images.items()}
        boxed = np.repeat(drawn[:, None], len(self.scheme), 1)
        return Places(tuple(self.places), asked, tagged, drawn, boxed, images, sizes)

    def pick(self, order: str, bought: Index, count: int, student: Segmenter | None) -> Index:
        """The next crops to buy."""
        free = np.setdiff1d(np.arange(len(self.crops)), bought)
        if order == "random":
            return np.random.default_rng([self.seed, len(bought)]).choice(free, count, replace=False)
        seen = self.see(student)
        if order == "entropy":
            return free[np.argsort(-seen.look.entropy[free], kind="stable")[:count]]
        if order == "change":  # next without disagreement and spread
            situation = self.situation(bought)
            changes = tag_changes(seen.look, situation.asked)
            worth = as_miou(changes, seen.look.won[: len(self.crops)].sum(0))
            return free[np.argsort(-worth[free], kind="stable")[:count]]
        boxed = np.zeros(len(self.scheme), bool)
        scorer = Scorer(self.situation(bought), seen, self.scheme.names, boxed, self.prices)
        place = {crop: index for index, crop in enumerate(self.crops)}
        return np.array([place[one.area, one.window] for one in scorer.suggest(count)["tags"]])

    def run(self, order: str, budgets: Sequence[int], kept: Sequence[dict[str, Any]], record: Record) -> None:
        """Buy in rounds, from the last one that is among the ``kept`` rows on."""
        bought, student = NONE, None
        for count in budgets:
            row = next(
                (row for row in kept if (row["order"], row["seed"], row["crops"]) == (order, self.seed, count)), None
            )
            if row is not None:
                bought, student = np.array(row["bought"], np.intp), self.kept_student(order, count)
                continue
            bought = np.concatenate([bought, self.pick(order, bought, count - len(bought), student)])
            student = self.point(order, bought, record)

    def kept_student(self, order: str, count: int) -> Segmenter | None:
        """A student of an earlier call."""
        if not self.steps:
            return None
        student = copy.deepcopy(self.untagged)
        student.load_state_dict(load_checkpoint(self.student_file(order, count))["weights"])
        return student

    def student_file(self, order: str, count: int) -> Path:
        return self.out / f"{order}-{self.seed}-{count}.pt"

    def point(self, order: str, bought: Index, record: Record) -> Segmenter | None:
        """Train a student on what was bought, and measure it."""
        classes, names = len(self.scheme), self.scheme.names
        masks = {name: self.held(name, bought).dense().astype(np.float32) for name in self.n2}
        student = self.train(masks) if self.steps else None
        found = np.zeros((2, classes, classes), np.int64)
        for name, truth in self.truth.items() if student is not None else ():
            winners = self.predict(student, self.images[name]).argmax(0)
            found[0] += confusion_matrix(truth, winners.astype(np.uint8), classes)
        for name, truth in self.hidden.items():
            found[1] += confusion_matrix(truth, masks[name].argmax(0).astype(np.uint8), classes)
        scores, held = (scores_of(matrix, names) for matrix in found)
        seconds = len(bought) * self.prices.crop_seconds(classes)
        if student is not None:
            save_checkpoint(self.student_file(order, len(bought)), {"weights": student.state_dict()})
        row = Row(order, self.seed, len(bought), seconds, scores["miou"], held["miou"], scores["iou"], bought.tolist())
        record(row)
        return student


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """mIoU against minutes, a line per order: the mean over seeds, each seed as a dot."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    colours = {"random": "#999999", "entropy": "#e69f00", "change": "#56b4e9", "next": "#0072b2"}
    names = {"masks": "map of N2, held to the tags", "miou": "student, validation areas"}
    shown = {key: title for key, title in names.items() if any(row[key] == row[key] for row in rows)}
    figure, panels = plt.subplots(1, len(shown), figsize=(5 * len(shown), 4), layout="constrained", squeeze=False)
    for panel, (key, title) in zip(panels[0], shown.items(), strict=True):
        for order in dict.fromkeys(row["order"] for row in rows if row["order"] not in ("none", "all")):
            mine = [row for row in rows if row["order"] in (order, "none")]
            spent = sorted({row["seconds"] for row in mine})
            means = [np.mean([row[key] for row in mine if row["seconds"] == seconds]) for seconds in spent]
            colour = colours.get(order)
            panel.plot([seconds / 60 for seconds in spent], means, color=colour, label=order)
            panel.plot([r["seconds"] / 60 for r in mine], [r[key] for r in mine], ".", color=colour, alpha=0.4)
        panel.set(title=title, xlabel="minutes of tagging", ylabel="mIoU")
        panel.grid(alpha=0.3)
    panels[0, 0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run what is missing of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budgets", default="80,160,320")
    parser.add_argument(
        "--orders", default="random,entropy,next", help="also change: next without disagreement and spread"
    )
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "next.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    torch.set_num_threads(1)

    def record(row: Row) -> None:
        rows.append(vars(row))
        file.write_text(json.dumps(rows))
        print(f"{row.order} seed {row.seed}: {row.crops} crops, mIoU {row.miou:.4f}, masks {row.masks:.4f}", flush=True)

    for seed in map(int, options.seeds.split(",")):
        started = time.process_time()
        bench = Bench(options.workspace, seed, options.steps, options.out)
        for name, bought in (("none", NONE), ("all", np.arange(len(bench.crops)))):
            if not any(row["order"] == name and row["seed"] == seed for row in rows):
                bench.point(name, bought, record)
        for order in options.orders.split(","):
            bench.run(order, [int(count) for count in options.budgets.split(",")], tuple(rows), record)
        print(f"seed {seed}: {time.process_time() - started:.0f} s of CPU", flush=True)
    if rows:
        draw(rows, options.out / "next.png")


if __name__ == "__main__":
    main()
