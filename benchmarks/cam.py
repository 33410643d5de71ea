"""Claim: multi-scale CAM of five classes is at least 10x faster than a loop of pytorch-grad-cam's GradCAM.

Same network (VGG16-BN at stride 8, random weights), same crops, same views (scales x flip), one run, same threads. The
library runs as its users run it: one forward and one backward per class and view, all crops in one batch. Its maps and
ours are compared view by view after the library's own normalisation (which subtracts the minimum, divides by the
maximum and resizes); the largest difference must stay below 1e-5.

    python benchmarks/cam.py [--width 2] [--size 128] [--crops 4]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from weakseg.methods.cam import class_activation_maps, view_maps
from weakseg.methods.classifier import Classifier, build_classifier
from weakseg.pipeline.presets import load_preset

CLASSES, SCALES = 5, (0.5, 1.0, 1.5, 2.0)


def views(images: torch.Tensor) -> list[torch.Tensor]:
    """Every scale, plain and mirrored, made as class_activation_maps makes them."""
    made = []
    for scale in SCALES:
        side = max(1, round(images.shape[2] * scale / 8)) * 8
        scaled = images if side == images.shape[2] else F.interpolate(images, (side, side), mode="bilinear")
        made += [scaled, scaled.flip(3)]
    return made


def library_maps(library: GradCAM, images: torch.Tensor) -> list[np.ndarray]:
    """Per view: (B, C, h, w) in [0, 1] as the library scales them."""
    return [
        np.stack([library(view, [ClassifierOutputTarget(c)] * len(view)) for c in range(CLASSES)], 1)
        for view in views(images)
    ]


def our_views(model: Classifier, images: torch.Tensor) -> list[np.ndarray]:
    """Our maps of the same views under the library's normalisation."""
    result = []
    for view in views(images):
        maps = view_maps(model, view, "gradcam").relu().numpy()
        sides = (view.shape[3], view.shape[2])
        result.append(np.stack([scale_cam_image(scale_cam_image(one, sides)) for one in maps]))
    return result


def best_of(repeats: int, work: object, *arguments: object) -> float:
    """Least wall time in seconds of calls of ``work``."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work(*arguments)  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print times, their ratio and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2, help="divides the channels of the network")
    parser.add_argument("--size", type=int, default=128, help="side of the crops, px")
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    base = load_preset("base")
    network = base.classifier.replaced(
        arch="vgg16_bn", weights="none", width=given.width, output_stride=8, pooling="gap"
    )
    model = build_classifier(network, CLASSES)
    model.eval().to(given.device)
    images = torch.randn(given.crops, 3, given.size, given.size, device=given.device)
    library = GradCAM(model, [model.neck[-1]])
    options = base.cam.replaced(method="gradcam", scales=SCALES, flips=True, quarter_turns=False)
    theirs = best_of(given.repeats, library_maps, library, images)
    ours = best_of(given.repeats, class_activation_maps, model, images, options)
    pairs = zip(our_views(model, images), library_maps(library, images), strict=True)
    worst = max(float(np.abs(a - b).max()) for a, b in pairs)
    print(
        f"{given.crops} crops of {given.size} px, {2 * len(SCALES)} views, {CLASSES} classes, {given.threads} threads"
    )
    print(f"pytorch-grad-cam {theirs:.3f} s, weakseg {ours:.3f} s, ratio {theirs / ours:.1f}x (claim: >= 10x)")
    print(f"largest difference {worst:.1e} (claim: <= 1e-5)")


if __name__ == "__main__":
    main()
