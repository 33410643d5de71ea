"""Mean-field inference of the dense CRF on our own permutohedral lattice: the marginals of ``pydensecrf``, no compiler.

Two kernels (Gaussian over places, bilateral over places and colours), Potts compatibilities, symmetric normalisation:
what ``DenseCRF2D`` does with its defaults. Import where it is used: numba comes with it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.methods import CrfParams
from weakseg.methods.permutohedral import Floats, Kernel, softmax

ALIGN: Final = 4  # classes are padded to a multiple: four float32 are the least vector of a processor


def lattice_mean_field(image: npt.NDArray[np.uint8], energy: Floats, params: CrfParams) -> Floats:
    """Probabilities (n, H, W) float32 after the mean-field steps.

    Args:
        image: uint8 (H, W, 3). energy: unary energies, float32 (n, H, W).
    """
    n, height, width = energy.shape
    colours = image.reshape(-1, 3).astype(np.float32) / np.float32(params.bilateral_srgb)
    gaussian = _gaussian(height, width, params.gaussian_sxy)
    bilateral = Kernel(np.hstack([_places(height, width, params.bilateral_sxy), colours]))
    unary = np.full((height * width, -(-n // ALIGN) * ALIGN), -np.inf, np.float32)
    unary[:, :n] = -energy.reshape(n, -1).T
    q = unary.copy()
    softmax(q)
    for _ in range(params.iterations):
        logits = unary.copy()
        gaussian.add(q, params.gaussian_weight, logits)
        bilateral.add(q, params.bilateral_weight, logits)
        softmax(logits)
        q = logits
    return np.ascontiguousarray(q[:, :n].T).reshape(n, height, width)


def _places(height: int, width: int, sxy: float) -> Floats:
    rows, columns = np.indices((height, width), np.float32)
    places: Floats = np.stack([columns.ravel(), rows.ravel()], 1) / np.float32(sxy)
    return places


@lru_cache(maxsize=2)
def _gaussian(height: int, width: int, sxy: float) -> Kernel:
    """The kernel over places is that of every window of one size."""
    return Kernel(_places(height, width, sxy))
