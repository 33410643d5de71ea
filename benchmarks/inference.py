"""Claim: a whole raster, from file to map, costs little more than the bare network on the same windows.

python benchmarks/inference.py [--size 1024] [--window 256] [--network unet] [--repeats 2]

One process, one thread, one network with random weights, float32, the same windows, weights and batch for all:
the network alone on the windows cut beforehand; weakseg's predict from GeoTIFF to GeoTIFF, with reading,
blending, argmax, compression and writing; weakseg's predict_scene in memory; MONAI's sliding_window_inference with
Gaussian blending, in memory, at the same overlap. MONAI places and weighs its windows in its own way, so its maps are
compared by the share of equal classes, and speed per pixel of the raster. Times are the best of the repeats. Exit code
1 if weakseg's two ways disagree. Needs the ``bench`` group.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import torch
from monai.inferers import sliding_window_inference

from weakseg.core.classes import ISPRS
from weakseg.data.crops.augment import normalise
from weakseg.data.windows import cover_windows
from weakseg.inference.allocation import keep_buffers
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.inference.scene import PLAIN, predict_probabilities, predict_scene
from weakseg.networks.build import build_segmenter
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_raster
from weakseg.training.machine import Machine


def make_image(size: int) -> np.ndarray:
    """Blocks with noise, uint8 (size, size, 3)."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (size // 32 + 1, size // 32 + 1, 3), dtype=np.uint8)
    image = np.kron(blocks, np.ones((32, 32, 1), np.uint8))[:size, :size]
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--network", default="unet", choices=("unet", "encdec_unpool"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--system-allocation", action="store_true", help="not as `weakseg predict` keeps memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if not options.system_allocation:
        keep_buffers()
    machine = Machine(device="cpu", precision="no", quiet=True)
    encoder, channels = "tf_efficientnet_lite0", (64, 32, 16, 16)
    model = build_segmenter(
        options.network, 5, encoder=encoder, weights="none", width=4, dropout=0.0, decoder_channels=channels
    ).eval()
    model = model.to(memory_format=torch.channels_last)
    size, window, batch = options.size, options.window, options.batch
    image = make_image(size)
    corners = cover_windows(size, size, window, options.overlap)
    cuts = [np.stack([image[r : r + window, c : c + window] for r, c in corners[i : i + batch]])
            for i in range(0, len(corners), batch)]  # fmt: skip
    tensors = [torch.from_numpy(cut).permute(0, 3, 1, 2) for cut in cuts]

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return predict_probabilities(model, normalise(images, model.preprocessing), PLAIN)

    def bare() -> None:
        with torch.inference_mode():
            for tensor in tensors:
                model(normalise(tensor, model.preprocessing))

    def by_monai() -> np.ndarray:
        with torch.inference_mode():
            whole = torch.from_numpy(image).permute(2, 0, 1)[None]
            logits = sliding_window_inference(
                normalise(whole, model.preprocessing), window, batch, model, options.overlap, mode="gaussian"
            )
        return logits[0].argmax(0).numpy()

    def in_memory() -> np.ndarray:
        maps = predict_scene(
            model, image, preprocessing=model.preprocessing, window=window, overlap=options.overlap, batch=batch,
            views=PLAIN, machine=machine,
        )  # fmt: skip
        return maps.argmax(0)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.tif", Path(folder) / "out.tif"
        write_raster(source, image, compress=True)
        predictor = Predictor(forward, ISPRS, 1.0, None, torch.device("cpu"), "")

        def from_file() -> np.ndarray:
            settings = Options(window, options.overlap, batch, resume=False)
            run_predictor(predictor, inspect_source(source, None), target, settings)
            with rasterio.open(target) as file:
                return np.asarray(file.read(1))

        ways: dict[str, Callable[[], np.ndarray | None]] = {
            "the network alone": bare,
            "weakseg, file to file": from_file,
            "weakseg, in memory": in_memory,
            "MONAI, Gaussian": by_monai,
        }
        best = dict.fromkeys(ways, float("inf"))
        work = dict.fromkeys(ways, float("inf"))
        maps: dict[str, np.ndarray | None] = {}
        for _ in range(options.repeats):  # in turn, so that a busy machine is unfair to all
            for name, way in ways.items():
                start, cpu = time.perf_counter(), time.process_time()
                maps[name] = way()
                best[name] = min(best[name], time.perf_counter() - start)
                work[name] = min(work[name], time.process_time() - cpu)
    ours = maps["weakseg, file to file"]
    print(f"{options.network}, {size}x{size} px, {len(corners)} windows of {window} px, one thread\n")
    print("| who | seconds | throughput of the bare network | by CPU time | same classes |\n|---|---|---|---|---|")
    for name, seconds in best.items():
        same = "" if maps[name] is None else f"{float((maps[name] == ours).mean()):.3%}"
        share, cpu = best["the network alone"] / seconds, work["the network alone"] / work[name]
        print(f"| {name} | {seconds:.2f} | {share:.2f} | {cpu:.2f} | {same} |")
    return 0 if float((maps["weakseg, in memory"] == ours).mean()) > 0.9999 else 1  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.exit(main())
