"""How near `weakseg repro --jobs 2` comes to the ideal on the demo's graph, and what `dvc repro` takes for it.

    python benchmarks/repro_jobs.py [--jobs 2] [--scale 0.1] [--times FILE.json] [--dvc]

The graph is that of this repository's dvc.yaml; its stages sleep for as long as those of `make demo` ran, times --scale
(demo_seconds.json: wall seconds of one run of 2026-11-28; or a workspace's .weakseg/repro.json). So the table tells the
order of the stages and the cost of DVC around them, whatever else the machine does. The ideal is the larger of the sum
over the jobs and the longest chain. The first start knows no times, the second one those of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from weakseg.pipeline.repro.graph import Needs, read_needs
from weakseg.pipeline.repro.one_stage import open_repo
from weakseg.pipeline.repro.order import way_to_the_end

ROOT = Path(__file__).parents[1]
TIMES = Path(__file__).with_name("demo_seconds.json")


def demo_graph() -> Needs:
    """Names of the demo's stages and of what each waits for; raw data are there."""
    os.chdir(ROOT)
    needs = read_needs(open_repo(Path()))
    return {stage: before - {"data.dvc"} for stage, before in needs.items() if stage != "data.dvc"}


def make_project(root: Path, needs: Needs, seconds: dict[str, float]) -> None:
    """A DVC project of stages that sleep; ``@`` in names becomes ``_``."""
    stages = {}
    for stage, before in needs.items():
        name = stage.replace("@", "_")
        stages[name] = {"cmd": f"sleep {seconds[stage]:.3f} && echo {name} > {name}", "outs": [name]}
        stages[name] |= {"deps": [one.replace("@", "_") for one in sorted(before)]} if before else {}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".dvcignore").write_text(".weakseg/\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)


def timed(root: Path, *words: str) -> float:
    """Wall seconds of a command that starts from nothing but what is known of times."""
    for path in (root / "dvc.lock", root / ".dvc" / "cache"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    environment = {**os.environ, "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "site"), "DVC_NO_ANALYTICS": "1"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], cwd=root, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Markdown rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=0.1, help="of the seconds; costs of DVC do not shrink with them")
    parser.add_argument("--times", type=Path, default=TIMES, help="wall seconds by stage")
    parser.add_argument("--dvc", action="store_true", help="`dvc repro` too")
    given = parser.parse_args()
    needs, known = demo_graph(), json.loads(given.times.read_text())
    seconds = {stage: given.scale * float(known.get(stage, 1.0)) for stage in needs}
    chain = max(way_to_the_end(needs, seconds).values())
    ideal = max(chain, sum(seconds.values()) / given.jobs)
    print(f"{len(needs)} stages, {sum(seconds.values()):.1f} s, longest chain {chain:.1f} s, ideal {ideal:.1f} s")
    commands = {
        f"{name}, --jobs {given.jobs}": ("weakseg", "repro", "--jobs", str(given.jobs)) for name in ("first", "second")
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_project(root, needs, seconds)
        for name, words in {**commands, **({"dvc repro": ("dvc", "repro", "-q")} if given.dvc else {})}.items():
            wall = timed(root, *words)
            # at full length the costs around each stage stay what they are here
            whole = wall - ideal + ideal / given.scale
            print(
                f"| {name} | {wall:.1f} s | {ideal / wall:.2f} of the ideal; at full length "
                f"{ideal / given.scale / whole:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
