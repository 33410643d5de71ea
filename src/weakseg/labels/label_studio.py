"""Choices of Label Studio: exports as JSON and JSON_MIN (1.4 to 1.20 write them so).

A task shows a crop (a chip), or a scene with crops as rectangles that have choices of their own (``perRegion``). Beside
the choices of classes a second control, :data:`UNSURE`, takes the classes that somebody is not sure about
(:mod:`weakseg.labels.label_studio_tasks` writes such tasks).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from weakseg.core.errors import DataError
from weakseg.labels.marks import Mark, Marks, texts

CLASSES: Final = "classes"
UNSURE: Final = "unsure"
WINDOW: Final = ("row", "column", "height", "width")
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
_SIDES: Final = ("x", "y", "width", "height")
_MOST_SECONDS: Final = 86_400.0

Object = dict[str, Any]


def is_label_studio(content: Any) -> bool:
    """Whether JSON is a list of tasks, as exports as JSON or JSON_MIN are."""
    if not isinstance(content, list) or not content or not all(isinstance(task, dict) for task in content):
        return False
    first = content[0]
    return isinstance(first.get("data"), dict) or "annotation_id" in first


def read_label_studio(file: Path, content: list[Object], field: str | None = None) -> Marks:
    """What an export says.

    Args:
        content: list of tasks.
        field: name of the control whose choices are the classes; needed where there are several.

    Raises:
        DataError: no choices; several controls and no ``field``; a task or annotation that is none.
    """
    marks = Marks(file)
    whole = any("annotations" in task or "completions" in task or "predictions" in task for task in content)
    found = list(_annotations(file, content, marks) if whole else _minimal(file, content, field))
    control = _control(file, [name for _, controls in found for name in controls], field, marks)
    for place, controls in found:
        if not set(controls) & {control, UNSURE}:
            marks.notes["rectangle(s) or annotation(s) without a choice"] += 1
            continue
        marks.rows.append(
            Mark(
                f"{file}: {place.pop('place')}",
                present=controls.get(control, ()),
                unsure=controls.get(UNSURE, ()),
                **place,
            )
        )
    if any("row" in (task.get("data") or {}) or "area" in (task.get("data") or {}) for task in content):
        marks.several = True  # a task that weakseg wrote, with its own controls
    return marks


def _control(file: Path, names: Sequence[str], field: str | None, marks: Marks) -> str:
    found = [name for name in dict.fromkeys(names) if name != UNSURE]
    if field is not None and field in found:
        return field
    if len(found) == 1 and field is None:
        return found[0]
    if not found and UNSURE in names:
        return UNSURE
    if field is None and found:
        raise DataError(
            f"{file}: choices of the controls {', '.join(found)}",
            expected="one control whose choices are the classes",
            cure=f"name it, e.g. --field {found[0]}",
        )
    boxes = "; rectangles with labels are boxes: export COCO and say `weakseg data boxes`"
    raise DataError(
        f"{file}: no choices" + (f" of a control {field!r}" if field else ""),
        expected=f"annotations by <Choices>, of one of {', '.join(found)}" if found else "annotations by <Choices>",
        cure="mend --field" if found else f"export a project that has them{boxes}",
    )


# ---- JSON: tasks with annotations -----------------------------------------------------------------------------------


def _annotations(file: Path, tasks: list[Object], marks: Marks) -> Iterator[tuple[Object, dict[str, tuple[str, ...]]]]:
    """(fields of a mark, choices by control) of every annotation, or of every rectangle in it."""
    for number, task in enumerate(tasks):
        place, data = f"task {task.get('id', number)}", task.get("data")
        given = task.get("annotations", task.get("completions", []))
        if not isinstance(data, dict) or not isinstance(given, list) or not all(isinstance(a, dict) for a in given):
            raise DataError(
                f"{file}: {place} without data or annotations",
                expected="a task of Label Studio",
                cure="export it again",
            )
        done = [one for one in given if not one.get("was_cancelled")]
        marks.notes["skipped annotation(s)"] += len(given) - len(done)
        marks.notes["task(s) nobody has annotated"] += not given
        for one in done:
            shown = {"place": place, "picture": _picture(file, place, data), **_crop(file, place, data)}
            yield from _regions(file, place, one, shown | _work(one))


def _work(annotation: Object) -> Object:
    """Who, when and for how long."""
    who, seconds = annotation.get("completed_by"), annotation.get("lead_time")
    if isinstance(who, dict):
        names = " ".join(str(who.get(key) or "") for key in ("first_name", "last_name")).strip()
        who = who.get("email") or names or who.get("id")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= _MOST_SECONDS
    when = annotation.get("updated_at") or annotation.get("created_at")
    return {
        "annotator": f"label-studio {who}" if isinstance(who, int) else str(who or ""),
        "seconds": float(seconds) if timed and seconds is not None else 0.0,
        "time": when if isinstance(when, str) else "",
    }


def _regions(
    file: Path, place: str, annotation: Object, shown: Object
) -> Iterator[tuple[Object, dict[str, tuple[str, ...]]]]:
    """The choices about the whole picture, and those about each rectangle of it."""
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise DataError(f"{file}: {place}: no list result", expected="an annotation", cure="export it again")
    whole: dict[str, tuple[str, ...]] = {}
    regions: dict[str, tuple[Object, dict[str, tuple[str, ...]]]] = {}
    for one in results:
        value, kind = one.get("value"), one.get("type")
        value = value if isinstance(value, dict) else {}
        boxed = all(_is_number(value.get(side)) for side in _SIDES)
        if kind in ("rectangle", "choices") and boxed:
            where = shown | {"edges": _edges(file, place, value), "size": _size(one), "seconds": 0.0}
            controls = regions.setdefault(str(one.get("id")), (where, {}))[1]
        elif kind == "choices":
            controls = whole
        else:
            continue
        if kind == "choices":
            chosen = texts(value.get("choices"))
            if chosen is None:
                raise DataError(
                    f"{file}: {place}: choices {value.get('choices')}", expected="names", cure="flatten nested choices"
                )
            controls[str(one.get("from_name"))] = chosen
    yield from regions.values()
    if whole or not regions:
        yield shown, whole


def _edges(file: Path, place: str, value: Object) -> tuple[float, float, float, float]:
    if value.get("rotation"):
        raise DataError(
            f"{file}: {place}: a rectangle turned by {value['rotation']} degrees",
            expected="an upright crop",
            cure="draw it anew",
        )
    x, y, width, height = (float(value[side]) / 100 for side in _SIDES)
    return x, y, x + width, y + height


def _size(result: Object) -> tuple[int, int] | None:
    height, width = result.get("original_height"), result.get("original_width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _picture(file: Path, place: str, data: Mapping[str, Any]) -> str:
    """The address of a task's picture; empty where the task says its crop by other fields."""
    found = {key: value for key, value in data.items() if isinstance(value, str) and _is_picture(value)}
    if len(found) > 1 and "image" in found:
        return str(found["image"])
    if len(found) > 1 or (not found and "area" not in data):
        raise DataError(
            f"{file}: {place} with {len(found)} pictures",
            expected="one",
            cure="export tasks with one picture in `image`",
        )
    return next(iter(found.values()), "")


