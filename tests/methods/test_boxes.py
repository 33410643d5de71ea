"""Boxes to ScoreMaps: what is filled, what is not believed, what the classes share."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.labels.tags import Window
from weakseg.methods.boxes import WHOLE, box_probability, fill_boxes
from weakseg.methods.scores import check_scores

COLOUR = 8.0


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Grey noise with a red ellipse: image (60, 80, 3) and its truth."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:60, :80]
    truth = ((rows - 30) / 12) ** 2 + ((columns - 40) / 20) ** 2 <= 1
    image = np.where(truth[..., None], (200, 40, 40), (110, 110, 110)) + rng.integers(-8, 9, (60, 80, 3))
    return image.clip(0, 255).astype(np.uint8), truth


BOX: Window = (18, 20, 25, 41)  # tight around the ellipse


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_an_object_is_cut_out_of_its_box() -> None:
    image, truth = scene()
    filled = fill_boxes(image, [BOX], [1], 3, refiner="crf", colour=COLOUR)
    check_scores(filled.maps, "a")
    scores = filled.maps.scores
    assert filled.kept_whole == 0
    row, column, tall, wide = BOX
    box = np.zeros((60, 80), bool)
    box[row : row + tall, column : column + wide] = True
    assert overlap(box, truth) < 0.8
    assert overlap(scores[1] >= 0.5, truth) > 0.95
    assert not scores[:, ~box].any()
    assert scores[:, box].sum(0) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(scores[0], scores[2])  # what is left is shared evenly


def test_no_refiner_takes_the_whole_box() -> None:
    image, _ = scene()
    filled = fill_boxes(image, [BOX], [1], 3, refiner="none", colour=COLOUR)
    assert filled.kept_whole == 1
    part = filled.maps.scores[:, 18:43, 20:61]
    assert part[1] == pytest.approx(WHOLE)
    assert part[0] == pytest.approx((1 - WHOLE) / 2)


def test_a_box_that_would_be_left_empty_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No result of the CRF reaches a share above 1."""
    monkeypatch.setattr("weakseg.methods.boxes.LEAST", 1.01)
    image = np.full((40, 40, 3), 120, np.uint8)
    filled = fill_boxes(image, [(5, 5, 12, 12), (30, 30, 3, 3)], [0, 1], 2, refiner="crf", colour=COLOUR)
    assert filled.kept_whole == 2
    assert filled.maps.scores[0, 5:17, 5:17] == pytest.approx(WHOLE)
    assert filled.maps.scores[1, 30:33, 30:33] == pytest.approx(WHOLE)


def test_a_box_over_the_whole_image_cannot_be_told() -> None:
    image, _ = scene()
    everywhere = np.ones((60, 80), bool)
    assert box_probability(image, (0, 0, 60, 80), everywhere, "crf", COLOUR) is None


def test_neighbours_of_one_class_are_no_background() -> None:
    """Two boxes over one red ellipse: what one leaves out, the other one's box still claims."""
    image, truth = scene()
    halves: list[Window] = [(18, 20, 25, 21), (18, 41, 25, 20)]
    filled = fill_boxes(image, halves, [1, 1], 3, refiner="crf", colour=COLOUR)
    assert overlap(filled.maps.scores[1] >= 0.5, truth) > 0.9


def test_boxes_of_two_classes_share_their_overlap() -> None:
    image = np.full((30, 30, 3), 90, np.uint8)
    filled = fill_boxes(image, [(5, 5, 10, 10), (10, 10, 10, 10)], [0, 1], 4, refiner="none", colour=COLOUR)
    scores = filled.maps.scores
    assert scores[:, 12, 12] == pytest.approx([WHOLE, WHOLE, (1 - WHOLE) ** 2 / 2, (1 - WHOLE) ** 2 / 2])
    assert scores[:, 6, 6] == pytest.approx([WHOLE, 0.1, 0.1, 0.1])
    assert list(filled.maps.present) == [True] * 4


def test_no_boxes_no_scores() -> None:
    filled = fill_boxes(np.zeros((9, 9, 3), np.uint8), [], [], 2, refiner="crf", colour=COLOUR)
    assert not filled.maps.scores.any()
    assert not filled.maps.present.any()
    check_scores(filled.maps, "a")


def test_the_same_answer_twice_and_at_the_rim() -> None:
    image, _ = scene()
    rim: list[Window] = [(0, 0, 9, 9), (55, 70, 5, 10), (18, 20, 25, 41)]
    one, two = (fill_boxes(image, rim, [0, 1, 1], 2, refiner="crf", colour=COLOUR) for _ in range(2))
    assert np.array_equal(one.maps.scores, two.maps.scores)
