"""Claim: a whole raster, from file to map, is faster than by TerraTorch's tiled inference or by torchgeo's sampler.

python benchmarks/geo_peers.py --peer-python GEO/bin/python --peer-python TERRA/bin/python
    [--size 1024] [--window 256] [--overlap 0.25] [--repeats 3] [--model out/checkpoints/pixel/seed0.pt]

The peers have dependencies that do not fit into this project's environment, nor beside each other: TerraTorch 1.2.13
takes torchgeo < 0.10 only, and torchgeo 0.10 Python 3.12 or newer. So each has an environment of its own, made by
``python3.12 -m venv GEO && GEO/bin/pip install torch torchgeo`` and the same with TERRA and terratorch, with the torch
of this one. An environment runs the peers that no earlier one has; one environment is enough for one peer. The network
is the project's U-Net with random weights, traced to one TorchScript file that takes values from 0 to 255 and gives
probabilities; all processes load it. With ``--model`` it is that one, and two more run: `weakseg predict` of that file
under OpenVINO, in float32 and where the processor can in bf16 (its start, once per process, left out), and MONAI's
sliding_window_inference from file to file with Gaussian blending, which fits into this environment. All read the same
GeoTIFF and write a compressed GeoTIFF of classes, with the same windows, overlap and batch, one thread and the same
settings of the C library's memory; they take turns in one run.

- TerraTorch: ``tiled_inference`` of the whole image in memory with its cosine blending, without its rim (``delta=0``),
  so that the windows are the very same.
- torchgeo has no tiled inference of its own. Its documented parts, ``RasterDataset``, ``GridGeoSampler`` and a
  ``DataLoader``, are followed by the mean of the probabilities where windows overlap, which is this script's.

Times are the best of the repeats, and so is CPU time, which a busy machine disturbs less. Classes are compared where
only one window reaches, which must be equal, and on the whole map, where each way blends in its own manner. Exit code 1
if less than 99.9 % are equal where only one window reaches, or a peer is faster by CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import torch
from geo_peers_worker import load_network, read_pixels, stopwatch, write_classes
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from weakseg.core.classes import ISPRS
from weakseg.core.errors import WeaksegError
from weakseg.data.crops.augment import normalise
from weakseg.data.windows import cover_windows
from weakseg.inference.allocation import keep_buffers
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.inference.scene import PLAIN
from weakseg.networks.build import build_segmenter
from weakseg.networks.portable import ExportNet
from weakseg.raster.stream import inspect_source
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

PEERS = {"terratorch": "TerraTorch `tiled_inference`", "torchgeo": "torchgeo `GridGeoSampler` and a loop"}
BARE, OURS, MONAI = "the network alone", "weakseg, file to file", "MONAI `sliding_window_inference`"
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**31 - 1), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}  # as keep_buffers() does


class Whole(nn.Module):
    """Pixels (B, 3, H, W) from 0 to 255 -> probabilities (B, C, H, W)."""

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        model = load_segmenter(file)[0] if file else build_segmenter(
            "unet", 5, encoder="tf_efficientnet_lite0", weights="none", width=4, dropout=0.0,
            decoder_channels=(64, 32, 16, 16),
        )  # fmt: skip
        self.preprocessing, self.net = model.preprocessing, ExportNet(model)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(normalise(pixels, self.preprocessing))


def write_network(path: Path, window: int, file: Path | None) -> None:
    torch.manual_seed(0)
    whole = Whole(file).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.jit.trace(whole, torch.zeros(2, 3, window, window), check_trace=False).save(str(path))


def write_image(path: Path, size: int) -> None:
    """Blocks with noise, uint8, with a place on Earth, which torchgeo needs."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (3, size // 32 + 1, size // 32 + 1)), np.ones((32, 32), int))
    image = np.clip(blocks[:, :size, :size] + rng.normal(0, 8, (3, size, size)), 0, 255).astype(np.uint8)
    shape = {"count": 3, "height": size, "width": size, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_500_000)}
    with rasterio.open(path, "w", driver="GTiff", interleave="pixel", **shape, **place) as file:
        file.write(image)


