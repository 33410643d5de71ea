"""IRNet on a tiny random encoder: shapes, frozen parts, alignment, views, published sizes, and learning a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.data.crops.augment import IMAGENET
from weakseg.methods.irnet.forms import AERIAL, FORMS, Form, candidates, in_force
from weakseg.methods.irnet.network import (
    Displacement,
    IRNet,
    boundary_map,
    irnet_loss,
    label_grid,
    pad_to_multiple,
)
from weakseg.networks.build import Encoder
from weakseg.pipeline.presets import load_preset


class TinyEncoder(nn.Module):
    """Strided 3x3 convolutions with batch norm: a feature per stride 2, 4, 8, 16."""

    def __init__(self, channels: Sequence[int] = (8, 8, 8, 8), strides: Sequence[int] = (2, 4, 8, 16)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.channels, self.strides, self.preprocessing = tuple(channels), tuple(strides), IMAGENET
        wide, stages = [3, *channels], []
        for index, (before, stride) in enumerate(zip([1, *strides], strides, strict=False)):
            convolution = nn.Conv2d(wide[index], wide[index + 1], 3, stride=stride // before, padding=1)
            stages.append(nn.Sequential(convolution, nn.BatchNorm2d(wide[index + 1]), nn.ReLU()))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def tiny_irnet(*, displacement: bool = False, strides: Sequence[int] = (2, 4, 8, 16)) -> IRNet:
    encoder: Encoder = TinyEncoder((8,) * len(strides), strides)  # type: ignore[assignment]
    torch.manual_seed(1)
    return IRNet(encoder, displacement=displacement)


class RangeEncoder(nn.Module):
    """No weights: at each stride the mean of every band, and its range among the 3x3 neighbours."""

    channels, strides, preprocessing = (6, 6, 6), (2, 4, 8), IMAGENET

    def forward(self, x: Tensor) -> list[Tensor]:
        means = [nn.functional.avg_pool2d(x, stride) for stride in self.strides]
        pool = nn.MaxPool2d(3, 1, 1)
        return [torch.cat([mean, pool(mean) + pool(-mean)], 1) for mean in means]


def count(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


@pytest.mark.parametrize("size", [(64, 64), (50, 33), (7, 5), (1, 1), (200, 250)])
def test_any_image_size_gives_the_ceiling_of_a_quarter(size: tuple[int, int]) -> None:
    model = tiny_irnet(displacement=True).eval()
    images = torch.randn(2, 3, *size)
    grid = (-(-size[0] // 4), -(-size[1] // 4))
    logits, field = model.boundary_and_displacement(images)
    assert model(images).shape == logits.shape == (2, 1, *grid)
    assert field.shape == (2, 2, *grid)
    assert boundary_map(model, images, "d4").shape == (2, 1, *grid)


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (2, 4, 8, 8)])
def test_other_pyramids_fit_too(strides: tuple[int, ...]) -> None:
    model = tiny_irnet(strides=strides, displacement=True)
    assert model(torch.randn(1, 3, 37, 50)).shape == (1, 1, 10, 13)


def test_branches_have_the_published_sizes_with_resnet50() -> None:
    channels, strides = (64, 256, 512, 1024, 2048), (2, 4, 8, 16, 16)

    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.channels, self.strides = channels, strides

    encoder: Encoder = Sizes()  # type: ignore[assignment]
    model = IRNet(encoder)
    assert count(model.boundary) + count(model.boundary_head) == 125_409
    assert count(Displacement(channels, strides)) == 1_269_120


def test_encoder_stays_frozen_in_training() -> None:
    model = tiny_irnet().train()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model(torch.randn(2, 3, 32, 32) * 5 + 3).sum().backward()
    assert model.boundary_head.training
    assert not any(module.training for module in model.encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())
    assert all(weights.grad is None and not weights.requires_grad for weights in model.encoder.parameters())
    assert all(weights.grad is not None for weights in model.boundary.parameters())


def test_labels_come_from_the_middle_of_each_cell() -> None:
    labels = torch.arange(90).view(1, 9, 10)
    assert label_grid(labels).tolist() == [[[22, 26, 29], [62, 66, 69], [82, 86, 89]]]
    corner = torch.zeros(1, 64, 64, dtype=torch.uint8)
    corner[0, 60:, :4] = 3  # one cell in the lower left corner
    grid = label_grid(corner)
    assert grid.shape == (1, 16, 16)
    assert grid.nonzero().tolist() == [[0, 15, 0]]


def test_boundaries_answer_at_the_place_of_the_image_that_changed() -> None:
    model = tiny_irnet(strides=(2, 4)).eval()
    for size in ((64, 64), (61, 59)):
        image = torch.zeros(1, 3, *size)
        changed = image.clone()
        changed[..., 40:44, 12:16] = 3.0  # the cell in row 10, column 3
        # GroupNorm spreads a little over the whole map: the largest change tells the place
        difference = (boundary_map(model, changed) - boundary_map(model, image)).abs()[0, 0]
        row, column = divmod(int(difference.argmax()), difference.shape[1])
        assert abs(row - 10) <= 1
        assert abs(column - 3) <= 1


def test_boundary_map_averages_the_logits_of_the_views() -> None:
    model = tiny_irnet().eval()
    images = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(boundary_map(model, images, "none"), torch.sigmoid(model(images)))
    mean = (model(images) + model(images.flip(3)).flip(3)) / 2
    torch.testing.assert_close(boundary_map(model, images), torch.sigmoid(mean))


def test_d4_boundary_map_turns_with_the_image() -> None:
    model = tiny_irnet().eval()
    images = torch.randn(1, 3, 32, 48)
    whole = boundary_map(model, images, "d4")
    torch.testing.assert_close(boundary_map(model, images.rot90(1, (2, 3)), "d4").rot90(-1, (2, 3)), whole)
    torch.testing.assert_close(boundary_map(model, images.flip(2), "d4").flip(2), whole)


def test_padding_repeats_the_rim() -> None:
    padded = pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3), 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


def scene(side: int = 96) -> tuple[Tensor, Tensor]:
    """Three fields of different colour and texture, and a small bright one; image (1, 3, H, W), mask (1, H, W)."""
    mask = torch.zeros(1, side, side, dtype=torch.uint8)
    mask[:, :, side // 2 :] = 1
    mask[:, side // 3 : 2 * side // 3, side // 4 : 3 * side // 4] = 2
    mask[:, 8:24, 8:32] = 3
    colours = torch.tensor([[-1.0, 0.2, 0.0], [0.8, -0.5, 0.3], [0.0, 1.0, -1.0], [1.5, 1.5, 1.5]])
    noise = 0.2 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return colours[mask.long()].permute(0, 3, 1, 2) + noise, mask


def true_edges(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Grid cells beside a change of class, and cells at least three cells away from any."""
    grid = label_grid(mask).float()[:, None]
    change = nn.functional.max_pool2d(grid, 3, 1, 1) != -nn.functional.max_pool2d(-grid, 3, 1, 1)
    near = nn.functional.max_pool2d(change.float(), 5, 1, 2) > 0
    return change[0, 0], ~near[0, 0]


