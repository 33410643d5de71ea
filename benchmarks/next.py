"""Does `weakseg next` save labelling time? mIoU against seconds for its order, a random one, and entropy alone.

    python benchmarks/next.py WORKSPACE OUT [--seeds 0,1,2] [--budgets 80,160,320] [--orders random,entropy,whole,next]

WORKSPACE has networks of `pixel` and `untagged` (neither knows a tag) and masks of N2, from which an annotator is
simulated **here alone**: they answer a question (is this class in this crop?) when it is bought. Every order buys in
rounds, for the seconds that so many crops take with all their classes: `next` the questions that it asks, `whole` the
same score with all classes of each crop asked, the others whole crops. What networks there are say what to ask next
(task (i), untagged, and the student of the round before), the answers come, a student is trained.
The cheapest honest student: its masks are the untagged network's map of N2 held to the tags bought (as stage teacher
makes them), and the untagged network is trained further on N1's pixels and those masks for ``--steps``, in every round
from the same start and with the same draws. Points are the student's mIoU on the validation areas, and that of the map
of N2 held to the tags, in which no training is; ``--steps 0`` measures that map alone, and a table says which share of
random's seconds each order needs for the same map. ``--look`` is what looking at a
crop costs before its first question. Writes OUT/next.json and next.png; finished rows are kept. The tags of every point
are written as OUT/ORDER-SEED-BUDGET.csv (where ``tiles.scale`` is 1), and OUT/rows.yaml names them, so that

    weakseg --root WORKSPACE ablate OUT/rows.yaml --seeds 0,1,2

trains joint as the pipeline does on each of them.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.classes import IGNORE
from weakseg.core.config import save_yaml
from weakseg.core.params import with_changes
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import StepDataset
from weakseg.data.crops.augment import normalise
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import confusion_matrix, scores_of
from weakseg.labels.answers import Crop
from weakseg.labels.prices import LabelPrices, Price, price_labels
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow, allowed_raster, window_grid
from weakseg.methods.fusion import align_scores, claim_missing, constrain_scores
from weakseg.methods.scores import ScoreMaps
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import open_context
from weakseg.studies.acquisition.change import join_looks, look_at
from weakseg.studies.acquisition.looks import Image, Maps, Seen, encode_image, pool
from weakseg.studies.acquisition.places import Places
from weakseg.studies.acquisition.suggest import Scorer
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.fit import fit
from weakseg.training.seeds import seed_everything
from weakseg.training.segment import build_pools, segmentation_step, typical_shares
from weakseg.training.segmenter import load_segmenter

Told = npt.NDArray[np.bool_]  # (crops, classes), the answers bought
SURE: Final = 0.6  # of a pixel that teaches
RATE: Final = 0.001


@dataclass
class Row:
    """One point: an order, a seed, questions bought (crop * C + class), and what came of them."""

    order: str
    seed: int
    budget: int
    crops: int
    seconds: float
    miou: float
    masks: float
    iou: dict[str, float]
    bought: list[int]


Record = Callable[[Row], None]


class Bench:
    """A workspace whose tags are still to be bought."""

    def __init__(self, root: Path, seed: int, steps: int, out: Path, look: float) -> None:
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
        self.prices: LabelPrices = replace(price_labels([], self.params.label_cost), look=Price(look, "--look"))
        task_i, self.untagged = (
            load_segmenter(layout.checkpoints(source) / f"seed{seed}.pt")[0] for source in ("pixel", "untagged")
        )
        self.base = self.kept_maps("untagged", self.untagged)
        self.committee = [self.kept_maps("pixel", task_i), self.base]
        grids = {name: encode_image(self.untagged, self.images[name], self.machine) for name in (*self.n1, *self.n2)}
        self.features = np.stack([pool(grids[area][0], window) for area, window in self.places])
        self.scales = next(iter(grids.values()))[1]
        self.first: Seen | None = None  # what the first round sees
        self.maps: dict[str, tuple[bytes, Maps]] = {}  # of each area as it was held last, to which answers

    def predict(self, model: Segmenter, image: Image) -> Maps:
        """Probabilities (C, H, W) of a whole area at once."""
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
        with torch.inference_mode(), self.machine.autocast():
            batch = normalise(torch.from_numpy(padded).permute(2, 0, 1)[None], model.preprocessing)
            maps = model.eval()(batch).float().softmax(1)[0, :, :height, :width]
        return np.asarray(maps.numpy(), np.float32)

    def predict_all(self, model: Segmenter) -> dict[str, Maps]:
        """What a network says of N2."""
        return {name: self.predict(model, self.images[name]) for name in self.n2}

    def kept_maps(self, source: str, model: Segmenter) -> dict[str, Maps]:
        """The same, out of a file of an earlier call where there is one."""
        file = self.out / f"{source}-{self.seed}.npz"
        if not file.is_file():
            np.savez(file, **self.predict_all(model))
        with np.load(file) as maps:
            return {name: maps[name] for name in self.n2}

    def held(self, name: str, told: Told) -> Maps:
        """The untagged map of an N2 area held to the answers bought."""
        here = np.array([area == name for area in self.answers.areas])
        key = told[here].tobytes()
        if self.maps.get(name, (b"",))[0] != key:
            mine = [int(i) for i in np.flatnonzero(told.any(1) & here)]
            self.maps[name] = key, self.hold(name, told, mine).dense().astype(np.float32)
        return self.maps[name][1]

    def hold(self, name: str, told: Told, mine: list[int]) -> ScoreMaps:
        """The same of crops ``mine``, as stage teacher holds it."""
        maps = self.base[name]
        present, known = self.answers.present[mine] & told[mine], self.answers.known[mine] & told[mine]
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
        for area, (r, c, h, w) in self.crops:
            looks.append(look_at(np.stack([maps[area][:, r : r + h, c : c + w] for maps in members])))
        blank = look_at(np.full((1, len(self.scheme), 1, 1), 1 / len(self.scheme), np.float32))  # nobody asks about N1
        looks += [blank] * (len(self.places) - len(self.crops))
        seen = Seen(join_looks(looks), self.features, self.scales)
        self.first = seen if student is None else self.first
        return seen

    def situation(self, told: Told) -> Places:
        """Where the workspace stands, as `weakseg next` reads it from files."""
        tagged, drawn = np.zeros((2, len(self.places)), bool)
        tagged[: len(told)], drawn[len(self.crops) :] = told.all(1), True
        asked = np.zeros((len(self.places), len(self.scheme)), bool)
        asked[: len(told)] = ~told
        images = {name: np.array([i for i, (a, _) in enumerate(self.crops) if a == name]) for name in self.n2}
        sizes = {name: (image.shape[0], image.shape[1]) for name, image in self.images.items()}
        boxed = np.repeat(drawn[:, None], len(self.scheme), 1)
        return Places(tuple(self.places), asked, tagged, drawn, boxed, images, sizes)

    def spent(self, told: Told) -> float:
        """Seconds of the annotator."""
        return sum(self.prices.crop_seconds(int(count)) for count in told.sum(1))

    def pick(self, order: str, told: Told, count: int, student: Segmenter | None) -> Told:
        """What is known after the next round, in which as many seconds are spent as ``count`` whole crops take."""
        seconds = count * self.prices.crop_seconds(told.shape[1])
        if order in ("whole", "next"):
            return self.ask(told, seconds, self.see(student), whole=order == "whole")
        after, free = told.copy(), np.flatnonzero(~told.any(1))
        if order == "random":
            chosen = np.random.default_rng([self.seed, int(told.any(1).sum())]).choice(free, count, replace=False)
        else:
            chosen = free[np.argsort(-self.see(student).look.entropy[free], kind="stable")[:count]]
        after[chosen] = True
        return after

    def ask(self, told: Told, seconds: float, seen: Seen, *, whole: bool) -> Told:
        """The batch of `weakseg next` for these seconds; ``whole``: all classes of each of its crops."""
        look = Price(1e6, "so dear that all is asked of what is seen") if whole else self.prices.look
        prices = replace(self.prices, look=look)
        scorer = Scorer(self.situation(told), seen, self.scheme.names, np.zeros(len(self.scheme), bool), prices)
        place = {crop: index for index, crop in enumerate(self.crops)}
        found, most = told, 0.0
        count = round(seconds / self.prices.crop_seconds(told.shape[1] if whole else 1))
        for _ in range(3):  # how far a label reaches depends on the batch, and what the batch costs on that
            known, paid, wanted = told.copy(), 0.0, 0.0
            for one in scorer.suggest_tags(min(count, len(self.crops))):
                row = known[place[one.area, one.window]]
                before = int(row.sum())
                wanted += self.prices.crop_seconds(before + len(one.asks)) - self.prices.crop_seconds(before)
                if wanted <= seconds + 1e-6:
                    row[[self.scheme.index(name) for name in one.asks]] = True
                    paid = wanted
            if paid > most:
                found, most = known, paid
            if not wanted or (better := round(count * seconds / wanted)) == count:
                break
            count = better
        return found

    def run(self, order: str, budgets: Sequence[int], kept: Sequence[dict[str, Any]], record: Record) -> None:
        """Buy in rounds, from the last one that is among the ``kept`` rows on."""
        told, student = np.zeros((len(self.crops), len(self.scheme)), bool), None
        for before, budget in itertools.pairwise([0, *budgets]):
            row = next((r for r in kept if (r["order"], r["seed"], r["budget"]) == (order, self.seed, budget)), None)
            if row is not None:
                told, student = told.copy(), self.kept_student(order, budget)
                told.flat[row["bought"]] = True
                continue
            told = self.pick(order, told, budget - before, student)
            student = self.point(order, budget, told, record)

    def kept_student(self, order: str, budget: int) -> Segmenter | None:
        """A student of an earlier call."""
        if not self.steps:
            return None
        student = copy.deepcopy(self.untagged)
        student.load_state_dict(load_checkpoint(self.student_file(order, budget))["weights"])
        return student

    def student_file(self, order: str, budget: int) -> Path:
        return self.out / f"{order}-{self.seed}-{budget}.pt"

    def write_table(self, path: Path, told: Told) -> None:
        """The answers as a tag table; what was not asked is unknown."""
        if self.params.tiles.scale == 1:  # windows are px of the rasters
            names = np.array(self.scheme.names)
            known = [(self.crops[i], self.answers.present[i] & told[i], told[i]) for i in np.flatnonzero(told.any(1))]
            rows = [TagWindow(area, *w, (*names[p].tolist(),), (*names[~k].tolist(),)) for (area, w), p, k in known]
            write_tags(path, rows, self.scheme)

    def point(self, order: str, budget: int, told: Told, record: Record) -> Segmenter | None:
        """Train a student on what was bought, and measure it."""
        classes, names = len(self.scheme), self.scheme.names
        masks = {name: self.held(name, told) for name in self.n2}
        self.write_table(self.out / f"{order}-{self.seed}-{budget}.csv", told)
        student = self.train(masks) if self.steps else None
        found = np.zeros((2, classes, classes), np.int64)
        for name, truth in self.truth.items() if student is not None else ():
            winners = self.predict(student, self.images[name]).argmax(0)
            found[0] += confusion_matrix(truth, winners.astype(np.uint8), classes)
        for name, truth in self.hidden.items():
            found[1] += confusion_matrix(truth, masks[name].argmax(0).astype(np.uint8), classes)
        scores, held = (scores_of(matrix, names) for matrix in found)
        if student is not None:
            save_checkpoint(self.student_file(order, budget), {"weights": student.state_dict()})
        crops, bought = int(told.any(1).sum()), np.flatnonzero(told).tolist()
        place = (order, self.seed, budget, crops, self.spent(told))
        record(Row(*place, scores["miou"], held["miou"], scores["iou"], bought))
        return student


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The points as rows of `weakseg ablate`: joint without experts, which would have to learn from each table anew."""
    recipe = {"source": "joint", "set": {"fused.experts": []}, "stages": ["experts", "choice@joint"]}
    points = dict.fromkeys((row["order"], row["budget"]) for row in rows if row["budget"])
    named = [{"name": f"{o}, {b} crops", **recipe, "tags": f"{o}-{{seed}}-{b}.csv"} for o, b in points]
    save_yaml(path, [{"name": "no tag at all (untagged)", "source": "untagged"}, *named])


