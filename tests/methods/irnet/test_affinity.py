"""Pair geometry and pair losses against hand counts and a plain loop over all pairs."""

from __future__ import annotations

import math

import pytest
import torch

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.methods.irnet.affinity import (
    boundary_loss,
    count_classes,
    crop_weights,
    displacement_loss,
    pair_affinity,
    pair_offsets,
    path_maximum,
    path_points,
    sample_offsets,
    shifted,
)

SIDE, CLASSES = 12, 4


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 3, (2, SIDE, SIDE), generator=generator)  # class 3 never occurs
    labels[:, :3, :4] = IGNORE
    return logits, labels


def all_pairs(labels: torch.Tensor, radius: int) -> list[tuple[int, tuple[int, int], tuple[int, int], int, int]]:
    """Every valid unordered pair of cells closer than ``radius``, found by comparing all cells with all cells."""
    cells = [(y, x) for y in range(SIDE) for x in range(SIDE)]
    pairs, values = [], labels.tolist()
    for image in range(labels.shape[0]):
        for index, a in enumerate(cells):
            for b in cells[index + 1 :]:
                if math.hypot(a[0] - b[0], a[1] - b[1]) < radius:
                    first, second = values[image][a[0]][a[1]], values[image][b[0]][b[1]]
                    if IGNORE not in (first, second):
                        pairs.append((image, a, b, first, second))
    return pairs


def loop_affinity(boundary: list[list[float]], a: tuple[int, int], b: tuple[int, int]) -> float:
    """1 - max over the cells of the bounding box whose distance to the line a-b is below one cell."""
    length, worst = math.hypot(b[0] - a[0], b[1] - a[1]), 0.0
    for y in range(min(a[0], b[0]), max(a[0], b[0]) + 1):
        for x in range(min(a[1], b[1]), max(a[1], b[1]) + 1):
            off = abs((b[0] - a[0]) * (x - a[1]) - (b[1] - a[1]) * (y - a[0])) / length
            if off < 1 - 1e-9:
                worst = max(worst, boundary[y][x])
    return 1 - worst


def loop_boundary_loss(logits: torch.Tensor, labels: torch.Tensor, radius: int, background: bool) -> float:
    positive: dict[int, list[float]] = {}
    negative: list[float] = []
    boundaries = torch.sigmoid(logits[:, 0]).tolist()
    for image, a, b, first, second in all_pairs(labels, radius):
        affinity = loop_affinity(boundaries[image], a, b)
        if first == second:
            kind = min(first, 1) if background else first
            positive.setdefault(kind, []).append(-math.log(affinity + 1e-5))
        else:
            negative.append(-math.log(1 + 1e-5 - affinity))
    means = [sum(terms) / len(terms) for terms in positive.values()]
    attraction = sum(means) / (2 if background else len(means))
    return 0.5 * attraction + 0.5 * sum(negative) / len(negative)


def test_offsets_and_path_points_have_the_published_counts() -> None:
    assert [len(pair_offsets(radius)) for radius in (5, 10)] == [34, 152]
    assert [sum(len(path_points(offset)) for offset in pair_offsets(radius)) for radius in (5, 10)] == [242, 2134]
    assert [max(len(path_points(offset)) for offset in pair_offsets(radius)) for radius in (5, 10)] == [11, 22]


def test_each_unordered_pair_has_one_offset() -> None:
    offsets = pair_offsets(5)
    everything = {*offsets, *((-dy, -dx) for dy, dx in offsets), (0, 0)}
    assert len(everything) == 69
    assert everything == {(y, x) for y in range(-5, 6) for x in range(-5, 6) if y * y + x * x < 25}


def test_paths_by_hand() -> None:
    middle = ((1, -3), (1, -2), (1, -1), (1, 0))
    assert path_points((2, -3)) == ((0, -1), (0, 0), *middle, (2, -3), (2, -2))
    assert path_points((0, 3)) == ((0, 0), (0, 1), (0, 2), (0, 3))


def test_shifted_views_pair_each_source_with_its_partner() -> None:
    field = torch.arange(12).view(3, 4)
    assert shifted(field, (1, -1), (0, 0)).tolist() == [[1, 2, 3], [5, 6, 7]]
    assert shifted(field, (1, -1), (1, -1)).tolist() == [[4, 5, 6], [8, 9, 10]]
    assert shifted(field, (3, 0), (0, 0)).numel() == shifted(field, (4, 4), (4, 4)).numel() == 0


def test_one_boundary_cell_cuts_the_pairs_whose_path_holds_it() -> None:
    boundary = torch.zeros(1, 1, 5)
    boundary[0, 0, 2] = 0.75
    assert pair_affinity(boundary, (0, 1)).tolist() == [[[1.0, 0.25, 0.25, 1.0]]]
    assert pair_affinity(boundary, (0, 3)).tolist() == [[[0.25, 0.25]]]


@pytest.mark.parametrize("radius", [5, 10])
@pytest.mark.parametrize("background", [False, True])
def test_boundary_loss_equals_the_loop_over_all_pairs(radius: int, background: bool) -> None:
    logits, labels = example()
    loss = boundary_loss(logits, labels.to(torch.uint8), pair_offsets(radius), CLASSES, background=background)
    assert float(loss) == pytest.approx(loop_boundary_loss(logits, labels, radius, background), rel=1e-4)


