"""Pools and the step of the segmentation training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.bit_sets import batch_of
from torch import Tensor, nn

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError
from weakseg.core.params import Params
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import StepDataset
from weakseg.data.crops.augment import Preprocessing
from weakseg.labels.tags import allowed_raster, tags_from_mask, window_grid, window_index
from weakseg.networks.losses import cross_entropy
from weakseg.training.fit import TrainState
from weakseg.training.segment import _ramp, build_pools, class_weights, segmentation_step, typical_shares

RAW = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture
def params(tiny: Callable[[], dict[str, Any]]) -> Callable[..., Params]:
    """Params with changes given as dotted names, ``.`` written ``__``; names without a section are of ``segment``."""

    def make(**changes: Any) -> Params:
        raw = tiny()
        raw["segment"]["augment"]["colour"] = 0.0
        for name, value in changes.items():
            path = name.split("__")
            place = raw if path[0] in raw else raw["segment"]
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        return Params.model_validate(raw)

    return make


@pytest.fixture
def areas(paint: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> list[Area]:
    """One area with truth, one with tags alone."""
    image, mask = paint(0)
    grid = window_grid(64, 64, 16)
    present, known = tags_from_mask(mask, grid, 5)
    index = window_index(64, 64, grid)
    tagged = Area(image, None, allowed_raster(64, 64, grid, present, known), index, present, np.bincount(index.ravel()))
    return [Area(image, mask), tagged]


def test_class_weights() -> None:
    assert class_weights({"car": 2.5, "tree": 0.5}, ISPRS).tolist() == [1, 1, 1, 0.5, 2.5]
    with pytest.raises(DataError, match="class 'bus'"):
        class_weights({"bus": 1.0}, ISPRS)


def test_weak_crops_come_on_top_of_pixel_crops(params: Callable[..., Params], areas: list[Area]) -> None:
    plain = build_pools("pixel", params(), ISPRS, areas[:1], areas[1:], 0)
    both = build_pools("consistency", params(), ISPRS, areas[:1], areas[1:], 0)
    assert {name: pool.count for name, pool in plain.items()} == {"pixel": 4}
    assert {name: pool.count for name, pool in both.items()} == {"pixel": 4, "weak": 2}
    assert {name: pool.count for name, pool in build_pools("full", params(), ISPRS, areas[:1], [], 0).items()} == {
        "pixel": 4
    }


def test_favoured_class(params: Callable[..., Params], areas: list[Area]) -> None:
    pools = build_pools("pixel", params(), ISPRS, areas[:1], [], 0)
    mask = areas[0].mask
    assert mask is not None
    assert len(pools["pixel"].sampler.favoured) == (mask == 4).sum()
    off = build_pools("pixel", params(favour__probability=0.0), ISPRS, areas[:1], [], 0)
    assert len(off["pixel"].sampler.favoured) == 0
    with pytest.raises(DataError, match="class 'bus'"):
        build_pools("pixel", params(favour__class_name="bus"), ISPRS, areas[:1], [], 0)


def test_ramp_by_hand() -> None:
    found = [_ramp(TrainState(nn.Identity(), None, step, 100), 0.25, 0.5) for step in (0, 24, 25, 50, 75, 99)]
    assert found == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert _ramp(TrainState(nn.Identity(), None, 25, 100), 0.25, 0.0) == 1.0
    assert _ramp(TrainState(nn.Identity(), None, 24, 100), 0.25, 0.0) == 0.0


class Fixed(nn.Module):
    """Logits that are the first five of six channels made from the image, times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.scale * torch.cat([x, x.flip(1)], 1)[:, :5] * 4


def allowing(bits: int) -> dict[str, Tensor]:
    found = batch_of(torch.full((2, 8, 8), bits), 5)
    return {"allowed": found.numbers, "sets": found.sets}


def batch(**extra: Tensor) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def image() -> Tensor:
        return torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=generator)

    weak = {
        "image": image(),
        "mask": torch.randint(0, 5, (2, 8, 8), generator=generator),
        **allowing(0b11111),
        "windows": torch.full((2, 8, 8), -1),
        "tags": torch.zeros(0, 5, dtype=torch.bool),
    }
    pixel = {"image": image(), "mask": torch.randint(0, 5, (2, 8, 8), generator=generator)}
    return {"pixel": pixel, "weak": weak | extra}


def logits_of(image: Tensor) -> Tensor:
    return Fixed()(image.float() / 255)