def _is_picture(value: str) -> bool:
    return value.lower().split("?")[0].endswith(SUFFIXES) or value.lower().endswith(SUFFIXES)


def _crop(file: Path, place: str, data: Mapping[str, Any]) -> Object:
    """Area and window, where a task of weakseg says them."""
    area = data.get("area")
    if not isinstance(area, str) or not any(key in data for key in WINDOW):
        return {}
    numbers = [data.get(key) for key in WINDOW]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise DataError(f"{file}: {place}: window {numbers}", expected="four whole numbers", cure="export it again")
    size = data.get("area_height"), data.get("area_width")
    raster = {"raster": size} if all(isinstance(side, int) for side in size) else {}
    return {"area": area, "window": tuple(numbers), **raster}


# ---- JSON_MIN: a flat object per annotation -------------------------------------------------------------------------


def _minimal(file: Path, tasks: list[Object], field: str | None) -> Iterator[tuple[Object, dict[str, tuple[str, ...]]]]:
    """The same of JSON_MIN, where one choice is a text and several are ``{"choices": [...]}``."""
    if any(_has_rectangle(value) for task in tasks for value in task.values()):
        raise DataError(
            f"{file}: JSON_MIN of rectangles, in which a single choice is no longer tied to its rectangle",
            expected="an export as JSON",
            cure="export again in that format",
        )
    named = {key for task in tasks for key, value in task.items() if isinstance(value, dict) and "choices" in value}
    controls = {*named, "choice", CLASSES, UNSURE, *([field] if field else [])}
    for number, task in enumerate(tasks):
        place = f"task {task.get('id', number)}"
        chosen: dict[str, tuple[str, ...]] = {}
        for key in controls & set(task):
            value = task[key]
            names = texts(value.get("choices") if isinstance(value, dict) else [value])
            if names is None:
                raise DataError(f"{file}: {place}: {key} {value}", expected="choices", cure="export as JSON")
            chosen[key] = names
        data = {key: value for key, value in task.items() if key not in controls}
        work = _work({**task, "completed_by": task.get("annotator")})
        yield {"place": place, "picture": _picture(file, place, data), **_crop(file, place, data), **work}, chosen


def _has_rectangle(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, dict) and set(_SIDES) <= set(part) for part in parts)