def test_classes_present_weigh_alike_however_large() -> None:
    # one row of cells: class 0 four times over an open path, class 1 twice over a path with logit z
    logits = torch.full((1, 1, 1, 6), -30.0)
    logits[..., 4:] = 0.0
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1]]])
    ours = float(boundary_loss(logits, labels, [(0, 1)], 2))
    # class 0: 3 pairs of loss 0; class 1: 1 pair of -log(0.5); the negative pair has affinity 0.5 too
    assert ours == pytest.approx(0.5 * (0 + math.log(2)) / 2 + 0.5 * math.log(2), abs=1e-4)


def test_without_background_the_published_form_would_halve_the_attraction() -> None:
    logits, labels = torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4), 2)
    assert float(boundary_loss(logits, labels, [(0, 1)], 3)) == pytest.approx(0.5 * math.log(2), abs=1e-4)
    published = float(boundary_loss(logits, labels, [(0, 1)], 3, background=True))
    assert published == pytest.approx(0.25 * math.log(2), abs=1e-4)


def test_gradient_pushes_the_boundary_up_between_classes_and_down_within() -> None:
    logits = torch.zeros(1, 1, 1, 8, requires_grad=True)
    labels = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 1]]])
    boundary_loss(logits, labels, pair_offsets(2), 2).backward()
    assert logits.grad is not None
    gradient = logits.grad[0, 0, 0]
    assert gradient[3] < 0
    assert gradient[4] < 0
    assert (gradient[[0, 1, 2, 5, 6, 7]] > 0).all()


def test_nothing_labelled_gives_zero_loss_and_gradient() -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    loss = boundary_loss(logits, torch.full((1, 4, 4), IGNORE), pair_offsets(5), 3)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_displacement_loss_equals_the_loop_over_all_pairs() -> None:
    _, labels = example()
    field = torch.randn(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    thing, stuff = [], []
    for image, a, b, first, second in all_pairs(labels, 5):
        if first == second:
            difference = field[image][:, a[0], a[1]] - field[image][:, b[0], b[1]]
            step = torch.tensor([b[0] - a[0], b[1] - a[1]])
            (thing if first > 0 else stuff).append(float((difference - step if first > 0 else difference).abs().sum()))
    expected = 0.5 * (sum(thing) / (2 * len(thing)) + sum(stuff) / (2 * len(stuff)))
    loss = displacement_loss(field, labels, pair_offsets(5), CLASSES, background=True)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_displacements_to_one_centroid_cost_nothing() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    field = torch.stack([2.5 - rows, 2.5 - columns])[None]
    assert float(displacement_loss(field, torch.zeros(1, 6, 6).long(), pair_offsets(5), 1)) == pytest.approx(
        0, abs=1e-6
    )


def test_sampled_offsets_differ_between_draws_and_repeat_with_the_seed() -> None:
    offsets = pair_offsets(10)
    generator = torch.Generator().manual_seed(1)
    first, second = (sample_offsets(offsets, 40, generator) for _ in range(2))
    assert len(set(first)) == 40
    assert set(first) < set(offsets)
    assert first != second
    assert first == sample_offsets(offsets, 40, torch.Generator().manual_seed(1))
    assert sample_offsets(offsets, 500, generator) == offsets


def test_single_class_crops_are_capped() -> None:
    labels = torch.zeros(5, 10, 10, dtype=torch.long)
    labels[3, :, 5:] = 1
    labels[4] = IGNORE
    labels[0, 0, 0] = 1  # one percent, below the least share
    counts = count_classes(labels, 2, least=0.02)
    assert counts.tolist() == [1, 1, 1, 2, 0]
    assert crop_weights(counts, 0.3).tolist() == pytest.approx([0.1, 0.1, 0.1, 0.7, 0])
    assert crop_weights(counts, 1.0).tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0])
    assert crop_weights(torch.tensor([1, 2, 2, 2, 2]), 0.3).tolist() == pytest.approx([0.2] * 5)


def test_refusals_name_the_cure() -> None:
    logits, labels = example()
    with pytest.raises(DataError, match="bring the masks to the grid with label_grid"):
        boundary_loss(logits, labels[:, ::2], pair_offsets(5), CLASSES)
    with pytest.raises(DataError, match=r"labels from 1 to 3 among 3 classes; expected 0 to 2, or 255.*class scheme"):
        boundary_loss(logits, labels.clamp(1, 3), pair_offsets(5), 3)
    with pytest.raises(DataError, match="take larger crops"):
        crop_weights(torch.tensor([1, 1, 0]), 0.3)
    with pytest.raises(ParamsError, match="mend the radius"):
        pair_offsets(1)


def test_path_maximum_takes_the_largest_value_on_the_way() -> None:
    field = torch.arange(9.0).view(1, 3, 3)
    assert path_maximum(field, (2, -2)).tolist() == [[[7.0]]]  # diagonal paths take in the cells beside them
    assert path_maximum(field, (0, 2)).tolist() == [[[2.0], [5.0], [8.0]]]
