"""Options of earlier versions that are gone because no committed row showed that they pay (docs/decisions.md).

A params file that names one with the value that is in force now loses the line, which is said; with another value it is
refused, because its results could not be had again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from weakseg.core.errors import ParamsError

ANY: Final = object()
OPTIMISERS: Final = ("classifier", "irnet", "single_stage", "segment")
REMOVED: Final[dict[str, Any]] = {
    **{f"{section}.optimiser.clip": 5.0 for section in OPTIMISERS},
    "classifier.dilate": False,
    "cam.times_probability": False,
    "crf.temperature": 1.0,
    "single_stage.gci": True,
    "single_stage.size_term": "original",
    "teacher.views": True,
    "teacher.align": True,
    "boxes.base": "teacher",
    "boxes.weight": 1.0,
    "segment.dice": 0.0,
    "segment.lovasz": 0.0,
    "segment.copy_paste.probability": 0.0,
    "segment.copy_paste.class_name": ANY,
    "segment.copy_paste.most": ANY,
    "consistency.views": 1,
    "consistency.colour": 0.4,
    "consistency.blur": 0.5,
    "consistency.feature_dropout": 0.0,
}
"""Path -> the value that is in force for good; ``ANY`` where the value says nothing without another one."""


def find_removed(raw: Any) -> Iterator[str]:
    """Paths of :data:`REMOVED` that a params file names, in their order."""
    for path in REMOVED:
        section, key = _section(raw, path)
        if key in section:
            yield path


def drop_removed(raw: Any, origin: str) -> list[str]:
    """Take the removed options out of a params file, in place; returns their paths.

    Raises:
        ParamsError: if one of them has another value than the one in force.
    """
    found = list(find_removed(raw))
    for path in found:
        section, key = _section(raw, path)
        value = section.pop(key)
        if REMOVED[path] is not ANY and value != REMOVED[path]:
            raise ParamsError(
                f"{origin}: {path}: {value}, an option that is gone",
                expected=f"{REMOVED[path]}, which is in force for good",
                cure="take the line out, or use the version that it was written for",
            )
        if not section:
            parent, name = _section(raw, path.rpartition(".")[0])
            parent.pop(name, None)
    space = _section(raw, "tune.space.x")[0]
    if tuned := [path for path in REMOVED if path in space]:
        raise ParamsError(f"{origin}: tune.space names {tuned[0]}", expected="options that are there", cure="mend it")
    return found


def _section(raw: Any, path: str) -> tuple[dict[str, Any], str]:
    """The table that would hold the last key of a path (empty where there is none), and that key."""
    *sections, key = path.split(".")
    for name in sections:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return (raw if isinstance(raw, dict) else {}), key
