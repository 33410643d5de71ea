"""Claim: the faster arithmetic of a CPU costs no accuracy: mIoU and speed of a trained model in each.

python benchmarks/precision.py [--model out/checkpoints/pixel/seed0.pt] [--out out] [--window 160] [--repeats 5]

One model, the same windows for all, one thread: torch in float32 and in bf16 (autocast, what WEAKSEG_PRECISION=auto takes
on a CPU that multiplies it natively), ONNX Runtime in float32, and in int8: static quantisation, QDQ, weights per channel,
calibrated on 32 random windows of the N1 training areas. mIoU is that of all validation areas pooled; speed is CPU time of
the networks' calls alone, the best of the repeats, which take turns. Exit code 1 if bf16 costs more than 0.5 points.
Needs the extra ``export``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from weakseg.allocation import keep_buffers
from weakseg.data.augment import Preprocessing, normalise
from weakseg.data.store import list_areas
from weakseg.export import export_onnx
from weakseg.inference import PLAIN, predict_probabilities, sweep_windows
from weakseg.metrics import confusion_matrix, scores_of
from weakseg.training.checkpoints import scheme_of
from weakseg.training.machine import Machine
from weakseg.training.segmenters import load_segmenter

Network = Callable[[Tensor], Tensor]
"""uint8 windows (B, 3, h, w) -> probabilities (B, C, h, w) float32."""
ALLOWED = 0.005  # of mIoU


class Crops(CalibrationDataReader):  # type: ignore[misc]
    """Normalised windows of the training areas, one at a time."""

    def __init__(self, images: list[np.ndarray], preprocessing: Preprocessing, side: int, count: int) -> None:
        rng = np.random.default_rng(0)
        self._left = iter(self._cut(images, preprocessing, side, count, rng))

    @staticmethod
    def _cut(
        images: list[np.ndarray], preprocessing: Preprocessing, side: int, count: int, rng: np.random.Generator
    ) -> Iterator[dict[str, np.ndarray]]:
        for index in range(count):
            image = images[index % len(images)]
            row, column = (int(rng.integers(0, max(1, length - side + 1))) for length in image.shape[:2])
            crop = torch.from_numpy(image[row : row + side, column : column + side].copy()).permute(2, 0, 1)[None]
            yield {"image": normalise(crop, preprocessing).numpy()}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@dataclass
class Timed:
    """A network that adds up the CPU time of its calls."""

    network: Network
    seconds: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        began = time.thread_time()
        with torch.inference_mode():
            maps = self.network(images)
        self.seconds += time.thread_time() - began
        return maps


def in_torch(model_file: Path, precision: str) -> Network:
    machine = Machine(device="cpu", precision=precision, quiet=True)
    model, _ = load_segmenter(model_file)
    model = model.to(memory_format=torch.channels_last)

    def network(images: Tensor) -> Tensor:
        with machine.autocast():
            return predict_probabilities(model, normalise(images, model.preprocessing), PLAIN)

    return network


def in_onnx(path: Path, preprocessing: Preprocessing) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def network(images: Tensor) -> Tensor:
        pixels = normalise(images, preprocessing).contiguous().numpy()
        return torch.from_numpy(session.run(None, {"image": pixels})[0])

    return network


def quantise(source: Path, target: Path, crops: CalibrationDataReader) -> None:
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        crops,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("out/checkpoints/pixel/seed0.pt"))
    parser.add_argument("--out", type=Path, default=Path("out"), help="of the pipeline that trained the model")
    parser.add_argument("--window", type=int, default=160)
    parser.add_argument("--overlap", type=float, default=0.34)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--crops", type=int, default=32)
    options = parser.parse_args()
    keep_buffers()
    torch.set_num_threads(1)
    model, content = load_segmenter(options.model)
    scheme, preprocessing = scheme_of(content), model.preprocessing
    areas = {
        name: tuple(np.load(options.out / "validation" / kind / f"{name}.npy") for kind in ("images", "labels"))
        for name in list_areas(options.out / "validation")
    }
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        export_onnx(options.model, plain)
        labelled = sorted((options.out / "tiles" / "labels").glob("*.npy"))
        training = [np.load(options.out / "tiles" / "images" / path.name) for path in labelled]
        quantise(plain, small, Crops(training, preprocessing, options.window, options.crops))
        ways = {
            "torch, float32": Timed(in_torch(options.model, "no")),
            "torch, bf16": Timed(in_torch(options.model, "bf16")),
            "ONNX Runtime, float32": Timed(in_onnx(plain, preprocessing)),
            "ONNX Runtime, int8": Timed(in_onnx(small, preprocessing)),
        }
        best = dict.fromkeys(ways, float("inf"))
        miou: dict[str, float] = {}
        cut = {"window": options.window, "overlap": options.overlap, "batch": options.batch}
        machine = Machine(device="cpu", precision="no", quiet=True)
        for _ in range(options.repeats):  # in turn, so that a busy machine is unfair to all
            for name, way in ways.items():
                way.seconds, total = 0.0, np.zeros((len(scheme),) * 2, np.int64)
                for image, truth in areas.values():
                    maps = sweep_windows(way, image, machine=machine, **cut)
                    total += confusion_matrix(truth, maps.argmax(0).astype(np.uint8), len(scheme))
                best[name], miou[name] = min(best[name], way.seconds), scores_of(total, scheme.names)["miou"]
    reference = "torch, float32"
    print(f"{options.model}, {len(areas)} areas, windows of {options.window} px, one thread\n")
    print("| arithmetic | CPU seconds | speed | mIoU | difference, points |\n|---|---|---|---|---|")
    for name, seconds in best.items():
        change = 100 * (miou[name] - miou[reference])
        print(f"| {name} | {seconds:.2f} | {best[reference] / seconds:.2f} | {miou[name]:.4f} | {change:+.2f} |")
    return 0 if miou["torch, bf16"] >= miou[reference] - ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
