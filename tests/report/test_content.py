"""The picture budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from weakseg.report.content import Page, Scene, evenly, fit_pictures
from weakseg.report.embed import size_of


def weight(page: Page) -> int:
    return sum(len(layer.data) for scene in page.validation + page.weak for layer in scene.layers)


def test_evenly_keeps_both_ends() -> None:
    assert evenly(list(range(23)), 6) == [0, 4, 9, 13, 18, 22]
    assert evenly("ab", 6) == ["a", "b"]
    assert evenly([], 3) == []


def test_pictures_that_fit_are_untouched(page: Page) -> None:
    assert fit_pictures(page, 10_000_000) == page


@pytest.mark.parametrize(("share", "areas"), [(0.6, 8), (0.05, 1)])
def test_smaller_pictures_first_then_fewer_areas(
    new_page: Callable[..., Page], new_scene: Callable[..., Scene], share: float, areas: int
) -> None:
    page = new_page(
        validation=[new_scene(f"v{i}", "truth", side=640, seed=i) for i in range(8)],
        weak=[new_scene("t", "cam", side=640)],
        worst={},
    )
    budget = int(share * weight(page))
    small = fit_pictures(page, budget)
    assert weight(small) <= budget
    assert areas <= len(small.validation) <= 8
    assert (len(small.validation) == 8) == (areas == 8)
    assert {layer.key for layer in small.validation[0].layers} == {"image", "truth"}
    sizes = {size_of(layer.data) for scene in small.validation + small.weak for layer in scene.layers}
    assert len(sizes) == 1
    assert max(sizes)[0] < 640
