"""Random walk: shifted views against dense squaring, and its growth with the grid; prints markdown rows.

Run: ``OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/random_walk.py`` (about two minutes on one slow core).

Claims: at a 64x64 grid at least 20x faster than squaring the dense transition matrix, equal to 1e-4; time and memory
linear in cells up to 512x512; an aerial scene of 2048x2048 px and 5 classes within 2 GB, everything included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from weakseg.methods.irnet.affinity import pair_offsets, path_points
from weakseg.methods.irnet.forms import Walk
from weakseg.methods.irnet.walk import walk, walk_area
from weakseg.methods.scores import ScoreMaps

CLASSES = 5
PUBLISHED = Walk(steps=256, anchor=1.0, damp=True, normalise="global")
AERIAL = Walk(steps=32, anchor=0.85, damp=False, normalise="per_class")


def example(side: int) -> tuple[Tensor, Tensor]:
    """Random scores (1, 5, side, side) and a boundary map (1, side, side) with straight strong and weak edges."""
    generator = torch.Generator().manual_seed(side)
    boundary = 0.2 * torch.rand(side, side, generator=generator)
    boundary[:: max(side // 6, 4)] = 0.9
    boundary[:, :: max(side // 5, 4)] = 0.6
    return torch.rand(1, CLASSES, side, side, generator=generator), boundary[None]


def dense_walk(scores: Tensor, boundary: Tensor, options: Walk) -> Tensor:
    """The published form: an N x N transition matrix by index tables, squared log2(steps) times; one image."""
    height, width = boundary.shape[1:]
    index = torch.arange(height * width).view(height, width)
    flat, matrix = boundary.flatten(), torch.eye(height * width)
    for dy, dx in pair_offsets(options.radius):
        left, right = max(0, -dx), width - max(0, dx)
        source = index[: height - dy, left:right].flatten()
        path = torch.stack([flat[source + y * width + x] for y, x in path_points((dy, dx))])
        affinity = (1 - path.amax(0)) ** options.beta
        partner = source + dy * width + dx
        matrix[source, partner] = matrix[partner, source] = affinity
    matrix = matrix / matrix.sum(1, keepdim=True)
    for _ in range(int(np.log2(options.steps))):
        matrix = matrix @ matrix
    start = scores[0] * (1 - boundary) if options.damp else scores[0]
    return (matrix @ start.flatten(1).T).T.view_as(scores)


def timed(function: object, *arguments: object) -> tuple[float, Tensor]:
    """CPU seconds of one call on one thread, which other processes disturb least, and its answer."""
    start = time.process_time()
    answer: Tensor = function(*arguments)  # type: ignore[operator]
    return time.process_time() - start, answer


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (ru_maxrss is in kB on Linux, in bytes on macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def compare_with_dense() -> None:
    """Child process: same answer, and how much faster, at a 64x64 grid and the published 256 steps."""
    options = PUBLISHED
    scores, boundary = example(64)
    walk(scores, boundary, replace(options, steps=1))
    dense_time, dense = timed(dense_walk, scores, boundary, options)
    walk_time, walked = timed(walk, scores, boundary, options)
    print("| grid | steps | dense squaring, CPU s | shifted views, CPU s | times faster | largest difference |")
    print("|---|---|---|---|---|---|")
    ratio, difference = dense_time / walk_time, float((dense - walked).abs().max())
    print(f"| 64x64 | {options.steps} | {dense_time:.2f} | {walk_time:.3f} | {ratio:.0f} | {difference:.1e} |")


def measure_side(side: int) -> None:
    """Child process: one walk of 32 steps; prints seconds, and MB above what the imports and inputs took."""
    options = replace(AERIAL, tile=side)
    walk(*example(16), options)
    scores, boundary = example(side)
    idle = peak_mb()
    seconds, _ = timed(walk, scores, boundary, options)
    print(seconds, peak_mb() - idle)


def measure_scene() -> None:
    """Child process: a whole 2048x2048 px scene through ``walk_area``; prints seconds and the process's peak in MB."""
    boundary = example(512)[1][0]
    maps = ScoreMaps(np.random.default_rng(0).random((CLASSES, 2048, 2048), np.float32), np.ones(CLASSES, bool))
    start = time.process_time()
    walk_area(maps, boundary, AERIAL, max_drift=1.0)
    print(time.process_time() - start, peak_mb())


def run_child(argument: str) -> str:
    """Run this script for one measurement in a process of its own: a child's peak starts at its parent's memory."""
    return subprocess.run([sys.executable, __file__, argument], capture_output=True, text=True, check=True).stdout


def main() -> None:
    """All three claims."""
    torch.set_num_threads(1)
    if len(sys.argv) == 2:
        child = {"dense": compare_with_dense, "scene": measure_scene}.get(sys.argv[1])
        child() if child else measure_side(int(sys.argv[1]))
        return
    print(run_child("dense"))
    print("| grid | 32 steps, CPU s | ns per cell and step | memory above inputs, MB | bytes per cell |")
    print("|---|---|---|---|---|")
    for side in (64, 128, 256, 512):
        seconds, memory = (float(part) for part in run_child(str(side)).split())
        cells = side * side
        speed, share = seconds * 1e9 / cells / 32, memory * 1e6 / cells
        print(f"| {side}x{side} | {seconds:.3f} | {speed:.0f} | {memory:.0f} | {share:.0f} |")
    seconds, memory = (float(part) for part in run_child("scene").split())
    print("\n| scene, px | classes | `walk_area`, CPU s | peak of the process, MB |\n|---|---|---|---|")
    print(f"| 2048x2048 | {CLASSES} | {seconds:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
