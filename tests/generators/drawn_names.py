"""Drawn file names: areas as people call them, and how the names of image and label differ."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

STEMS = (
    "a", "b", "c7", "field 7", "Größe", "area[2]", "x.y", "2_10", "top_potsdam_2_10", "scene(1)", "été", "A1", "image",
    "top_mosaic_09cm_area3", "tile-0-1", "m", "地図", "road_map",
    "a_m", "a_img", "IMG_a", "A", "a.tif", "label_a", "a_1", "mask", "a_gt",
)  # fmt: skip
# (before, after) the stem of the image, and of the label
PAIRINGS = {
    "same": (("", ""), ("", "")),
    "label": (("", ""), ("", "_label")),
    "mask": (("", ""), ("", "_mask")),
    "rgb_label": (("", "_RGB"), ("", "_label")),
    "img_gt": (("", "_img"), ("", "_gt")),
    "sat_mask": (("", "_sat"), ("", "_mask")),
    "m": (("", ""), ("", "_m")),
    "IMG_MSK": (("IMG_", ""), ("MSK_", "")),
    "image_label": (("image_", ""), ("label_", "")),
}
PLAIN_PAIRINGS = ("same", "label", "mask", "rgb_label", "img_gt", "sat_mask")
PLAIN_STEMS = ("a", "b", "c7", "2_10", "top_potsdam_2_10", "tile-0-1", "road_map")


@st.composite
def stems(draw: st.DrawFn, count: int, *, odd: bool) -> tuple[str, ...]:
    """Different names of areas."""
    choice = STEMS if odd else PLAIN_STEMS
    return tuple(draw(st.lists(st.sampled_from(choice), min_size=count, max_size=count, unique=True)))


def named(stem: str, pairing: str, *, label: bool, form: str) -> str:
    """The stem of a file, in a Unicode form (NFC as Windows and Linux write it, NFD as macOS does)."""
    before, after = PAIRINGS[pairing][label]
    return unicodedata.normalize(form, f"{before}{stem}{after}")