def test_pixel_step_is_weighted_cross_entropy(params: Callable[..., Params]) -> None:
    given = {"pixel": batch()["pixel"]}
    step = segmentation_step("pixel", params(), ISPRS, RAW, 0)
    loss, logs = step(TrainState(Fixed(), None, 2, 4), given)
    weights = torch.tensor([1.0, 1, 1, 1, 2])
    want = cross_entropy(logits_of(given["pixel"]["image"]), given["pixel"]["mask"], weights)
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    assert logs["pixel"].item() == loss.item()
    assert not logs["pixel"].requires_grad


def test_pseudo_step_by_hand(params: Callable[..., Params]) -> None:
    given, weights = batch(), torch.tensor([1.0, 1, 1, 1, 2])
    model = Fixed()
    options = params(students__start=0.0, students__ramp=1.0)  # half way at step 2 of 4
    loss, logs = segmentation_step("cam", options, ISPRS, RAW, 0)(TrainState(model, None, 2, 4), given)
    truth = cross_entropy(logits_of(given["pixel"]["image"]), given["pixel"]["mask"], weights)
    weak = cross_entropy(logits_of(given["weak"]["image"]), given["weak"]["mask"], weights)
    assert logs["weak"].item() == pytest.approx(weak.item(), rel=1e-5)
    assert loss.item() == pytest.approx((truth + 0.5 * 0.3 * weak).item(), rel=1e-5)
    assert model.seen == [4]  # one pass over both


def test_pseudo_masks_wait_for_their_start_tags_do_not(params: Callable[..., Params], areas: list[Area]) -> None:
    """Every step has 4 crops of N1, the same ones whenever the weak crops begin."""
    late = StepDataset(build_pools("cam", params(students__start=0.5), ISPRS, areas[:1], areas[1:], 0), seed=0, steps=4)
    assert [{name: len(part["image"]) for name, part in late[step].items()} for step in range(4)] == [
        {"pixel": 4},
        {"pixel": 4},
        {"pixel": 4, "weak": 2},
        {"pixel": 4, "weak": 2},
    ]
    tagged = build_pools("consistency", params(students__start=0.5), ISPRS, areas[:1], areas[1:], 0)
    first = StepDataset(tagged, seed=0, steps=4)[0]
    assert set(first) == {"pixel", "weak"}
    assert torch.equal(first["pixel"]["image"], late[0]["pixel"]["image"])
    for source in ("cam", "consistency"):
        given = {"pixel": batch()["pixel"]}
        loss, logs = segmentation_step(source, params(), ISPRS, RAW, 0)(TrainState(Fixed(), None, 1, 4), given)
        assert set(logs) == {"pixel"}
        assert loss.item() == logs["pixel"].item()


def test_before_its_start_consistency_learns_the_tags_and_asks_no_teacher(
    params: Callable[..., Params],
) -> None:
    given = batch(**allowing(0b10001))
    teacher, options = Fixed(), params(students__start=0.5, students__ramp=0.5)
    step = segmentation_step("consistency", options, ISPRS, RAW, 0)
    loss, logs = step(TrainState(Fixed(), teacher, 1, 4), given)
    assert teacher.seen == []
    assert logs["consistency"].item() == 0 == logs["coverage"].item()
    want = logs["pixel"] + 0.5 * options.consistency.tag_weight * logs["tags"]  # step 1 of 4: half way up
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    step(TrainState(Fixed(), teacher, 3, 4), given)
    assert teacher.seen == [2, 2]


def test_unlabelled_pseudo_masks_add_nothing(params: Callable[..., Params]) -> None:
    given = batch(mask=torch.full((2, 8, 8), IGNORE))
    model = Fixed()
    loss, logs = segmentation_step("cam", params(), ISPRS, RAW, 0)(TrainState(model, None, 3, 4), given)
    assert logs["weak"].item() == 0.0
    assert loss.item() == pytest.approx(logs["pixel"].item())
    loss.backward()
    assert model.scale.grad is not None
    assert torch.isfinite(model.scale.grad)


def test_consistency_step_is_the_sum_of_its_parts(params: Callable[..., Params]) -> None:
    windows = torch.full((2, 8, 8), -1)
    windows[0, :4] = 0
    given = batch(
        **allowing(0b10001),
        windows=windows,
        tags=torch.tensor([[True, False, False, False, True]]),
    )
    options = params(students__start=0.0, students__ramp=0.0)
    loss, logs = segmentation_step("consistency", options, ISPRS, RAW, 0)(TrainState(Fixed(), None, 0, 4), given)
    assert set(logs) == {"pixel", "consistency", "tags", "presence", "shares", "coverage"}
    assert logs["shares"].item() == 0  # no typical shares were given
    assert all(logs[name].item() > 0 for name in ("pixel", "consistency", "tags", "coverage"))
    weak = options.consistency
    want = logs["pixel"] + weak.weight * logs["consistency"]
    want = want + weak.tag_weight * logs["tags"] + weak.presence_weight * logs["presence"]
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)


