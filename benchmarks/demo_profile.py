"""Where `make demo` spends its time: CPU and wall per stage, starts of processes, and what DVC and MLflow take.

    python benchmarks/demo_profile.py [TREE ...] [--csv FILE]

runs `make demo` of each tree (a checkout of weakseg; without any: this one) in a copy that has computed nothing yet,
with the environment of this interpreter. Several trees run one after the other and are set side by side, so that one
table compares two builds on one machine. CPU seconds of a stage are those of its process and its children; what is left
of the whole is DVC's, make's and that of the processes that send runs to MLflow.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = Path(sys.prefix)
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: detached senders come back to us, so that their CPU time is seen
# DVC runs `$SHELL -c COMMAND` for each stage; this one writes down what the command took
SHELL = """#!/bin/bash
export SHELL=/bin/bash
exec 3>&1 4>&2
TIMEFORMAT="$DVC_STAGE %R %U %S"
{ time /bin/sh -c "$2" 1>&3 2>&4; } 2>> "$STAGE_TIMES"
"""
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "segmentation_models_pytorch",
    "accelerate",
    "mlflow",
    "rasterio",
    "dvc.repo",
)


@dataclass
class Profile:
    """CPU and wall seconds of one `make demo`.

    Attributes:
        stages: (wall, CPU) by stage. wall, cpu: of the whole. table: lines of the results.
    """

    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    wall: float = 0.0
    cpu: float = 0.0
    table: str = ""


def copy_tree(tree: Path, target: Path) -> None:
    """The files that git knows, as they are now, as a repository of their own with this interpreter's environment."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=tree, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (tree / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, target / name)
    for folder in (".venv", ".tools"):
        place = ENVIRONMENT if folder == ".venv" else ENVIRONMENT.parent / ".tools"
        (target / folder).symlink_to(place)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)


def profile(tree: Path, scratch: Path) -> Profile:
    """Run `make demo` of a tree and say where its time went."""
    root = scratch / "project"
    root.mkdir()
    copy_tree(tree, root)
    shell, times = scratch / "timed", scratch / "times.txt"
    shell.write_text(SHELL)
    shell.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "SHELL": str(shell), "STAGE_TIMES": str(times)}
    environment |= {"DVC_SITE_CACHE_DIR": str(scratch / "site"), "VIRTUAL_ENV": str(ENVIRONMENT)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (scratch / "log.txt").open("w") as log:
        command = ["make", "-o", ".venv/installed", "-o", "requirements.lock", "demo"]
        done = subprocess.run(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    found = Profile(wall=time.perf_counter() - start)
    if done.returncode != 0:
        raise SystemExit((scratch / "log.txt").read_text()[-4000:])
    _wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for line in times.read_text().splitlines():
        name, wall, user, system = line.split()
        found.stages[name] = (float(wall), float(user) + float(system))
    found.table = (root / "reports" / "results.md").read_text()
    return found


def _wait_for_orphans() -> None:
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


def critical_path(tree: Path, seconds: dict[str, float]) -> tuple[float, list[str]]:
    """The longest chain of stages in the graph of dvc.yaml, by seconds of a stage; and its stages."""
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"], cwd=tree, capture_output=True, text=True, check=True
    )
    edges = [
        tuple(part.strip().strip('";') for part in line.split("->"))
        for line in said.stdout.splitlines()
        if "->" in line
    ]
    before: dict[str, list[str]] = {}
    for first, second in edges:
        before.setdefault(second, []).append(first)
    best: dict[str, tuple[float, list[str]]] = {}

    def longest(name: str) -> tuple[float, list[str]]:
        if name not in best:
            chain = max((longest(other) for other in before.get(name, [])), default=(0.0, []))
            best[name] = (chain[0] + seconds.get(name, 0.0), [*chain[1], name])
        return best[name]

    return max(longest(name) for name in seconds)


def starts() -> dict[str, float]:
    """CPU seconds of a fresh Python and of one that imports a package, the best of three."""
    found = {}
    for name in ("", *PACKAGES):
        tries = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", f"import {name}" if name else "pass"], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            tries.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        found[name or "python"] = min(tries)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--csv", type=Path, help="Keep the figures of each stage.")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    print("CPU s of a process that imports: " + ", ".join(f"{k} {v:.2f}" for k, v in starts().items()))
    found = []
    for tree in arguments.trees:
        with tempfile.TemporaryDirectory() as scratch:
            found.append(profile(tree.resolve(), Path(scratch)))
    names = sorted(found[0].stages, key=lambda name: -found[0].stages[name][1])
    rows = [["stage", *(f"{what} {n}" for n in range(len(found)) for what in ("cpu", "wall"))]]
    for name in names:
        both = [one.stages.get(name, (float("nan"),) * 2) for one in found]
        rows.append([name, *(f"{value:.2f}" for wall, cpu in both for value in (cpu, wall))])
    text = "\n".join(",".join(row) for row in rows)
    print(text)
    if arguments.csv:
        arguments.csv.write_text(text + "\n")
    for number, one in enumerate(found):
        cpu = {name: value[1] for name, value in one.stages.items()}
        inside = sum(cpu.values())
        longest, chain = critical_path(arguments.trees[number], cpu)
        ideal = max(inside / 2, longest)
        print(
            f"tree {number}: {one.cpu:.0f} s of CPU, {inside:.0f} in {len(cpu)} stages, {one.cpu - inside:.0f} of DVC, "
            f"make and MLflow's senders; {one.wall:.0f} s of wall, ideal on two cores {ideal:.0f} s; longest chain "
            f"{longest:.0f} s: {' '.join(chain)}"
        )
    if len(found) > 1:
        first, last = found[0], found[-1]
        print(f"CPU {last.cpu / first.cpu:.3f}, wall {last.wall / first.wall:.3f} of the first tree's")
        print("same table" if first.table == last.table else "ANOTHER TABLE")


if __name__ == "__main__":
    main()
