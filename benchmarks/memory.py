"""Claim: a map of a 50,000 x 50,000 px raster takes less than 2 GB of memory, and no more than a shorter one's.

python benchmarks/memory.py [--side 50000] [--height 0] [--model MODEL] [--scale 1] [--overlap 0.25] [--deep]

Writes a sparse GeoTIFF, mostly nodata, with a strip of pixels over its whole width and patches of 700 px, and predicts
it in a process of its own, file to file, with a network of 1x1 kernels and five classes, or with MODEL. ``--deep``:
five bands of 16 bits and the U-Net of params.yaml for them, untrained. What is printed is
the peak of resident memory of that process, libraries included (resource.getrusage), and the CPU time. Every row of
windows holds its buffers over the full width whether or not there are pixels in it, so nodata saves time and not
memory. The map is checked at the strip, a patch and a hole. Exit code 1 over 2 GB or if the map is wrong.
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


NAMES = ("red", "green", "blue", "nir", "height")


def write_sparse(path: Path, height: int, width: int, *, deep: bool = False) -> list[tuple[int, int]]:
    """The raster; returns the corners of its patches."""
    count, dtype = (5, "uint16") if deep else (3, "uint8")
    layout = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": dtype, "nodata": 0}
    layout |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "compress": "deflate"}
    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.09, 0, 497000, 0, -0.09, 5420000)}
    rng = np.random.default_rng(0)
    corners = [(int(r), int(c)) for r, c in zip(rng.integers(0, height - PATCH, 12), rng.integers(0, width - PATCH, 12),
                                                strict=True)]  # fmt: skip
    with rasterio.open(path, "w", **layout, **place, interleave="pixel") as file:
        for row, column in corners:
            file.write(_texture(rng, count, PATCH, PATCH), window=Window(column, row, PATCH, PATCH))
        file.write(_texture(rng, count, STRIP, width), window=Window(0, height // 2, width, STRIP))
        if deep:
            file.descriptions = NAMES
    return corners


def _texture(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    coarse = rng.integers(1, 256, (count, height // 20 + 1, width // 20 + 1), dtype=np.uint8)
    fine = np.kron(coarse, np.ones((1, 20, 20), np.uint8))[:, :height, :width]
    return fine if count == 3 else fine.astype(np.uint16) * 10


def save_deep_model(path: Path) -> None:
    """The U-Net of params.yaml for five bands of 16 bits, with the weights it is drawn with."""
    import torch

    from weakseg.core.bands import Bands, Statistics, known_band
    from weakseg.core.classes import ISPRS
    from weakseg.core.params import load_params
    from weakseg.training.checkpoints import describe_model, save_checkpoint
    from weakseg.training.segmenter import segmenter_of

    bands = Bands(tuple(known_band(name, dtype="uint16") for name in NAMES))
    bands = bands.with_statistics(Statistics(1000.0, 300.0, (0.0,) * 5) for _ in NAMES)
    params = load_params(Path(__file__).parents[1] / "params.yaml").segment.network
    torch.manual_seed(0)
    model = segmenter_of(params.model_copy(update={"weights": "none"}), len(ISPRS), bands)
    content = describe_model(params.model_dump(mode="json"), ISPRS, model.preprocessing)
    save_checkpoint(path, {**content, "scale": 1.0, "gsd": None, "weights": model.state_dict()})


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
    summary = run_predictor(
        predictor, inspect_source(source, None, wanted=predictor.bands), target, Options(WINDOW, overlap, BATCH)
    )
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
    parser.add_argument("--deep", action="store_true", help="five bands of 16 bits")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.model, options.scale, options.overlap)
        return 0
    height = options.height or options.side
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "sparse.tif", Path(folder) / "map.tif"
        corners = write_sparse(source, height, options.side, deep=options.deep)
        if options.deep and not options.model:
            options.model = str(Path(folder) / "U-Net, five bands uint16" / "m.pt")
            Path(options.model).parent.mkdir()
            save_deep_model(Path(options.model))
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