def test_the_teacher_is_the_average_and_gets_no_gradient(params: Callable[..., Params]) -> None:
    student, teacher = Fixed(), Fixed()
    options = params(students__ramp=0.0)
    segmentation_step("consistency", options, ISPRS, RAW, 0)(TrainState(student, teacher, 0, 4), batch())[0].backward()
    assert teacher.seen == [2, 2]  # the clean view and its mirror image
    assert student.seen == [4]
    assert teacher.scale.grad is None
    alone = Fixed().train()
    segmentation_step("consistency", options, ISPRS, RAW, 0)(TrainState(alone, None, 0, 4), batch())
    assert alone.training
    assert alone.seen == [2, 2, 4]


def test_draws_depend_on_seed_and_step_alone(params: Callable[..., Params]) -> None:
    def loss(seed: int, step: int) -> float:
        options = params(augment__colour=0.3, students__ramp=0.0)
        return float(
            segmentation_step("consistency", options, ISPRS, RAW, seed)(TrainState(Fixed(), None, step, 4), batch())[0]
        )

    assert loss(0, 1) == loss(0, 1)
    assert len({loss(0, 1), loss(0, 2), loss(1, 1)}) == 3


def test_typical_shares_by_hand() -> None:
    """Four windows of 2 px: class 0 alone, 0 and 1 half each, 1 alone, unlabelled; class 2 is nowhere."""
    mask = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 255, 255], [1, 1, 255, 255]], np.uint8)
    area = Area(np.zeros((4, 4, 3), np.uint8), mask)
    assert typical_shares([area], 3, 2).tolist() == pytest.approx([0.75, 0.75, 0.75])
    mask[0, 0] = 2
    found = typical_shares([Area(area.image, mask)], 3, 2)
    assert found.tolist() == pytest.approx([(0.75 + 0.5) / 2, (0.5 + 1) / 2, 0.25])


def test_typical_shares_of_an_area_labelled_in_part_are_of_windows_labelled_by_half() -> None:
    """Windows of 2 px: one drawn px of class 0, which says nothing; class 0 and 1 half each; the others are blank."""
    mask = np.full((4, 8), 255, np.uint8)
    mask[0, 0] = 0
    mask[:2, 2:4] = [[0, 1], [0, 1]]
    area = Area(np.zeros((4, 8, 3), np.uint8), mask)
    assert typical_shares([area], 2, 2).tolist() == pytest.approx([0.5, 0.5])


def test_shares_pull_the_student_to_what_the_tags_expect(params: Callable[..., Params]) -> None:
    """With typical shares given, the loss grows by the weighted share loss."""
    given = batch(**allowing(0b11111))
    options = params(students__start=0.0, students__ramp=0.0, consistency__share_weight=2.0, consistency__align=False)
    typical = torch.tensor([0.9, 0.025, 0.025, 0.025, 0.025])
    state = TrainState(Fixed(), None, 0, 4)
    without, _ = segmentation_step("consistency", options, ISPRS, RAW, 0)(state, given)
    loss, logs = segmentation_step("consistency", options, ISPRS, RAW, 0, typical=typical)(state, given)
    assert logs["shares"].item() > 0
    assert loss.item() == pytest.approx(without.item() + 2 * logs["shares"].item(), rel=1e-4)


def test_a_favoured_class_is_sought_in_the_crops_tagged_with_it(params: Callable[..., Params]) -> None:
    windows = np.repeat(np.repeat(np.arange(4, dtype=np.int32).reshape(2, 2), 8, 0), 8, 1)
    tags = np.zeros((4, 5), bool)
    tags[2, ISPRS.index("car")] = True
    weak = Area(np.zeros((16, 16, 3), np.uint8), windows=windows, tags=tags, window_pixels=np.full(4, 64))
    labelled = Area(weak.image, np.zeros((16, 16), np.uint8))
    favoured = build_pools("consistency", params(), ISPRS, [labelled], [weak], 0)["weak"].sampler.favoured
    assert len(favoured) == 64
    assert favoured[:, 1].min() == 8  # rows 8 to 15, columns 0 to 7: window 2
    assert favoured[:, 2].max() == 7
