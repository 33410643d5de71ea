"""Values by hand and from scikit-learn, properties, refusals."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.core.errors import DataError, ParamsError
from weakseg.evaluation import metrics
from weakseg.evaluation.metrics import confusion_matrix, scores_of

NAMES = ("a", "b", "c")


def counts(*rows: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64)


def test_confusion_by_hand_drops_ignore() -> None:
    truth = np.array([[0, 0, 1], [2, 255, 255]], np.uint8)
    prediction = np.array([[0, 1, 1], [0, 2, 200]], np.uint8)
    assert confusion_matrix(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@given(st.integers(1, 31), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_confusion_counts_each_labelled_pixel_once(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random((17, 23)) < 0.2, 255, rng.integers(0, classes, (17, 23))).astype(np.uint8)
    prediction = rng.integers(0, classes, (17, 23))  # int64, as argmax gives it
    table = confusion_matrix(truth, prediction, classes)
    expected = np.zeros((classes, classes), np.int64)
    for label, guess in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if label != 255:
            expected[label, guess] += 1
    assert np.array_equal(table, expected)


def test_confusion_of_pieces_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 3, (2, 40, 30)).astype(np.uint8)
    whole = confusion_matrix(truth, prediction, 3)
    views = confusion_matrix(truth[:, :11], prediction[:, :11], 3) + confusion_matrix(
        truth[:, 11:], prediction[:, 11:], 3
    )
    assert np.array_equal(whole, views)
    monkeypatch.setattr(metrics, "_EXACT", 97)  # the path of rasters above 2^24 px
    assert np.array_equal(whole, confusion_matrix(truth, prediction, 3))
    empty = np.zeros((0, 5), np.uint8)
    assert confusion_matrix(empty, empty, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("truth", "prediction", "text"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), "the mask of its own area"),
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), "masks into uint8"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32), "by argmax"),
        (np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), "truth label 3"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), "4 labelled px have predictions such as 255"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), -1, np.int64), "predict every pixel"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 256, np.int64), "predict every pixel"),
    ],
)
def test_confusion_refuses(truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8], text: str) -> None:
    with pytest.raises(DataError, match=text):
        confusion_matrix(truth, prediction, 3)


def test_scores_by_hand() -> None:
    scores = scores_of(counts((6, 2, 0), (1, 3, 0), (0, 0, 0)), NAMES)
    assert scores["iou"]["a"] == pytest.approx(6 / 9)
    assert scores["iou"]["b"] == pytest.approx(3 / 6)
    assert math.isnan(scores["iou"]["c"])
    assert math.isnan(scores["f1"]["c"])
    assert scores["miou"] == pytest.approx((6 / 9 + 3 / 6) / 2)  # c is left out, not counted as 0 or 1
    assert scores["f1"]["a"] == pytest.approx(12 / 15)
    assert scores["mf1"] == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert scores["oa"] == pytest.approx(9 / 12)
    chance = (8 * 7 + 4 * 5) / 144
    assert scores["kappa"] == pytest.approx((0.75 - chance) / (1 - chance))


def test_predicted_but_never_true_counts_as_zero() -> None:
    scores = scores_of(counts((8, 0, 2), (0, 0, 0), (0, 0, 0)), NAMES)
    assert scores["iou"]["c"] == 0.0
    assert scores["miou"] == pytest.approx((0.8 + 0.0) / 2)


def test_no_labelled_pixel_is_all_nan() -> None:
    scores = scores_of(counts((0, 0), (0, 0)), ("a", "b"))
    assert all(math.isnan(scores[key]) for key in ("miou", "mf1", "oa", "kappa"))  # type: ignore[literal-required]


def test_kappa_of_a_single_class_is_undefined() -> None:
    scores = scores_of(counts((5, 0), (0, 0)), ("a", "b"))
    assert (scores["oa"], scores["miou"]) == (1.0, 1.0)
    assert math.isnan(scores["kappa"])


def test_scores_agree_with_sklearn() -> None:
    """Numbers of scikit-learn 1.9.1 on the same pixels; importing it here would cost seconds."""
    scores = scores_of(counts((50, 10, 5), (8, 60, 12), (0, 7, 48)), NAMES)
    assert list(scores["iou"].values()) == pytest.approx([0.684931507, 0.618556701, 0.666666667])
    assert list(scores["f1"].values()) == pytest.approx([0.81300813, 0.76433121, 0.8])
    assert (scores["kappa"], scores["oa"]) == (pytest.approx(0.682959049), pytest.approx(0.79))


def test_scores_refuse_another_scheme() -> None:
    with pytest.raises(DataError, match="class scheme of the data"):
        scores_of(counts((1, 0), (0, 1)), NAMES)


def test_erosion_is_a_disc_of_three_pixels() -> None:
    mask = np.zeros((15, 15), np.uint8)
    mask[7, 7] = 1
    eroded = metrics.erode_boundaries(mask)
    rows, columns = np.indices(mask.shape)
    near = (rows - 7) ** 2 + (columns - 7) ** 2 <= 9
    assert near.sum() == 29
    assert np.array_equal(eroded == 255, near)
    assert mask[7, 7] == 1  # the input is not changed


def test_erosion_of_a_straight_edge_and_of_the_rim() -> None:
    mask = np.repeat(np.array([[0, 1]], np.uint8), [10, 10], axis=1).repeat(4, axis=0)
    eroded = metrics.erode_boundaries(mask)
    assert eroded[0].tolist() == [0] * 7 + [255] * 6 + [1] * 7
    assert (metrics.erode_boundaries(np.full((9, 9), 2, np.uint8)) == 2).all()
    assert np.array_equal(metrics.erode_boundaries(mask, 0), mask)
    with pytest.raises(ParamsError, match="use 3"):
        metrics.erode_boundaries(mask, -1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=15)
def test_erosion_equals_its_definition(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.choice([0, 1, 255], (4, 4)), np.ones((5, 4))).astype(np.uint8)
    expected = mask.copy()
    for row, column in np.ndindex(mask.shape):
        rows, columns = np.indices(mask.shape)
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        if (mask[disc] != mask[row, column]).any():
            expected[row, column] = 255
    assert np.array_equal(metrics.erode_boundaries(mask, radius), expected)


def test_batch_mean_by_hand() -> None:
    """Tiles of 2 px, batches of 2: five tiles, the last batch holds one; strips at the edges are dropped."""
    first_truth = np.zeros((5, 4), np.uint8)  # 2x2 tiles, row 4 is a strip
    first_guess = first_truth.copy()
    first_guess[4] = 1  # an error in the strip: seen by the pooled IoU alone
    first_truth[2:4, :2], first_guess[2:4, :2] = 1, 1
    first_guess[2, 0] = 0
    second_truth = np.full((2, 3), 1, np.uint8)  # one tile, column 2 is a strip
    second_guess = np.array([[1, 1, 0], [0, 0, 0]], np.uint8)
    mean, by_class = metrics.iou_batch_mean(
        [(first_truth, first_guess), (second_truth, second_guess)], NAMES, tile=2, batch=2
    )
    # batch 1: class 0 only, all right -> a 1, b NaN; batch 2: a 4/5, b 3/4; batch 3: a 0 (predicted only), b 2/4
    assert by_class["a"] == pytest.approx((1 + 4 / 5 + 0) / 3)
    assert by_class["b"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert math.isnan(by_class["c"])
    assert mean == pytest.approx((by_class["a"] + by_class["b"]) / 2)


def test_batch_mean_without_a_whole_tile_is_nan() -> None:
    small = np.zeros((199, 400), np.uint8)
    mean, by_class = metrics.iou_batch_mean([(small, small)], NAMES)
    assert math.isnan(mean)
    assert all(math.isnan(value) for value in by_class.values())


def test_over_seeds_leaves_undefined_out() -> None:
    assert metrics.over_seeds([0.6, math.nan, 0.7]) == metrics.Spread(pytest.approx(0.65), 0.6, 0.7, 2)
    empty = metrics.over_seeds([math.nan])
    assert (math.isnan(empty.mean), empty.count) == (True, 0)


def test_to_json_is_strict_json() -> None:
    value = {
        "spread": metrics.Spread(0.5, math.nan, math.inf, 2),
        3: np.array([[1, 2]], np.int64),
        "scalar": (np.float32(0.5), np.bool_(True), None, "text", float("nan")),
    }
    text = json.dumps(metrics.to_json(value), allow_nan=False)
    assert json.loads(text) == {
        "spread": {"mean": 0.5, "low": None, "high": None, "count": 2},
        "3": [[1, 2]],
        "scalar": [0.5, True, None, "text", None],
    }
    with pytest.raises(DataError, match="a set; expected numbers"):
        metrics.to_json({1, 2})


def test_errors_survive_worker_processes() -> None:
    with pytest.raises(DataError) as caught:
        confusion_matrix(np.full((1, 1), 9, np.uint8), np.zeros((1, 1), np.uint8), 3)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
