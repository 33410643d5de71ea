"""The kinds of input that are drawn, with the number of cases of docs/reliability.md and of the default suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis.strategies import SearchStrategy
from tests.generators.drawn_bands import band_cases, check_bands
from tests.generators.drawn_boxes import box_cases, check_boxes
from tests.generators.drawn_imports import check_import, import_cases
from tests.generators.drawn_predictions import check_prediction, predict_cases
from tests.generators.outcomes import Outcome


@dataclass(frozen=True)
class Kind:
    """What is drawn and how it is checked.

    Attributes:
        cases: of the full count.
        sample: of the default suite.
        taken: least share of the cases that has to be taken, as one that refuses everything would be right as well.
    """

    strategy: SearchStrategy[Any]
    check: Callable[[Any], Outcome]
    cases: int
    sample: int
    taken: float


KINDS = {
    "imports": Kind(import_cases(), check_import, 2000, 60, 0.5),
    "boxes": Kind(box_cases(), check_boxes, 500, 30, 0.8),
    "bands": Kind(band_cases(), check_bands, 500, 20, 0.5),
    "predictions": Kind(predict_cases(), check_prediction, 300, 20, 0.8),
}
