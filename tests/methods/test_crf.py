from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError

from weakseg.core.errors import DataError, ParamsError, StageError
from weakseg.core.methods import CrfParams
from weakseg.methods.crf import (
    class_shares,
    confident_unary,
    constant_background,
    crf_library,
    dense_crf,
    importable,
    mean_field,
    refine_many,
    soft_unary,
)
from weakseg.methods.pamr import pamr
from weakseg.methods.scores import ScoreMaps

QUICK = CrfParams(
    refiner="crf",
    gaussian_sxy=2.0,
    gaussian_weight=3.0,
    bilateral_sxy=8.0,
    bilateral_srgb=20.0,
    bilateral_weight=5.0,
    iterations=5,
    unary="soft",
)
LIBRARIES = [
    pytest.param(name, marks=pytest.mark.skipif(not importable(module), reason=f"{module} is not installed"))
    for name, module in (("pydensecrf", "pydensecrf.densecrf"), ("lattice", "numba"))
]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with each dense CRF that is installed."""
    if request.param == "lattice":
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    assert crf_library() == request.param
    return str(request.param)


def two_halves(height: int, width: int) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    image[:, width // 2 :] = 190
    return image


def exact_mean_field(image: np.ndarray, energy: np.ndarray, options: CrfParams) -> np.ndarray:
    """Brute force over all pairs: full kernels with the self term, normalised symmetrically, Potts."""
    n, height, width = energy.shape
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([rows.ravel(), columns.ravel()], 1).astype(float)
    colour = image.reshape(-1, 3).astype(float)
    kernels = []
    for features, weight in (
        (place / options.gaussian_sxy, options.gaussian_weight),
        (np.hstack([place / options.bilateral_sxy, colour / options.bilateral_srgb]), options.bilateral_weight),
    ):
        kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(2))
        norm = 1 / np.sqrt(kernel.sum(1))
        kernels.append(weight * norm[:, None] * kernel * norm[None])
    flat = energy.reshape(n, -1).astype(float)
    q = np.exp(-flat)
    q /= q.sum(0)
    for _ in range(options.iterations):
        logits = -flat + q @ sum(kernels)
        q = np.exp(logits - logits.max(0))
        q /= q.sum(0)
    return q.reshape(n, height, width)


@pytest.mark.parametrize("noise", [0, 20])
@pytest.mark.usefixtures("library")
def test_crf_equals_brute_force_mean_field(noise: int) -> None:
    rng = np.random.default_rng(0)
    image = (two_halves(28, 32) + rng.integers(-noise, noise + 1, (28, 32, 3))).astype(np.uint8)
    truth = np.minimum(np.arange(32) // 12, 2)
    shares = class_shares((np.arange(3)[:, None, None] == truth) * 0.2 + rng.random((3, 28, 32)))
    options = QUICK.replaced(gaussian_weight=1.0, bilateral_sxy=10.0, bilateral_srgb=30.0, bilateral_weight=1.0)
    found, expected = (f(image, soft_unary(shares), options) for f in (mean_field, exact_mean_field))
    assert np.abs(found - expected).mean() <= 0.005
    assert (found.argmax(0) == expected.argmax(0)).mean() >= 0.98
    assert np.abs(expected - shares).mean() > 0.02  # the kernels did something


@pytest.mark.usefixtures("library")
def test_zero_weights_give_back_the_shares_and_keep_the_argmax() -> None:
    rng = np.random.default_rng(1)
    image, scores = rng.integers(0, 256, (20, 30, 3), np.uint8), rng.random((4, 20, 30)).astype(np.float32)
    refined = dense_crf(image, scores, QUICK.replaced(gaussian_weight=0.0, bilateral_weight=0.0))
    np.testing.assert_array_equal(refined.argmax(0), scores.argmax(0))
    shares = np.maximum(scores / scores.sum(0), 0.01)
    np.testing.assert_allclose(refined, shares / shares.sum(0), atol=1e-5)


@pytest.mark.usefixtures("library")
def test_crf_cleans_noisy_scores_along_the_edge() -> None:
    rng = np.random.default_rng(2)
    image = two_halves(32, 40)
    truth = (np.arange(40) >= 20).astype(int)[None].repeat(32, 0)
    scores = np.stack([truth == 0, truth == 1]) * 0.3 + rng.random((2, 32, 40)) * 0.7
    assert (scores.argmax(0) == truth).mean() < 0.9
    assert (dense_crf(image, scores, QUICK).argmax(0) == truth).mean() == 1.0


def test_no_class_and_one_class_are_answered_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pydensecrf.densecrf", "numba"):
        monkeypatch.setitem(sys.modules, module, None)
    image, scores = two_halves(8, 8), np.zeros((3, 8, 8), np.float32)
    assert not dense_crf(image, scores, QUICK).any()
    scores[1, 2, 2] = 0.2
    refined = dense_crf(image, scores, QUICK)
    assert (refined[1] == 1).all()
    assert not refined[[0, 2]].any()
    scores[2, 3, 3] = 0.2
    with pytest.raises(StageError, match=r"neither pydensecrf nor numba.*C\+\+ compiler.*refiner: pamr"):
        dense_crf(image, scores, QUICK)


@pytest.mark.usefixtures("library")
def test_absent_classes_stay_zero_and_present_ones_sum_to_one() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random((4, 12, 12))
    scores[2] = 0
    scores[:, 5:7] = 0  # rows without any evidence are unsure, not NaN
    refined = dense_crf(two_halves(12, 12), scores, QUICK)
    assert not refined[2].any()
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)


def test_class_shares_by_hand() -> None:
    scores = np.array([0.9, 0.1, 0.0]).reshape(3, 1, 1).repeat(2, 2)
    scores[:, 0, 1] = 0
    shares = class_shares(scores)
    np.testing.assert_allclose(shares[:, 0, 0], [0.9, 0.1, 0])
    np.testing.assert_allclose(shares[:, 0, 1], [1 / 3] * 3)
    np.testing.assert_allclose(soft_unary(shares)[:, 0, 0], -np.log([0.9, 0.1, 0.01]), rtol=1e-6)


def test_confident_unary_is_the_librarys_with_label_0_as_unsure() -> None:
    unary_from_labels = pytest.importorskip("pydensecrf.utils").unary_from_labels
    shares = np.array([[0.7, 0.5, 0.4, 0.3], [0.2, 0.4, 0.1, 0.1], [0.1, 0.1, 0.5, 0.6]]).reshape(3, 2, 2)
    labels = np.array([[1, 0], [0, 3]])  # margins .5, .1, .1, .3
    found = confident_unary(shares, min_score=0.45, min_margin=0.15, confidence=0.7)
    np.testing.assert_allclose(found.reshape(3, -1), unary_from_labels(labels, 3, 0.7, zero_unsure=True), rtol=1e-6)
    low = confident_unary(shares, min_score=0.65, min_margin=0.15, confidence=0.7)
    np.testing.assert_allclose(low[:, 1, 1], np.log(3), rtol=1e-6)  # .6 is below the least score


@pytest.mark.usefixtures("library")
def test_unsure_pixels_take_the_class_of_their_alike_neighbours() -> None:
    image = two_halves(24, 24)
    scores = np.full((2, 24, 24), 0.5)
    scores[:, 4:8, 2:6] = [[[0.9]], [[0.1]]]
    scores[:, 4:8, 18:22] = [[[0.1]], [[0.9]]]
    options = QUICK.replaced(
        gaussian_sxy=3.0,
        bilateral_sxy=30.0,
        bilateral_srgb=10.0,
        bilateral_weight=10.0,
        iterations=10,
        unary="confident",
    )
    refined = dense_crf(image, scores, options)
    assert (refined[:, 12:].argmax(0) == (np.arange(24) >= 12)).all()


def test_crf_refuses() -> None:
    image, scores = two_halves(8, 8), np.ones((2, 8, 8), np.float32)
    with pytest.raises(DataError, match="refine the scores with the image"):
        dense_crf(image[:7], scores, QUICK)
    with pytest.raises(DataError, match="rerun the stage that made them"):
        dense_crf(image, scores * np.nan, QUICK)
    for wrong in ({"unary": "hard"}, {"iterations": 0}, {"refiner": "grabcut"}, {"bilateral_srgb": 0.0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            QUICK.replaced(**wrong)
    with pytest.raises(ParamsError, match="workers"):
        next(refine_many([], QUICK, workers=0))
    with pytest.raises(ParamsError, match="refiner best; expected one of crf and pamr"):
        refine_area(image, ScoreMaps(scores, np.ones(2, bool)), QUICK.replaced(refiner="best"))


def refine_area(image: np.ndarray, maps: ScoreMaps, params: CrfParams, **windows: int) -> ScoreMaps:
    return next(refine_many([(image, maps)], params, workers=1, **windows))


def random_job(seed: int, height: int = 40, width: int = 52) -> tuple[np.ndarray, ScoreMaps]:
    rng = np.random.default_rng(seed)
    scores = rng.random((3, height, width)).astype(np.float32)
    scores[2] = 0
    return rng.integers(0, 256, (height, width, 3), np.uint8), ScoreMaps(scores, np.array([True, True, False]))


def test_windows_with_enough_halo_equal_the_whole_area(monkeypatch: pytest.MonkeyPatch) -> None:
    image, maps = random_job(1)
    monkeypatch.setattr("weakseg.methods.pamr.pamr", partial(pamr, dilations=(1, 2), iterations=2))
    options = QUICK.replaced(refiner="pamr")
    whole = refine_area(image, maps, options, side=100)
    cut = refine_area(image, maps, options, side=16, halo=6)
    np.testing.assert_allclose(cut.scores, whole.scores, atol=1e-6)
    assert np.abs(whole.scores - maps.scores).mean() > 0.05
    assert not whole.scores[2].any()


def test_pool_gives_the_same_results_in_order_and_reads_jobs_as_they_are_taken() -> None:
    read: list[int] = []

    def jobs() -> Iterator[tuple[np.ndarray, ScoreMaps]]:
        for seed in range(12):
            read.append(seed)
            yield random_job(seed)

    results = refine_many(jobs(), QUICK, workers=2, side=32, halo=8)
    first = next(results)
    assert len(read) < 6  # four windows are on their way, not all jobs
    found = [first, *results]
    assert len(found) == len(read) == 12
    for seed in (0, 5, 11):
        expected = refine_area(*random_job(seed), QUICK, side=32, halo=8)
        np.testing.assert_array_equal(found[seed].scores, expected.scores)
        np.testing.assert_array_equal(found[seed].present, [True, True, False])


def test_errors_of_a_worker_are_raised_here() -> None:
    broken = QUICK.model_copy(update={"gaussian_weight": "strong"})  # either library wants a number
    with pytest.raises((TypeError, ValueError), match=r"bytes-like|could not convert string to float"):
        list(refine_many([random_job(0), random_job(1)], broken, workers=2))


def test_a_wrong_job_is_refused_before_it_is_sent() -> None:
    image, maps = random_job(0)
    with pytest.raises(DataError, match="refine the scores with the image"):
        list(refine_many([(image[:3], maps)], QUICK, workers=2))


def test_a_constant_background_wins_where_no_object_reaches_it() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 200
    scores = np.full((1, 8, 8), 0.1, np.float32)
    scores[:, :, 4:] = 0.5
    maps = ScoreMaps(scores, np.array([False, False, True]))
    empty = ScoreMaps(scores[:0], np.zeros(3, bool))
    params = CrfParams(
        refiner="crf", gaussian_sxy=1, gaussian_weight=0.1, bilateral_sxy=5, bilateral_srgb=5, bilateral_weight=0.1,
        iterations=2, unary="soft",
    )  # fmt: skip
    assert (constant_background(image, maps, 0, 0.3, params) == np.where(image[..., 0] > 0, 2, 0)).all()
    assert (constant_background(image, maps, 0, 0.05, params) == 2).all()
    assert (constant_background(image, empty, 0, 0.3, params) == 0).all()
