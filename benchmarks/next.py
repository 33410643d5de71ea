"""Does `weakseg next` save labelling time? mIoU against seconds for its order, a random one, and entropy alone.

    python benchmarks/next.py OUT [--workspace DIR] [--seeds 0,1,2] [--budgets 32,64,128,256] [--orders ...]

The workspace's own trainings are not touched: OUT gets a copy of its tiles (the embedded scenes without --workspace). A
seed trains task (i), then a student on N1 and all images of N2 without any tag (consistency); from there every order
buys tags in rounds: the networks so far say what to tag next, a simulated annotator answers from the hidden truth, and the
untagged student is trained further on N1 and N2 with the tags bought so far, for the same steps in every round. mIoU is
that of the validation areas, seconds those of label_cost's prices. Writes OUT/next.json and next.png; rows that are
there are kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE
from weakseg.data.areas import Area, open_area
from weakseg.data.crops.dataset import Pool, StepDataset
from weakseg.data.crops.sampler import build_sampler
from weakseg.data.manifest import TagCrops
from weakseg.data.store import list_areas, open_array
from weakseg.inference.scene import PLAIN
from weakseg.labels.answers import Crop
from weakseg.labels.tags import allowed_raster, window_grid, window_index
from weakseg.networks.build import Segmenter
from weakseg.pipeline.context import Context, open_context
from weakseg.pipeline.network_scores import predict
from weakseg.stages.evaluate import measure, predict_areas
from weakseg.studies.acquisition.change import as_miou, tag_changes, take
from weakseg.studies.acquisition.cover import choose, likeness, reach_of, standardise
from weakseg.studies.acquisition.looks import Seen, encode_image, survey
from weakseg.training.checkpoints import describe_model, save_checkpoint
from weakseg.training.fit import fit
from weakseg.training.seeds import seed_everything
from weakseg.training.segment import _pool, segmentation_step, typical_shares
from weakseg.training.segmenter import load_segmenter, segmenter_of

UNTAGGED_STEPS, ROUND_STEPS, RATE = 150, 100, 0.001
NEAR: Final = 0.5  # share of the weak crops that are drawn where tags were bought


class Bench:
    """A workspace whose tags are still to be bought."""

    def __init__(self, root: Path, out: Path) -> None:
        self.context, self.out = open_context(root), out
        self.params, self.scheme = self.context.params, self.context.scheme
        self.tiles = self.context.layout.tiles
        self.answers: TagCrops = self.context.crops().select(split="tags")  # what the annotator would say
        self.names = list_areas(self.tiles, "tags")
        self.labelled = self.context.open_areas(self.context.pixel_areas(), masks=self.tiles / "labels")
        self.typical = typical_shares(self.labelled, len(self.scheme), self.params.tiles.tag_size)
        validation = self.context.layout.validation
        self.validation = {
            name: open_area(validation, name, masks=validation / "labels") for name in list_areas(validation)
        }
        self.crops: list[Crop] = [
            (area, tuple(int(v) for v in window)) for area, window in zip(self.answers.areas, self.answers.windows, strict=True)
        ]
        self.n1: list[Crop] = [
            (name, window)
            for name in self.context.pixel_areas()
            for window in window_grid(*open_array(self.tiles / "images", name).shape[:2], self.params.tiles.tag_size)
        ]

    # ---- training

    def weak(self, bought: npt.NDArray[np.intp]) -> list[Area]:
        areas = []
        for name in self.names:
            image = open_array(self.tiles / "images", name)
            mine = [i for i in bought if self.answers.areas[i] == name]
            windows = [tuple(int(v) for v in self.answers.windows[i]) for i in mine]
            present, known = self.answers.present[mine], self.answers.known[mine]
            height, width = image.shape[:2]
            ids = window_index(height, width, windows)
            areas.append(
                Area(image, None, allowed_raster(height, width, windows, present, known), ids, present,
                     np.bincount(ids[ids >= 0].ravel(), minlength=len(mine)).astype(np.int64))
            )  # fmt: skip
        return areas

    def weak_pool(self, bought: npt.NDArray[np.intp], seed: int) -> Pool:
        areas, shared = self.weak(bought), self.params.segment
        hints = [np.where(area.windows >= 0, 0, IGNORE).astype(np.uint8) for area in areas]
        sampler = build_sampler(
            [area.image.shape[:2] for area in areas], [None] * len(areas),
            favoured=0 if len(bought) else None, probability=NEAR, seed=seed, hints=hints,
        )  # fmt: skip
        return Pool(areas, sampler, self.params.students.batch, shared.crop, shared.augment.scale, len(self.scheme))

    def train(self, model: Segmenter, source: str, bought: npt.NDArray[np.intp], seed: int, steps: int, rate: float) -> Segmenter:
        params = self.params
        shared = params.segment
        favoured = self.scheme.index(shared.favour.class_name) if shared.favour.probability > 0 else None
        pools = {"pixel": _pool(shared, self.labelled, favoured, shared.optimiser.batch, seed, len(self.scheme))}
        if source != "pixel":
            pools["weak"] = self.weak_pool(bought, seed)
        plan = shared.optimiser.replaced(steps=steps, lr=rate, report_every=steps)
        seed_everything(seed)
        result = fit(
            model,
            segmentation_step(source, params, self.scheme, model.preprocessing, seed, typical=self.typical),
            parameter_groups=model.parameter_groups(plan.lr, encoder_factor=plan.encoder_factor, weight_decay=plan.weight_decay),
            dataset=lambda rank, world: StepDataset(pools, seed=seed, steps=plan.steps, rank=rank, world=world),
            plan=plan, seed=seed, machine=self.context.machine,
            resume_file=self.out / f"resume-{seed}.pt", identity=str(time.time()),
        )  # fmt: skip
        assert isinstance(result.model, Segmenter)
        return result.model

    def base(self, seed: int) -> tuple[Segmenter, Segmenter]:
        """Task (i), and the untagged student of it."""
        none, shared = np.zeros(0, np.intp), self.params.segment
        models = []
        for name in ("pixel", "untagged"):
            file = self.out / f"{name}-{seed}.pt"
            if not file.is_file():
                if name == "pixel":
                    seed_everything(seed)
                    start, plan = segmenter_of(shared.network, len(self.scheme)), (shared.optimiser.steps, shared.optimiser.lr)
                else:
                    start, plan = load_segmenter(self.out / f"pixel-{seed}.pt")[0], (UNTAGGED_STEPS, shared.optimiser.lr / 2)
                model = self.train(start, "pixel" if name == "pixel" else "consistency", none, seed, *plan)
                save(file, model, self.context)
            models.append(load_segmenter(file)[0])
        return models[0], models[1]

    def miou(self, model: Segmenter) -> dict[str, Any]:
        predictions, _ = predict_areas(self.context, model, self.validation, self.params.evaluate)
        scores = measure(self.validation, predictions, self.scheme, self.params.evaluate)
        return {"miou": scores["miou"], "iou": scores["iou"]}

    # ---- what to tag next

    def see(self, committee: list[Segmenter]) -> Seen:
        machine = self.context.machine

        def member(model: Segmenter) -> Callable[..., Any]:
            return lambda area, window, image: predict(self.context, model, image, PLAIN)

        return survey(
            [*self.crops, *self.n1],
            lambda area: open_array(self.tiles / "images", area).shape[:2],
            lambda area, w: np.asarray(open_array(self.tiles / "images", area)[w[0] : w[0] + w[2], w[1] : w[1] + w[3]]),
            [member(model) for model in committee],
            lambda area, image: encode_image(committee[-1].to(machine.torch_device()), image, machine),
        )


def save(path: Path, model: Segmenter, context: Context) -> None:
    content = describe_model(context.params.segment.network.model_dump(mode="json"), context.scheme, model.preprocessing)
    save_checkpoint(path, {**content, "scale": context.params.tiles.scale, "gsd": None, "weights": model.state_dict()})


def pick(order: str, bench: Bench, seen: Seen, bought: npt.NDArray[np.intp], count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    free = np.setdiff1d(np.arange(len(bench.crops)), bought)
    if order == "random":
        return rng.choice(free, count, replace=False)
    look = seen.look
    n = len(bench.crops)
    if order == "entropy":
        return free[np.argsort(-look.entropy[free], kind="stable")[:count]]
    if order == "bald":
        return free[np.argsort(-look.disagreement[free], kind="stable")[:count]]
    asked = np.ones((n, len(bench.scheme)), bool)
    first = take(look, slice(0, n))
    change = as_miou(tag_changes(first, asked), first.won.sum(0))
    change[bought] = 0
    if order == "change":
        return free[np.argsort(-change[free], kind="stable")[:count]]
    places = standardise(seen.features, seen.weights)
    if order == "cover":
        change = np.ones(n); change[bought] = 0
    reach = reach_of(places[:n], n // (count + len(bought)))
    if order == "next_wide":
        reach *= 2
    if order == "next_half":
        reach /= 2
    alike = likeness(places[free], places[:n], reach)
    done = np.concatenate([places[bought], places[n:]])
    covered = likeness(places[:n], done, reach).max(1).astype(float)
    square = likeness(places[:n], places[:n], reach)
    index, _ = choose([np.array([i]) for i in free], change, square.__getitem__, covered, np.ones(len(free)), count=count)
    return free[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budgets", default="32,64,128,256")
    parser.add_argument("--orders", default="random,entropy,next")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.workspace, args.out)
    file = args.out / "next.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    budgets = [int(b) for b in args.budgets.split(",")]
    price = len(bench.scheme) * bench.params.label_cost.tag_seconds_per_class

    def record(row: dict[str, Any]) -> None:
        rows.append(row)
        file.write_text(json.dumps(rows, indent=1))
        print(row["order"], row["seed"], row["crops"], round(row["miou"], 4), {k: round(v, 3) for k, v in row["iou"].items()}, row["seconds_taken"], flush=True)

    def run(order: str, seed: int, count: int, bought: npt.NDArray[np.intp], start: Segmenter) -> Segmenter:
        began = time.monotonic()
        model = bench.train(start, "consistency", bought, seed, ROUND_STEPS, RATE)
        record({"order": order, "seed": seed, "crops": count, "seconds": count * price, "bought": bought.tolist(),
                **bench.miou(model), "seconds_taken": round(time.monotonic() - began, 1)})
        return model

    for seed in map(int, args.seeds.split(",")):
        task_i, untagged = bench.base(seed)
        for name, model in (("pixel", task_i), ("untagged", untagged)):
            if not any(r["order"] == name and r["seed"] == seed for r in rows):
                record({"order": name, "seed": seed, "crops": 0, "seconds": 0, "bought": [], **bench.miou(model), "seconds_taken": 0})
        for order in args.orders.split(","):
            if order in ("none", "all"):
                if not any(r["order"] == order and r["seed"] == seed for r in rows):
                    n = len(bench.crops) if order == "all" else 0
                    run(order, seed, n, np.arange(n), load_segmenter(args.out / f"untagged-{seed}.pt")[0])
                continue
            bought = np.zeros(0, np.intp)
            student = load_segmenter(args.out / f"untagged-{seed}.pt")[0]
            rng = np.random.default_rng([seed, 7])
            for count in budgets:
                kept = next((r for r in rows if (r["order"], r["seed"], r["crops"]) == (order, seed, count)), None)
                if kept:
                    bought = np.array(kept["bought"])
                    student = load_segmenter(args.out / f"{order}-{seed}-{count}.pt")[0]
                    rng = np.random.default_rng([seed, count])
                    continue
                seen = bench.see([task_i, untagged, student] if len(bought) else [task_i, untagged]) if order != "random" else None
                new = pick(order, bench, seen, bought, count - len(bought), rng)
                bought = np.concatenate([bought, new])
                student = run(order, seed, count, bought, load_segmenter(args.out / f"untagged-{seed}.pt")[0])
                save(args.out / f"{order}-{seed}-{count}.pt", student, bench.context)


if __name__ == "__main__":
    main()
