"""The side of ``geo_peers.py`` that runs in the environment of torchgeo and TerraTorch; imports nothing of weakseg.

python geo_peers_worker.py FOLDER '{"window": 256, "stride": 192, "batch": 4}'

FOLDER holds ``net.ts`` and ``in.tif``. Each line on standard input is one run, each answer one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch


def load_network(folder: Path) -> Any:
    return torch.jit.load(str(folder / "net.ts")).eval()


def read_pixels(path: Path) -> np.ndarray:
    """(bands, H, W)."""
    with rasterio.open(path) as file:
        return file.read()


def stopwatch(way: Callable[[], object]) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    way()
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def write_classes(folder: Path, name: str, probabilities: torch.Tensor) -> None:
    """Probabilities (C, H, W) -> a compressed GeoTIFF of classes on the grid of the image."""
    with rasterio.open(folder / "in.tif") as file:
        profile = file.profile | {"count": 1, "dtype": "uint8", "blockxsize": 256, "blockysize": 256}
    with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
        file.write(probabilities.argmax(0).to(torch.uint8).numpy(), 1)


def by_terratorch(network: Any, folder: Path, cut: dict[str, int]) -> None:
    from terratorch.tasks.tiled_inference import tiled_inference

    image = torch.from_numpy(read_pixels(folder / "in.tif")).float()[None]
    with torch.inference_mode():
        found = tiled_inference(
            network, image, crop=cut["window"], stride=cut["stride"], delta=0, batch_size=cut["batch"], padding=False
        )
        write_classes(folder, "terratorch", found[0])


def by_torchgeo(network: Any, folder: Path, cut: dict[str, int]) -> None:
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    dataset = RasterDataset(str(folder / "in.tif"))
    sampler = GridGeoSampler(dataset, size=cut["window"], stride=cut["stride"])
    with rasterio.open(folder / "in.tif") as file:
        transform, height, width = file.transform, file.height, file.width
    total, count = torch.zeros(0), torch.zeros(height, width)
    with torch.inference_mode():
        for sample in DataLoader(dataset, cut["batch"], sampler=sampler, collate_fn=stack_samples):
            for maps, bounds in zip(network(sample["image"]), sample["bounds"], strict=True):
                if not len(total):
                    total = torch.zeros(len(maps), height, width)
                left, top = ~transform * corner(bounds)
                rows, columns = (slice(round(at), round(at) + cut["window"]) for at in (top, left))
                total[:, rows, columns] += maps
                count[rows, columns] += 1
        write_classes(folder, "torchgeo", total / count)


def corner(bounds: Any) -> tuple[float, float]:
    """x and y of the upper left corner of a sample, whose bounds are start, stop and step of x, y and time.

    They are float32, which is exact for the half metres of this raster and would not be for 0.3 m in UTM.
    """
    return float(bounds[0]), float(bounds[4])


def installed(*names: str) -> dict[str, str]:
    """Name and version of those that are in this environment."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    folder, cut = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    network = load_network(folder)
    ways = {"terratorch": by_terratorch, "torchgeo": by_torchgeo}
    for line in sys.stdin:
        word = line.strip()
        if word == "versions":
            answer: dict[str, Any] = installed("torch", "torchgeo", "terratorch")
        else:
            answer = stopwatch(partial(ways[word], network, folder, cut))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
