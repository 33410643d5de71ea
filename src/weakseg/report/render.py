"""The page as one HTML file that needs nothing else: no server, no network, no second file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import StageError
from weakseg.core.methods import ENTRIES
from weakseg.report import charts, many_classes, text
from weakseg.report.content import Page, fit_pictures
from weakseg.report.embed import data_uri, size_of

LIMIT: Final = 10_000_000  # bytes of the file
_PICTURES: Final = 6_500_000  # bytes of all pictures before base64, which adds a third
_TEMPLATES: Final = Path(__file__).parent / "templates"


def render_page(page: Page) -> str:
    """HTML of the page; pictures are made smaller, and areas left out, until it is below :data:`LIMIT`.

    Raises:
        StageError: if it stays too large even so.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": text.plain, "number": text.number, "signed": text.signed, "uri": data_uri}
    small = fit_pictures(page, _PICTURES)
    html = environment.get_template("index.html").render(
        page=small,
        many=many_classes.are_many(page.scheme.names),
        told=_told(page),
        confusions_of=lambda confusion: many_classes.worst_confusions(confusion, page.scheme.names),
        charts=charts,
        text=text,
        sources=ENTRIES,
        size_of=size_of,
        shares=shares,
        shade=shade,
        first=text.shown_first(page.rows),
        labels={row.source: row for row in page.rows},
        class_names={
            ",".join(str(value) for value in colour): text.plain(name)
            for name, colour in zip(page.scheme.names, page.scheme.colours, strict=True)
        },
    )
    if len(html.encode()) > LIMIT:
        raise StageError(
            f"a page of {len(html.encode()) / 1e6:.1f} MB",
            expected=f"below {LIMIT / 1e6:.0f} MB",
            cure="evaluate fewer sources, or report this fault",
        )
    return html


def _told(page: Page) -> list[tuple[str, tuple[int, int, int]]]:
    """Name and colour of the classes with a chart: all, or of many those in which tags make most difference."""
    colours = dict(zip(page.scheme.names, page.scheme.colours, strict=True))
    names: list[str] = list(colours)
    if many_classes.are_many(names):
        best = text.best_weak(page.rows) or page.rows[-1]
        names = many_classes.telling_classes(page.rows[0].iou, best.iou, names)
    return [(name, colours[name]) for name in names]


def shares(confusion: npt.NDArray[np.int64]) -> list[list[float | None]]:
    """Each row of a confusion matrix as shares of the true class; None in the row of a class that does not occur."""
    totals = confusion.sum(1)
    return [
        [float(value) / float(total) if total else None for value in row]
        for row, total in zip(confusion, totals, strict=True)
    ]


def shade(share: float | None) -> str:
    """CSS of a cell: white to dark blue, the text light where the cell is dark."""
    if share is None:
        return "background:#f3f4f6"
    low, high = np.array([255, 255, 255]), np.array([8, 64, 116])
    red, green, blue = (low + (high - low) * share**0.8).round().astype(int)
    return f"background:rgb({red},{green},{blue});color:{'#fff' if share > 0.45 else '#16202a'}"
