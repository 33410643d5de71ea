"""The random walk against a dense matrix, its invariants, tiles, and what it does to whole areas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from weakseg.core.errors import DataError
from weakseg.methods.irnet.forms import Walk
from weakseg.methods.irnet.network import IRNet
from weakseg.methods.irnet.walk import (
    boundary_of_area,
    enlarge,
    normalise_walked,
    reduce_to_grid,
    walk,
    walk_affinities,
    walk_area,
    walk_degree,
    walk_reach,
    walk_tiled,
)
from weakseg.methods.scores import ScoreMaps

PLAIN = Walk(steps=16, anchor=1.0, damp=False, normalise="none")
ANCHORED = replace(PLAIN, anchor=0.8)


def example(height: int, width: int, batch: int = 1, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    boundary = torch.rand(batch, height, width, generator=generator) ** 3
    return torch.rand(batch, classes, height, width, generator=generator), boundary


def dense_transition(boundary: Tensor, options: Walk) -> Tensor:
    """Row-stochastic matrix (N, N) float64 of one boundary map (h, w), by looking at every pair of cells."""
    height, width = boundary.shape
    values = boundary.tolist()
    matrix = torch.zeros(height * width, height * width, dtype=torch.float64)
    for i in range(height * width):
        for j in range(height * width):
            a, b = divmod(i, width), divmod(j, width)
            dy, dx = b[0] - a[0], b[1] - a[1]
            squared = dy * dy + dx * dx
            if squared >= options.radius**2:
                continue
            box = [
                values[y][x]
                for y in range(min(a[0], b[0]), max(a[0], b[0]) + 1)
                for x in range(min(a[1], b[1]), max(a[1], b[1]) + 1)
                if (dy * (x - a[1]) - dx * (y - a[0])) ** 2 < squared
            ]
            matrix[i, j] = (1 - max(box)) ** options.beta if squared else 1.0
    return matrix / matrix.sum(1, keepdim=True)


@pytest.mark.parametrize(("height", "width"), [(12, 15), (6, 6), (3, 9)])
@pytest.mark.parametrize("options", [PLAIN, ANCHORED, replace(PLAIN, damp=True, steps=256)])
def test_walk_equals_the_dense_matrix(height: int, width: int, options: Walk) -> None:
    scores, boundary = example(height, width)
    transition = dense_transition(boundary[0], options)
    start = scores[0].double() * (1 - boundary[0] if options.damp else 1)
    x = start = start.flatten(1).T
    for _ in range(options.steps):
        x = options.anchor * transition @ x + (1 - options.anchor) * start
    walked = walk(scores, boundary, options)[0].double()
    torch.testing.assert_close(walked, x.T.view_as(walked), atol=1e-5, rtol=0)


def test_images_of_a_batch_do_not_mix() -> None:
    scores, boundary = example(10, 11, batch=3)
    together = walk(scores, boundary, ANCHORED)
    alone = torch.cat([walk(scores[i : i + 1], boundary[i : i + 1], ANCHORED) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_rows_of_the_transition_matrix_sum_to_one() -> None:
    _, boundary = example(9, 10)
    degree = walk_degree(walk_affinities(boundary, PLAIN), torch.Size((1, 1, 9, 10)), PLAIN)
    one_step = replace(PLAIN, steps=1)
    # the response of every cell to a unit impulse in every cell, as channels: columns of the matrix
    matrix = walk(torch.eye(90).view(1, 90, 9, 10), boundary, one_step)[0].view(90, 90)
    torch.testing.assert_close(matrix.sum(0), torch.ones(90), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix.diagonal(), 1 / degree.flatten(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [replace(PLAIN, steps=64), ANCHORED])
def test_a_closed_ring_stops_all_flow(options: Walk) -> None:
    boundary = torch.zeros(1, 16, 16)
    boundary[0, 4, 4:12] = boundary[0, 11, 4:12] = boundary[0, 4:12, 4] = boundary[0, 4:12, 11] = 1
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[5:11, 5:11] = True
    walked = walk(inside.float()[None, None], boundary, options)[0, 0]
    torch.testing.assert_close(walked[inside], torch.ones(36), atol=1e-6, rtol=0)
    assert not walked[~inside].any()
    boundary[0, 4, 7:9] = 0  # a gate lets it out
    assert walk(inside.float()[None, None], boundary, options)[0, 0, 3, 7] > 0.01


def test_without_boundaries_constants_stay_and_scores_stay_in_range() -> None:
    constant = torch.full((1, 2, 20, 14), 0.3)
    assert torch.equal(walk(constant, torch.zeros(1, 20, 14), replace(PLAIN, steps=100)), constant)
    scores, boundary = example(20, 14)
    walked = walk(scores, boundary, PLAIN)
    assert scores.min() <= walked.min() <= walked.max() <= scores.max()
    assert walked.std() < scores.std()


def test_walk_is_symmetric_under_flips_and_turns() -> None:
    scores, boundary = example(13, 13)
    walked = walk(scores, boundary, ANCHORED)
    for dims in ((2,), (3,), (2, 3)):
        flipped = walk(scores.flip(dims), boundary.flip([d - 1 for d in dims]), ANCHORED).flip(dims)
        torch.testing.assert_close(flipped, walked, atol=1e-6, rtol=0)
    turned = walk(scores.rot90(1, (2, 3)), boundary.rot90(1, (1, 2)), ANCHORED).rot90(-1, (2, 3))
    torch.testing.assert_close(turned, walked, atol=1e-6, rtol=0)


def test_anchor_and_steps_at_their_ends() -> None:
    scores, boundary = example(8, 8)
    assert torch.equal(walk(scores, boundary, replace(PLAIN, anchor=0.0)), scores)
    assert torch.equal(walk(scores, boundary, replace(PLAIN, steps=0)), scores)
    pull = [(walk(scores, boundary, replace(PLAIN, anchor=a, steps=50)) - scores).abs().mean() for a in (0.3, 0.8, 1.0)]
    assert pull[0] < pull[1] < pull[2]


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, boundary = example(23, 17)
    whole = walk(scores, boundary, PLAIN)
    monkeypatch.setattr("weakseg.methods.irnet.walk.BAND_VALUES", 17 * 3 * 4)
    torch.testing.assert_close(walk(scores, boundary, PLAIN), whole, atol=1e-6, rtol=0)


def test_tiles_with_halos_equal_the_whole() -> None:
    scores, boundary = (part[0] for part in example(70, 53))
    short = replace(PLAIN, steps=3, tile=16)  # the walk cannot leave its halo: exact
    assert walk_reach(short) == 12
    whole = walk(scores[None], boundary[None], short)[0]
    torch.testing.assert_close(walk_tiled(scores, boundary, short), whole, atol=1e-6, rtol=0)
    open_ground = boundary * 0
    for options in (replace(ANCHORED, steps=64, tile=40), replace(PLAIN, steps=24, tile=40)):
        assert walk_reach(options) < 45
        whole = walk(scores[None], open_ground[None], options)[0]
        torch.testing.assert_close(walk_tiled(scores, open_ground, options), whole, atol=2e-3, rtol=0)


def test_reach_is_three_deviations_of_the_free_walk() -> None:
    impulse = torch.zeros(1, 1, 101, 101)
    impulse[..., 50, 50] = 1
    options = replace(PLAIN, steps=16)
    spread = walk(impulse, torch.zeros(1, 101, 101), options)[0, 0]
    deviation = ((torch.arange(101.0) - 50) ** 2 @ spread.sum(1)).sqrt()
    assert walk_reach(options) == pytest.approx(3 * float(deviation), abs=1)


def area(height: int = 42, width: int = 61) -> tuple[ScoreMaps, Tensor]:
    """Left half class 0, right half class 2 with a notch of doubt; class 1 absent; a boundary between the halves."""
    scores = np.zeros((3, height, width), np.float32)
    scores[0, :, :32], scores[2, :, 32:] = 0.9, 0.6
    scores[0, 8:16, 40:48] = 0.7
    boundary = torch.zeros(-(-height // 4), -(-width // 4))
    boundary[:, 7:9] = 1
    return ScoreMaps.of(scores, np.array([True, False, True])), boundary


def test_walk_area_repairs_doubt_and_keeps_absent_classes_zero() -> None:
    maps, boundary = area()
    walked, drift = walk_area(maps, boundary, PLAIN)
    assert walked.scores.shape == (2, 42, 61)
    assert walked.scores.dtype == np.float32
    assert walked.present.tolist() == [True, False, True]
    assert maps.winners()[10, 44] == 0
    assert walked.winners()[10, 44] == 2
    assert walked.winners()[10, 4] == 0
    assert not drift.fell_back
    assert drift.before[1] == drift.after[1] == drift.octaves[1] == 0
    assert drift.before[0] == pytest.approx((11 * 8 + 4) / (11 * 16))
    assert drift.after[0] == pytest.approx(8 / 16)
    assert drift.octaves[0] == pytest.approx(np.log2((0.5 + 1e-3) / (92 / 176 + 1e-3)))
    assert 0 < drift.mean_change < 0.2


def test_extreme_drift_falls_back_to_the_map_before_the_walk() -> None:
    scores = np.zeros((2, 64, 64), np.float32)
    scores[0], scores[1, 28:36, 24:40] = 0.5, 0.8  # eight cells of a small class, and no boundary at all
    maps, boundary = ScoreMaps(scores, np.array([True, True])), torch.zeros(16, 16)
    kept, drift = walk_area(maps, boundary, PLAIN, max_drift=1.0)
    assert drift.fell_back
    assert kept is maps
    assert drift.after[1] == 0
    assert drift.octaves[1] == pytest.approx(np.log2(1e-3 / (8 / 256 + 1e-3)))
    walked, drift = walk_area(maps, boundary, PLAIN, max_drift=10.0)
    assert not drift.fell_back
    assert walked.scores[1].max() < 0.4
    fenced = torch.zeros(16, 16)
    fenced[6, 5:11] = fenced[9, 5:11] = fenced[6:10, 5] = fenced[6:10, 10] = 1
    assert not walk_area(maps, fenced, PLAIN, max_drift=1.0)[1].fell_back


def test_area_without_classes_comes_back() -> None:
    maps = ScoreMaps(np.zeros((0, 9, 9), np.float32), np.zeros(2, bool))
    kept, drift = walk_area(maps, torch.zeros(3, 3), PLAIN)
    assert kept is maps
    assert drift.octaves == (0.0, 0.0)


def test_normalisation_by_hand() -> None:
    before = torch.tensor([[[1.0, 0.0]], [[0.2, 0.0]], [[0.0, 0.0]]])
    walked = torch.tensor([[[0.5, 0.25]], [[0.05, 0.1]], [[0.0, 0.0]]])
    assert normalise_walked(walked, before, "none") is walked
    torch.testing.assert_close(normalise_walked(walked, before, "global"), walked * 2)
    expected = torch.tensor([[[1.0, 0.5]], [[0.1, 0.2]], [[0.0, 0.0]]])  # a faint class stays faint
    torch.testing.assert_close(normalise_walked(walked, before, "per_class"), expected)


def test_grid_and_image_stay_aligned() -> None:
    scores = np.zeros((1, 10, 13), np.float32)
    scores[0, :4, :4] = 1  # the first cell
    scores[0, 8:, 12:] = 0.5  # the last, of which only 2x1 px exist
    grid = reduce_to_grid(ScoreMaps(scores, np.ones(1, bool)), torch.device("cpu"))
    assert grid.shape == (1, 3, 4)
    expected = torch.zeros(3, 4)
    expected[0, 0], expected[2, 3] = 1, 0.5
    assert torch.equal(grid[0], expected)
    large = enlarge(expected, 10, 13)
    assert large.shape == (10, 13)
    # cell centres lie between px 1 and 2; halfway to the next centre the score has halved
    assert large[1, 1] == 1
    assert large[1, 3] + large[1, 4] == pytest.approx(1.0)
    assert large[9, 12] == pytest.approx(0.5 * 0.875 * 0.625)


class FirstChannel(nn.Module):
    """A model whose boundary logit is the mean of each 4x4 px cell of the first channel."""

    stride = 4

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x[:, :1], 4)


def test_boundary_of_area_has_no_seams_and_keeps_places() -> None:
    model: IRNet = FirstChannel().eval()  # type: ignore[assignment]
    image = torch.randn(3, 90, 71, generator=torch.Generator().manual_seed(0))
    whole = boundary_of_area(model, image, window=200, overlap=0.5, views="none")
    assert whole.shape == (23, 18)
    assert float(whole[5, 6]) == pytest.approx(float(torch.sigmoid(image[0, 20:24, 24:28].mean())), abs=1e-6)
    pieces = boundary_of_area(model, image, window=32, overlap=0.5, views="d4")
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)


def test_refusals_name_the_cure() -> None:
    scores, boundary = example(8, 8)
    with pytest.raises(DataError, match="reduce the scores to the boundary's grid"):
        walk(scores, boundary[:, :7], PLAIN)
    maps, edges = area()
    with pytest.raises(DataError, match=r"boundary \(11, 15\) for an area of 42x61 px.*rerun the boundary map"):
        walk_area(maps, edges[:, :15], PLAIN)
    with pytest.raises(DataError, match="rerun the boundary map"):
        walk_area(maps, edges * float("nan"), PLAIN)
