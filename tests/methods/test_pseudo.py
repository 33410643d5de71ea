from __future__ import annotations

import numpy as np
import pytest
from tests.bit_sets import allowed_of

from weakseg.core.class_sets import Allowed
from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.evaluation.metrics import class_iou, confusion_matrix
from weakseg.methods import pseudo
from weakseg.methods.pseudo import (
    Thresholds,
    choose_thresholds,
    count_areas,
    count_sweep,
    pseudo_mask,
    sweep_table,
    sweep_thresholds,
)
from weakseg.methods.scores import ScoreMaps

ALL = 0b111


def maps_of(*pixels: tuple[float, float, float]) -> ScoreMaps:
    """One row of pixels with three class scores each."""
    return ScoreMaps(np.array(pixels, np.float32).T[:, None, :], np.ones(3, bool))


def bits(*values: int, classes: int = 3) -> Allowed:
    return allowed_of([values], classes)


def test_score_and_margin_decide_by_hand() -> None:
    maps = maps_of((0.9, 0.2, 0.1), (0.3, 0.2, 0.0), (0.6, 0.1, 0.55), (0.0, 0.5, 0.25), (0.0, 0.0, 0.0))
    mask = pseudo_mask(maps, bits(*[ALL] * 5), min_score=0.4, min_margin=0.25)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, IGNORE, IGNORE, 1, IGNORE]]  # low score; small margin; both exactly met; no evidence
    assert pseudo_mask(maps, bits(*[ALL] * 5), min_score=0, min_margin=0).tolist() == [[0, 0, 0, 1, IGNORE]]


def test_each_class_has_its_own_thresholds() -> None:
    maps = maps_of((0.5, 0.0, 0.1), (0.1, 0.0, 0.5), (0.7, 0.0, 0.5), (0.3, 0.0, 0.5))
    mask = pseudo_mask(maps, bits(*[ALL] * 4), min_score=(0.6, 0.6, 0.4), min_margin=(0.1, 0.0, 0.3))
    assert mask.tolist() == [[IGNORE, 2, 0, IGNORE]]


def test_classes_that_the_tags_forbid_do_not_count() -> None:
    maps = maps_of((0.9, 0.5, 0.2), (0.9, 0.5, 0.45))
    # without class 0 the first pixel is class 1 by .3, the second has a margin of .05 only
    assert pseudo_mask(maps, bits(0b110, 0b110), min_score=0.4, min_margin=0.25).tolist() == [[1, IGNORE]]


def test_a_single_tag_is_a_dense_label_whatever_the_scores() -> None:
    maps = maps_of((0.9, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.1, 0.9))
    assert pseudo_mask(maps, bits(0b010, 0b100, 0b001), min_score=0.99, min_margin=0.99).tolist() == [[1, 2, 0]]


def test_the_31st_class_fits() -> None:
    maps = ScoreMaps(np.zeros((31, 1, 1), np.float32), np.ones(31, bool))
    assert pseudo_mask(maps, bits(1 << 30, classes=31), min_score=0.5, min_margin=0.5).tolist() == [[30]]


def test_a_single_class_scheme_has_its_score_as_margin() -> None:
    maps = ScoreMaps(np.array([[[0.3, 0.6]]], np.float32), np.ones(1, bool))
    assert pseudo_mask(maps, bits(1, 1, classes=1), min_score=0.5, min_margin=0.5).tolist() == [[0, 0]]


def test_contradicting_tags_leave_a_pixel_unlabelled() -> None:
    maps = maps_of((0.9, 0.5, 0.2), (0.9, 0.5, 0.45))
    assert pseudo_mask(maps, bits(ALL, 0), min_score=0.0, min_margin=0.0).tolist() == [[0, IGNORE]]


def test_pseudo_mask_refuses() -> None:
    maps = maps_of((0.9, 0.5, 0.2), (0.9, 0.5, 0.45))
    with pytest.raises(DataError, match=r"allowed classes \(1, 2\) of 4 for scores \(3, 1, 2\) of 3"):
        pseudo_mask(maps, bits(ALL, 0b1001, classes=4), min_score=0.4, min_margin=0.1)
    with pytest.raises(DataError, match=r"allowed classes \(1, 1\)"):
        pseudo_mask(maps, bits(ALL), min_score=0.4, min_margin=0.1)
    with pytest.raises(DataError, match="NaN"):
        pseudo_mask(maps_of((np.nan, 0, 0)), bits(ALL), min_score=0.4, min_margin=0.1)


