"""Temperatures and the expected calibration error, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.evaluation.calibration import FEWEST, Reliability, calibrate, fit_temperatures, reliability_of


def drawn(temperature: float, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (3, N) of a network whose logits are ``temperature`` times what the truth is drawn from."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (3, count))
    fair = np.exp(logits) / np.exp(logits).sum(0)
    truth = (generator.random(count) > fair.cumsum(0)).sum(0).astype(np.uint8)
    said = np.exp(temperature * logits)
    return (said / said.sum(0)).astype(np.float32), truth


def test_the_error_by_hand() -> None:
    """Two px at 0.9, one right: |1 - 1.8|; two at 0.55, both right: |2 - 1.1|; over 4 px 0.425; 255 is left out."""
    confidence = np.array([0.9, 0.9, 0.55, 0.55, 0.3], np.float32)
    found = reliability_of(confidence, np.array([0, 1, 1, 0, 0]), np.array([0, 0, 1, 0, IGNORE], np.uint8))
    assert found.error == pytest.approx((0.8 + 0.9) / 4)
    assert (found.counts.sum(), found.right.sum()) == (4, 3)
    assert (found + found).error == pytest.approx(found.error)
    assert found.counts[13] == 2  # 0.9 lies in (13 / 15, 14 / 15]


def test_bins_close_above_as_guo_et_al_cut_them() -> None:
    sure = np.array([0.0, 1 / 15, 0.2, 1.0])
    found = reliability_of(sure, np.zeros(4, int), np.zeros(4, np.uint8))
    assert np.flatnonzero(found.counts).tolist() == [0, 2, 14]


def test_no_pixel_has_no_error() -> None:
    empty = reliability_of(np.zeros(1), np.zeros(1, int), np.full(1, IGNORE, np.uint8))
    assert math.isnan(empty.error)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_used_is_found(temperature: float) -> None:
    probabilities, truth = drawn(temperature, 60_000)
    assert fit_temperatures(probabilities, truth) == pytest.approx([temperature] * 3, rel=0.06)


def test_every_class_has_its_own_and_the_winner_stays() -> None:
    """Class 0 says 0.99 and is right 7 times in 10; the others are honest."""
    wrong = np.tile(np.array([[0.99], [0.005], [0.005]], np.float32), 10_000)
    labels = np.where(np.arange(10_000) % 10 < 7, 0, 1 + np.arange(10_000) % 2).astype(np.uint8)
    honest, truth = drawn(1.0, 40_000)
    kept = honest.argmax(0) != 0
    probabilities = np.concatenate([wrong, honest[:, kept]], 1)
    both = np.concatenate([labels, truth[kept]])
    found = fit_temperatures(probabilities, both)
    assert found[0] > 3
    assert found[1:] == pytest.approx([1, 1], rel=0.06)
    calibrated = calibrate(probabilities, found)
    np.testing.assert_array_equal(calibrated.argmax(0), probabilities.argmax(0))
    assert calibrated[0, 0] == pytest.approx(0.7, abs=0.005)
    np.testing.assert_allclose(calibrated.sum(0), 1, atol=1e-6)
    before, after = (reliability_of(each.max(0), each.argmax(0), both).error for each in (probabilities, calibrated))
    assert before > 0.05 > 0.01 > after


def test_temperature_two_by_hand() -> None:
    """0.8 and 0.2: square roots 0.8944 and 0.4472, that is two thirds and one third; two equal ones stay equal."""
    found = calibrate(np.array([[0.8, 0.5], [0.2, 0.5]], np.float32), [2.0, 1.0])
    np.testing.assert_allclose(found, [[2 / 3, 0.5], [1 / 3, 0.5]], atol=1e-6)


def test_certainty_stays_a_number() -> None:
    np.testing.assert_allclose(calibrate(np.array([[1.0], [0.0]], np.float32), [5.0, 5.0]).sum(0), 1)


def test_a_class_of_few_pixels_or_without_a_mistake_takes_the_shared_one() -> None:
    probabilities, truth = drawn(2.0, 30_000)
    few = probabilities.argmax(0) == 2
    few &= few.cumsum() < FEWEST
    part = (probabilities.argmax(0) != 2) | few
    found = fit_temperatures(probabilities[:, part], truth[part])
    assert len(set(found)) == 3  # two of their own, and that of all
    assert found[2] == pytest.approx(2.0, rel=0.1)
    flawless = truth.copy()
    flawless[probabilities.argmax(0) == 1] = 1
    assert 0.5 < fit_temperatures(probabilities, flawless)[1] < 2.0  # its own would be the least that there is


def test_ignored_pixels_say_nothing() -> None:
    probabilities, truth = drawn(2.0, 20_000)
    noisy = np.concatenate([probabilities, probabilities[[1, 2, 0]]], 1)
    labels = np.concatenate([truth, np.full_like(truth, IGNORE)])
    assert fit_temperatures(noisy, labels) == fit_temperatures(probabilities, truth)


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [(np.ones((2, 3)), np.zeros(4)), (np.ones((2, 3)), np.full(3, IGNORE)), (np.ones((2, 1, 3)), np.zeros((1, 3)))],
)
def test_what_cannot_be_fitted_is_refused(probabilities: np.ndarray, truth: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected \(C, N\) and \(N,\) with labelled pixels"):
        fit_temperatures(probabilities.astype(np.float32), truth.astype(np.uint8))


@pytest.mark.parametrize("temperatures", [[1.0], [1.0, 0.0]])
def test_temperatures_that_do_not_fit_are_refused(temperatures: list[float]) -> None:
    with pytest.raises(DataError, match="a positive one per class"):
        calibrate(np.full((2, 3), 0.5, np.float32), temperatures)


def test_shapes_of_one_area() -> None:
    with pytest.raises(DataError, match="expected one shape"):
        reliability_of(np.zeros(3), np.zeros(3, int), np.zeros(4, np.uint8))


def test_the_parts_of_a_sum() -> None:
    one = Reliability(np.array([1]), np.array([1]), np.array([0.5]))
    assert (one + Reliability(np.array([3]), np.array([0]), np.array([1.5]))).error == pytest.approx(1 / 4)
