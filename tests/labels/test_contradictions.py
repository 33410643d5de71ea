"""Overlapping tag windows that no class fits: counted by hand, and said in one sentence."""

from __future__ import annotations

from weakseg.core.classes import ISPRS
from weakseg.labels.contradictions import describe_contradictions, find_contradictions
from weakseg.labels.tags import TagWindow, allowed_raster, tag_arrays

LEFT, RIGHT = TagWindow("a", 0, 0, 8, 6, ("building",)), TagWindow("a", 0, 4, 8, 4, ("car", "tree"))


def found(*rows: TagWindow) -> tuple[int, list[tuple[int, int]]]:
    windows = [row.window for row in rows]
    present, known = tag_arrays(rows, ISPRS)
    empty, lost = find_contradictions(windows, present, allowed_raster(8, 8, windows, present, known))
    return int(empty.sum()), lost


def test_pixels_that_no_class_fits_are_the_overlap() -> None:
    """Columns 4 and 5 lie in both windows, which share no class: 8 rows of 2 px. Each class keeps a place."""
    assert found(LEFT, RIGHT) == (16, [])
    assert found(LEFT) == found(RIGHT) == (0, [])
    assert found(LEFT, TagWindow("a", 0, 6, 8, 2, ("car",))) == (0, [])  # side by side


def test_a_class_that_another_window_rules_out_everywhere_is_lost() -> None:
    """A window inside another one says car, which the larger one excludes; its building fits."""
    inside = TagWindow("a", 2, 2, 2, 2, ("building", "car"))
    assert found(LEFT, inside) == (0, [(1, 4)])
    assert found(TagWindow("a", 0, 0, 8, 6, ("building",), ("car",)), inside) == (0, [])  # of car nothing was said


def test_three_windows_may_leave_nothing_where_two_agree() -> None:
    rows = [TagWindow("a", 0, 0, 8, 8, pair) for pair in (("building", "tree"), ("tree", "car"), ("building", "car"))]
    assert found(*rows[:2])[0] == 0
    assert found(*rows) == (64, [(0, 1), (0, 3), (1, 3), (1, 4), (2, 1), (2, 4)])


def test_one_sentence_names_area_place_and_what_to_do() -> None:
    sizes = dict.fromkeys("abcde", (8, 8))
    assert describe_contradictions([LEFT], sizes, ISPRS) == ""
    text = describe_contradictions([LEFT, RIGHT], sizes, ISPRS)
    assert text == (
        "area a: no class fits 16 px of overlapping tags, first row 0, column 4: "
        "these pixels count nowhere, mend the rows if they should"
    )
    rows = [TagWindow(name, *row.window, row.present) for name in "abcde" for row in (LEFT, RIGHT)]
    assert "; and 2 more areas: these" in describe_contradictions(rows, sizes, ISPRS)
    lost = describe_contradictions([LEFT, TagWindow("a", 2, 2, 2, 2, ("car", "building"))], sizes, ISPRS)
    assert "1 tag(s) that other windows rule out, first car in window (2, 2, 2, 2)" in lost
