"""Classifications of FiftyOne (fiftyone 1.x writes these shapes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.errors import DataError
from weakseg.labels.fiftyone import is_fiftyone, read_fiftyone

FILE = Path("samples.json")


def label(name: str) -> dict[str, Any]:
    oid = {"$oid": "64f0c1d2e3a4b5c6d7e8f901"}
    return {"_id": oid, "_cls": "Classification", "tags": [], "label": name, "confidence": None, "logits": None}


def sample(path: str, **fields: Any) -> dict[str, Any]:
    about = {
        "_cls": "ImageMetadata",
        "size_bytes": 9,
        "mime_type": "image/png",
        "width": 16,
        "height": 32,
        "num_channels": 3,
    }
    return {
        "_id": {"$oid": "64f0c1d2e3a4b5c6d7e8f902"},
        "filepath": path,
        "tags": ["train"],
        "metadata": about,
        "_media_type": "image",
        "_rand": 0.5,
        **fields,
    }


def several(*names: str) -> dict[str, Any]:
    return {"_cls": "Classifications", "classifications": [label(name) for name in names], "logits": None}


def test_a_dataset_holds_one_or_several_classes_per_sample() -> None:
    rows = [sample("data/t1__0_0_32_16.png", ground_truth=several("tree", "car")), sample("b.png", ground_truth=None)]
    found = read_fiftyone(FILE, {"samples": rows})
    assert [(m.picture, m.present, m.size) for m in found.rows] == [
        ("data/t1__0_0_32_16.png", ("tree", "car"), (32, 16))
    ]
    assert (found.several, found.notes["sample(s) without a label"]) == (True, 1)
    single = read_fiftyone(FILE, {"samples": [sample("a.png", cover=label("tree"))]})
    assert (single.rows[0].present, single.several) == (("tree",), False)


def test_fields_are_told_apart_by_name_and_tags_are_one_when_asked_for() -> None:
    rows = [sample("a.png", cover=several("tree"), guess=several("car"))]
    with pytest.raises(DataError, match=r"fields cover, guess with classifications; .*--field cover"):
        read_fiftyone(FILE, {"samples": rows})
    assert read_fiftyone(FILE, {"samples": rows}, "guess").rows[0].present == ("car",)
    assert read_fiftyone(FILE, {"samples": rows}, "tags").rows[0].present == ("train",)


def test_the_classification_dataset_has_numbers_names_objects_and_lists() -> None:
    labels = {
        "a": 1,
        "b": [0, 1],
        "c": None,
        "d": {"label": 0, "confidence": 0.9, "attributes": {}},
    }
    found = read_fiftyone(FILE, {"classes": ["tree", "car"], "labels": labels})
    assert [(m.picture, m.present) for m in found.rows] == [("a", ("car",)), ("b", ("tree", "car")), ("d", ("tree",))]
    assert (found.several, found.offered) == (None, ("tree", "car"))
    assert read_fiftyone(FILE, {"classes": None, "labels": {"a": ["tree"], "b": ["car"]}}).several is True
    assert read_fiftyone(FILE, {"labels": {"a": "tree", "b": "car"}}).several is False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"samples": [sample("a.png")]}, "no field with classifications; .*--field tags"),
        (
            {"samples": [sample("a.png", cover=several("tree")), sample("b.png", cover={"_cls": "Detections"})]},
            "labels",
        ),
        ({"classes": ["tree"], "labels": {"a": 1}}, "a: label 1; expected a name"),
        ({"classes": "tree", "labels": {"a": 0}}, "classes tree; expected a list"),
    ],
)
def test_labels_that_are_none_are_refused(content: dict[str, Any], words: str) -> None:
    assert is_fiftyone(content)
    with pytest.raises(DataError, match=words):
        read_fiftyone(FILE, content)


def test_other_json_is_not_of_fiftyone() -> None:
    assert not any(map(is_fiftyone, [[], {}, {"samples": [{}]}, {"labels": {}, "images": []}]))
