"""Classifications of FiftyOne (0.15 to 1.8): ``samples.json`` or ``labels.json``, or the folder with either.

A FiftyOneDataset has the first, a FiftyOneImageClassificationDataset the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError
from weakseg.labels.marks import Mark, Marks, texts

FILES: Final = ("samples.json", "labels.json")
_SEVERAL, _SINGLE = "Classifications", "Classification"


def is_fiftyone(content: Any) -> bool:
    """Whether JSON is one of the two files."""
    if not isinstance(content, dict):
        return False
    samples = content.get("samples")
    if isinstance(samples, list):
        return all(isinstance(sample, dict) and "filepath" in sample for sample in samples)
    return isinstance(content.get("labels"), dict) and set(content) <= {"classes", "labels"}


def read_fiftyone(file: Path, content: Mapping[str, Any], field: str | None = None) -> Marks:
    """What an export says; samples without a label are left out.

    Args:
        field: name of the field of labels in samples.json; ``tags`` are a sample's own tags.

    Raises:
        DataError: no field of labels, several and no ``field``; a label that is none.
    """
    return _samples(file, content["samples"], field) if "samples" in content else _labels(file, content)


def _samples(file: Path, samples: list[dict[str, Any]], field: str | None) -> Marks:
    marks = Marks(file)
    kinds: dict[str, str] = {}
    for sample in samples:
        for key, value in sample.items():
            if isinstance(value, dict) and value.get("_cls") in (_SEVERAL, _SINGLE):
                kinds[key] = str(value["_cls"])
    if field == "tags":
        kinds["tags"] = _SEVERAL
    if field is None and len(kinds) == 1:
        field = next(iter(kinds))
    if field not in kinds:
        raise DataError(
            f"{file}: {'fields ' + ', '.join(kinds) if kinds else 'no field'} with classifications",
            expected="one that holds the classes",
            cure=f"name it, e.g. --field {next(iter(kinds), 'tags')}",
        )
    marks.several = kinds[field] == _SEVERAL
    for number, sample in enumerate(samples):
        place = f"{file}: sample {number}"
        names = _names(place, sample.get(field), field)
        if not names:
            marks.notes["sample(s) without a label"] += 1
            continue
        about = sample.get("metadata") or {}
        size = (about.get("height"), about.get("width")) if isinstance(about, dict) else (None, None)
        shape = (size[0], size[1]) if isinstance(size[0], int) and isinstance(size[1], int) else None
        marks.rows.append(Mark(place, str(sample["filepath"]), names, size=shape))
    return marks


def _names(place: str, value: Any, field: str) -> tuple[str, ...]:
    """The labels of a field: a list of tags, one classification, or a list of them."""
    if value is None:
        return ()
    if field == "tags":
        found = texts(value)
    elif isinstance(value, dict) and value.get("_cls") == _SINGLE:
        found = texts([value.get("label")])
    else:
        rows = value.get("classifications") if isinstance(value, dict) else None
        objects = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        found = texts([row.get("label") for row in rows]) if objects and rows is not None else None
    if found is None:
        raise DataError(f"{place}: {field} {str(value)[:80]}", expected="labels", cure="export it again")
    return found


def _labels(file: Path, content: Mapping[str, Any]) -> Marks:
    classes = content.get("classes")
    offered = None if classes is None else texts(classes)
    if classes is not None and offered is None:
        raise DataError(f"{file}: classes {str(classes)[:80]}", expected="a list of names", cure="export it again")
    marks = Marks(file, offered=offered)
    lists = [isinstance(value, list) for value in content["labels"].values() if value is not None]
    marks.several = all(lists) if lists and len(set(lists)) == 1 else None
    for key, value in content["labels"].items():
        place, rows = f"{file}: {key}", value if isinstance(value, list) else [] if value is None else [value]
        names = tuple(_label(place, row, offered) for row in rows)
        if not names:
            marks.notes["sample(s) without a label"] += 1
            continue
        marks.rows.append(Mark(place, key, tuple(dict.fromkeys(names))))
    return marks


def _label(place: str, row: Any, classes: tuple[str, ...] | None) -> str:
    """A label, its number among ``classes``, or an object with either."""
    value = row.get("label") if isinstance(row, dict) else row
    if isinstance(value, int) and not isinstance(value, bool) and classes is not None and 0 <= value < len(classes):
        return classes[value]
    if not isinstance(value, str):
        raise DataError(
            f"{place}: label {str(value)[:80]}", expected="a name, or a number of classes", cure="export it again"
        )
    return value