def random_area(seed: int, height: int = 30, width: int = 20) -> tuple[ScoreMaps, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (height, width)).astype(np.uint8)
    scores = (np.arange(4)[:, None, None] == truth) * 0.3 + rng.random((4, height, width)) * 0.7
    scores = scores.astype(np.float16).astype(np.float32)
    scores[:, 3] = 0
    allowed = allowed_of(np.array([0b1111, 0b0110, 0b1011, 0b0100])[rng.integers(0, 4, (height, width))], 4)
    truth[truth == 3] = 2
    truth[0] = IGNORE
    return ScoreMaps(scores, np.ones(4, bool)), allowed, truth


def test_row_chunks_do_not_change_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, allowed, _ = random_area(0)
    whole = pseudo_mask(maps, allowed, min_score=0.5, min_margin=0.1)
    monkeypatch.setattr(pseudo, "CHUNK_PIXELS", 70)
    np.testing.assert_array_equal(pseudo_mask(maps, allowed, min_score=0.5, min_margin=0.1), whole)
    assert 0.1 < (whole == IGNORE).mean() < 0.9


def test_mask_equals_a_loop_over_pixels() -> None:
    maps, allowed, _ = random_area(1, 12, 10)
    mask = pseudo_mask(maps, allowed, min_score=0.5, min_margin=0.1)
    for row in range(12):
        for column in range(10):
            here = [c for c in range(4) if allowed.planes()[c, row, column]]
            ranked = sorted(((float(maps.scores[c, row, column]), c) for c in here), reverse=True)
            clear = ranked[0][0] >= 0.5 and ranked[0][0] - (ranked[1][0] if len(here) > 1 else 0) >= 0.1
            assert mask[row, column] == (ranked[0][1] if clear or len(here) == 1 else IGNORE)


def test_sweep_equals_scoring_the_mask_of_every_pair() -> None:
    areas = [random_area(2), random_area(3, 17, 23)]
    scores_grid, margins_grid = [0.0, 0.25, 0.5, 0.75], [0.0, 0.125, 0.3]
    table = sweep_thresholds(areas, scores_grid=scores_grid, margins_grid=margins_grid)
    assert len(table) == 12
    for row in table:
        confusion, scored = np.zeros((4, 4), np.int64), 0
        for maps, allowed, truth in areas:
            mask = pseudo_mask(maps, allowed, min_score=row.min_score, min_margin=row.min_margin)
            confusion += confusion_matrix(np.where(mask == IGNORE, np.uint8(IGNORE), truth), mask, 4)
            scored += (truth != IGNORE).sum()
        assert row.coverage == confusion.sum() / scored
        assert row.accuracy == np.trace(confusion) / confusion.sum()
        np.testing.assert_array_equal(row.class_iou, class_iou(confusion))
        assert row.miou == pytest.approx(np.nanmean(class_iou(confusion)))
    assert table[0].coverage > table[-1].coverage > 0.05
    assert (table[1].min_score, table[1].min_margin) == (0.0, 0.125)


def test_a_class_that_no_labelled_pixel_shows_counts_zero() -> None:
    maps = maps_of((0.9, 0.0, 0.0), (0.0, 0.3, 0.0))
    truth = np.array([[0, 1]], np.uint8)
    both, first = sweep_thresholds([(maps, bits(ALL, ALL), truth)], scores_grid=[0.2, 0.5], margins_grid=[0.0])
    np.testing.assert_array_equal(both.class_iou, [1, 1, np.nan])  # class 2 is nowhere: not counted
    assert (both.miou, both.coverage, both.accuracy) == (1, 1, 1)
    np.testing.assert_array_equal(first.class_iou, [1, 0, np.nan])
    assert (first.miou, first.coverage, first.accuracy) == (0.5, 0.5, 1)


def test_no_labelled_pixel_has_no_accuracy() -> None:
    row = sweep_thresholds(
        [(maps_of((0.1, 0, 0)), bits(ALL), np.zeros((1, 1), np.uint8))], scores_grid=[0.5], margins_grid=[0.0]
    )[0]
    assert (row.coverage, row.miou) == (0, 0)
    assert np.isnan(row.accuracy)


GRIDS = {"scores_grid": np.linspace(0, 1, 11).tolist(), "margins_grid": np.linspace(0, 0.5, 6).tolist()}


