"""Polygons drawn by hand as pixels: values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.drawn_masks import Drawn, check_order, draw_mask

I = IGNORE  # noqa: E741 - a letter for a table of px
TREE, CAR, BUILDING = (ISPRS.index(name) for name in ("tree", "car", "building"))


def draw(*rows: tuple[Any, str], size: tuple[int, int] = (4, 4), **how: Any) -> Drawn:
    return draw_mask(size, np.array([shape for shape, _ in rows], object), [name for _, name in rows], ISPRS, **how)


def test_a_px_has_the_class_of_the_polygon_that_its_middle_lies_in() -> None:
    drawn = draw((shapely.box(0.6, 0.4, 3.4, 2.6), "tree"))
    t = TREE
    assert drawn.mask.tolist() == [[I, t, t, I], [I, t, t, I], [I, t, t, I], [I, I, I, I]]
    assert (drawn.labelled, drawn.missed, drawn.mask.dtype) == (6, (), np.uint8)


@pytest.mark.parametrize("edge", [1.0, 1.5, 2.25])
def test_touching_polygons_share_no_px_and_leave_none(edge: float) -> None:
    """Also where the shared edge runs through the middles of pixels."""
    for left, right in (
        (shapely.box(0, 0, edge, 4), shapely.box(edge, 0, 4, 4)),
        (shapely.box(0, 0, 4, edge), shapely.box(0, edge, 4, 4)),
        (shapely.Polygon([(0, 0), (4, 4), (0, 4)]), shapely.Polygon([(0, 0), (4, 0), (4, 4)])),
    ):
        drawn = draw((left, "tree"), (right, "car"))
        assert drawn.labelled == 16
        assert set(np.unique(drawn.mask)) == {TREE, CAR}


def test_overlaps_of_two_classes_are_refused_with_their_place() -> None:
    rows = ((shapely.box(0, 0, 3, 3), "tree"), (shapely.box(2, 1, 4, 4), "car"))
    with pytest.raises(
        DataError,
        match=r"2 px in polygons of car and of tree, first at row 1, column 2; expected one class .*--on-top car",
    ):
        draw(*rows)
    with pytest.raises(DataError, match=r"2 px in polygons of car and of tree"):
        draw(*rows, on_top=("building",))


def test_a_stated_order_says_which_class_covers_the_other() -> None:
    boxes = {"tree": (0, 0, 3, 3), "car": (2, 1, 4, 4), "building": (2, 2, 3, 3)}
    rows = [(shapely.box(*box), name) for name, box in boxes.items()]
    t, c, b = TREE, CAR, BUILDING
    above = draw(*rows, on_top=("building", "car")).mask.tolist()
    assert above == [[t, t, t, I], [t, t, c, c], [t, t, b, c], [I, I, c, c]]
    above = draw(*rows, on_top=("tree", "building")).mask.tolist()
    assert above == [[t, t, t, I], [t, t, t, c], [t, t, t, c], [I, I, c, c]]


def test_overlaps_of_one_class_are_none() -> None:
    assert draw((shapely.box(0, 0, 3, 3), "tree"), (shapely.box(1, 1, 4, 4), "tree")).labelled == 14


def test_holes_stay_unlabelled_or_hold_another_class() -> None:
    ring = shapely.difference(shapely.box(0, 0, 4, 4), shapely.box(1, 1, 3, 3))
    t, c = TREE, CAR
    assert draw((ring, "tree")).mask.tolist() == [[t, t, t, t], [t, I, I, t], [t, I, I, t], [t, t, t, t]]
    filled = draw((ring, "tree"), (shapely.box(1, 1, 3, 3), "car"))
    assert filled.mask.tolist() == [[t, t, t, t], [t, c, c, t], [t, c, c, t], [t, t, t, t]]


def test_what_reaches_over_the_rim_is_cut_off_and_lines_that_a_cut_leaves_count_not() -> None:
    drawn = draw((shapely.box(-5, -5, 1, 9), "tree"))
    assert drawn.mask[:, 0].tolist() == [TREE] * 4
    assert drawn.labelled == 4
    remains = shapely.GeometryCollection([shapely.box(0, 0, 1, 1), shapely.LineString([(0, 3), (4, 3)])])
    assert draw((remains, "tree")).labelled == 1


def test_ignored_classes_are_drawn_as_255_and_take_part_in_overlaps() -> None:
    drawn = draw((shapely.box(0, 0, 2, 2), "clutter"), (shapely.box(2, 0, 4, 2), "tree"))
    assert drawn.mask[0].tolist() == [I, I, TREE, TREE]
    assert drawn.labelled == 8
    with pytest.raises(DataError, match="4 px in polygons of tree and of clutter, boundary"):
        draw((shapely.box(0, 0, 2, 2), "clutter"), (shapely.box(0, 0, 4, 2), "tree"))
    over = draw((shapely.box(0, 0, 2, 2), "clutter"), (shapely.box(0, 0, 4, 2), "tree"), on_top=("clutter",))
    assert over.mask[0].tolist() == [I, I, TREE, TREE]


def test_polygons_that_miss_the_middle_of_every_px_are_named() -> None:
    drawn = draw(
        (shapely.box(1.6, 1.6, 2.4, 2.4), "car"), (shapely.box(0, 0, 1, 1), "tree"), (shapely.Polygon(), "car")
    )
    assert (drawn.labelled, drawn.missed) == (1, (0, 2))


def test_an_order_with_strange_classes_is_refused() -> None:
    check_order(["car", "clutter"], ISPRS)
    for order in (["car", "lorry"], ["car", "car"]):
        with pytest.raises(DataError, match=r"--on-top car,.*; expected classes of .*, each once"):
            check_order(order, ISPRS)
