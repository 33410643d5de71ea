"""File attributes of the VGG Image Annotator (2.0.12 writes these shapes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.errors import DataError
from weakseg.labels.via import is_via, read_via

FILE = Path("via.json")


def image(name: str, **attributes: Any) -> dict[str, Any]:
    return {"filename": name, "size": 1234, "regions": [], "file_attributes": attributes}


def project(images: list[dict[str, Any]], **attributes: dict[str, Any]) -> dict[str, Any]:
    """What `Project > Save` writes."""
    keyed = {f"{one['filename']}{one['size']}": one for one in images}
    return {
        "_via_settings": {"ui": {}, "core": {"buffer_size": 18, "filepath": {}}, "project": {"name": "crops"}},
        "_via_img_metadata": keyed,
        "_via_attributes": {"region": {}, "file": attributes},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(keyed),
    }


OPTIONS = {"tree": "", "car": "", "building": ""}


def test_a_checkbox_marks_several_classes_of_those_offered() -> None:
    images = [image("t1__0_0_16_16.png", cover={"tree": True, "car": True}), image("t1.png", cover={}), image("t2.png")]
    about = {"type": "checkbox", "description": "", "options": OPTIONS, "default_options": {}}
    found = read_via(FILE, project(images, cover=about))
    assert [(mark.picture, mark.present) for mark in found.rows] == [("t1__0_0_16_16.png", ("tree", "car"))]
    assert (found.several, found.offered) == (True, ("tree", "car", "building"))
    assert found.notes["picture(s) with nothing marked"] == 2


def test_a_dropdown_and_the_bare_annotations_mark_one() -> None:
    about = {"type": "dropdown", "description": "", "options": OPTIONS, "default_options": {}}
    assert read_via(FILE, project([image("t1.png", cover="tree")], cover=about)).several is False
    plain = read_via(FILE, {"t1.png1234": image("t1.png", cover="tree")})  # `Annotation > Export (as json)`
    assert (plain.rows[0].present, plain.several, plain.offered) == (("tree",), None, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (project([image("a.png", cover="tree", sky="blue")]), "file attributes cover, sky; .*--field cover"),
        (project([image("a.png")]), "no file attribute; .*weakseg data boxes"),
        ({"a": {"filename": 3, "file_attributes": {}}}, "without filename or file_attributes"),
        (project([image("a.png", cover={"tree": "yes"})]), "true or false for each class"),
        (project([image("a.png", cover=["tree"])]), "a checkbox, or a text"),
        ({"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}, "a project of VIA 3"),
    ],
)
def test_what_says_no_classes_of_pictures_is_refused(content: dict[str, Any], words: str) -> None:
    assert is_via(content)
    with pytest.raises(DataError, match=words):
        read_via(FILE, content)


def test_other_json_is_not_of_via() -> None:
    assert not any(map(is_via, [[], {}, {"a": 1}, {"type": "FeatureCollection"}, {"samples": []}]))