def means(rows: Sequence[dict[str, Any]], order: str) -> list[tuple[float, float]]:
    """(seconds, mIoU of the map of N2) of each round of an order, from no tag on; means over seeds."""
    mine = [row for row in rows if row["order"] in (order, "none")]
    of = [[row for row in mine if row["budget"] == budget] for budget in sorted({row["budget"] for row in mine})]
    return [(float(np.mean([r["seconds"] for r in each])), float(np.mean([r["masks"] for r in each]))) for each in of]


def share_of_seconds(mine: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> list[float]:
    """Of the seconds that each point of ``theirs`` took, the share after which ``mine`` is as good; nan: never.

    The first point of either is no tag; between points the line is straight.
    """
    found = []
    for seconds, miou in theirs[1:]:
        reached = next((i for i, (_, one) in enumerate(mine) if i and one >= miou), None)
        if reached is None:
            found.append(float("nan"))
            continue
        (early, low), (late, high) = mine[reached - 1], mine[reached]
        at = late if high == low else early + (late - early) * max(0.0, miou - low) / (high - low)
        found.append(at / seconds)
    return found


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The points as Markdown: mIoU of the map of N2 by minutes, and the share of random's seconds that each needs."""
    orders = [order for order in ("random", "entropy", "whole", "next") if any(row["order"] == order for row in rows)]
    curves = {order: means(rows, order) for order in orders}
    minutes = [f"{seconds / 60:.{int(seconds < 600)}f} min" for seconds, _ in next(iter(curves.values()))[1:]]
    lines = [f"| mIoU of the map of N2 | {' | '.join(minutes)} |", "| --- " * (len(minutes) + 1) + "|"]
    lines += [f"| {order} | {' | '.join(f'{m:.4f}'.lstrip('0') for _, m in curves[order][1:])} |" for order in orders]
    for order in [order for order in orders if order != "random" and "random" in orders]:
        shares = [f"{one:.0%}".replace("%", " %") for one in share_of_seconds(curves[order], curves["random"])]
        lines.append(f"| seconds of {order}, of random's for the same | {' | '.join(shares)} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """mIoU against minutes, a line per order: the mean over seeds, each seed as a dot."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    colours = {"random": "#999999", "entropy": "#e69f00", "whole": "#56b4e9", "next": "#0072b2"}
    names = {"masks": "map of N2, held to the tags", "miou": "student, validation areas"}
    shown = {key: title for key, title in names.items() if any(row[key] == row[key] for row in rows)}
    figure, panels = plt.subplots(1, len(shown), figsize=(5 * len(shown), 4), layout="constrained", squeeze=False)
    for panel, (key, title) in zip(panels[0], shown.items(), strict=True):
        for order in dict.fromkeys(row["order"] for row in rows if row["order"] not in ("none", "all")):
            mine = [row for row in rows if row["order"] in (order, "none")]
            rounds = sorted({row["budget"] for row in mine})
            of = [[row for row in mine if row["budget"] == budget] for budget in rounds]
            means = [np.mean([[row["seconds"] / 60, row[key]] for row in each], axis=0) for each in of]
            colour = colours.get(order)
            panel.plot(*np.transpose(means), color=colour, label=order)
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
    parser.add_argument("--orders", default="random,entropy,whole,next")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--look", type=float, default=0.0, help="seconds of a crop before its first question")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "next.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    torch.set_num_threads(1)

    def record(row: Row) -> None:
        rows.append(vars(row))
        file.write_text(json.dumps(rows))
        bought = f"{len(row.bought)} questions about {row.crops} crops, {row.seconds:.0f} s"
        print(f"{row.order} seed {row.seed}: {bought}, mIoU {row.miou:.4f}, masks {row.masks:.4f}", flush=True)

    for seed in map(int, options.seeds.split(",")):
        started = time.process_time()
        bench = Bench(options.workspace, seed, options.steps, options.out, options.look)
        for name, known in (("none", False), ("all", True)):
            if not any(row["order"] == name and row["seed"] == seed for row in rows):
                told = np.full((len(bench.crops), len(bench.scheme)), known)
                bench.point(name, len(told) * known, told, record)
        for order in options.orders.split(","):
            bench.run(order, [int(count) for count in options.budgets.split(",")], tuple(rows), record)
        print(f"seed {seed}: {time.process_time() - started:.0f} s of CPU", flush=True)
    if rows:
        write_rows(rows, options.out / "rows.yaml")
        draw(rows, options.out / "next.png")
        print(describe(rows))


if __name__ == "__main__":
    main()
