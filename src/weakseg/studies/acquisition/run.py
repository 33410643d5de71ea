"""`weakseg next` from the workspace to its three files: an order for `weakseg tag`, a GeoPackage, a sheet of pictures.

It reads images, tags, answers, boxes, networks and scores. No truth of what is to be labelled, and nothing of the
validation areas but the size of their images (tested).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import load_bands
from weakseg.core.classes import load_classes
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.labels.class_lists import join_names
from weakseg.labels.crop_order import ASKS, write_order
from weakseg.labels.prices import LabelPrices, read_prices
from weakseg.raster.header import quiet_process
from weakseg.raster.open import read_filled, read_valid
from weakseg.studies.acquisition.committee import find_networks, gather_committee
from weakseg.studies.acquisition.layers import write_layers
from weakseg.studies.acquisition.looks import blocks_of, survey
from weakseg.studies.acquisition.places import Places, find_places
from weakseg.studies.acquisition.sheet import draw_sheet
from weakseg.studies.acquisition.suggest import Kind, Scorer, Suggestion
from weakseg.tagging.proposals import find_image
from weakseg.training.machine import machine_from_environment

ORDER, LAYERS, SHEET = "crops.csv", "next.gpkg", "next.png"


@dataclass(frozen=True)
class Next:
    """What to label next, by kind, best first; and who was asked, what labels cost, and the files written."""

    found: dict[Kind, list[Suggestion]]
    asked: tuple[str, ...]
    prices: LabelPrices
    files: tuple[Path, ...]


def suggest_next(
    root: Path,
    *,
    count: int = 100,
    areas: Sequence[str] = (),
    size: int | None = None,
    sources: Sequence[str] = (),
    out: Path | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Next:
    """Score everything in a workspace that could be labelled, and write what to label next.

    Args:
        count: tag crops in the order, and most images per other kind.
        areas: only these; without it tags for N2, boxes and pixels for all images but N1 and validation.
        size: side of the crops, px of the raster; that of params.yaml without it.
        sources: whose networks are asked; without it those of params.yaml, without the oracle.
        out: folder of the files; out/next without it.

    Raises:
        StageError: no network yet. ParamsError, DataError: options or data that do not fit.
    """
    layout = Layout(root)
    params, scheme, bands = load_params(layout.params), load_classes(layout.classes), load_bands(layout.tiles)
    quiet_process()
    files = find_networks(layout, params, sources)
    places = find_places(layout, params, areas, size)
    committee = gather_committee(layout, params, scheme, files, machine_from_environment())
    say(f"{len(places.crops)} crops, seen by {', '.join(committee.names)}")
    seen = survey(
        places.crops,
        places.sizes.__getitem__,
        lambda area, window: read_filled(find_image(layout.images, area), bands, area, window=window),
        committee.members,
        committee.encode,
    )
    places = replace(places, asked=places.asked & _with_data(layout, places)[:, None])
    boxed = np.array([name in params.boxes.classes for name in scheme.names])
    prices = read_prices(layout, scheme, params.label_cost)
    found = Scorer(places, seen, scheme.names, boxed, prices).suggest(count)
    folder = out or layout.next
    folder.mkdir(parents=True, exist_ok=True)
    tags = found["tags"]
    write_order(
        folder / ORDER,
        [(one.area, one.window) for one in tags],
        {
            "points": [f"{one.gain:.4g}" for one in tags],
            "seconds": [f"{one.seconds:.3g}" for one in tags],
            ASKS: [join_names(one.asks, scheme.names) for one in tags],
            "reason": [one.reason for one in tags],
        },
    )
    write_layers(folder / LAYERS, found, layout.images)
    draw_sheet(folder / SHEET, found, layout.images, places.sizes)
    return Next(found, committee.names, prices, (folder / ORDER, folder / LAYERS, folder / SHEET))


def _with_data(layout: Layout, places: Places) -> npt.NDArray[np.bool_]:
    """bool (P,): whether there is anything to be seen of a crop; collars of mosaics have nothing."""
    found = np.ones(len(places.crops), bool)
    for area, frame, inside in blocks_of(places.crops, places.sizes.__getitem__):
        valid = read_valid(find_image(layout.images, area), window=frame)
        if valid is None:
            continue
        for index, (row, column, height, width) in inside.items():
            found[index] = valid[row : row + height, column : column + width].any()
    return found
