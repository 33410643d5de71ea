"""The contact sheet of an import: what each card shows, px by px where it matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.data.importing.previews import SIDE, choose_previews, make_preview
from weakseg.report.import_sheet import draw_import_sheet, overlay, share_text

MASK = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [IGNORE, IGNORE, 1, 1]], np.uint8)
GREY = np.full((3, 4, 3), 100, np.uint8)


def test_previews_are_spread_over_all_areas() -> None:
    areas = [f"a{n:03}" for n in range(100)]
    chosen = sorted(choose_previews(areas))
    assert (len(chosen), chosen[0], chosen[-1]) == (24, "a000", "a099")
    assert choose_previews(areas[:3]) == set(areas[:3])
    assert choose_previews([]) == set()


def test_previews_average_the_image_and_pick_the_mask() -> None:
    image = np.zeros((2 * SIDE, 4 * SIDE, 3), np.uint8)
    image[:, ::2] = 200
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:, 2 * SIDE :] = 3
    preview = make_preview("a", image, mask)
    assert preview.image.shape == (SIDE // 2, SIDE, 3)
    assert (preview.image == 100).all()
    assert preview.mask is not None
    assert (preview.mask[:, : SIDE // 2] == 0).all()
    assert (preview.mask[:, SIDE // 2 :] == 3).all()
    assert preview.shape == (2 * SIDE, 4 * SIDE)
    assert (preview.counts[0], preview.counts[3]) == (4 * SIDE * SIDE, 4 * SIDE * SIDE)
    assert make_preview("a", image, None).mask is None


def test_the_overlay_tints_outlines_and_stripes() -> None:
    drawn = overlay(GREY, MASK, ISPRS)
    assert drawn[0, 0].tolist() == [169, 169, 169]  # 0.55 * 100 + 0.45 * 255
    assert drawn[0, 1].tolist() == [255, 255, 255]  # its right neighbour is a building
    assert drawn[0, 3].tolist() == [55, 55, 169]
    assert drawn[2, 0].tolist() == [95, 95, 95]  # ignored: 0.55 * 100 + 0.45 * 90, grey whatever the class colours


def test_shares_are_sorted_and_absent_classes_left_out() -> None:
    counts = np.bincount(MASK.ravel(), minlength=256)
    assert share_text(counts, ISPRS) == "building 50.0 %, impervious_surface 33.3 %, ignored 16.7 %"


@pytest.mark.parametrize("count", [1, 4])
def test_sheets_hold_images_overlays_and_names(tmp_path: Path, count: int) -> None:
    previews = [make_preview(f"Müllheim {n}", GREY, MASK if n < 3 else None) for n in range(count)]
    path = draw_import_sheet(tmp_path / "deep" / "s.png", previews, ISPRS, areas=99)
    sheet = np.asarray(Image.open(path))
    columns = min(3, count)
    assert sheet.shape[1] == columns * (2 * SIDE + 8 + 16) + 16
    blue = (sheet == ISPRS.colours[1]).all(-1).any()  # legend, bar and outlines
    assert blue
    grey = (sheet == 100).all(-1).sum()
    assert grey >= count * SIDE * (SIDE * 3 // 4) * 0.99  # an image each