class Peer:
    """Another environment as a process that answers one line with one line."""

    def __init__(self, python: str, folder: Path, cut: dict[str, int]) -> None:
        worker = Path(__file__).with_name("geo_peers_worker.py")
        command = [python, "-W", "ignore", str(worker), str(folder), json.dumps(cut)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | KEPT
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(word, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{' '.join(map(str, self.process.args))} ended at {word!r}")  # type: ignore[union-attr]


def our_ways(folder: Path, cut: dict[str, int], overlap: float) -> dict[str, Callable[[], object]]:
    network, source = load_network(folder), folder / "in.tif"
    window, batch = cut["window"], cut["batch"]
    image = torch.from_numpy(read_pixels(source))
    corners = cover_windows(image.shape[1], image.shape[2], window, overlap)
    cuts = [image[:, r : r + window, c : c + window] for r, c in corners]
    batches = [torch.stack(cuts[i : i + batch]).contiguous(memory_format=torch.channels_last)
               for i in range(0, len(cuts), batch)]  # fmt: skip

    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(images.float())

    predictor = Predictor(forward, ISPRS, 1.0, None, torch.device("cpu"), "")
    options = Options(window, overlap, batch, resume=False)
    return {
        BARE: lambda: [forward(images) for images in batches],
        OURS: lambda: run_predictor(predictor, inspect_source(source, None), folder / "weakseg.tif", options),
    }


def by_monai(folder: Path, cut: dict[str, int], overlap: float) -> None:
    """From file to file."""
    network, image = load_network(folder), torch.from_numpy(read_pixels(folder / "in.tif")).float()[None]
    with torch.inference_mode():
        found = sliding_window_inference(image, cut["window"], cut["batch"], network, overlap, mode="gaussian")
        write_classes(folder, "monai", found[0])  # type: ignore[index]


def engine_ways(folder: Path, cut: dict[str, int], overlap: float, model: Path) -> dict[str, Callable[[], object]]:
    """`weakseg predict` of a model file under OpenVINO, ready to run again; what it refuses is said and left out."""
    ways: dict[str, Callable[[], object]] = {}
    for precision in ("float32", "bf16"):
        machine = Machine(device="cpu", quiet=True).at_precision(precision)
        predictor = load_predictor(model, PLAIN, machine, engine="openvino")
        options = Options(cut["window"], overlap, cut["batch"], resume=False)
        run = partial(
            run_predictor,
            predictor,
            inspect_source(folder / "in.tif", None),
            folder / f"{precision}.tif",
            options,
            gsd="ignore",
        )
        try:
            run()
        except WeaksegError as error:
            print(f"OpenVINO {precision} is left out: {error}")
            continue
        ways[f"weakseg, OpenVINO {precision}"] = run
    return ways


def seen_once(size: int, window: int, overlap: float) -> np.ndarray:
    """bool (size, size): where one window alone decides."""
    count = np.zeros((size, size), int)
    for row, column in cover_windows(size, size, window, overlap):
        count[row : row + window, column : column + window] += 1
    return count == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=[], action="append", help="may be given twice")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a model file: also under engines")
    options = parser.parse_args()
    size, window, overlap = options.size, options.window, options.overlap
    stride = int(window * (1 - overlap))
    if (size - window) % stride:
        parser.error(f"--size {size}: the same windows for all need {window} + a multiple of {stride}")
    torch.set_num_threads(1)
    keep_buffers()
    with tempfile.TemporaryDirectory() as name:
        folder, cut = Path(name), {"window": window, "stride": stride, "batch": options.batch}
        write_network(folder / "net.ts", window, options.model)
        write_image(folder / "in.tif", size)
        peers = [Peer(python, folder, cut) for python in options.peer_python]
        installed = [peer.ask("versions") for peer in peers]
        asked = {word: peer for peer, found in reversed(list(zip(peers, installed, strict=True))) for word in found}
        words = {word: label for word, label in PEERS.items() if word in asked}
        versions = "; ".join(", ".join(f"{name} {number}" for name, number in found.items()) for found in installed)
        ways = {name: partial(stopwatch, way) for name, way in our_ways(folder, cut, overlap).items()}
        if options.model:
            more = engine_ways(folder, cut, overlap, options.model)
            more[MONAI] = partial(by_monai, folder, cut, overlap)
            ways |= {name: partial(stopwatch, way) for name, way in more.items()}
        ways |= {label: partial(asked[word].ask, word) for word, label in words.items()}
        found = {name: [way()] for name, way in ways.items()}  # this first run compiles the script
        for _ in range(options.repeats):  # in turn, so that a busy machine is unfair to all
            for name, way in ways.items():
                found[name].append(way())
        maps = {OURS: read_pixels(folder / "weakseg.tif")[0]}
        maps |= {label: read_pixels(folder / f"{word}.tif")[0] for word, label in words.items()}
        files = {"weakseg, OpenVINO float32": "float32", "weakseg, OpenVINO bf16": "bf16", MONAI: "monai"}
        maps |= {label: read_pixels(folder / f"{name}.tif")[0] for label, name in files.items() if label in ways}
        for peer in peers:
            peer.process.stdin.close()  # type: ignore[union-attr]
            peer.process.wait(60)
    best = {name: {key: min(run[key] for run in runs) for key in ("seconds", "cpu")} for name, runs in found.items()}
    print(f"{size}x{size} px, windows of {window} px, overlap {overlap}, one thread; {versions}\n")
    print("| who | seconds | CPU s | of the bare network | by CPU time | best peer over it | equal, one window | all |")
    print("|---|---|---|---|---|---|---|---|")
    peer = min((times["cpu"] for name, times in best.items() if name in {MONAI, *words.values()}), default=float("nan"))
    alone, good = seen_once(size, window, overlap), True
    for name, times in best.items():
        share, work = (best[BARE][key] / times[key] for key in ("seconds", "cpu"))
        equal = ["", ""]
        if name in maps:
            same = maps[name] == maps[OURS]
            equal = [f"{same[alone].mean():.3%}", f"{same.mean():.2%}"]
            good &= "bf16" in name or same[alone].mean() > 0.999
        numbers = f"{times['seconds']:.2f} | {times['cpu']:.2f} | {share:.2f} | {work:.2f} | {peer / times['cpu']:.2f}"
        print(f"| {name} | {numbers} | {' | '.join(equal)} |")
    return 0 if good and not peer < best[OURS]["cpu"] else 1


if __name__ == "__main__":
    sys.exit(main())
