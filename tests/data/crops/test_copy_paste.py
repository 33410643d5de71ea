"""Copy-paste: whole objects with their surroundings, only on ground like home."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.core.classes import IGNORE
from weakseg.data.crops.copy_paste import CopyPaste, cut_snippets, paste_class

CAR, ROAD, GRASS = 4, 0, 2


def street(car: tuple[int, int] = (8, 8)) -> tuple[np.ndarray, np.ndarray]:
    """Grass with a road on rows 4..15 and one 3x4 car on it."""
    mask = np.full((24, 24), GRASS, np.uint8)
    mask[4:16] = ROAD
    mask[car[0] : car[0] + 3, car[1] : car[1] + 4] = CAR
    image = np.zeros((24, 24, 3), np.uint8)
    image[mask == CAR] = 200
    image[mask == ROAD] = 50
    return image, mask


def test_snippet_by_hand() -> None:
    (snippet,) = cut_snippets([street()], CAR)
    assert snippet.image.shape == (7, 8, 3)  # 3 x 4 px and 2 px around
    assert snippet.ground == ROAD
    assert snippet.body.sum() == 12
    assert snippet.body[2:5, 2:6].all()
    assert snippet.alpha.all()
    assert (snippet.image[snippet.body] == 200).all()
    assert (snippet.image[~snippet.body] == 50).all()


@pytest.mark.parametrize("car", [(0, 8), (8, 0), (21, 8), (8, 20)])
def test_objects_at_the_rim_are_left(car: tuple[int, int]) -> None:
    assert cut_snippets([street(car)], CAR) == ()


def test_objects_beside_unlabelled_pixels_or_too_small_are_left() -> None:
    image, mask = street()
    mask[6, 6] = IGNORE
    assert cut_snippets([(image, mask)], CAR) == ()
    image, mask = street()
    mask[mask == CAR] = ROAD
    mask[8, 8:13] = CAR  # 5 px
    assert cut_snippets([(image, mask)], CAR) == ()
    mask[8, 8:14] = CAR
    assert len(cut_snippets([(image, mask)], CAR)) == 1
    assert len(cut_snippets([(image, mask)] * 3, CAR, limit=2)) == 2


def test_pasted_on_home_ground_only() -> None:
    snippets = cut_snippets([street()], CAR)
    for seed in range(40):
        image, mask = np.zeros((32, 32, 3), np.uint8), np.full((32, 32), GRASS, np.uint8)
        mask[:, :16] = ROAD
        before = mask.copy()
        image2, mask2 = paste_class(image, mask, CopyPaste(snippets, CAR, 1.0, 3), np.random.default_rng(seed))
        assert (before[mask2 == CAR] == ROAD).all()
        assert (mask2 == CAR).sum() in (12, 24, 36)
        assert (image2[mask2 == CAR] == 200).all()
        changed = image2.any(-1)
        assert (before[changed] == ROAD).all()  # the margin as well
        assert np.array_equal(mask, before)  # the arrays handed in are left alone
        assert not image.any()


def test_no_ground_no_paste() -> None:
    snippets = cut_snippets([street()], CAR)
    image, mask = np.zeros((32, 32, 3), np.uint8), np.full((32, 32), GRASS, np.uint8)
    _, mask2 = paste_class(image, mask, CopyPaste(snippets, CAR, 1.0, 3), np.random.default_rng(0))
    assert (mask2 == GRASS).all()
    small = np.zeros((5, 5, 3), np.uint8), np.full((5, 5), ROAD, np.uint8)
    assert (paste_class(*small, CopyPaste(snippets, CAR, 1.0, 3), np.random.default_rng(0))[1] == ROAD).all()


def test_probability_and_empty() -> None:
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    snippets = cut_snippets([street()], CAR)
    hits = [
        (paste_class(image, mask, CopyPaste(snippets, CAR, 0.3, 1), np.random.default_rng(seed))[1] == CAR).any()
        for seed in range(200)
    ]
    assert 0.2 < np.mean(hits) < 0.4
    same = paste_class(image, mask, CopyPaste((), CAR, 1.0, 1), np.random.default_rng(0))
    assert same[0] is image
    assert same[1] is mask
