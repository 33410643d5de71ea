"""The hold-out blocks of N1: which there are, and one pooled score, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakseg.core.classes import IGNORE
from weakseg.core.errors import StageError
from weakseg.data.store import save_areas, save_array
from weakseg.evaluation.holdout import MARGIN, held_blocks, require_blocks, score_holdout, truth_for

WIDE, FIRST = 60, 40


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Area a: 2 x 60 px, held from column 40 to 57, class 0 above and 1 below; area b: no block."""
    truth = np.full((2, WIDE), IGNORE, np.uint8)
    truth[0, FIRST:58], truth[1, FIRST:58] = 0, 1
    (tmp_path / "holdout").mkdir()
    save_array(tmp_path / "holdout", "a", truth)
    save_array(tmp_path / "holdout", "b", np.full((3, 3), IGNORE, np.uint8))
    save_areas(tmp_path, [("a", "pixel", 2, WIDE), ("b", "pixel", 3, 3), ("t", "tags", 2, WIDE)])
    return tmp_path


def test_areas_with_a_block(tiles: Path) -> None:
    assert list(held_blocks(tiles)) == list(require_blocks(tiles)) == ["a"]


def test_the_score_is_of_the_block_alone(tiles: Path) -> None:
    """All class 0: 18 px right above, 18 wrong below; the margin and what lies beyond the block count nothing."""
    asked = []

    def winners(area: str, part: slice) -> np.ndarray:
        asked.append((area, part))
        return np.zeros((2, part.stop - part.start), np.int64)

    scores = score_holdout(tiles, ("road", "tree"), winners)
    assert asked == [("a", slice(FIRST - MARGIN, 58))]
    assert scores["iou"] == {"road": 0.5, "tree": 0.0}
    assert (scores["miou"], scores["oa"]) == (0.25, 0.5)


def test_no_block_names_the_cure(tiles: Path) -> None:
    save_array(tiles / "holdout", "a", np.full((2, WIDE), IGNORE, np.uint8))
    assert held_blocks(tiles) == {}
    with pytest.raises(StageError, match=r"no hold-out in N1; expected tiles\.holdout above 0"):
        score_holdout(tiles, ("road", "tree"), lambda area, part: np.zeros((2, 2), np.int64))


def test_what_never_saw_a_pixel_label_is_chosen_on_all_of_n1(tiles: Path) -> None:
    (tiles / "labels").mkdir()
    trained = np.full((2, WIDE), IGNORE, np.uint8)
    trained[:, :FIRST] = 1
    save_array(tiles / "labels", "a", trained)
    save_array(tiles / "labels", "b", np.full((3, 3), IGNORE, np.uint8))
    held, both = truth_for(tiles, "teacher"), truth_for(tiles, "cam")
    assert list(held) == list(both) == ["a"]
    assert (held["a"] != IGNORE).sum() == 2 * 18
    assert (both["a"][:, :FIRST] == 1).all()
    np.testing.assert_array_equal(both["a"][:, FIRST:], held["a"][:, FIRST:])
    for area in ("a", "b"):
        for folder in ("labels", "holdout"):
            save_array(tiles / folder, area, np.full((2, WIDE), IGNORE, np.uint8))
    with pytest.raises(StageError, match="no pixel with a class in N1"):
        truth_for(tiles, "irnet")
