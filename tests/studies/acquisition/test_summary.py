"""What `weakseg next` says in the terminal."""

from __future__ import annotations

from pathlib import Path

from weakseg.labels.prices import LabelPrices, Price
from weakseg.studies.acquisition.run import Next
from weakseg.studies.acquisition.suggest import Suggestion
from weakseg.studies.acquisition.summary import describe

PRICES = LabelPrices(Price(1.0, "a"), Price(7.0, "b"), Price(2575.0, "c"))
CROP = Suggestion("tags", "area2", (0, 32, 32, 32), 0.5, 1.0, ("car",), "car? 70 %")


def test_crops_that_are_left() -> None:
    said = describe(Next({"tags": [CROP]}, (), PRICES, (Path("crops.csv"),))).splitlines()
    assert said[1:3] == [
        "tags of 1 crops: 0.0 min, 0.5 points",
        "  1. area2 at row 0, column 32 about car: 0.5 points, 1 s. car? 70 %",
    ]
    assert said[-3:] == [
        "These mend the map of these very images fastest: `weakseg predict --tags`. To train a network for",
        "other images, tags at random, as `weakseg tag` serves them, have been worth no less (docs/tagging.md).",
        "Go on with `weakseg tag --order crops.csv`",
    ]


def test_no_crop_left_is_said() -> None:
    said = describe(Next({"tags": [], "boxes": []}, (), PRICES, (Path("crops.csv"),)))
    assert "no crop to tag: none is left that a tag would tell something about" in said
    assert "weakseg tag" not in said
    assert "other images" not in said
    assert "boxes in" not in said
