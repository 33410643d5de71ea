"""Claim: CRF over N crops on all cores takes within 15 % of single-process time / cores; results are identical.

One run: the same crops in this process, then in a pool of as many processes as there are cores. The start of the
processes is paid once, however many crops follow, and is timed apart (a pool that refines one tiny crop per process).
Because other work on the machine slows both, ideal scaling is measured too: as many plain processes as cores, each
refining its share of the crops on its own without any pool or result to hand back.

    python benchmarks/crf.py [--crops 32] [--size 256] [--workers N]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from multiprocessing import get_context

import numpy as np

from weakseg.weak.crf import CrfOptions, RefineOptions, dense_crf, refine_many
from weakseg.weak.scores import ScoreMaps

OPTIONS = RefineOptions(crf=CrfOptions(), window=1024, halo=0)
CLASSES = 5


def crop(seed: int, size: int) -> tuple[np.ndarray, ScoreMaps]:
    """Smooth random colours with grain, and blurred random scores: between flat and white noise, as images are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (size // 32 + 1, size // 32 + 1, 3)).repeat(32, 0).repeat(32, 1)[:size, :size]
    image = np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)
    scores = rng.random((CLASSES, size // 16 + 1, size // 16 + 1)).repeat(16, 1).repeat(16, 2)[:, :size, :size]
    return image, ScoreMaps(scores.astype(np.float32), np.ones(CLASSES, bool))


def crops(count: int, size: int) -> Iterator[tuple[np.ndarray, ScoreMaps]]:
    """Crops, made when they are asked for."""
    return (crop(seed, size) for seed in range(count))


def refine_share(first: int, count: int, size: int, workers: int, barrier: object, seconds: object) -> None:
    """Every ``workers``-th crop, no pool: what the cores give at best; all processes start the clock together."""
    mine = [crop(seed, size) for seed in range(first, count, workers)]
    barrier.wait()  # type: ignore[attr-defined]
    start = time.perf_counter()
    for image, maps in mine:
        dense_crf(image, maps.scores, OPTIONS.crf)
    seconds[first] = time.perf_counter() - start  # type: ignore[index]


def ideal_seconds(count: int, size: int, workers: int) -> float:
    """Time of the slowest of ``workers`` independent processes."""
    context = get_context("spawn")
    barrier, seconds = context.Barrier(workers), context.Array("d", workers)
    processes = [
        context.Process(target=refine_share, args=(first, count, size, workers, barrier, seconds))
        for first in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(seconds)


def timed(count: int, size: int, workers: int) -> tuple[float, list[np.ndarray]]:
    """Wall seconds and the refined scores."""
    start = time.perf_counter()
    results = [maps.scores for maps in refine_many(crops(count, size), OPTIONS, workers=workers)]
    return time.perf_counter() - start, results


def main() -> None:
    """Print the times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=32)
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    workers = given.workers
    timed(1, 32, 1)  # load the library
    single, expected = timed(given.crops, given.size, 1)
    started, _ = timed(workers, 32, workers)
    total, found = timed(given.crops, given.size, workers)
    machine = ideal_seconds(given.crops, given.size, workers)
    same = all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    ideal, running = single / workers, max(total - started, 1e-9)
    print(f"{given.crops} crops of {given.size} px, {CLASSES} classes, {workers} processes; results equal: {same}")
    print(
        f"one process {single:.2f} s; pool {total:.2f} s, of which {started:.2f} s start; single / cores {ideal:.2f} s"
    )
    print(f"pool without start / (single / cores): {running / ideal:.2f} (claim: <= 1.15)")
    print(f"independent processes on this machine now: {machine:.2f} s, {machine / ideal:.2f} of single / cores")


if __name__ == "__main__":
    main()
