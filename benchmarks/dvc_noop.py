"""A `dvc repro` that finds nothing to do, against `dvc status` on the same workspace: at most three times as long.

Works on a copy of the project with the outputs that DVC has cached, so run `make demo` first. What differs from
dvc.lock (code that has changed since) is committed in the copy: then nothing is to be done.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 3.0


def copy_project(target: Path) -> None:
    """All files in git, as they are now, with the project's DVC cache behind them."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    dvc(target, "config", "--local", "cache.dir", str(ROOT / ".dvc" / "cache"))
    dvc(target, "checkout", "-q")
    dvc(target, "commit", "-q", "-f")


def dvc(root: Path, *words: str) -> tuple[float, str]:
    """Seconds and output of a dvc command that must end well."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "site")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"dvc {' '.join(words)}: {done.stdout}{done.stderr}")
    return time.perf_counter() - start, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "project"
        root.mkdir()
        copy_project(root)
        times: dict[str, list[float]] = {"status": [], "repro": []}
        for _ in range(rounds + 1):  # in turn, so that other work on the machine meets both; the first round warms up
            for command, row in times.items():
                seconds, said = dvc(root, command)
                if "up to date" not in said:
                    raise SystemExit(f"dvc {command} found something to do:\n{said}")
                row.append(seconds)
    status, repro = (statistics.median(times[name][1:]) for name in ("status", "repro"))
    verdict = "met" if repro <= LIMIT * status else "MISSED"
    print(
        f"| no-op `dvc repro` of the demo against `dvc status` | `python benchmarks/dvc_noop.py` | "
        f"{repro:.2f} s and {status:.2f} s: {repro / status:.2f} times (at most {LIMIT:.0f}: {verdict}) |"
    )


if __name__ == "__main__":
    main()
