"""Two processes on the CPU, started by torchrun: trainings equal one process's, stages share the areas, no file twice.

The module is its own script: ``torchrun -m tests.training.test_distributed FOLDER`` runs :func:`main` on every rank.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tests.slim import slim
from torch import Tensor, nn
from torch.utils.data import Dataset

from weakseg.cli import app
from weakseg.cli import main as command_line
from weakseg.core.layout import Layout
from weakseg.core.sections import OptimiserParams
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.training.fit import fit
from weakseg.training.machine import machine_from_environment
from weakseg.training.seeds import seed_everything

PROJECT = Path(__file__).parents[2]
NETS = ("conv", "spare", "norm")
PER_TILE = ("cam", "crf", "teacher", "fused", "evaluate pixel")
TRAININGS = ("classifier", "irnet", "single_stage", "segment pixel")
AREAS = ("p1", "p2", "t1", "t2")  # dealt out in turn: rank 1 has p2 and t2
LOST, UNWRITTEN = "out/scores/irnet/t2.npz", "reports/fused.json"


# ---- what the ranks run ---------------------------------------------------------------------------------------------


class Noise(Dataset[dict[str, dict[str, Tensor]]]):
    """Four crops per step over all ranks, dealt out in turn."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return 3

    def __getitem__(self, step: int) -> dict[str, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(4, 3, 8, 8, generator=generator)
        masks = torch.randint(0, 2, (4, 8, 8), generator=generator)
        mine = slice(self.rank, None, self.world)
        return {"a": {"image": images[mine], "mask": masks[mine]}}


class Net(nn.Module):
    """A body, and a head that one kind of training leaves out."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        last = nn.BatchNorm2d(8) if batch_norm else nn.ReLU()  # which takes a bias away again
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=not batch_norm), last)
        self.head, self.spare = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, spare: bool = False) -> Tensor:
        return (self.spare if spare else self.head)(self.body(x).relu())  # type: ignore[no-any-return]


def train(kind: str, folder: Path) -> None:
    """``conv`` and ``norm`` pass the network twice per step; ``spare`` has parameters that no loss reaches."""
    plan = OptimiserParams(
        steps=3, batch=4, lr=0.01, encoder_factor=1, weight_decay=0.01, warmup=0.3, ema=0.5, report_every=1
    )
    seed_everything(0)
    model, machine, kept = Net(kind == "norm"), replace(machine_from_environment(), quiet=True), []

    def step_loss(state: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        image, mask = batch["a"]["image"], batch["a"]["mask"]
        loss = nn.functional.cross_entropy(state.model(image), mask)
        if kind != "spare":
            loss = loss + nn.functional.cross_entropy(state.model(image.flip(3), spare=True), mask)
        return loss, {"double": 2 * loss.detach()}

    result = fit(
        model,
        step_loss,
        parameter_groups=[{"params": list(model.parameters()), "lr": plan.lr}],
        dataset=Noise,
        plan=plan,
        seed=0,
        machine=machine,
        resume_file=folder / f"{kind}-resume.pt",
        identity=kind,
        on_report=lambda net, step, row: kept.append(step),
    )
    assert kept == ([1, 2, 3] if machine.is_main else [])
    content = {"plain": model.state_dict(), "average": result.model.state_dict(), "history": result.history}
    torch.save(content, folder / f"{kind}-{machine.rank}.pt")


def main(folder: Path, *stages: str) -> None:
    """All that needs two ranks, in one launch, since each process needs seconds to import torch.

    ``stages`` are "workspace/stage source". At the end fused fails, and so the launch: an input of rank 1 is removed.
    """
    rank, written = machine_from_environment().rank, []
    really_replace = os.replace

    def note(temporary: Path, target: Path) -> None:
        written.append(str(target))
        really_replace(temporary, target)

    for kind in NETS:
        train(kind, folder)
    os.replace = note  # type: ignore[assignment]
    for root, words in (each.split("/") for each in stages):
        print(f"rank {rank}: {root} {words} from {time.process_time():.1f} CPU s", flush=True)
        app(["--root", str(folder / root), "stage", *words.split()], standalone_mode=False)
    (folder / f"written-{rank}.json").write_text(json.dumps(written))
    if rank == 0:
        shutil.copytree(folder / "tiny" / "out" / "scores" / "fused", folder / "kept" / "out" / "scores" / "fused")
        shutil.move(folder / "tiny" / UNWRITTEN, folder / "kept" / "fused.json")
        os.remove(folder / "tiny" / LOST)
    machine_from_environment().wait()
    sys.argv = ["weakseg", "--root", str(folder / "tiny"), "stage", "fused"]
    command_line()


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


# ---- the same by one process ----------------------------------------------------------------------------------------


def stage(root: Path, words: str) -> None:
    name, *source = words.split()
    import_module(f"weakseg.stages.{name}").run(root, *source)


def prepare(root: Path, make: Callable[[Path], Path], change: Callable[[dict[str, Any]], None]) -> Path:
    path = make(root) / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    stage(root, "tiles")
    return root


def slimmer(raw: dict[str, Any]) -> None:
    """Networks of a second's training."""
    slim(raw)
    raw["irnet"]["walk_steps"] = [2, 4]
    for section in ("classifier", "irnet", "single_stage"):
        raw[section]["optimiser"] |= {"steps": 2, "batch": 4, "report_every": 2}


def without_chance(raw: dict[str, Any]) -> None:
    """No draw inside a step, no hold-out, no weights: all crops count alike, however many processes share them."""
    raw["tiles"]["holdout"] = 0.0
    segment = raw["segment"]
    segment["network"]["dropout"], segment["augment"]["colour"], segment["class_weights"] = 0.0, 0.0, {}
    segment["optimiser"] |= {"report_every": 1, "lr": 0.002}


def draw_scores(root: Path, methods: Iterable[str]) -> None:
    """Scores as the methods would write them."""
    layout, rng = Layout(root), np.random.default_rng(0)
    for method, area in itertools.product(methods, AREAS):
        maps = ScoreMaps(rng.random((5, 64, 64), np.float32), np.ones(5, bool))
        save_scores(layout.scores(method) / f"{area}.npz", maps)


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory,
    make_workspace: Callable[[Path], Path],
    paint: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> Path:
    """A folder with what one process made in ``one/`` and what two made beside it: trainings, and stage fused."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "one").mkdir()
    exact = prepare(folder / "one" / "exact", make_workspace, without_chance)
    for number, area in enumerate(("p1", "p2")):  # a label for every pixel
        mask = paint(number)[1]
        np.save(exact / "out" / "tiles" / "labels" / f"{area}.npy", np.where(mask == 255, 0, mask).astype(np.uint8))
    tiny = prepare(folder / "one" / "tiny", make_workspace, slimmer)
    draw_scores(tiny, ("teacher", "irnet", "single_stage"))
    for root in (tiny, exact):
        shutil.copytree(root, folder / root.name)
    stage(exact, "segment pixel")
    stage(tiny, "fused")
    for kind in NETS:
        train(kind, folder / "one")
    launch(folder, "exact/segment pixel", "tiny/fused")
    return folder


@pytest.fixture(scope="module")
def all_stages(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Path:
    """The same with every stage that runs on several ranks, each with inputs that one process made."""
    folder = tmp_path_factory.mktemp("all_stages")
    (folder / "one").mkdir()
    tiny = prepare(folder / "one" / "tiny", make_workspace, slimmer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKSEG_CRF_WORKERS", "1")  # a pool's processes import all of this once more
        for words in ("classifier", "cam", "crf", "irnet", "single_stage", "segment pixel", *PER_TILE[2:]):
            stage(tiny, words)
        shutil.copytree(tiny, folder / "tiny")
        for name in ("scores/cam", "scores/crf", "scores/teacher", "scores/fused", "predictions"):
            shutil.rmtree(folder / "tiny" / "out" / name)
        launch(folder, *(f"tiny/{words}" for words in (*PER_TILE, *TRAININGS)))
    return folder


def launch(folder: Path, *stages: str) -> None:
    done = torchrun("-m", "tests.training.test_distributed", str(folder), *stages)
    (folder / "said.txt").write_text(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
    written = [(folder / f"written-{rank}.json").is_file() for rank in (0, 1)]
    assert all(written), done.stdout[-2000:] + done.stderr[-4000:]


def load(folder: Path, kind: str, rank: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"{kind}-{rank}.pt", weights_only=True)
    return content


@pytest.mark.parametrize("kind", ["conv", "spare"])
def test_two_processes_train_as_one(two: Path, kind: str) -> None:
    alone, first, second = load(two / "one", kind), load(two, kind, 0), load(two, kind, 1)
    for which in ("plain", "average"):
        for key, value in alone[which].items():
            assert torch.allclose(first[which][key], value, atol=1e-5, rtol=0), (which, key)
            assert torch.equal(first[which][key], second[which][key]), (which, key)
    start = load(two / "one", "conv")["plain"]["head.weight"]
    assert not torch.allclose(start, alone["average"]["head.weight"], atol=1e-5)  # the average lags: training moved


def test_batch_norm_sees_the_crops_of_all_ranks(two: Path) -> None:
    alone, first, second = load(two / "one", "norm"), load(two, "norm", 0), load(two, "norm", 1)
    for key, value in alone["plain"].items():
        assert torch.allclose(first["plain"][key].float(), value.float(), atol=1e-5, rtol=0), key
        assert torch.equal(first["average"][key], second["average"][key]), key
    assert first["plain"]["body.1.num_batches_tracked"] == alone["plain"]["body.1.num_batches_tracked"] == 6
    assert float(alone["plain"]["body.1.running_var"].sub(1).abs().min()) > 0.1  # they have moved


@pytest.mark.parametrize("kind", NETS)
def test_the_loss_that_is_reported_is_that_of_all_crops(two: Path, kind: str) -> None:
    alone, first = (load(folder, kind)["history"] for folder in (two / "one", two))
    for name in ("train/loss", "train/double"):
        assert [row[name] for row in first] == pytest.approx([row[name] for row in alone], rel=1e-5)


def test_the_segment_stage_trains_as_one_process_with_the_whole_batch(two: Path) -> None:
    alone, both = (pd.read_csv(folder / "exact/reports/curves/pixel.csv") for folder in (two / "one", two))
    assert both["step"].tolist() == [1, 2, 3, 4]
    one, other = alone["train/loss"].tolist(), both["train/loss"].tolist()
    assert other[:2] == pytest.approx(one[:2], rel=1e-4)
    assert other == pytest.approx(one, rel=0.02)  # Adam turns rounding of gradients near 0 into whole steps
    assert len(set(one)) == 4


def files_of(root: Path, parts: Iterable[str]) -> dict[str, bytes]:
    paths = [path for part in parts for path in sorted((root / part).rglob("*")) if path.suffix in (".npz", ".npy")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_a_stage_that_shares_the_areas_gives_what_one_process_gives(two: Path) -> None:
    alone, both = files_of(two / "one" / "tiny", ["out/scores/fused"]), files_of(two / "kept", ["out/scores/fused"])
    assert len(both) == len(AREAS)
    assert alone == both
    assert (two / "kept" / "fused.json").read_text() == (two / "one" / "tiny" / UNWRITTEN).read_text()


@pytest.mark.slow
def test_every_stage_that_shares_the_areas_gives_what_one_process_gives(all_stages: Path) -> None:
    parts = [*(f"out/scores/{name}" for name in PER_TILE[:3]), "out/predictions/pixel"]
    alone, both = (files_of(folder / "tiny", parts) for folder in (all_stages / "one", all_stages))
    assert sorted(alone) == sorted(both)
    assert len(both) == 3 * len(AREAS) + 1
    assert [name for name in alone if alone[name] != both[name]] == []
    for report in ("evaluate/pixel.json", "confusion/pixel.csv"):
        here, there = (folder / "tiny" / "reports" / report for folder in (all_stages / "one", all_stages))
        assert here.read_text() == there.read_text()


def written(folder: Path) -> tuple[list[str], list[str]]:
    """Files that each rank wrote, in their order; none is written by both."""
    first, second = (json.loads((folder / f"written-{rank}.json").read_text()) for rank in (0, 1))
    assert not set(first) & set(second)
    assert len(set(second)) == len(second)
    return first, [str(Path(name).relative_to(folder / "tiny" / "out" / "scores")) for name in second]


def test_a_rank_writes_its_areas_and_the_main_one_the_rest(two: Path) -> None:
    first, second = written(two)
    assert second == ["fused/p2.npz", "fused/t2.npz"]
    made = {Path(name).name for name in first}
    assert {"seed0.pt", "pixel.csv", "pixel.json", "fused.json", "p1.npz", "t1.npz"} <= made


@pytest.mark.slow
def test_no_stage_writes_a_file_twice(all_stages: Path) -> None:
    first, second = written(all_stages)
    methods = ("cam", "crf", "teacher", "fused", "irnet", "irnet/boundaries", "single_stage")
    ends = {method: "npy" if "/" in method else "npz" for method in methods}
    assert set(second) == {f"{method}/{area}.{end}" for method, end in ends.items() for area in ("p2", "t2")}
    made = {Path(name).name for name in first}
    assert {"model.pt", "seed0.pt", "pixel.csv", "classifier.json", "irnet.json", "fused.json", "pixel.json"} <= made


def test_a_rank_that_fails_fails_the_stage(two: Path) -> None:
    """Rank 1 lacked an input of the last stage, so the main one must not write its report."""
    said = (two / "said.txt").read_text()
    assert "exit status 1\n" in said
    assert f"weakseg: no scores at {two / 'tiny' / LOST}" in said
    assert not (two / "tiny" / UNWRITTEN).exists()


@pytest.mark.slow
def test_a_launcher_before_every_stage(two: Path) -> None:
    """As dvc.yaml calls a stage, with WEAKSEG_LAUNCH set; the failed stage once more, its input back."""
    shutil.copy(two / "one" / "tiny" / LOST, two / "tiny" / LOST)
    launch = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "OMP_NUM_THREADS": "1", "WEAKSEG_LAUNCH": launch}
    words = [sys.executable, "-m", "weakseg", "--root", str(two / "tiny"), "stage", "fused"]
    subprocess.run(words, env=environment, check=True, timeout=600)
    assert (two / "tiny" / UNWRITTEN).exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
