"""Claim: `weakseg predict` under OpenVINO takes a fraction of torch's CPU time, file to file, for the same map.

One process, one thread, one model file, one raster (an image repeated to a side of ``--size``), the same windows: torch
(what weakseg did before engines), ONNX Runtime, OpenVINO in float32 and in bf16, and MONAI's sliding_window_inference
with Gaussian blending, in memory, with the same network at the same overlap. In turn, best of the repeats, by CPU time
of the process. Maps are compared with torch's; probabilities are those of the file (steps of 1/254). Starting an engine
(making it from the network, comparing it on three windows) is paid once and timed apart. ``network alone`` is the same
windows through the network, neither read nor blended, and without the layer that says how unlike the training they are.
Exit code 1 if a float32 engine's map is not torch's.

Run it as the processor is, and with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2, which caps torch and its oneDNN
(not ONNX Runtime, and OpenVINO in part only, which in bf16 then fails its check). Needs the extras ``export`` and
``openvino`` and the ``bench`` group.

    python benchmarks/engines.py MODEL IMAGE [--size 2048] [--repeats 2] [--map-only] [--engines openvino-bf16]

With ``--map-only`` the timed runs write what `weakseg predict` writes unasked, the map and nothing else; probabilities
are then compared by the untimed first runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import rasterio
import torch
from monai.inferers import sliding_window_inference

from weakseg.core.errors import WeaksegError
from weakseg.data.crops.augment import normalise
from weakseg.data.windows import cover_windows
from weakseg.inference.allocation import keep_buffers
from weakseg.inference.model import load_predictor
from weakseg.inference.options import Options
from weakseg.inference.run import run_predictor
from weakseg.inference.scene import PLAIN
from weakseg.inference.sweep import stack_images
from weakseg.raster.stream import inspect_source
from weakseg.raster.write import write_raster
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

ENGINES = (("torch", "float32"), ("onnx", "float32"), ("openvino", "float32"), ("openvino", "bf16"), ("torch", "bf16"))

LOOKS = 8  # batches of four windows that the network alone is timed on


class Way:
    """A model under one engine, file to file: the map, the probabilities and what was said of it."""

    def __init__(self, model: Path, source: Path, engine: str, precision: str, window: int) -> None:
        machine = Machine(device="cpu", quiet=True).at_precision(precision)
        self.predictor = load_predictor(model, PLAIN, machine, engine=engine)  # type: ignore[arg-type]
        self.source, self.window, self.said = inspect_source(source, None), window, ""

    def __call__(self, *, map_only: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        target, beside = self.source.path.with_name("map.tif"), self.source.path.with_name("probabilities.tif")
        options = Options(self.window, 0.25, 4, None if map_only else beside, resume=False)
        done = run_predictor(self.predictor, self.source, target, options, gsd="ignore")
        self.said = "" if done.engine is None else done.engine.parity
        return read(target)[0], None if map_only else read(beside)

    def alone(self, image: np.ndarray) -> float:
        """CPU seconds of the network for as many windows as a map of ``image`` takes, neither read nor blended."""
        network, side = self.predictor.network(), self.window
        batch = stack_images([image[:side, :side]] * 4)
        began = time.process_time()
        for _ in range(LOOKS):
            network(batch)
        windows = len(cover_windows(*image.shape[:2], side, 0.25))
        return (time.process_time() - began) * windows / (4 * LOOKS)


def read(path: Path) -> np.ndarray:
    """All bands."""
    with rasterio.open(path) as file:
        return file.read()


def by_monai(model: Path, image: np.ndarray, window: int) -> np.ndarray:
    """The map of MONAI's sliding window over the same network."""
    network = load_segmenter(model)[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        whole = normalise(torch.from_numpy(image).permute(2, 0, 1)[None], network.preprocessing)
        logits = sliding_window_inference(whole, window, 4, network, 0.25, mode="gaussian")
    return logits[0].argmax(0).numpy()  # type: ignore[union-attr]


def main() -> int:
    """Print a Markdown row per engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--map-only", action="store_true")
    parser.add_argument("--engines", nargs="*", default=[f"{engine}-{precision}" for engine, precision in ENGINES])
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the raster lies nowhere
    keep_buffers()
    image = cv2.imread(str(given.image), cv2.IMREAD_COLOR_RGB)
    times = -(-given.size // min(image.shape[:2]))
    image = np.ascontiguousarray(np.tile(image, (times, times, 1))[: given.size, : given.size])
    best: dict[str, float] = {}
    start: dict[str, float] = {}
    maps: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    network: dict[str, float] = {}
    seen: dict[str, np.ndarray | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.tif"
        write_raster(source, image, compress=True)
        ways: dict[str, Way] = {}
        for engine, precision in ENGINES:
            if f"{engine}-{precision}" not in ["torch-float32", *given.engines]:
                continue
            name, began = f"{engine} {precision}", time.process_time()
            try:
                way = Way(given.model, source, engine, precision, given.window)
                seen[name] = way()[1]
                ways[name], start[name] = way, time.process_time() - began
            except WeaksegError as error:
                print(f"{name} is refused: {error}\n")
        for _ in range(given.repeats):
            for name, way in ways.items():
                began = time.process_time()
                classes, found = way(map_only=given.map_only)
                best[name] = min(best.get(name, np.inf), time.process_time() - began)
                maps[name] = classes, seen[name] if given.map_only else found
                network[name] = min(network.get(name, np.inf), way.alone(image))
            began = time.process_time()
            maps["MONAI, in memory"] = by_monai(given.model, image, given.window), None
            best["MONAI, in memory"] = min(best.get("MONAI, in memory", np.inf), time.process_time() - began)
    truth, chances = maps["torch float32"]
    print(f"{given.size} x {given.size} px, windows of {given.window} px, one thread\n")
    print(
        "| engine | CPU s | network alone | torch over it | start, once | same class | probabilities, of 254 | check |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, seconds in best.items():
        classes, found = maps[name]
        apart = "" if found is None else f"{np.abs(found.astype(int) - chances).max()}"
        said = ways[name].said if name in ways else ""
        first = f"{start[name] - seconds:.1f}" if name in start and not given.map_only else ""
        inside = f"{network[name]:.2f}" if name in network else ""
        print(f"| {name} | {seconds:.2f} | {inside} | {best['torch float32'] / seconds:.2f} | {first} ", end="")
        print(f"| {(classes == truth).mean():.3%} | {apart} | {said} |")
    exact = [name for name in ways if name.endswith("float32")]
    return int(any((maps[name][0] == truth).mean() < 0.99999 for name in exact))


if __name__ == "__main__":
    sys.exit(main())
