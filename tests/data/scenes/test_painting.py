"""The procedural scenes: same bytes always, plausible content, and not solvable by colour."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from weakseg.core.classes import IGNORE, ISPRS, load_classes
from weakseg.core.errors import DataError
from weakseg.data.scenes.painting import AREAS, Scene, make_scene, write_scenes
from weakseg.data.scenes.shapes import Dice, cast_shadows

CAR, IMPERVIOUS = ISPRS.index("car"), ISPRS.index("impervious_surface")

# Image then mask of seed 0, area5. If this changes, the committed data.dvc must be made anew as well.
GOLDEN = "6695b9b2c279a708e4d50e0f712aaffc0d9e165e74f716fdbf125e391352a22b"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(0, area) for area in AREAS]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_areas_are_those_of_vaihingen() -> None:
    assert len(AREAS) == len(set(AREAS)) == 33
    assert not {"area9", "area18", "area19", "area25", "area36"} & set(AREAS)
    assert (AREAS[0], AREAS[-1]) == ("area1", "area38")


def test_scene_has_the_committed_bytes(scenes: list[Scene]) -> None:
    scene = scenes[AREAS.index("area5")]
    assert digest(scene.image, scene.mask) == GOLDEN


def test_seed_and_area_change_the_scene() -> None:
    first = make_scene(3, "area1", size=(128, 128))
    again = make_scene(3, "area1", size=(128, 128))
    assert digest(first.image, first.mask) == digest(again.image, again.mask)
    for other in (make_scene(4, "area1", size=(128, 128)), make_scene(3, "area2", size=(128, 128))):
        assert (other.mask != first.mask).mean() > 0.2


def test_files_are_identical_for_a_seed(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", seed=5, areas=("area2", "area38"))
    write_scenes(tmp_path / "b", seed=5, areas=("area2", "area38"))
    write_scenes(tmp_path / "c", seed=6, areas=("area2", "area38"))
    first, second, other = (hashes(tmp_path / name) for name in "abc")
    assert list(first) == [
        "classes.yaml",
        "images/area2.tif",
        "images/area38.tif",
        "labels/area2.tif",
        "labels/area38.tif",
    ]
    assert first == second
    assert {name for name in first if first[name] == other[name]} == {"classes.yaml"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_hold_the_scene(tmp_path: Path) -> None:
    import rasterio

    write_scenes(tmp_path, seed=1, areas=("area7",))
    scene = make_scene(1, "area7")
    assert load_classes(tmp_path / "classes.yaml") == ISPRS
    with rasterio.open(tmp_path / "images/area7.tif") as file:
        assert (file.crs, file.dtypes, file.compression) == (None, ("uint8",) * 3, None)
        np.testing.assert_array_equal(np.moveaxis(file.read(), 0, -1), scene.image)
    with rasterio.open(tmp_path / "labels/area7.tif") as file:
        colours = np.moveaxis(file.read(), 0, -1)
    np.testing.assert_array_equal(ISPRS.to_indices(colours), scene.mask)
    assert {tuple(colour) for colour in colours[scene.mask == IGNORE]} == {(255, 0, 0)}


def test_image_and_mask_have_the_promised_form(scenes: list[Scene]) -> None:
    for scene in scenes:
        rows, columns = scene.mask.shape
        assert scene.image.shape == (rows, columns, 3)
        assert scene.image.dtype == scene.mask.dtype == np.uint8
        assert 216 <= rows <= 232
        assert 246 <= columns <= 266
        assert set(np.unique(scene.mask)) == {0, 1, 2, 3, 4, IGNORE}
    assert make_scene(0, "area1", size=(130, 200)).mask.shape == (130, 200)


@pytest.mark.parametrize(
    ("index", "least", "most", "mean"),
    [
        (0, 0.08, 0.75, (0.25, 0.45)),
        (1, 0.03, 0.45, (0.12, 0.25)),
        (2, 0.02, 0.75, (0.20, 0.40)),
        (3, 0.01, 0.50, (0.10, 0.25)),
        (4, 0.002, 0.05, (0.005, 0.02)),
        (IGNORE, 0.0005, 0.06, (0.004, 0.02)),
    ],
)
def test_class_shares(scenes: list[Scene], index: int, least: float, most: float, mean: tuple[float, float]) -> None:
    shares = np.array([(scene.mask == index).mean() for scene in scenes])
    assert least < shares.min()
    assert shares.max() < most
    assert mean[0] < shares.mean() < mean[1]


def test_crop_tags_are_informative(scenes: list[Scene]) -> None:
    crops = [
        scene.mask[row : row + 64, column : column + 64]
        for scene in scenes
        for row in range(0, scene.mask.shape[0] - 63, 64)
        for column in range(0, scene.mask.shape[1] - 63, 64)
    ]
    rates = [np.mean([(crop == index).any() for crop in crops]) for index in range(5)]
    building, tree, car = (rates[ISPRS.index(name)] for name in ("building", "tree", "car"))
    assert 0.5 < building < 0.85
    assert 0.5 < tree < 0.9
    assert 0.3 < car < 0.7


def test_cars_stand_on_paved_ground(scenes: list[Scene]) -> None:
    beside_paving = 0
    cars = 0
    for scene in scenes:
        numbers, count = label(scene.mask == CAR)
        assert count >= 4, f"{scene.area} has {count} cars"
        for number in range(1, count + 1):
            row, column = (int(np.median(axis)) for axis in np.nonzero(numbers == number))
            at = slice(max(0, row - 12), row + 13), slice(max(0, column - 12), column + 13)
            ring = binary_dilation(numbers[at] == number) & (numbers[at] == 0)
            beside_paving += bool((scene.mask[at][ring] == IMPERVIOUS).any())
        cars += count
    assert beside_paving / cars >= 0.8


def colour_bins(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    known = scene.mask != IGNORE
    bins = (scene.image[known] >> 4).astype(np.int64)
    return bins[:, 0] * 256 + bins[:, 1] * 16 + bins[:, 2], scene.mask[known].astype(np.int64)


def colour_table_scores(train: list[Scene], others: list[Scene]) -> tuple[float, float]:
    """mIoU and mean recall of the best guess per colour (16 levels a band): the most that colour alone can tell."""
    table = np.zeros((4096, 5))
    for scene in train:
        bins, truth = colour_bins(scene)
        np.add.at(table, (bins, truth), 1)
    guess = (table + 1e-6 * table.sum(0)).argmax(1)
    confusion = np.zeros((5, 5))
    for scene in others:
        bins, truth = colour_bins(scene)
        np.add.at(confusion, (truth, guess[bins]), 1)
    hits = np.diag(confusion)
    return float(np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits))), float(np.mean(hits / confusion.sum(1)))


def test_colour_alone_does_not_solve_it(scenes: list[Scene]) -> None:
    few, few_recall = colour_table_scores(scenes[:3], scenes[26:])
    many, many_recall = colour_table_scores(scenes[:26], scenes[26:])
    itself, _ = colour_table_scores(scenes[:1], scenes[:1])
    assert few < 0.30
    assert many < 0.32
    assert itself < 0.70, "even within one scene, colours overlap"
    assert min(few_recall, many_recall) > 0.30, "yet colour says something"


def test_scenes_differ_in_light_and_colour(scenes: list[Scene]) -> None:
    means = np.array([scene.image.reshape(-1, 3).mean(0) for scene in scenes])
    assert (means.std(0) > 10).all()
    assert (means.min(0) > 40).all()
    assert (means.max(0) < 215).all()


def test_vegetation_is_bright_in_infrared(scenes: list[Scene]) -> None:
    for scene in scenes:
        green = (scene.mask == ISPRS.index("low_vegetation")) | (scene.mask == ISPRS.index("tree"))
        ratio = [scene.image[where][:, 0].mean() / scene.image[where][:, 2].mean() for where in (green, ~green)]
        assert ratio[0] > ratio[1], scene.area


@pytest.mark.parametrize(
    ("seed", "area", "size", "found", "cure"),
    [
        (0, "area9", None, "area 'area9'", "mend the name"),
        (0, "7", None, "area '7'", "mend the name"),
        (-1, "area1", None, "seed -1", "another seed"),
        (0, "area1", (127, 300), "127 x 300", "larger scene"),
    ],
)
def test_refusals(seed: int, area: str, size: tuple[int, int] | None, found: str, cure: str) -> None:
    with pytest.raises(DataError, match=cure) as caught:
        make_scene(seed, area, size=size)
    assert found in str(caught.value)


def test_shadow_falls_away_from_the_sun_as_far_as_the_height_says() -> None:
    height = np.zeros((9, 21))
    height[3:6, 12:15] = 6.0
    dark = cast_shadows(height, (1.0, 0.0), 1.0)  # the sun stands to the right
    # 6 - k > 0.7 holds for k up to 5: columns 7..11; the blur takes the outer pixel's edge off
    np.testing.assert_allclose(dark[4], np.array([0] * 6 + [1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3] + [0] * 8), atol=1e-12)
    assert not cast_shadows(np.zeros((5, 5)), (1.0, 0.0), 1.0).any()


def test_noise_has_the_promised_spread() -> None:
    dice = Dice(np.random.default_rng(0))
    for radius in (0, 1, 3):
        plane = dice.noise((400, 400), radius)
        assert abs(plane.mean()) < 0.05
        assert plane.std() == pytest.approx(1.0, abs=0.05)


def test_draws_keep_their_bounds() -> None:
    dice = Dice(np.random.default_rng(1))
    assert {dice.whole(2, 4) for _ in range(100)} == {2, 3, 4}
    assert all(2 <= dice.real(2, 3) < 3 for _ in range(100))
    for x, y in (dice.axis() for _ in range(100)):
        assert x >= 0
        assert x * x + y * y == pytest.approx(1.0, abs=1e-12)
    assert dice.spots(np.zeros((3, 3), bool), 2) == []
    assert dice.spots(np.arange(6).reshape(2, 3) == 5, 2) == [(2, 1), (2, 1)]


# Heights of seed 0, area5, in centimetres, -1 in holes.
HEIGHTS = "1b30ad88c998a97443425221e15e52f9fb287c38b9ced64b9943b5fe252d1cdf"


def test_heights_stand_up_where_things_do_and_have_holes(scenes: list[Scene]) -> None:
    scene = scenes[AREAS.index("area5")]
    whole = np.where(np.isnan(scene.heights), -1, np.rint(np.nan_to_num(scene.heights) * 100)).astype(np.int32)
    assert digest(whole) == HEIGHTS
    assert scene.heights.dtype == np.float32
    heights = np.concatenate([s.heights.ravel() for s in scenes])
    masks = np.concatenate([s.mask.ravel() for s in scenes])
    medians = [float(np.nanmedian(heights[masks == index])) for index in range(5)]
    road, building, grass, tree, car = medians
    assert abs(road) < 0.2
    assert abs(grass) < 0.2
    assert building > 3
    assert tree > 1
    assert 0.4 < car < building
    assert 0.003 < np.isnan(heights).mean() < 0.05


def test_heights_are_a_fourth_band_of_the_same_images(tmp_path: Path) -> None:
    from weakseg.core.bands import load_bands
    from weakseg.raster.open import read_bands

    write_scenes(tmp_path, seed=1, areas=("area7",), heights=True)
    bands, scene = load_bands(tmp_path), make_scene(1, "area7")
    assert bands.names == ("nir", "red", "green", "height")
    image = read_bands(tmp_path / "images" / "area7.tif", bands)
    np.testing.assert_array_equal(image[..., :3], scene.image)
    np.testing.assert_array_equal(image[..., 3], scene.heights)
    np.testing.assert_array_equal(bands.picture(image), scene.image)
    write_scenes(tmp_path, seed=1, areas=("area7",))
    assert not (tmp_path / "bands.yaml").exists()
