"""Do two trees of weakseg give the same bytes from three 8-bit bands? All stages on the tests' tiny workspace.

    python scripts/same_results.py OLD/src NEW/src [--keep FILE.json]

runs the stages with each tree's package, and compares every array, ScoreMap, mask, weight, report and map, byte by
byte; it ends with 1 where any differs. ``--keep`` writes the digests of the first tree, and such a file can stand for
it. Checkpoints are compared by their tensors: what a model file says beside them
may grow.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SLIM = {"steps": 3, "batch": 4, "report_every": 2}
PLAN = (
    *(("tiles", ""), ("classifier", ""), ("cam", ""), ("crf", ""), ("irnet", ""), ("single_stage", "")),
    *(("segment", "pixel"), ("teacher", ""), ("fused", ""), ("boxes", ""), ("pseudo", "cam"), ("pseudo", "crf")),
    *(("pseudo", "irnet"), ("pseudo", "single_stage"), ("pseudo", "fused"), ("audit", "fused")),
    *(("segment", "fused"), ("segment", "consistency"), ("evaluate", "pixel"), ("evaluate", "fused")),
    *(("experts", ""), ("choice", "joint"), ("segment", "joint"), ("choice", "untagged"), ("segment", "untagged")),
)


def digest_run(root: Path) -> dict[str, str]:
    """Run all stages in a tiny workspace at ``root`` and digest what they wrote, by its path."""
    from importlib import import_module

    import yaml

    sys.path.insert(0, str(PROJECT / "tests"))
    workspace = import_module("conftest").build_workspace(root)
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["classifier"] |= {"arch": "vgg16_bn", "weights": "none", "width": 16, "crop": 16, "pooling": "gap"}
    raw["cam"] |= {"scales": [1.0], "flips": True}
    raw["irnet"] |= {"weights": "none", "crop": 64, "walk_steps": [2, 4], "anchors": [1.0, 0.8], "label_score": 0.1}
    raw["irnet"] |= {"label_margin": 0.0}
    raw["single_stage"] |= {"backbone": "resnet38", "weights": "none", "width": 16, "channels": 16, "crop": 32}
    raw["fused"] |= {"weights": [0.0, 1.0]}
    raw["tiles"]["scale"] = 0.75
    raw["boxes"] |= {"classes": ["building", "car"]}
    for section in ("classifier", "irnet", "single_stage"):
        raw[section]["optimiser"] |= SLIM
    base = yaml.safe_load((Path(import_module("weakseg").__file__ or "").parent / "pipeline/base.yaml").read_text())
    if "drop_band" not in base["segment"]["augment"]:
        raw["segment"]["augment"].pop("drop_band")  # a tree of before more than three bands
    if "tags" not in base:
        raw.pop("tags")  # a tree of before error rates of tags
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(workspace, source) if source else module.run(workspace)
    _predict(workspace)
    files = [p for folder in ("out", "reports") for p in sorted((workspace / folder).rglob("*")) if p.is_file()]
    return {str(p.relative_to(workspace)): _digest(p) for p in files}


def _predict(root: Path) -> None:
    from weakseg import open_model, predict

    model = open_model(root / "out/checkpoints/pixel/seed0.pt")
    predict(model, root / "data/images/v1.tif", root / "out/maps/v1.tif", probabilities=root / "out/maps/p.tif")


def _digest(path: Path) -> str:
    import numpy as np
    import rasterio
    import torch

    if path.suffix == ".pt":
        weights = torch.load(path, map_location="cpu", weights_only=True)["weights"]
        parts = [name.encode() + tensor.numpy().tobytes() for name, tensor in weights.items()]
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            parts = [name.encode() + arrays[name].tobytes() for name in sorted(arrays)]
    elif path.suffix == ".tif":
        with rasterio.open(path) as file:
            parts = [file.read().tobytes()]
    else:
        parts = [path.read_bytes()]
    return hashlib.blake2b(b"".join(parts), digest_size=12).hexdigest()


def main(trees: list[str]) -> int:
    """Digest both trees in processes of their own and say what differs."""
    keep = Path(trees[trees.index("--keep") + 1]) if "--keep" in trees else None
    found = []
    for tree in trees[:2]:
        if tree.endswith(".json"):
            found.append(json.loads(Path(tree).read_text()))
            continue
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONPATH": str(Path(tree).resolve()), "OMP_NUM_THREADS": "1"}
            environment |= {"WEAKSEG_TRACKING": "off", "WEAKSEG_PRECISION": "no", "WEAKSEG_DEVICE": "cpu"}
            command = [sys.executable, __file__, "--digest", folder]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    old, new = found
    if keep is not None:
        keep.write_text(json.dumps(old, indent=1))
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    for name in changed:
        how = "changed" if name in old and name in new else "gone" if name in old else "new"
        print(f"{how}: {name}")
    print(f"{len(old)} files, {len(changed)} differ")
    return int(bool(changed))


if __name__ == "__main__":
    if sys.argv[1] == "--digest":
        print("\n" + json.dumps(digest_run(Path(sys.argv[2]))))
    else:
        sys.exit(main(sys.argv[1:]))
