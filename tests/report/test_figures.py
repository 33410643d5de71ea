"""Pictures: panels stand where they should, in their own colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from weakseg.core.classes import ISPRS
from weakseg.report.figures import CAPTION, GAP, SIDE, draw_confusion, draw_row, draw_sheet, heat, legend, shrink


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def flat(colour: tuple[int, int, int], height: int = 10, width: int = 10) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_row_shows_panels_in_order_and_rgb(tmp_path: Path) -> None:
    path = draw_row(tmp_path / "sub" / "a.png", [("one", flat((250, 10, 20))), ("two", flat((0, 0, 255)))])
    assert path == tmp_path / "sub" / "a.png"
    picture = read(path)
    assert picture.shape == (SIDE + CAPTION, 2 * (SIDE + GAP), 3)
    assert picture[CAPTION + SIDE // 2, SIDE // 2].tolist() == [250, 10, 20]
    assert picture[CAPTION + SIDE // 2, SIDE + GAP + SIDE // 2].tolist() == [0, 0, 255]
    assert (picture[:CAPTION, :60] < 128).any()  # a caption is written
    assert (picture[CAPTION:, SIDE : SIDE + GAP] == 255).all()
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_sheet_stacks_rows_of_different_length(tmp_path: Path) -> None:
    red, blue = flat((255, 0, 0), 20, 10), flat((0, 0, 255))
    picture = read(draw_sheet(tmp_path / "a.png", [[("", red)], [("", blue), ("", blue)]]))
    assert picture.shape == (2 * (SIDE + CAPTION), 2 * (SIDE + GAP), 3)
    assert picture[CAPTION + 5, 5].tolist() == [255, 0, 0]
    assert picture[CAPTION + 5, SIDE // 2 + 5].tolist() == [255, 255, 255]  # a panel keeps its proportions
    assert picture[SIDE + 2 * CAPTION + 5, SIDE + GAP + 5].tolist() == [0, 0, 255]


def test_small_masks_keep_hard_edges(tmp_path: Path) -> None:
    mask = ISPRS.to_colours(np.array([[0, 1], [3, 4]], np.uint8))
    picture = read(draw_row(tmp_path / "a.png", [("", mask)]))[CAPTION:, :SIDE]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4


def test_sheet_as_jpeg_is_small_and_close(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    panels = [("", np.kron(rng.integers(0, 256, (20, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8)) for _ in range(3)]
    whole, small = (
        draw_sheet(tmp_path / "a.png", [panels], side=160),
        draw_sheet(tmp_path / "a.jpg", [panels], side=160),
    )
    assert read(small).shape == read(whole).shape == (160 + CAPTION, 3 * (160 + GAP), 3)
    assert np.abs(read(small).astype(int) - read(whole)).mean() < 8
    assert small.read_bytes()[:2] == b"\xff\xd8"


def test_shrinking_averages_and_leaves_small_maps_alone() -> None:
    scores = np.arange(32, dtype=np.float32).reshape(4, 8)
    assert shrink(scores, 8) is scores
    np.testing.assert_allclose(shrink(scores, 4), scores.reshape(2, 2, 4, 2).mean((1, 3)))
    assert shrink(np.ones((1, 900), np.float16), 30).shape == (1, 30)


def test_heat_is_monotone_and_clipped() -> None:
    line = heat(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]], np.float32))[0]
    assert line[0].tolist() == line[1].tolist()
    assert line[3].tolist() == line[4].tolist()
    brightness = heat(np.linspace(0, 1, 50, dtype=np.float32)[None])[0].astype(int) @ np.array([299, 587, 114])
    assert (np.diff(brightness) >= 0).all()
    assert line[1, 2] > line[1, 0]  # viridis begins blue
    assert line[3, 0] > line[3, 2]  # and ends yellow: channels are RGB


def test_legend_shows_every_colour() -> None:
    picture = legend(ISPRS, 40)
    assert picture.shape == (128, 200, 3)
    assert legend(ISPRS, 300).shape == (300, 200, 3)
    for index, colour in enumerate([*ISPRS.colours, (255, 0, 0)]):  # unlabelled pixels are shown as clutter
        assert picture[6 + 20 * index + 7, 14].tolist() == list(colour)


def test_confusion_picture_shows_shares_of_each_row(tmp_path: Path) -> None:
    """Row 0 is all right, row 1 half and half: the diagonal of row 0 is the brightest cell."""
    path = draw_confusion(tmp_path / "c.png", np.array([[10, 0], [5, 5]]), ["road", "car"])
    drawn = cv2.imread(str(path))[..., ::-1].astype(int)
    assert drawn.shape == (34 + 2 * 74, 170 + 2 * 74, 3)

    def corner(row: int, column: int) -> list[int]:
        return drawn[34 + row * 74 + 2, 170 + column * 74 + 2].tolist()

    full, none, half = corner(0, 0), corner(0, 1), corner(1, 0)
    assert half == corner(1, 1)
    assert sum(full) > sum(half) > sum(none)
