"""Claim: CRF over N crops on all cores takes within 15 % of single-process time / cores; results are identical.

Each round times the same crops three times, all made beforehand: in one process alone (the single-process time), in the
pool of ``refine_many``, and in as many independent processes as there are cores, each refining its share without a pool
or a result to hand back: what the machine gives at best beside whatever else it does. Ratios are those of the sums over
the rounds. Starting the pool is paid once, however many crops follow: it is timed apart, as a pool that refines one
tiny crop per process, and the claim is about the rest. The single process is bound to another core in each round, as
cores may be busy with other work.

    python benchmarks/crf.py [--crops 64] [--size 256] [--workers N] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import time
from multiprocessing import get_context

import numpy as np

from weakseg.methods.crf import refine_many
from weakseg.methods.scores import ScoreMaps
from weakseg.pipeline.presets import load_preset

PARAMS = load_preset("base").crf.replaced(
    gaussian_sxy=3.0, gaussian_weight=3.0, bilateral_sxy=30.0, bilateral_srgb=10.0, bilateral_weight=5.0, iterations=10
)
CLASSES = 5

Job = tuple[np.ndarray, ScoreMaps]


def crop(seed: int, size: int) -> Job:
    """Smooth random colours with grain, and blurred random scores: between flat and white noise, as images are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (size // 32 + 1, size // 32 + 1, 3)).repeat(32, 0).repeat(32, 1)[:size, :size]
    image = np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)
    scores = rng.random((CLASSES, size // 16 + 1, size // 16 + 1)).repeat(16, 1).repeat(16, 2)[:, :size, :size]
    return image, ScoreMaps(scores.astype(np.float32), np.ones(CLASSES, bool))


def bind(cores: set[int]) -> None:
    """Run on these cores only, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def all_cores() -> set[int]:
    """Numbers of the cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def timed(jobs: list[Job], workers: int) -> tuple[float, list[np.ndarray]]:
    """Wall seconds and the refined scores."""
    start = time.perf_counter()
    results = [maps.scores for maps in refine_many(jobs, PARAMS, workers=workers, side=1024, halo=0)]
    return time.perf_counter() - start, results


def refine_share(jobs: list[Job], number: int, core: int, barrier: object, seconds: object) -> None:
    """Refine some crops without a pool, on one core; all processes start the clock together."""
    bind({core})
    timed(jobs[:1], 1)  # load the library
    barrier.wait()  # type: ignore[attr-defined]
    seconds[number] = timed(jobs, 1)[0]  # type: ignore[index]


def apart(shares: list[list[Job]], cores: list[int]) -> list[float]:
    """Seconds of each of some independent processes that start together."""
    context = get_context("spawn")
    barrier, seconds = context.Barrier(len(shares)), context.Array("d", len(shares))
    processes = [
        context.Process(target=refine_share, args=(share, number, core, barrier, seconds))
        for number, (share, core) in enumerate(zip(shares, cores, strict=True))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return list(seconds)


def main() -> None:
    """Print the times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = sorted(all_cores())
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--workers", type=int, default=len(cores))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    workers, jobs = given.workers, [crop(seed, given.size) for seed in range(given.crops)]
    tiny = [crop(seed, 32) for seed in range(workers)]
    expected = timed(jobs, 1)[1]
    sums = dict.fromkeys(("single", "pool", "start", "independent"), 0.0)
    print(f"{given.crops} crops of {given.size} px, {CLASSES} classes, {workers} processes")
    for number in range(given.rounds):
        places = [cores[index % len(cores)] for index in range(workers)]
        seconds = {"single": apart([jobs], [cores[number % len(cores)]])[0], "start": timed(tiny, workers)[0]}
        total, found = timed(jobs, workers)
        seconds["pool"] = total - seconds["start"]
        seconds["independent"] = max(apart([jobs[first::workers] for first in range(workers)], places))
        same = all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
        print(f"round {number + 1}, s:", {name: round(value, 2) for name, value in seconds.items()}, f"equal: {same}")
        sums = {name: sums[name] + seconds[name] for name in sums}
    ideal = sums["single"] / workers
    crop_time, start = sums["single"] / given.rounds / given.crops, sums["start"] / given.rounds
    print(f"per crop {crop_time:.3f} s; start, once {start:.2f} s")
    print(f"pool without start / (single / cores): {sums['pool'] / ideal:.2f} (claim: <= 1.15)")
    print(f"independent processes / (single / cores): {sums['independent'] / ideal:.2f}")


if __name__ == "__main__":
    main()
