"""Worker processes for windows: shared memory, order, and what happens when one of them dies."""

from __future__ import annotations

import os
from multiprocessing import get_context

import numpy as np
import pytest

from weakseg.core.errors import DataError, StageError
from weakseg.methods.pool import Slots, refine_in_processes, usable_cores
from weakseg.methods.scores import ScoreMaps


def darker(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return scores * (image[..., 0] / 255).astype(np.float32)


def die(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    os._exit(1)


def job(classes: int = 2, height: int = 30, width: int = 41) -> tuple[np.ndarray, ScoreMaps]:
    rng = np.random.default_rng(height)
    scores = rng.random((classes, height, width)).astype(np.float16)
    return rng.integers(0, 256, (height, width, 3), np.uint8), ScoreMaps(scores, np.ones(classes, bool))


def test_slots_keep_apart_and_go_round() -> None:
    slots = Slots.allocate(get_context("spawn"), 3, 35, 3)
    shapes = [(3, 5, 7), (1, 5, 7), (2, 1, 3)]
    for number, shape in enumerate(shapes):
        image, scores = slots.views(number, shape)
        image[:], scores[:] = 10 * number + 1, 10 * number + 2
    for number, shape in enumerate(shapes):
        image, scores = slots.views(number + 3, shape)
        assert (image.shape, scores.shape) == ((*shape[1:], 3), shape)
        assert (image == 10 * number + 1).all()
        assert (scores == 10 * number + 2).all()
    with pytest.raises(DataError, match="as many classes as the first area"):
        slots.views(0, (4, 5, 7))


def test_windows_of_areas_of_any_size_come_back_in_place_and_order() -> None:
    jobs = [job(2, height, 41) for height in (30, 3, 17)]
    found = list(refine_in_processes(iter(jobs), darker, side=16, halo=4, workers=2))
    assert len(found) == 3
    for (image, maps), result in zip(jobs, found, strict=True):
        assert result.scores.dtype == np.float32
        np.testing.assert_array_equal(result.scores, darker(image, maps.scores.astype(np.float32)))
    assert list(refine_in_processes([], darker, side=16, halo=4, workers=2)) == []


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(StageError, match="worker process died"):
        list(refine_in_processes([job()], die, side=64, halo=0, workers=1))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_cores_are_those_that_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores() == len(before)
