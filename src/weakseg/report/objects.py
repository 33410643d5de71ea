"""`weakseg objects CLASS`: which sizes of object each stage finds, so that the stage that loses them is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from weakseg.core.errors import ParamsError, StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import SOURCES, WEAK_SOURCES, label_of
from weakseg.evaluation.reports import ObjectScores, read_audit, read_evaluation

Rows = Mapping[str, Sequence[ObjectScores]]
Size = tuple[int, int | None]


def object_tables(root: Path, class_name: str, *, brief: bool = False) -> str:
    """Markdown tables, share found and IoU by size: maps on N2 without thresholds, pseudo-masks on N2, networks.

    Between the first and the second lies what thresholds lose, between two lines what a stage loses. The networks are
    measured on the validation areas. ``brief``: of sizes that hold a tenth of the objects the IoU, of others nothing.

    Raises:
        ParamsError: the reports do not know the class.
        StageError: no report counts objects.
    """
    layout = Layout(root)
    audits = {name: read_audit(layout.report("audit", name)) for name in _reported(layout, "audit", WEAK_SOURCES)}
    maps = {name: audit.winners.objects for name, audit in audits.items() if audit.winners}
    masks = {name: audit.objects for name, audit in audits.items()}
    networks = {
        label_of(name): read_evaluation(layout.report("evaluate", name)).objects
        for name in _reported(layout, "evaluate", SOURCES)
    }
    kinds = {
        "maps on N2, without thresholds": maps,
        "pseudo-masks on N2": masks,
        "networks on the validation areas, all seeds": networks,
    }
    kinds = {what: {name: found for name, found in rows.items() if found} for what, rows in kinds.items()}
    known = {name: None for rows in kinds.values() for found in rows.values() for name in found}
    if not known:
        raise StageError(
            "no report counts objects", expected="reports/audit and reports/evaluate", cure="run `dvc repro`"
        )
    if class_name not in known:
        raise ParamsError(f"class {class_name!r}", expected=f"one of {', '.join(known)}", cure="correct the name")
    tables = [
        table(f"{class_name}: {what}", {name: found[class_name] for name, found in rows.items()}, brief)
        for what, rows in kinds.items()
        if rows
    ]
    return "\n\n".join(tables)


def _reported(layout: Layout, stage: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if layout.report(stage, name).is_file()]


def table(title: str, rows: Rows, brief: bool = False) -> str:
    """One line per stage: of every size of object, the share found and the IoU; all that are found, and strays."""
    sizes: dict[Size, int] = {}
    for row in (row for found in rows.values() for row in found):
        sizes[row.smallest, row.largest] = max(sizes.get((row.smallest, row.largest), 0), row.objects)
    least = 0.1 * sum(sizes.values()) if brief else 1
    order = sorted(size for size in sizes if sizes[size] >= least)
    heads = [f"IoU, {_named(size)}" if brief else f"{_named(size)}: {sizes[size]}" for size in order]
    counted = ["found", "unsure", "swallowed", "strays"]
    lines = [_line([title, *counted, *heads] if brief else [title, *heads, *counted])]
    lines.append(_line(["---"] * (len(heads) + len(counted) + 1)))
    for name, found in rows.items():
        by_size = {(row.smallest, row.largest): row for row in found}
        cells = [_cell(by_size[size], brief) if size in by_size else "-" for size in order]
        lines.append(_line([name, *_counts(found), *cells] if brief else [name, *cells, *_counts(found)]))
    return "\n".join(lines)


def _counts(found: Sequence[ObjectScores]) -> list[str]:
    objects, hits, unsure = (sum(getattr(row, key) for row in found) for key in ("objects", "found", "unsure"))
    return [f"{hits} of {objects}", *map(str, (unsure, objects - hits - unsure, sum(row.strays for row in found)))]


def _named(size: Size) -> str:
    low, high = size
    return f"{low} px and more" if high is None else f"{low} to {high} px"


def _cell(row: ObjectScores, brief: bool) -> str:
    if not row.objects:
        return "-"
    return f"{row.iou:.2f}" if brief else f"{row.recall:.2f}, IoU {row.iou:.2f}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
