"""Training crops per second: three bands of 8 bits, five of 16, against an older tree and torchgeo's sampler.

    python benchmarks/crops.py [--old OLD/src] [--peer-python GEO/bin/python] [--crops 2000]

One area of 2000 x 2000 px per case; crops of 192 px, zoomed by 0.7 to 1.4, flipped and turned, batches of 16 with
masks, one process. The older tree runs the same three bands in turn, several times, and the best rate of each counts.
The peer draws crops of 192 px (unzoomed) from a GeoTIFF of the same pixels and its mask, with RandomGeoSampler,
RasterDataset and stack_samples.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE, CROP, BATCH = 2000, 192, 16
CASES = {"3 bands uint8": (3, "uint8"), "5 bands uint16": (5, "uint16")}


def pixels(bands: int, dtype: str) -> np.ndarray:
    """An area (SIDE, SIDE, bands) of noise."""
    return np.random.default_rng(0).integers(0, 200, (SIDE, SIDE, bands)).astype(dtype)


def mask() -> np.ndarray:
    """Its classes."""
    return np.random.default_rng(1).integers(0, 5, (SIDE, SIDE)).astype(np.uint8)


def ours(case: str, crops: int, folder: Path, zoom: tuple[float, float] = (0.7, 1.4)) -> float:
    """Crops per second of StepDataset, its areas memory-mapped."""
    from weakseg.data.areas import Area
    from weakseg.data.crops.area_crops import Pool, StepDataset
    from weakseg.data.crops.sampler import build_sampler
    from weakseg.data.store import open_array, save_array

    save_array(folder, "image", pixels(*CASES[case]))
    save_array(folder, "mask", mask())
    area = Area(open_array(folder, "image"), open_array(folder, "mask"))
    sampler = build_sampler([(SIDE, SIDE)], [area.mask], favoured=None, probability=0.0, seed=0)
    steps = crops // BATCH
    dataset = StepDataset({"pixel": Pool([area], sampler, BATCH, CROP, zoom, 5)}, seed=0, steps=steps)
    dataset[0]
    began = time.process_time()
    for step in range(steps):
        dataset[step]
    return steps * BATCH / (time.process_time() - began)


def unzoomed(case: str, crops: int, folder: Path) -> float:
    """The same without zoom, as the peer draws them."""
    return ours(case, crops, folder, (1.0, 1.0))


def peers(case: str, crops: int, folder: Path) -> float:
    """Crops per second of torchgeo on a GeoTIFF of the same pixels."""
    import rasterio
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)}
    for name, array in (("image", pixels(*CASES[case])), ("mask", mask()[..., None])):
        layout = {"count": array.shape[2], "height": SIDE, "width": SIDE, "dtype": array.dtype.name, "tiled": True}
        (folder / name).mkdir()
        with rasterio.open(folder / name / "a.tif", "w", driver="GTiff", **layout, **place) as file:
            file.write(np.moveaxis(array, -1, 0))

    class Masks(RasterDataset):
        is_image = False

    dataset = RasterDataset(str(folder / "image")) & Masks(str(folder / "mask"))
    sampler = RandomGeoSampler(dataset, size=CROP, length=crops)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    next(iter(loader))
    began = time.process_time()
    for _ in loader:
        pass
    return crops / (time.process_time() - began)


HOW = {"ours": ours, "unzoomed": unzoomed, "peers": peers}


def measure(how: str, case: str, crops: int, *, python: str = sys.executable, tree: str = "") -> float:
    """The rate that a process of its own finds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": tree} if tree else {})
    command = [python, __file__, "--inside", how, "--case", case, "--crops", str(crops)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print Markdown rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", help="src of an older tree, for three bands")
    parser.add_argument("--peer-python", help="a Python with torchgeo")
    parser.add_argument("--crops", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inside", choices=("ours", "unzoomed", "peers"))
    parser.add_argument("--case", choices=tuple(CASES))
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(HOW[options.inside](options.case, options.crops, Path(folder))))
        return
    best: dict[tuple[str, str], float] = {}
    for _ in range(options.repeats):
        for case in CASES:
            runs = {"weakseg": {"how": "ours"}}
            if options.old and case == "3 bands uint8":
                runs["older tree"] = {"how": "ours", "tree": options.old}
            for name, how in runs.items():
                found = measure(how.pop("how"), case, options.crops, **how)
                best[case, name] = max(best.get((case, name), 0.0), found)
    if options.peer_python:
        for case in CASES:
            best[case, "weakseg, unzoomed"] = measure("unzoomed", case, options.crops)
            best[case, "torchgeo"] = measure("peers", case, options.crops // 10, python=options.peer_python)
    for (case, name), rate in best.items():
        print(f"| crops of {CROP} px, {case}, {name} | {rate:.0f} per second of CPU |")


if __name__ == "__main__":
    main()
