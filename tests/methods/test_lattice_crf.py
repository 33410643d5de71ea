"""Our own dense CRF: the lattice by hand, the marginals against pydensecrf, where that is installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from weakseg.core.methods import CrfParams
from weakseg.methods.crf import importable, mean_field

pytest.importorskip("numba")

from weakseg.methods.lattice_crf import lattice_mean_field
from weakseg.methods.permutohedral import Kernel, build_lattice, softmax

needs_pydensecrf = pytest.mark.skipif(not importable("pydensecrf.densecrf"), reason="pydensecrf is not installed")


def settings(iterations: int, *, strong: bool = False) -> CrfParams:
    weights = {"gaussian_weight": 3.0, "bilateral_weight": 5.0} if strong else {}
    given = {"gaussian_weight": 1.0, "bilateral_weight": 2.0, **weights}
    return CrfParams(
        refiner="crf",
        gaussian_sxy=2.0,
        bilateral_sxy=12.0,
        bilateral_srgb=8.0,
        iterations=iterations,
        unary="soft",
        **given,
    )


def crop(seed: int, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours with grain and blocks, unary energies of blocks."""
    rng = np.random.default_rng(seed)
    size = height // 8 + 1, width // 8 + 1
    coarse = rng.integers(30, 220, (*size, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    image = np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)
    scores = rng.random((n, *size)).repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return image, -np.log(np.maximum(scores / scores.sum(0), 0.01)).astype(np.float32)


@needs_pydensecrf
@pytest.mark.parametrize("iterations", [5, 10])
@pytest.mark.parametrize(
    ("n", "height", "width"),
    [(2, 40, 52), (5, 61, 63), (9, 33, 47), (3, 1, 50), (2, 1, 1)],  # 61 x 63 and more: no multiple of four points
)
@pytest.mark.parametrize("strong", [False, True])
def test_marginals_are_those_of_pydensecrf(n: int, height: int, width: int, iterations: int, strong: bool) -> None:
    image, energy = crop(n, n, height, width)
    params = settings(iterations, strong=strong)
    found, expected = lattice_mean_field(image, energy, params), mean_field(image, energy, params)
    assert (found.dtype, found.shape) == (np.float32, (n, height, width))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(0) == expected.argmax(0)).mean() >= 0.999


@needs_pydensecrf
def test_noise_wide_colours_and_narrow_kernels_too() -> None:
    """As many vertices as there are: the table of keys grows; coordinates beyond 2048, that need more than 12 bits."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    energy = rng.random((3, 64, 64), np.float32)
    for changes in ({}, {"bilateral_srgb": 0.4, "bilateral_sxy": 0.2}, {"gaussian_sxy": 0.1}):
        params = settings(5).replaced(**changes)
        np.testing.assert_allclose(
            lattice_mean_field(image, energy, params), mean_field(image, energy, params), atol=1e-4
        )


def test_a_lattice_in_one_dimension_by_hand() -> None:
    """In one dimension vertices lie sqrt(3) / 2 apart; a quarter of a step from one the weights are .75 and .25."""
    step = np.sqrt(3) / 2
    vertex, weight, near = build_lattice(np.array([[0.0], [0.25 * step], [step], [5 * step]], np.float32))
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
    by_place = {(int(v), round(float(w), 3)) for v, w in zip(vertex[1], weight[1], strict=True)}
    assert sorted(w for _, w in by_place) == [0.25, 0.75]
    own = [int(v[w.argmax()]) for v, w in zip(vertex, weight, strict=True)]
    assert own[1] == own[0]  # .25 steps away: the nearest vertex is that of the first point
    for direction in range(2):
        assert own[2] in near[direction, own[0] - 1]  # one step away
        assert own[3] not in near[direction, own[0] - 1]
        assert own[0] in near[direction, own[2] - 1]
    assert near.min() >= 0
    assert near.max() <= near.shape[1]


def test_a_lone_point_keeps_its_value_and_two_alike_share_theirs() -> None:
    """Symmetric normalisation: k / sqrt(k k) = 1 for one point; (a + b) / 2 each for two points at one place."""
    values = np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]], np.float32)
    kernel = Kernel(np.array([[100.0, 7.0], [-300.0, 5.0], [-300.0, 5.0]], np.float32))
    result = np.zeros_like(values)
    kernel.add(values, 2.0, result)
    np.testing.assert_allclose(result, [[2.0, 0.0], [0.8, 1.2], [0.8, 1.2]], atol=1e-5)


def test_softmax_of_padding_is_zero() -> None:
    logits = np.array([[1.0, 1.0, -np.inf, -np.inf], [1000.0, 0.0, -np.inf, -np.inf]], np.float32)
    softmax(logits)
    np.testing.assert_allclose(logits, [[0.5, 0.5, 0, 0], [1, 0, 0, 0]])


def test_more_dimensions_than_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="9 dimensions; expected at most 8"):
        build_lattice(np.zeros((4, 9), np.float32))


def test_the_pipeline_starts_without_numba() -> None:
    code = "import sys, weakseg.methods.crf; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
