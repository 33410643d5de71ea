"""The words and the table of `weakseg labels diff`, for the terminal, the report and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from weakseg.core.errors import StageError
from weakseg.core.methods import label_of
from weakseg.labels.changes import CropChange, PixelChange, count_states
from weakseg.report.content import LabelChanges

if TYPE_CHECKING:
    from weakseg.report.label_versions import LabelComparison, RunChange

COLUMNS: Final = ("trained on", "mIoU before", "after", "difference", "95 % interval")
_SHOWN: Final = 20  # changes of each kind that the terminal lists


def describe_comparison(found: LabelComparison) -> LabelChanges:
    """The comparison in words, and a row per source that params.yaml trains."""
    named = zip((found.before, found.after), found.data, strict=True)
    before, after = (f"{rev} (data {md5[:8] or 'not recorded by DVC yet'})" for rev, md5 in named)
    points = (
        f"crops: {_crops(found.crops)}",
        f"boxes: {len(found.boxes_added)} added, {len(found.boxes_removed)} removed",
        f"pixels: {_pixels(found.pixels)}",
        f"work: {_work(found)}",
    )
    return LabelChanges(f"Labels from {before} to {after}", points, tuple(map(_row, found.runs)))


def markdown(changes: LabelChanges) -> str:
    """As Markdown, which a terminal shows too."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *changes.rows]
    table = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([f"{changes.head}:", "", *(f"- {point}" for point in changes.points), "", *table]) + "\n"


def to_report(found: LabelComparison) -> dict[str, Any]:
    """The comparison as reports/labels_diff.json has it: everything, and the words."""
    content = asdict(found)
    for change, line in zip(found.crops, content["crops"], strict=True):
        line["classes"] = change.classes
    return {**content, "words": asdict(describe_comparison(found))}


def read_label_changes(path: Path) -> LabelChanges | None:
    """What reports/labels_diff.json says; None where there is none.

    Raises:
        StageError: the file is another one.
    """
    if not path.is_file():
        return None
    try:
        words = json.loads(path.read_text())["words"]
        rows = tuple(tuple(map(str, row)) for row in words["rows"])
        return LabelChanges(str(words["head"]), tuple(map(str, words["points"])), rows)
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{path} is no comparison of labels ({type(error).__name__}: {error})",
            expected="what `weakseg labels diff` writes",
            cure="compare again, or delete the file",
        ) from error


def list_changes(found: LabelComparison, shown: int = _SHOWN) -> list[str]:
    """A line per crop, box and area, at most so many of each kind."""
    crops = [f"{change.what} crop {change.crop[0]} {change.crop[1]}: {_states(change)}" for change in found.crops]
    boxes = [
        f"{what} box {box.area} {box.window}: {box.name}"
        for what, several in (("added", found.boxes_added), ("removed", found.boxes_removed))
        for box in several
    ]
    areas = [f"{change.what} mask of {change.area}: {change.changed} px" for change in found.pixels]
    return [line for lines in (crops, boxes, areas) for line in _first(lines, shown)]


def _states(change: CropChange) -> str:
    """What is in a crop that is new or gone; of another one what is known otherwise."""
    if change.what == "changed":
        return ", ".join(f"{name} {how}" for name, how in change.classes.items())
    states = change.after if change.what == "added" else change.before
    return ", ".join(name for name, state in states.items() if state) or "no class known"


def _first(lines: list[str], shown: int) -> list[str]:
    return lines if len(lines) <= shown else [*lines[:shown], f"... and {len(lines) - shown} more"]


def _crops(changes: Sequence[CropChange]) -> str:
    counts = [f"{sum(c.what == what for c in changes)} {what}" for what in ("added", "removed", "changed")]
    states = count_states([change for change in changes if change.what == "changed"])
    said = [f"{name} {', '.join(f'{how} {n}' for how, n in how_often.items())}" for name, how_often in states.items()]
    return ", ".join(counts) + (f" ({'; '.join(said)})" if said else "")


def _pixels(changes: Sequence[PixelChange]) -> str:
    return ", ".join(f"{one.area} {one.what} ({one.changed} px)" for one in changes) or "unchanged"


def _work(found: LabelComparison) -> str:
    said = [f"{w.annotator} {w.answers} answers about {w.crops} crops in {w.seconds / 60:.1f} min" for w in found.work]
    if found.unanswered:
        said.append(f"{found.unanswered} changed crops without an answer in between, imported or mended in the table")
    if found.estimated:
        said.append(f"boxes and pixels {found.estimated / 60:.1f} min by the prices of label_cost")
    return "; ".join(said) or "none recorded"


def _row(run: RunChange) -> tuple[str, ...]:
    miou = ["-" if value is None else f"{value:.3f}" for value in (run.before, run.after)]
    if run.difference is None:
        return (label_of(run.source), *miou, "-", run.why)
    low, high = run.difference.low, run.difference.high
    interval = "one area: none" if low != low else f"{low:+.3f} to {high:+.3f}"
    return (label_of(run.source), *miou, f"{run.difference.value:+.3f}", interval)
