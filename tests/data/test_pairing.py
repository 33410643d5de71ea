"""Images find their labels by name, and nobody stays alone without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakseg.data.archives import Entry
from weakseg.data.pairing import area_name, choose_entries, pair_up


def entries(source: str, *names: str) -> list[Entry]:
    return [Entry(Path(source), name) for name in names]


@pytest.mark.parametrize(
    ("stem", "area"),
    [
        ("top_mosaic_09cm_area12", "area12"),
        ("top_mosaic_09cm_area7_noBoundary", "area7"),
        ("top_potsdam_2_10_RGB", "top_potsdam_2_10"),
        ("top_potsdam_2_10_label_noBoundary", "top_potsdam_2_10"),
        ("x_RGB_label", "x"),
        ("104_sat", "104"),
        ("104_mask", "104"),
        ("tile1_001", "tile1_001"),
        ("_mask", "_mask"),
        ("smart", "smart"),
    ],
)
def test_area_names(stem: str, area: str) -> None:
    assert area_name(stem) == area


def test_isprs_archives_give_only_the_folder_of_the_role() -> None:
    archive = entries("z.zip", "dsm/dsm_area1.tif", "gts_for_participants/a.tif", "top/a.tif")
    assert [e.name for e in choose_entries(archive, "image")] == ["top/a.tif"]
    assert [e.name for e in choose_entries(archive, "label")] == ["gts_for_participants/a.tif"]
    assert choose_entries(archive[:1], "image") == archive[:1]


def test_complete_and_eroded_labels_find_their_image() -> None:
    pairs, problems = pair_up(
        entries("i", "area2.tif", "area1.tif"),
        entries("l", "area1.png", "area2.png", "area1_noBoundary.tif", "area2_noBoundary.tif"),
    )
    assert problems == []
    assert [(p.area, p.image.name, p.label and p.label.name, p.eroded and p.eroded.name) for p in pairs] == [
        ("area1", "area1.tif", "area1.png", "area1_noBoundary.tif"),
        ("area2", "area2.tif", "area2.png", "area2_noBoundary.tif"),
    ]


def test_eroded_labels_alone_are_the_labels() -> None:
    (pair,), problems = pair_up(entries("i", "a.tif"), entries("l", "a_noBoundary.tif"))
    assert problems == []
    assert pair.label is not None
    assert pair.label.name == "a_noBoundary.tif"
    assert pair.eroded is None


def test_missing_partners_are_reported_on_every_side() -> None:
    _, problems = pair_up(
        entries("i", "a.tif", "b.tif", "c.tif"), entries("l", "a.tif", "c.tif", "d.tif", "a_noBoundary.tif")
    )
    assert [problem.split(";")[0] for problem in problems] == [
        "i/b.tif: no label for area b",
        "i/c.tif: no eroded label for area c",
        "l/d.tif: no image for area d",
    ]


def test_images_may_stand_alone_if_allowed() -> None:
    pairs, problems = pair_up(entries("i", "a.tif", "b.tif"), entries("l", "a.tif"), allow_unlabelled=True)
    assert problems == []
    assert [(pair.area, pair.label is None) for pair in pairs] == [("a", False), ("b", True)]


def test_one_area_twice_is_reported() -> None:
    _, problems = pair_up(entries("i", "x_RGB.tif", "x_IRRG.tif"), entries("l", "x.tif", "x_mask.png"))
    assert [problem.split(";")[0] for problem in problems] == [
        "area x has 2 images: i/x_RGB.tif, i/x_IRRG.tif",
        "area x has 2 labels: l/x.tif, l/x_mask.png",
    ]
