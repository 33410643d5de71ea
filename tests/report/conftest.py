"""A page with everything on it, built by hand: two classes, three sources, two areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weakseg.core.classes import ClassScheme
from weakseg.evaluation.bootstrap import Interval
from weakseg.report.content import Audit, CostPoint, Curve, Layer, Page, Row, Scene, Tuning
from weakseg.report.embed import encode_image, encode_map
from weakseg.report.safe_colours import safe_scheme

SCHEME = safe_scheme(ClassScheme(("road_way", "car"), ((255, 255, 255), (255, 255, 0)), (("clutter", (255, 0, 0)),)))


def make_row(source: str, miou: float, **changes: Any) -> Row:
    role = {"pixel": "task_i", "full": "oracle"}.get(source, "task_ii")
    short = {"pixel": "task (i)", "full": "oracle"}.get(source, source)
    label = {"pixel": "task (i): pixels", "full": "oracle: pixels"}.get(source, f"task (ii): {source}")
    values: dict[str, Any] = {
        **{"source": source, "label": label, "short": short, "role": role, "miou": miou, "low": miou, "high": miou},
        **{"seeds": 1, "iou": {"road_way": miou, "car": None}, "oa": 0.5, "miou_eroded": None},
    }
    return Row(**values | changes)


def make_scene(name: str, *keys: str, side: int = 40, seed: int = 0) -> Scene:
    """An image, and maps of ``keys`` whose left half is road, the right half car and a corner ignored."""
    mask = np.zeros((side // 2, side), np.uint8)
    mask[:, side // 2 :] = 1
    mask[:4, :4] = 255
    image = np.random.default_rng(seed).integers(0, 256, (side // 2, side, 3)).astype(np.uint8)
    layers = [Layer("image", "image", encode_image(image))]
    layers += [Layer(key, key, encode_map(np.roll(mask, 5 * i, 1), SCHEME)) for i, key in enumerate(keys)]
    return Scene(name, tuple(layers))


def make_tuning() -> Tuning:
    """A study of three trials with one plot."""
    (plot, *_) = make_scene("plot").layers
    values = {"segment.network.dropout": 0.31234}
    return Tuning("night", {"complete": 2, "pruned": 1}, 0.35, 0.375, 2, values, (plot,))


def make_page(**changes: Any) -> Page:
    rows = [
        make_row("pixel", 0.4),
        make_row("full", 0.6, gain=Interval(0.2, 0.1, 0.3)),
        make_row("cam", 0.5, gain=Interval(0.1, 0.05, 0.2), gap=Interval(0.5, 0.25, 0.75)),
    ]
    values: dict[str, Any] = {
        **{"title": "weakseg report", "written": "2026-11-22", "scheme": SCHEME, "safe_colours": True},
        **{"counts": (2, 3, 2), "rows": rows, "curve_name": "mIoU on the hold-out inside N1"},
        "audits": [Audit("cam", 0.9, 0.8, 0.7, {"road_way": 0.7, "car": None})],
        "confusions": {row.source: np.array([[30, 10], [0, 0]], np.int64) for row in rows},
        "curves": [Curve(row.source, row.short, ([(10, 0.2), (20, row.miou)],)) for row in rows],
        "costs": [CostPoint("all", "full", 30.0, 0.6, 1), CostPoint("few", "pixel", 3.0, 0.4, 2)],
        "costs_said": ["prices: tags 0.40 s per class and crop (median of 812 answers of 2 annotators)"],
        "validation": [make_scene(f"v{i}", "truth", "pixel", "cam", "full", seed=i) for i in range(2)],
        **{"validation_all": 2, "weak": [make_scene("t1", "truth", "cam")], "weak_all": 3},
        "worst": {"pixel": [make_scene("v1, row 0, column 0; mostly car taken for road", "truth", "map")]},
        "tuning": make_tuning(),
        "facts": [("code, git commit", "abc123")],
        "runs": {"evaluate@pixel": "f" * 32},
    }
    return Page(**values | changes)


@pytest.fixture
def page() -> Page:
    return make_page()


@pytest.fixture
def new_page() -> Callable[..., Page]:
    return make_page


@pytest.fixture
def new_row() -> Callable[..., Row]:
    return make_row


@pytest.fixture
def new_scene() -> Callable[..., Scene]:
    return make_scene
