"""What a model file says of itself is measured on the hold-out and on the images of N1 and N2, and on nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.generators.small_networks import unpool

from weakseg.core.classes import IGNORE
from weakseg.core.params import NetworkParams
from weakseg.data.store import save_areas, save_array
from weakseg.evaluation.applicability import PROTOTYPES
from weakseg.evaluation.calibration import fit_temperatures
from weakseg.inference import trust
from weakseg.inference.trust import describe_trust, measure_applicability, measure_temperatures
from weakseg.networks.build import Segmenter
from weakseg.training.machine import Machine
from weakseg.training.segmenter import segmenter_of

CPU = Machine(device="cpu", precision="no", quiet=True)
SIDE, FIRST = 200, 150


@pytest.fixture
def model() -> Segmenter:
    torch.manual_seed(0)
    params = NetworkParams.model_validate({**unpool(16), "weights": "none", "dropout": 0.0})
    return segmenter_of(params, 2).eval()


def make_tiles(folder: Path, areas: dict[str, str], *, held: bool = True) -> Path:
    """Noise of 200 x 200 px; of pixel areas the last 50 columns are held out, two thirds of them class 0."""
    for kind in ("images", "holdout"):
        (folder / kind).mkdir(parents=True)
    for seed, (name, split) in enumerate(areas.items()):
        image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        save_array(folder / "images", name, image)
        truth = np.full((SIDE, SIDE), IGNORE, np.uint8)
        if held and split == "pixel":
            truth[:, FIRST:] = np.arange(SIDE)[:, None] % 3 == 0
            save_array(folder / "holdout", name, truth)
        elif split == "pixel":
            save_array(folder / "holdout", name, truth)
    save_areas(folder, [(name, split, SIDE, SIDE) for name, split in areas.items()])
    return folder


def says(probability: float) -> object:
    """A network that gives class 0 the same probability everywhere."""

    def predict(image: np.ndarray) -> np.ndarray:
        assert image.shape == (SIDE, SIDE - FIRST + 32, 3)  # the block and its margin
        first = np.full(image.shape[:2], probability, np.float32)
        return np.stack([first, 1 - first])

    return predict


@pytest.mark.parametrize("said", [0.9, 0.665, 0.55])
def test_temperatures_are_those_of_the_blocks(tmp_path: Path, said: float) -> None:
    """133 of 200 rows are class 0: what a network says becomes 0.665, log(0.665 / 0.335) = log(p / (1 - p)) / T."""
    tiles = make_tiles(tmp_path, {"a": "pixel", "b": "pixel", "c": "tags"})
    expected = np.log(said / (1 - said)) / np.log(0.665 / 0.335)
    found = measure_temperatures(tiles, says(said))  # type: ignore[arg-type]
    assert found == pytest.approx([expected] * 2, rel=2e-3)


def test_without_blocks_there_are_no_temperatures(tmp_path: Path) -> None:
    assert measure_temperatures(make_tiles(tmp_path, {"a": "pixel"}, held=False), says(0.9)) is None  # type: ignore[arg-type]


def test_prototypes_come_from_n1_and_n2_and_the_same_twice(tmp_path: Path, model: Segmenter) -> None:
    tiles = make_tiles(tmp_path, {"a": "pixel", "b": "tags", "c": "tags"})
    one, two = (measure_applicability(model, tiles, CPU) for _ in range(2))
    assert one is not None
    assert two is not None
    assert len(one.prototypes) == min(PROTOTYPES, 3 * 7 * 7)  # 200 px are padded to 7 places of 32 px
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=0, atol=0)


def test_noise_is_inside_and_a_plain_grey_outside(tmp_path: Path, model: Segmenter) -> None:
    known = measure_applicability(model, make_tiles(tmp_path, dict.fromkeys("abcdef", "tags")), CPU)
    assert known is not None
    noise = torch.from_numpy(np.random.default_rng(99).integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8))
    with torch.inference_mode():
        like, unlike = (
            known(model.encode((pixels.float() / 255 - 0.45) / 0.225)) for pixels in (noise, noise * 0 + 120)
        )
    assert float((like > 1).float().mean()) < 0.05
    assert float((unlike > 1).float().mean()) == 1


def test_a_single_area_is_cut_into_quarters_and_a_tiny_one_says_nothing(tmp_path: Path, model: Segmenter) -> None:
    assert measure_applicability(model, make_tiles(tmp_path / "one", {"a": "pixel"}), CPU) is not None
    tiny = tmp_path / "tiny"
    (tiny / "images").mkdir(parents=True)
    save_array(tiny / "images", "a", np.zeros((9, 9, 3), np.uint8))
    save_areas(tiny, [("a", "tags", 9, 9)])
    assert measure_applicability(model, tiny, CPU) is None


def test_both_entries_of_a_model_file(tmp_path: Path, model: Segmenter) -> None:
    tiles = make_tiles(tmp_path, {"a": "pixel", "b": "tags"})
    found = describe_trust(model, tiles, predict=says(2 / 3), machine=CPU)  # type: ignore[arg-type]
    assert set(found) == {"temperatures", "applicability"}
    assert found["applicability"]["prototypes"].dtype == torch.float16


def test_a_sample_of_many_pixels_is_the_one_of_all_of_them_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Area by area the same pixels, in the same order, as drawn from all hold-out blocks put together."""
    tiles = make_tiles(tmp_path, {"p1": "pixel", "p2": "pixel"})

    def predict(image: np.ndarray) -> np.ndarray:
        first = image[..., 0].astype(np.float32) / 512 + 0.25
        return np.stack([first, 1 - first])

    pieces, truths = [], []
    for area in ("p1", "p2"):
        image, truth = (np.load(tiles / folder / f"{area}.npy") for folder in ("images", "holdout"))
        known = truth != IGNORE
        pieces.append(predict(image)[:, known])
        truths.append(truth[known])
    probabilities, labels = np.concatenate(pieces, 1), np.concatenate(truths)
    drawn = np.random.default_rng(0).choice(len(labels), 900, replace=False)
    monkeypatch.setattr(trust, "_PIXELS", 900)
    assert measure_temperatures(tiles, predict) == list(fit_temperatures(probabilities[:, drawn], labels[drawn]))
    monkeypatch.setattr(trust, "_PIXELS", len(labels))
    assert measure_temperatures(tiles, predict) == list(fit_temperatures(probabilities, labels))
