"""How far the same training ends apart on another kind of processor, beside how far seeds lie apart.

    python benchmarks/spread.py WORKSPACE OUT [--sources pixel,joint] [--seeds 0,1,2,3,4]

Trains every source with every seed twice, with torch and oneDNN held to AVX2 (as `make demo` is) and with AVX-512: sums
in another order, so other last bits at every step. WORKSPACE is read alone; its tiles and choices serve both, so the
difference is the training's. OUT/avx2 and OUT/avx512 keep finished trainings: a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

import yaml

CAPS: Final[Mapping[str, Mapping[str, str]]] = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sources", default="pixel,joint")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    options = parser.parse_args()
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        sys.exit("this processor has no AVX-512; the comparison needs one that has both")
    sources, seeds = options.sources.split(","), [int(seed) for seed in options.seeds.split(",")]
    found = {}
    for cap, environment in CAPS.items():
        place = link_workspace(options.workspace.resolve(), options.out.resolve() / cap, sources)
        command = [sys.executable, "-m", "weakseg", "--root", str(place), "ablate", str(place / "rows.yaml")]
        command += ["--seeds", options.seeds]
        subprocess.run(command, env={**os.environ, **environment, "WEAKSEG_TRACKING": "off"}, check=True)
        found[cap] = read_rows(place)
    print(table(found, sources, seeds))


def link_workspace(workspace: Path, place: Path, sources: Sequence[str]) -> Path:
    """A workspace of links to another's data, params and outputs, with reports of its own and a row per source."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("data", "out", "params.yaml"):
        if not (place / name).exists():
            (place / name).symlink_to(workspace / name)
    (place / "rows.yaml").write_text(yaml.safe_dump([{"name": source, "source": source} for source in sources]))
    return place


def read_rows(place: Path) -> dict[tuple[str, int], float]:
    """(source, seed) -> mIoU of its finished trainings."""
    rows = json.loads((place / "reports" / "ablation.json").read_text())["rows"]
    return {(row["source"], row["seed"]): row["miou"] for row in rows}


def table(found: Mapping[str, Mapping[tuple[str, int], float]], sources: Sequence[str], seeds: Sequence[int]) -> str:
    """A Markdown row per source: mean and range of the seeds of both, deviation of seeds, and of one seed twice."""
    lines = [
        "| source | seeds | AVX2: mIoU | AVX-512: mIoU | deviation of seeds | one seed on both: difference | largest |",
        "|" + " --- |" * 7,
    ]
    for source in sources:
        first, second = ([found[cap][source, seed] for seed in seeds] for cap in CAPS)
        apart = [abs(one - other) for one, other in zip(first, second, strict=True)]
        cells = [
            source,
            str(len(seeds)),
            *(f"{fmean(row):.3f} ({min(row):.3f} to {max(row):.3f})" for row in (first, second)),
        ]
        cells += [f"{fmean([stdev(first), stdev(second)]):.3f}", f"{fmean(apart):.3f}", f"{max(apart):.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
