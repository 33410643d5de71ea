"""scripts/development_fold.py: a group of N2 validates, the real validation areas are out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.development_fold import fold_of

from weakseg.core.errors import ParamsError
from weakseg.core.params import with_changes
from weakseg.pipeline.presets import load_preset
from weakseg.studies.variants import load_variants

CONFIGS = Path(__file__).parents[1] / "configs"


def test_one_group_of_n2_validates_and_nothing_else() -> None:
    base = load_preset("dubai")
    fold = fold_of(base, "tile7_*", 100)
    assert fold.tiles.areas.pixel == base.tiles.areas.pixel
    assert {area[:5] for area in fold.tiles.areas.validation} == {"tile7"}
    assert {area[:5] for area in fold.tiles.areas.tags} == {"tile5", "tile8"}
    assert (fold.tiles.tag_size, fold.segment) == (100, base.segment)
    assert fold_of(base, "tile7_*", None).tiles.tag_size == base.tiles.tag_size


@pytest.mark.parametrize(("pattern", "count"), [("tile9_*", 0), ("*", 27)])
def test_a_pattern_without_or_with_all_areas_is_refused(pattern: str, count: int) -> None:
    with pytest.raises(ParamsError, match=f"matches {count} of 27 tagged areas"):
        fold_of(load_preset("dubai"), pattern, None)


def test_the_committed_rows_fit_the_config() -> None:
    base = load_preset("dubai")
    for variant in load_variants(CONFIGS / "dubai_ablation.yaml"):
        assert (with_changes(base, variant.changes) != base) == bool(variant.changes), variant.name
