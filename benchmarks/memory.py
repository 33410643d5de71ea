"""Claim: a map of a 50,000 x 50,000 px raster takes less than 2 GB of memory, and no more than a shorter one's.

python benchmarks/memory.py [--side 50000] [--height 0] [--model MODEL] [--scale 1] [--overlap 0.25]

Writes a sparse GeoTIFF, mostly nodata, with a strip of pixels over its whole width and patches of 700 px, and predicts
it in a process of its own, file to file, with a network of 1x1 kernels and five classes, or with MODEL. What is
printed is the peak of resident memory of that process, libraries included (resource.getrusage), and the CPU time.
Every row of windows holds its buffers over the full width whether or not there are pixels in it, so nodata saves time
and not memory. The map is checked at the strip, a patch and a hole. Exit code 1 over 2 GB or if the map is wrong.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
from rasterio.windows import Window

LIMIT = 2_000_000_000  # bytes
PATCH, STRIP = 700, 300  # px
WINDOW, BATCH = 512, 4


def write_sparse(path: Path, height: int, width: int) -> list[tuple[int, int]]:
    """The raster; returns the corners of its patches."""
    layout = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8", "nodata": 0}
    layout |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "compress": "deflate"}
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.09, 0, 497000, 0, -0.09, 5420000)}
    rng = np.random.default_rng(0)
    corners = [(int(r), int(c)) for r, c in zip(rng.integers(0, height - PATCH, 12), rng.integers(0, width - PATCH, 12),
                                                strict=True)]  # fmt: skip
    with rasterio.open(path, "w", **layout, **place, interleave="pixel") as file:
        for row, column in corners:
            file.write(_texture(rng, PATCH, PATCH), window=Window(column, row, PATCH, PATCH))
        file.write(_texture(rng, STRIP, width), window=Window(0, height // 2, width, STRIP))
    return corners


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(1, 256, (3, height // 20 + 1, width // 20 + 1), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, 20, 20), np.uint8))[:, :height, :width]


def child(source: Path, target: Path, model: str, scale: float, overlap: float) -> None:
    """Predict in this process and print its peak."""
    import torch

    from weakseg.core.classes import ISPRS
    from weakseg.inference.allocation import keep_buffers
    from weakseg.inference.model import Predictor, load_predictor
    from weakseg.inference.options import Options
    from weakseg.inference.run import run_predictor
    from weakseg.inference.scene import PLAIN
    from weakseg.raster.stream import inspect_source
    from weakseg.training.machine import Machine

    keep_buffers()
    torch.set_num_threads(1)
    kernel = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.4, 0.4], [-1, 1, 0.2]])

    def pointwise(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.einsum("kc,bchw->bkhw", kernel, images.float() / 64 - 2).softmax(1)

    machine = Machine(device="cpu", precision="no", quiet=True)
    predictor = (
        load_predictor(Path(model), PLAIN, machine)
        if model
        else Predictor(pointwise, ISPRS, scale, None, torch.device("cpu"), "")
    )
    summary = run_predictor(predictor, inspect_source(source, None), target, Options(WINDOW, overlap, BATCH))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{summary.windows} {peak} {time.process_time():.1f}")


def map_is_right(target: Path, source: Path, corners: list[tuple[int, int]]) -> bool:
    """Data exactly where the raster has data, around every patch and in the strip."""
    with rasterio.open(source) as image, rasterio.open(target) as file:
        if (file.shape, file.transform, file.crs) != (image.shape, image.transform, image.crs):
            return False
        boxes = [Window(max(0, column - 50), max(0, row - 50), PATCH + 100, PATCH + 100) for row, column in corners]
        boxes.append(Window(0, image.height // 2 - 20, image.width, STRIP + 40))
        return all(
            np.array_equal(file.read(1, window=box) != 255, (image.read(window=box) != 0).any(0)) for box in boxes
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=50_000)
    parser.add_argument("--height", type=int, default=0, help="rows, where they are not as many as columns")
    parser.add_argument("--model", default="")
    parser.add_argument("--scale", type=float, default=1.0, help="of the network's grid, for the 1x1 network")
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.model, options.scale, options.overlap)
        return 0
    height = options.height or options.side
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "sparse.tif", Path(folder) / "map.tif"
        corners = write_sparse(source, height, options.side)
        command = [sys.executable, __file__, "--child", str(source), str(target), "--model", options.model]
        command += ["--scale", str(options.scale), "--overlap", str(options.overlap)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        right = map_is_right(target, source, corners)
    windows, peak, seconds = int(answer[-3]), int(answer[-2]), float(answer[-1])
    print("| raster | network | windows with data | peak memory | CPU time | map |\n|---|---|---|---|---|---|")
    name = Path(options.model).parent.name if options.model else f"1x1 kernels, scale {options.scale:g}"
    verdict = "right" if right else "WRONG"
    print(f"| {height} x {options.side} | {name} | {windows} | {peak / 1e9:.2f} GB | {seconds:.0f} s | {verdict} |")
    return 0 if peak < LIMIT and right else 1


if __name__ == "__main__":
    sys.exit(main())