def chosen_of(areas: list[tuple], *, min_coverage: float, per_class: bool) -> Thresholds:
    counts = count_areas(areas, **GRIDS)
    return choose_thresholds(counts, **GRIDS, min_coverage=min_coverage, per_class=per_class)


def test_one_pair_for_all_is_the_best_that_covers_enough() -> None:
    areas = [random_area(4)]
    table = sweep_thresholds(areas, **GRIDS)
    chosen = chosen_of(areas, min_coverage=0.5, per_class=False)
    assert len(set(chosen.min_score)) == len(set(chosen.min_margin)) == 1
    assert chosen.coverage >= 0.5
    assert chosen.miou == max(row.miou for row in table if row.coverage >= 0.5)
    assert chosen.miou > chosen_of(areas, min_coverage=0.9, per_class=False).miou  # coverage costs quality here
    with pytest.raises(DataError, match=r"expected 1.0 or more.*lower pseudo\.min_coverage"):
        chosen_of(areas, min_coverage=1.0, per_class=False)


def test_each_class_may_choose_its_own_pair() -> None:
    """Class 0 is right where its score is .9 and wrong below, class 1 right at .4 already."""
    maps = maps_of((0.9, 0, 0), (0.9, 0, 0), (0.6, 0, 0), (0, 0.4, 0), (0, 0.4, 0), (0, 0, 0))
    truth = np.array([[0, 0, 1, 1, 1, 2]], np.uint8)
    area = (maps, bits(*[ALL] * 5, 0b100), truth)  # the last pixel is certain by its tag
    one = chosen_of([area], min_coverage=0.5, per_class=False)
    own = chosen_of([area], min_coverage=0.5, per_class=True)
    assert own.min_score[0] > 0.6 > 0.4 >= own.min_score[1]
    assert own.miou == 1.0 > one.miou
    mask = pseudo_mask(maps, area[1], min_score=own.min_score, min_margin=own.min_margin)
    assert mask.tolist() == [[0, 0, IGNORE, 1, 1, 2]]
    assert own.coverage == pytest.approx(5 / 6)


@pytest.mark.parametrize("seed", range(6))
def test_own_pairs_are_never_worse_and_agree_with_the_mask(seed: int) -> None:
    areas = [random_area(seed), random_area(seed + 50, 17, 23)]
    for maps, _, _ in areas:
        maps.scores[:] *= np.array([1.0, 0.5, 0.75, 1.0])[:, None, None]  # sure at different scores
    one = chosen_of(areas, min_coverage=0.3, per_class=False)
    own = chosen_of(areas, min_coverage=0.3, per_class=True)
    assert own.miou > one.miou
    assert own.coverage >= 0.3
    confusion, scored, won = np.zeros((4, 4), np.int64), 0, np.zeros(4, np.int64)
    for maps, allowed, truth in areas:
        mask = pseudo_mask(maps, allowed, min_score=own.min_score, min_margin=own.min_margin)
        confusion += confusion_matrix(np.where(mask == IGNORE, np.uint8(IGNORE), truth), mask, 4)
        scored += (truth != IGNORE).sum()
        all_won = pseudo_mask(maps, allowed, min_score=0, min_margin=0)
        won += np.bincount(all_won[(truth != IGNORE) & (all_won != IGNORE)], minlength=4)
    assert own.coverage == confusion.sum() / scored
    np.testing.assert_array_equal(own.class_iou, class_iou(confusion))
    moved = (np.array([own.min_score, own.min_margin]) != [[one.min_score[0]], [one.min_margin[0]]]).any(0)
    assert moved.any()
    assert (confusion.sum(0) >= 0.3 * won)[moved].all()  # no class is given up for its surest pixels


def test_sweep_refuses() -> None:
    maps, allowed, truth = random_area(5)
    grids = {"scores_grid": [0.1, 0.5], "margins_grid": [0.0]}
    with pytest.raises(DataError, match="no areas"):
        sweep_thresholds([], **grids)
    with pytest.raises(DataError, match="sort the grid"):
        count_sweep(maps, allowed, truth, scores_grid=[0.5, 0.1], margins_grid=[0.0])
    with pytest.raises(DataError, match="truth of this area and scheme"):
        count_sweep(maps, allowed, np.full_like(truth, 7), **grids)
    with pytest.raises(DataError, match="no pixel with truth"):
        sweep_table(np.zeros((3, 2, 4, 4), np.int64), **grids)
