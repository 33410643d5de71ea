"""File attributes of the VGG Image Annotator, versions 2.0.0 to 2.0.12: a saved project, or annotations as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError
from weakseg.labels.marks import Mark, Marks

_IMAGES: Final = "_via_img_metadata"
_SINGLE: Final = ("radio", "dropdown")


def is_via(content: Any) -> bool:
    """Whether JSON is a project or the annotations of VIA."""
    if not isinstance(content, dict) or not content:
        return False
    if _IMAGES in content or ("project" in content and "attribute" in content and "view" in content):
        return True
    first = next(iter(content.values()))
    return isinstance(first, dict) and {"filename", "file_attributes"} <= set(first)


def read_via(file: Path, content: Mapping[str, Any], field: str | None = None) -> Marks:
    """What an export says; pictures whose attribute is empty are left out, nobody may have looked at them.

    Args:
        field: name of the file attribute that holds the classes; needed where there are several.

    Raises:
        DataError: a project of VIA 3; no file attribute, several and no ``field``; a picture that is none.
    """
    if _IMAGES not in content and "attribute" in content and "view" in content:
        raise DataError(
            f"{file}: a project of VIA 3", expected="VIA 2", cure="annotate with VIA 2.0.12, or use CSV tags"
        )
    images = content.get(_IMAGES, content)
    if not isinstance(images, dict) or not all(_is_image(image) for image in images.values()):
        raise DataError(
            f"{file}: a picture without filename or file_attributes", expected="both", cure="export it again"
        )
    name = _attribute(file, content, images, field)
    about = _description(content, name)
    options = about.get("options")
    marks = Marks(file, several={"checkbox": True}.get(str(about.get("type"))))
    if str(about.get("type")) in _SINGLE:
        marks.several = False
    if isinstance(options, dict):
        marks.offered = tuple(map(str, options))
    for key, image in images.items():
        value = image["file_attributes"].get(name)
        chosen = _chosen(f"{file}: {key}", name, value, marks)
        regions = image.get("regions")
        marks.notes["region(s)"] += len(regions) if isinstance(regions, list | dict) else 0
        if not chosen:
            marks.notes["picture(s) with nothing marked"] += 1
            continue
        marks.rows.append(Mark(f"{file}: {key}", image["filename"], chosen))
    return marks


def _is_image(image: Any) -> bool:
    return (
        isinstance(image, dict)
        and isinstance(image.get("filename"), str)
        and isinstance(image.get("file_attributes"), dict)
    )


def _attribute(file: Path, content: Mapping[str, Any], images: Mapping[str, Any], field: str | None) -> str:
    about = content.get("_via_attributes")
    named = about.get("file") if isinstance(about, dict) else None
    found = dict.fromkeys(
        [
            *(named if isinstance(named, dict) else ()),
            *(key for image in images.values() for key in image["file_attributes"]),
        ]
    )
    if field in found and field is not None:
        return field
    if len(found) == 1 and field is None:
        return str(next(iter(found)))
    if found:
        raise DataError(
            f"{file}: file attributes {', '.join(found)}" + (f", none called {field}" if field else ""),
            expected="one that holds the classes",
            cure=f"name it, e.g. --field {next(iter(found))}",
        )
    raise DataError(
        f"{file}: no file attribute",
        expected="one with the classes of each picture",
        cure="mark pictures, not regions; regions come in by COCO and `weakseg data boxes`",
    )


def _description(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a project says about an attribute: type and options."""
    about: Any = content
    for key in ("_via_attributes", "file", name):
        about = about.get(key) if isinstance(about, dict) else None
    return about if isinstance(about, dict) else {}


def _chosen(place: str, name: str, value: Any, marks: Marks) -> tuple[str, ...]:
    """The marked names: of a checkbox an object of true values, of radio, dropdown and text one text."""
    if isinstance(value, dict):
        marks.several = True
        if not all(isinstance(one, bool) for one in value.values()):
            raise DataError(f"{place}: {name} {value}", expected="true or false for each class", cure="export it again")
        return tuple(key for key, one in value.items() if one)
    if value is None or value == "":
        return ()
    if not isinstance(value, str):
        raise DataError(f"{place}: {name} {value!r}", expected="a checkbox, or a text", cure="export it again")
    return (value,)