def train(model: IRNet, image: Tensor, mask: Tensor, form: Form, pairs: int, steps: int) -> list[float]:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.03)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        loss = irnet_loss(model, image, mask, form, 4, radius=5, pairs=pairs, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_training_overfits_one_scene_in_seconds() -> None:
    image, mask = scene()
    encoder: Encoder = RangeEncoder()  # type: ignore[assignment]
    torch.manual_seed(1)
    model = IRNet(encoder)
    losses = train(model, image, mask, AERIAL, 12, 22)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    boundary = boundary_map(model.eval(), image, "d4")
    edge, plain = true_edges(mask)
    assert nn.functional.max_pool2d(boundary, 3, 1, 1)[0, 0][edge].mean() > 0.8
    assert boundary[0, 0][plain].mean() < 0.05


def test_displacement_branch_learns_too() -> None:
    image, mask = scene()
    model = tiny_irnet(displacement=True)
    losses = train(model, image, mask, replace(AERIAL, displacement=True), 8, 20)
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    assert model.displacement is not None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.displacement.parameters())


def test_presets_hold_the_published_defaults() -> None:
    base = load_preset("base").irnet
    for preset in ("irn_voc", "lid_compat"):
        params = in_force(base.replaced(preset=preset))
        (walk,) = candidates(params)
        assert (walk.radius, walk.beta, walk.steps, walk.anchor) == (5, 10.0, 256, 1.0)
        assert (walk.damp, walk.normalise) == (True, "global")
        assert (params.radius, params.pairs_per_step, params.max_drift) == (10, 152, float("inf"))
        assert (FORMS[preset].background, FORMS[preset].displacement) == (True, True)
    assert (FORMS["aerial"].background, FORMS["aerial"].displacement) == (False, False)
    assert in_force(base) is base
    assert {(walk.damp, walk.normalise) for walk in candidates(base)} == {(False, "per_class")}
    assert [(walk.steps, walk.anchor) for walk in candidates(base)] == [(4, 1.0), (4, 0.85), (16, 1.0), (16, 0.85)]


def test_wrong_values_of_the_section_are_refused() -> None:
    base = load_preset("base").irnet
    for wrong in ({"preset": "voc"}, {"anchors": (1.5,)}, {"walk_steps": ()}, {"radius": 1}, {"max_drift": 0.0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            base.replaced(**wrong)


def test_refusals_name_the_cure() -> None:
    model = tiny_irnet()
    images, generator = torch.randn(1, 3, 32, 32), torch.Generator()
    with pytest.raises(DataError, match="cut image and mask from the same window"):
        irnet_loss(model, images, torch.zeros(1, 32, 31), AERIAL, 2, radius=5, pairs=8, generator=generator)
    with pytest.raises(DataError, match=f"0 to 1, or {IGNORE}"):
        irnet_loss(model, images, torch.full((1, 32, 32), 2), AERIAL, 2, radius=5, pairs=8, generator=generator)
    with pytest.raises(ParamsError, match=r"encoder with strides \(2, 4\).*do without displacements"):
        tiny_irnet(strides=(2, 4), displacement=True)
    with pytest.raises(ParamsError, match="build it with them"):
        model.boundary_and_displacement(images)
    with pytest.raises(ParamsError, match=r"call model.eval\(\) first"):
        boundary_map(model.train(), images)
