"""Claim: int8 makes a map on a CPU faster and costs no accuracy; what bf16 does there is measured beside it.

python benchmarks/precision.py [--model out/checkpoints/pixel/seed0.pt] [--out out] [--window 160] [--repeats 5]

One trained model, the same windows for all, one thread: torch in float32 and bf16 (autocast, WEAKSEG_PRECISION=bf16),
ONNX Runtime in float32 (`weakseg export`) and in int8 (`weakseg export --int8`, calibrated and checked on N1 alone),
and both files under OpenVINO, whose integers ONEDNN_MAX_CPU_ISA=AVX2 caps, as it does not ONNX Runtime's.
mIoU is that of all validation areas pooled; speed is CPU time of the predictors' calls alone, the best of the repeats,
which take turns. Exit code 1 if int8 costs more than 0.5 points. Needs the extras ``export`` and ``openvino``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor

from weakseg.data.crops.augment import normalise
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.metrics import confusion_matrix, mean_iou
from weakseg.export.model_files import export_onnx
from weakseg.export.quantise import ALLOWED, export_int8
from weakseg.inference.allocation import keep_buffers
from weakseg.inference.engine import open_openvino
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.scene import PLAIN, sweep_windows
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

REFERENCE = "torch, float32"
PLAIN_MACHINE, BF16_MACHINE = (Machine(device="cpu", precision=name, threads=1, quiet=True) for name in ("no", "bf16"))


@dataclass
class Timed:
    """A predictor that adds up the CPU time of its calls."""

    predictor: Predictor
    seconds: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        began = time.thread_time()
        maps = self.predictor.forward(images)
        self.seconds += time.thread_time() - began
        return maps


def ways_of(model: Path, out: Path, folder: Path) -> dict[str, Timed]:
    plain, small = folder / "plain.onnx", folder / "int8.onnx"
    export_onnx(model, plain)
    export_int8(model, small, tiles=out / "tiles")
    exported = load_predictor(plain, PLAIN, PLAIN_MACHINE)
    preprocessing = load_segmenter(model)[0].preprocessing

    def openvino(file: Path) -> Timed:
        run = open_openvino(file.read_bytes(), "float32", 1)
        return Timed(replace(exported, forward=lambda images: run(normalise(images, preprocessing))[0]))

    return {
        REFERENCE: Timed(load_predictor(model, PLAIN, PLAIN_MACHINE)),
        "torch, bf16": Timed(load_predictor(model, PLAIN, BF16_MACHINE)),
        "ONNX Runtime, float32": Timed(exported),
        "ONNX Runtime, int8": Timed(load_predictor(small, PLAIN, PLAIN_MACHINE)),
        "OpenVINO, float32": openvino(plain),
        "OpenVINO, int8": openvino(small),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("out/checkpoints/pixel/seed0.pt"))
    parser.add_argument("--out", type=Path, default=Path("out"), help="of the pipeline that trained the model")
    parser.add_argument("--window", type=int, default=160)
    parser.add_argument("--overlap", type=float, default=0.34)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    keep_buffers()
    torch.set_num_threads(1)
    validation = options.out / "validation"
    areas = [
        tuple(np.array(open_array(validation / kind, name)) for kind in ("images", "labels"))
        for name in list_areas(validation)
    ]
    cut = {"window": options.window, "overlap": options.overlap, "batch": options.batch}
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(options.model, options.out, Path(folder))
        best, miou = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, 0.0)
        for _ in range(options.repeats):  # in turn, so that a busy machine is unfair to all
            for name, way in ways.items():
                classes, way.seconds = len(way.predictor.scheme), 0.0
                total = np.zeros((classes, classes), np.int64)
                for image, truth in areas:
                    maps = sweep_windows(way, image, machine=PLAIN_MACHINE, **cut)
                    total += confusion_matrix(truth, maps.argmax(0).astype(np.uint8), classes)
                best[name], miou[name] = min(best[name], way.seconds), float(mean_iou(total))
    print(f"{options.model}, {len(areas)} areas, windows of {options.window} px, one thread\n")
    print("| arithmetic | CPU seconds | speed | mIoU | difference, points |\n|---|---|---|---|---|")
    for name, seconds in best.items():
        change = 100 * (miou[name] - miou[REFERENCE])
        print(f"| {name} | {seconds:.2f} | {best[REFERENCE] / seconds:.2f} | {miou[name]:.4f} | {change:+.2f} |")
    small = min(value for name, value in miou.items() if "int8" in name)
    return 0 if small >= miou[REFERENCE] - ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
