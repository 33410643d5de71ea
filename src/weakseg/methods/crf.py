"""Refinement of ScoreMaps along the edges of the image: a dense CRF over all cores, or pixel-adaptive refinement.

Dense CRF: Krähenbühl and Koltun (NIPS 2011), through ``pydensecrf``, which only this module imports, or through our own
:mod:`weakseg.methods.lattice_crf`, whose marginals are the same (benchmarks/dense_crf.py). The maintained build of the
former is the package ``pydensecrf2``; it installs under the old name, needs a C++ compiler and cannot be built for
Python 3.13 or newer, where ours is the default. It holds the interpreter lock, so areas are cut into windows that run
in processes. There is no background label: a pixel without a confident class is unsure, a uniform unary (ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError, ParamsError, StageError
from weakseg.core.methods import CrfParams
from weakseg.data.windows import cut_area, paste
from weakseg.methods.pool import Image, refine_in_processes
from weakseg.methods.scores import ScoreMaps

Scores = npt.NDArray[np.floating]
SIDE: Final = 512  # px of a window
HALO: Final = 64  # px
SIGMA_FLOOR: Final = 0.01  # of PAMR, whose other numbers are the published ones
FLOOR: Final = 0.01  # least soft probability: a CAM of 0 speaks against a class, it does not forbid it (the tags do)


def class_shares(scores: Scores) -> npt.NDArray[np.float32]:
    """Scores (n, H, W) >= 0 over their sum; where all are 0, 1 / n each."""
    given = np.asarray(scores, np.float32)
    total = given.sum(0)
    empty = total <= 0
    shares = given / np.where(empty, 1, total)
    shares[:, empty] = 1 / len(scores)
    return shares.astype(np.float32)


def soft_unary(shares: Scores) -> npt.NDArray[np.float32]:
    """Class shares (n, H, W) -> energies -log(max(share, 0.01)), float32 (n, H, W)."""
    return np.asarray(-np.log(np.maximum(shares, FLOOR)), np.float32)


def confident_unary(
    shares: Scores, *, min_score: float = 0.4, min_margin: float = 0.15, confidence: float = 0.7
) -> npt.NDArray[np.float32]:
    """Energies (n, H, W), n >= 2, of confident labels: -log(confidence) for the label, the rest shared by the others.

    Pixels whose top share is below ``min_score`` or leads by less than ``min_margin`` are unsure: log(n) for all.
    """
    n = len(shares)
    ordered = np.partition(shares, n - 2, axis=0)
    sure = (ordered[-1] >= min_score) & (ordered[-1] - ordered[-2] >= min_margin)
    label = shares.argmax(0)
    energy = np.where(np.arange(n)[:, None, None] == label, -np.log(confidence), -np.log((1 - confidence) / (n - 1)))
    return np.asarray(np.where(sure, energy, np.log(n)), np.float32)


def dense_crf(image: Image, scores: Scores, params: CrfParams) -> npt.NDArray[np.float32]:
    """Refine one window.

    Args:
        image: uint8 (H, W, 3). scores: (n, H, W) in [0, 1]; classes that are zero everywhere take no part.

    Returns:
        float32 (C, H, W): probabilities that sum to 1 over the classes that take part, 0 for the others. A single such
        class is 1 everywhere; without any the answer is all zero.

    Raises:
        DataError: shapes do not match or values are not finite.
        StageError: neither pydensecrf nor numba is installed.
    """
    _check_window(image, scores)
    refined = np.zeros(scores.shape, np.float32)
    present = np.flatnonzero(scores.any((1, 2)))
    if len(present) == 1:
        refined[present[0]] = 1
    if len(present) < 2:
        return refined
    shares = class_shares(scores[present])
    energy = soft_unary(shares) if params.unary == "soft" else confident_unary(shares)
    refined[present] = mean_field(image, energy, params)
    return refined


def constant_background(
    image: Image, maps: ScoreMaps, background: int, constant: float, params: CrfParams, *, confidence: float = 0.7
) -> npt.NDArray[np.uint8]:
    """Winners uint8 (H, W) after a dense CRF on hard labels of an area, the background being ``constant`` everywhere.

    The published form (IRNet, CVPR 2019): labels are the largest of the constant and of the objects' scores, each with
    ``confidence``; classes that are zero everywhere take no part. Without an object all is background.
    """
    _check_window(image, maps.scores)
    winners = np.empty((1, *maps.scores.shape[1:]), np.uint8)
    classes = np.append(maps.classes[maps.classes != background], background)
    for window in cut_area(image.shape[0], image.shape[1], SIDE, HALO):
        rows, columns, *_ = window
        part = ScoreMaps(maps.scores[:, rows, columns], maps.present)
        given = part.over(classes).astype(np.float32)
        given[-1] = constant
        paste(winners, window, classes[_winners(image[rows, columns], given, params, confidence)][None])
    return np.asarray(winners[0])


def _winners(image: Image, given: Scores, params: CrfParams, confidence: float) -> npt.NDArray[np.intp]:
    present = np.flatnonzero(given.any((1, 2)))
    if len(present) == 1:
        return np.full(given.shape[1:], present[0], np.intp)
    label, others = given[present].argmax(0), -np.log((1 - confidence) / (len(present) - 1))
    energy = np.where(np.arange(len(present))[:, None, None] == label, -np.log(confidence), others)
    return np.asarray(present[mean_field(image, energy, params).argmax(0)], np.intp)


def mean_field(image: Image, energy: npt.NDArray[np.float32], params: CrfParams) -> npt.NDArray[np.float32]:
    """Probabilities (n, H, W) float32 after the mean-field steps from unary energies (n, H, W): Potts, two kernels."""
    return _INFERENCE[crf_library()](image, np.asarray(energy, np.float32), params)


def crf_library() -> Literal["pydensecrf", "lattice"]:
    """What computes the dense CRF here: ``pydensecrf`` where it is installed, else ``lattice``, our own (numba)."""
    if importable("pydensecrf.densecrf"):
        return "pydensecrf"
    if importable("numba"):
        return "lattice"
    raise StageError(
        "no dense CRF: neither pydensecrf nor numba is installed",
        expected="the package pydensecrf2 (Python 3.11 and 3.12), which installs as pydensecrf, or numba",
        cure="install numba, or pydensecrf2 (it needs a C++ compiler, for instance g++), or set crf.refiner: pamr",
    )


def importable(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _by_pydensecrf(image: Image, energy: npt.NDArray[np.float32], params: CrfParams) -> npt.NDArray[np.float32]:
    import pydensecrf.densecrf

    n, height, width = energy.shape
    model = pydensecrf.densecrf.DenseCRF2D(width, height, n)
    model.setUnaryEnergy(np.ascontiguousarray(energy.reshape(n, -1)))
    model.addPairwiseGaussian(sxy=params.gaussian_sxy, compat=params.gaussian_weight)
    model.addPairwiseBilateral(
        sxy=params.bilateral_sxy,
        srgb=params.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=params.bilateral_weight,
    )
    return np.asarray(model.inference(params.iterations), np.float32).reshape(n, height, width)


def _by_lattice(image: Image, energy: npt.NDArray[np.float32], params: CrfParams) -> npt.NDArray[np.float32]:
    from weakseg.methods.lattice_crf import lattice_mean_field

    return lattice_mean_field(image, energy, params)


_INFERENCE: Final = {"pydensecrf": _by_pydensecrf, "lattice": _by_lattice}


def _check_pair(image: Image, maps: ScoreMaps) -> tuple[Image, ScoreMaps]:
    _check_window(image, maps.scores)
    return image, maps


def _check_window(image: Image, scores: Scores) -> None:
    if image.dtype != np.uint8 or image.shape != (*scores.shape[1:], 3):
        raise DataError(
            f"image {image.dtype} {image.shape} and scores {scores.shape}",
            expected="uint8 (H, W, 3) and (C, H, W)",
            cure="refine the scores with the image that they were made from",
        )
    if not np.isfinite(scores).all():
        raise DataError("scores hold NaN or infinity", expected="0..1", cure="rerun the stage that made them")


def refine_many(
    jobs: Iterable[tuple[Image, ScoreMaps]],
    params: CrfParams,
    *,
    workers: int,
    device: str = "cpu",
    side: int = SIDE,
    halo: int = HALO,
) -> Iterator[ScoreMaps]:
    """Refine (image, maps) pairs, areas or crops, and yield the results in order.

    The CRF runs in ``workers`` processes over the windows of all jobs; ``jobs`` is read as results are taken, so memory
    does not depend on its length. PAMR runs in this process on ``device``. The first error of a worker is raised here.
    See :func:`dense_crf`; classes whose scores are all zero in a window stay zero there, so none leaves its windows.

    Args:
        side: px of the square that is kept of each window; halo: px around it that are seen and dropped.
    """
    if workers < 1:
        raise ParamsError(f"{workers} workers", expected="1 or more", cure="mend --workers")
    if params.refiner != "crf" or workers == 1:
        yield from _refine_here(jobs, params, device, side, halo)
        return
    checked = (_check_pair(image, maps) for image, maps in jobs)
    refine = partial(dense_crf, params=params)
    yield from refine_in_processes(checked, refine, side=side, halo=halo, workers=workers)


def _refine_here(
    jobs: Iterable[tuple[Image, ScoreMaps]], params: CrfParams, device: str, side: int, halo: int
) -> Iterator[ScoreMaps]:
    if params.refiner == "best":
        raise ParamsError("refiner best", expected="one of crf and pamr", cure="try both, as the stage crf does")
    for image, maps in jobs:
        _check_window(image, maps.scores)
        refined = np.zeros(maps.scores.shape, np.float32)
        for window in cut_area(image.shape[0], image.shape[1], side, halo):
            rows, columns, *_ = window
            part = image[rows, columns], maps.scores[:, rows, columns]
            values = dense_crf(*part, params) if params.refiner == "crf" else _pamr(*part, device)
            paste(refined, window, values)
        yield ScoreMaps(refined, maps.present)


def _pamr(image: Image, scores: Scores, device: str) -> npt.NDArray[np.float32]:
    import torch

    from weakseg.methods.pamr import pamr

    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255
    masks = torch.from_numpy(np.ascontiguousarray(scores, np.float32)).to(device)[None]
    refined = pamr(pixels, masks, sigma_floor=SIGMA_FLOOR)
    return np.asarray(refined[0].cpu().numpy(), np.float32)
