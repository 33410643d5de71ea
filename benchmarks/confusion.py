"""Claim: the confusion matrix of a whole area costs a fraction of what torchmetrics and scikit-learn take.

Counts must be equal, or the exit code is 1.

python benchmarks/confusion.py [--height 2550] [--width 1906] [--repeats 5]

One process, one thread, the peers in their own best form: torchmetrics' functional call on int64 tensors made
beforehand, with and without its checks; scikit-learn on the labelled pixels only. Times are the best of the
repeats. Needs the ``bench`` group.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.functional.classification import multiclass_confusion_matrix

from weakseg.core.classes import IGNORE, ISPRS, Mask
from weakseg.evaluation.metrics import confusion_matrix


def make_masks(height: int, width: int, classes: int, seed: int) -> tuple[Mask, Mask]:
    """Truth in blocks of 40 px with 5 % ignored, and a prediction that is shifted by 5 px and 10 % noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, classes, (height // 40 + 1, width // 40 + 1), dtype=np.uint8)
    truth = np.kron(blocks, np.ones((40, 40), np.uint8))[:height, :width]
    noise = rng.integers(0, classes, truth.shape, dtype=np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.1, noise, np.roll(truth, 5, axis=1))
    return np.where(rng.random(truth.shape) < 0.05, np.uint8(IGNORE), truth), prediction


def best_time(count: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one to warm up."""
    count()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        count()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=2550)
    parser.add_argument("--width", type=int, default=1906)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    classes = len(ISPRS)
    truth, prediction = make_masks(options.height, options.width, classes, seed=0)
    truth_tensor, prediction_tensor = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()

    def by_torchmetrics() -> torch.Tensor:
        return multiclass_confusion_matrix(prediction_tensor, truth_tensor, classes, ignore_index=IGNORE)

    def by_torchmetrics_unchecked() -> torch.Tensor:
        return multiclass_confusion_matrix(
            prediction_tensor, truth_tensor, classes, ignore_index=IGNORE, validate_args=False
        )

    def by_sklearn() -> object:
        labelled = truth != IGNORE
        return sklearn_confusion(truth[labelled], prediction[labelled], labels=range(classes))

    peers: dict[str, Callable[[], object]] = {
        "torchmetrics": by_torchmetrics,
        "torchmetrics, validate_args=False": by_torchmetrics_unchecked,
        "scikit-learn": by_sklearn,
    }
    ours = confusion_matrix(truth, prediction, classes)
    seconds = best_time(lambda: confusion_matrix(truth, prediction, classes), options.repeats)
    print(f"{truth.size / 1e6:.2f} Mpx, {classes} classes, {ours.sum() / truth.size:.1%} labelled, one thread\n")
    print("| who | seconds | ours is faster by | same counts |\n|---|---|---|---|")
    print(f"| weakseg (checks labels) | {seconds:.4f} | | |")
    equal = True
    for name, count in peers.items():
        same = bool(np.array_equal(ours, np.asarray(count())))
        equal &= same
        taken = best_time(count, options.repeats)
        print(f"| {name} | {taken:.4f} | {taken / seconds:.1f}x | {'yes' if same else 'NO'} |")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
