"""Claim: our dense CRF (numba) gives pydensecrf's marginals on real crops and takes no more CPU time, on one thread.

Both run in this process on the same crops, in turn; times are CPU seconds of the process (one thread). Loading numba's
compiled code, once per process, and compiling it, once per machine, are timed apart. Crops are cut from images of a
folder; scores are those of the colours: distances to the means of a random split, smoothed, which is what a weak
network's scores look like. Run it where pydensecrf is installed (Python 3.11 or 3.12).

    python benchmarks/dense_crf.py IMAGES [--crops 12] [--size 256] [--classes 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from weakseg.core.methods import CrfParams
from weakseg.methods.crf import class_shares, crf_library, mean_field, soft_unary
from weakseg.pipeline.presets import load_preset

BASE = load_preset("base").crf
SETTINGS = {
    "the presets'": BASE,
    "strong and wide": BASE.replaced(
        gaussian_sxy=3.0, gaussian_weight=3.0, bilateral_sxy=30.0, bilateral_srgb=10.0, bilateral_weight=5.0
    ),
}
Infer = Callable[[np.ndarray, np.ndarray, CrfParams], np.ndarray]


def crops(folder: Path, count: int, size: int) -> list[np.ndarray]:
    """One crop of the middle of each of some images, uint8 (size, size, 3)."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png", ".tif"))
    chosen = [found[index] for index in np.linspace(0, len(found) - 1, count).astype(int)]
    images = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in chosen]
    return [
        np.ascontiguousarray(image[top : top + size, left : left + size])
        for image in images
        for top, left in [((image.shape[0] - size) // 2, (image.shape[1] - size) // 2)]
    ]


def energies(image: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Unary energies of weak scores: how near each colour is to that of a random pixel of the crop, blurred."""
    rng = np.random.default_rng(seed)
    pixels = image.reshape(-1, 3).astype(np.float32)
    means = pixels[rng.choice(len(pixels), classes, replace=False)]
    distance = np.linalg.norm(pixels[None] - means[:, None], axis=2).reshape(classes, *image.shape[:2])
    return soft_unary(class_shares(np.stack([cv2.GaussianBlur(np.exp(-one / 30), (0, 0), 4) for one in distance])))


def timed(infer: Infer, image: np.ndarray, energy: np.ndarray, params: CrfParams) -> tuple[float, np.ndarray]:
    """CPU seconds and the marginals."""
    start = time.process_time()
    found = infer(image, energy, params)
    return time.process_time() - start, found


def main() -> None:
    """Print a Markdown row per setting and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--crops", type=int, default=12)
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--classes", type=int, default=5)
    given = parser.parse_args()
    if crf_library() != "pydensecrf":
        parser.error("pydensecrf is not installed: nothing to compare with")
    images = crops(given.images, given.crops, given.size)
    pairs = [(image, energies(image, given.classes, seed)) for seed, image in enumerate(images)]

    start = time.process_time()
    from weakseg.methods.lattice_crf import lattice_mean_field

    lattice_mean_field(*pairs[0], BASE)
    mean_field(*pairs[0], BASE)
    print(f"{given.crops} crops of {given.size} px, {given.classes} classes; numba and its code: ", end="")
    print(f"{time.process_time() - start:.2f} s of CPU, once per process (the first time on a machine it compiles)\n")
    print("| kernels | steps | pydensecrf, ms per crop | ours | ratio | largest difference | same class |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, settings in SETTINGS.items():
        for steps in (5, 10):
            params, rows = settings.replaced(iterations=steps), []
            for image, energy in pairs:
                theirs, expected = timed(mean_field, image, energy, params)
                ours, found = timed(lattice_mean_field, image, energy, params)
                alike = (found.argmax(0) == expected.argmax(0)).mean()
                rows.append((theirs, ours, np.abs(found - expected).max(), alike))
            theirs, ours, difference, alike = np.array(rows).T
            print(f"| {name} | {steps} | {theirs.mean() * 1000:.0f} | {ours.mean() * 1000:.0f} ", end="")
            print(f"| {ours.sum() / theirs.sum():.2f} | {difference.max():.1e} | {alike.min():.5%} |")


if __name__ == "__main__":
    main()
