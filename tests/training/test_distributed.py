"""Two processes on the CPU train as one does with the same global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import weakseg

SCRIPT = '''
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from weakseg.params import OptimiserParams
from weakseg.training.fit import fit
from weakseg.training.machine import Machine
from weakseg.training.seeds import seed_everything


class Noise(Dataset):
    """Four crops per step over all ranks, dealt out in turn."""

    def __init__(self, rank, world):
        self.rank, self.world = rank, world

    def __len__(self):
        return 3

    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(step)
        images = torch.rand(4, 3, 8, 8, generator=generator)
        masks = torch.randint(0, 2, (4, 8, 8), generator=generator)
        mine = slice(self.rank, None, self.world)
        return {"a": {"image": images[mine], "mask": masks[mine]}}


class Net(nn.Module):
    """Two forward passes per step, and a head that one kind of training leaves out."""

    def __init__(self, batch_norm):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8) if batch_norm else nn.ReLU())
        self.head, self.spare = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x, spare=False):
        return (self.spare if spare else self.head)(self.body(x))


def train(name, folder, batch_norm, both):
    plan = OptimiserParams(
        steps=3, batch=4, lr=0.01, encoder_factor=1, weight_decay=0.01, warmup=0.3, clip=0.5, ema=0.5, report_every=1
    )
    seed_everything(0)
    model = Net(batch_norm)
    kept = []

    def step_loss(state, batch):
        image, mask = batch["a"]["image"], batch["a"]["mask"]
        loss = nn.functional.cross_entropy(state.model(image), mask)
        if both:
            loss = loss + nn.functional.cross_entropy(state.model(image.flip(3), spare=True), mask)
        return loss, {}

    def on_report(net, step, row):
        kept.append(step)

    result = fit(
        model, step_loss, parameter_groups=[{"params": list(model.parameters()), "lr": plan.lr}],
        dataset=Noise, plan=plan, seed=0, machine=Machine(device="cpu", precision="no", quiet=True),
        resume_file=folder / f"{name}-resume.pt", identity=name, on_report=on_report,
    )
    rank = int(__import__("os").environ.get("RANK", 0))
    assert kept == ([1, 2, 3] if rank == 0 else [])
    torch.save({"plain": model.state_dict(), "average": result.model.state_dict()}, folder / f"{name}-{rank}.pt")


folder = Path(sys.argv[1])
train("conv", folder, False, True)
train("spare", folder, False, False)
train("norm", folder, True, True)
'''


def run(script: Path, folder: Path, processes: int) -> None:
    folder.mkdir()
    source = str(Path(weakseg.__file__).parents[1])
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder)]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
        command = [sys.executable, *launch, str(script), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def load(folder: Path, name: str, rank: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(folder / f"{name}-{rank}.pt", weights_only=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("distributed")
    script = base / "script.py"
    script.write_text(SCRIPT)
    run(script, base / "one", 1)
    run(script, base / "two", 2)
    return base / "one", base / "two"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "spare"])
def test_two_processes_train_as_one(folders: tuple[Path, Path], name: str) -> None:
    """``conv`` passes the network twice per step; ``spare`` has parameters that no loss reaches."""
    alone, first, second = load(folders[0], name), load(folders[1], name, 0), load(folders[1], name, 1)
    for kind in ("plain", "average"):
        for key, value in alone[kind].items():
            assert torch.allclose(first[kind][key], value, atol=1e-5, rtol=0), (kind, key)
            assert torch.equal(first[kind][key], second[kind][key]), (kind, key)
    start = load(folders[0], "conv")["plain"]["head.weight"]
    assert not torch.allclose(start, alone["average"]["head.weight"], atol=1e-5)  # the average lags: training moved


@pytest.mark.slow
def test_batch_norm_trains_over_two_passes(folders: tuple[Path, Path]) -> None:
    """Weights agree between ranks; running statistics are each rank's own view of the data."""
    first, second = load(folders[1], "norm", 0)["plain"], load(folders[1], "norm", 1)["plain"]
    for key in first:
        if "running" not in key:
            assert torch.equal(first[key], second[key]), key
    assert first["body.1.num_batches_tracked"].item() == 6
