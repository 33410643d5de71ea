"""Training crops per second: three bands of 8 bits, five of 16, against an older tree and torchgeo's sampler.

    python benchmarks/crops.py [--old OLD/src] [--peer-python GEO/bin/python] [--rounds 30]

One area of 2000 x 2000 px per case; crops of 192 px, zoomed by 0.7 to 1.4, flipped and turned, batches of 16 with
masks, one process. The older tree draws the same three bands. The peer draws crops of 192 px (unzoomed) from a GeoTIFF
of the same pixels and its mask, with RandomGeoSampler, RasterDataset and stack_samples. All take turns, a few batches
each; what counts is the median over the rounds of the CPU time, and of the ratio to ours in the same round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CROP, BATCH, TURN = 2000, 192, 16, 5
CASES = {"3 bands uint8": (3, "uint8"), "5 bands uint16": (5, "uint16")}


def pixels(bands: int, dtype: str) -> np.ndarray:
    """An area (SIDE, SIDE, bands) of noise."""
    return np.random.default_rng(0).integers(0, 200, (SIDE, SIDE, bands)).astype(dtype)


def mask() -> np.ndarray:
    """Its classes."""
    return np.random.default_rng(1).integers(0, 5, (SIDE, SIDE)).astype(np.uint8)


def ours(case: str, folder: Path, zoom: tuple[float, float] = (0.7, 1.4)) -> Iterator[Any]:
    """Batches of StepDataset, its areas memory-mapped."""
    from weakseg.data.areas import Area

    try:
        from weakseg.data.crops.area_crops import Pool, StepDataset
    except ImportError:  # the older tree
        from weakseg.data.crops.dataset import Pool, StepDataset
    from weakseg.data.crops.sampler import build_sampler
    from weakseg.data.store import open_array, save_array

    save_array(folder, "image", pixels(*CASES[case]))
    save_array(folder, "mask", mask())
    area = Area(open_array(folder, "image"), open_array(folder, "mask"))
    sampler = build_sampler([(SIDE, SIDE)], [area.mask], favoured=None, probability=0.0, seed=0)
    dataset = StepDataset({"pixel": Pool([area], sampler, BATCH, CROP, zoom, 5)}, seed=0, steps=1_000_000)
    return (dataset[step] for step in range(len(dataset)))


def unzoomed(case: str, folder: Path) -> Iterator[Any]:
    """The same without zoom, as the peer draws them."""
    return ours(case, folder, (1.0, 1.0))


def peers(case: str, folder: Path) -> Iterator[Any]:
    """Batches of torchgeo on a GeoTIFF of the same pixels."""
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
    sampler = RandomGeoSampler(dataset, size=CROP, length=1_000_000)
    return iter(DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples))


HOW = {"ours": ours, "unzoomed": unzoomed, "peers": peers}


class Worker:
    """A process that draws batches when it is asked to."""

    def __init__(self, how: str, case: str, *, python: str = sys.executable, tree: str = "") -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": tree} if tree else {})
        command = [python, __file__, "--inside", how, "--case", case]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def rate(self) -> float:
        """Crops per second of CPU over TURN batches."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        return TURN * BATCH / float(self.process.stdout.readline())


def work(how: str, case: str) -> None:
    """In the process: seconds of CPU for each line that comes in."""
    with tempfile.TemporaryDirectory() as folder:
        batches = HOW[how](case, Path(folder))
        next(batches)
        for _ in sys.stdin:
            began = time.process_time()
            for _ in range(TURN):
                next(batches)
            print(time.process_time() - began, flush=True)


def workers(old: str, peer_python: str) -> dict[tuple[str, str], Worker]:
    """All that take part, by case and name; ours first."""
    found = {}
    for case in CASES:
        found[case, "weakseg"] = Worker("ours", case)
        if old and case == "3 bands uint8":
            found[case, "older tree"] = Worker("ours", case, tree=old)
        found[case, "weakseg, unzoomed"] = Worker("unzoomed", case)
        if peer_python:
            found[case, "torchgeo"] = Worker("peers", case, python=peer_python)
    return found


def main() -> None:
    """Print Markdown rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="", help="src of an older tree, for three bands")
    parser.add_argument("--peer-python", default="", help="a Python with torchgeo")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--inside", choices=tuple(HOW))
    parser.add_argument("--case", choices=tuple(CASES))
    options = parser.parse_args()
    if options.inside:
        work(options.inside, options.case)
        return
    taking_part = workers(options.old, options.peer_python)
    rates = [{key: worker.rate() for key, worker in taking_part.items()} for _ in range(options.rounds)]
    for worker in taking_part.values():
        worker.process.communicate()
    against = {"older tree": "weakseg", "torchgeo": "weakseg, unzoomed"}
    for case, name in taking_part:
        found = f"{np.median([rate[case, name] for rate in rates]):.0f} per second of CPU"
        if name in against:
            ratio = np.median([rate[case, against[name]] / rate[case, name] for rate in rates])
            found += f", {against[name]} {ratio:.3g} times as many"
        print(f"| crops of {CROP} px, {case}, {name} | {found} |")


if __name__ == "__main__":
    main()
