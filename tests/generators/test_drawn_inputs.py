"""Of drawn inputs each comes in as it was drawn or is refused in one sentence; those plainly valid come in."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tests.generators.drawn_images import ImageSpec, turn_to_seen
from tests.generators.drawn_imports import AreaSpec, ImportCase, check_import, write_delivery
from tests.generators.drawn_labels import LabelKind, LabelSpec, write_grey_png
from tests.generators.drawn_schemes import Scheme
from tests.generators.kinds import KINDS
from tests.generators.outcomes import Tally, count_cases


def _sound(tally: Tally, least: float) -> None:
    assert not tally.failures, tally.failed()
    assert tally.kinds["silent"] == tally.kinds["crash"] == 0
    assert tally.kinds["equal"] >= least * tally.cases, tally.text("too little is taken", 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_comes_in_as_drawn_or_is_refused(name: str) -> None:
    kind = KINDS[name]
    tally = count_cases(kind.strategy, kind.check, cases=kind.sample, number=0, derandomise=True)
    assert tally.cases == kind.sample
    assert tally.plain > 0
    _sound(tally, kind.taken / 2)  # a small sample has more of what is drawn first


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_thousands_come_in_as_drawn_or_are_refused(name: str) -> None:
    kind = KINDS[name]
    _sound(count_cases(kind.strategy, kind.check, cases=kind.cases, number=0), kind.taken)


# ---- the generators themselves: a check that cannot fail would say nothing ------------------------------------------


def _case(label_values: tuple[int, ...] | None = None, *, scheme_values: tuple[int, ...] | None = None) -> ImportCase:
    """One 6x5 px delivery; ``label_values``: ids that are written, where they are not those of classes.yaml."""
    told = Scheme(("road", "water"), ((1, 2, 3), (9, 8, 7)), scheme_values, (), "colours")
    written = Scheme(told.names, told.colours, label_values or scheme_values, (), "colours")
    label = LabelSpec(written, "ids", "pillow.png", ".png", 6, 5, 3)
    kind = LabelKind("ids", "pillow.png", ".png", "none", 255, "uint8", 1)
    area = AreaSpec(ImageSpec("rgb", "pillow.png", ".png", 6, 5, 1), label, "a", "a")
    return ImportCase(told, kind, (area,), frozenset(), "none", "same", "NFC", "NFC", "folder", "folder")


def test_ids_that_are_swapped_are_seen_as_a_silent_difference() -> None:
    assert check_import(_case()).kind == "equal"
    outcome = check_import(_case((1, 0)))
    assert outcome.kind == "silent"
    assert "label differs in 30 px" in outcome.note


def test_a_refusal_of_what_is_plainly_valid_is_a_failure() -> None:
    case, tally = _case((7, 8)), Tally()
    tally.add(case, check_import(case))
    assert tally.plain_refused == 1
    assert "plainly valid, yet refused" in tally.failed()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_files_look_upright_to_pillow(tmp_path: Path, orientation: int) -> None:
    spec = ImageSpec("rgb", "pillow.png", ".png", 4, 7, 1, orientation)
    spec.write(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        shown = np.asarray(ImageOps.exif_transpose(file))
        np.testing.assert_array_equal(shown, spec.seen)
        np.testing.assert_array_equal(turn_to_seen(np.asarray(file), orientation), spec.seen)


def test_grey_pngs_of_four_bits_hold_their_values(tmp_path: Path) -> None:
    values = np.arange(15, dtype=np.uint8).reshape(3, 5)
    write_grey_png(tmp_path / "a.png", values, 4)
    with Image.open(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(np.asarray(file.convert("L")), values * 17)


def test_every_drawn_delivery_can_be_written(tmp_path: Path) -> None:
    seen = []

    @settings(max_examples=20, database=None, derandomize=True)
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        case = data.draw(KINDS["imports"].strategy)
        folder = tmp_path / str(len(seen))
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write_delivery(case, folder)
        seen.append(sorted(path.suffix for path in folder.rglob("*")))

    draw()
    assert all(".yaml" in suffixes for suffixes in seen)
