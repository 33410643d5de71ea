"""How far annotators agree about tags: Krippendorff's alpha per class, and the crops on which they are divided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.core.classes import ClassScheme
from weakseg.labels.answers import Crop
from weakseg.labels.opinions import Opinion, Opinions, disputed_classes


@dataclass(frozen=True)
class Agreement:
    """Agreement on one class.

    Attributes:
        name: the class, or "all" for every class of every crop together.
        crops: on which two annotators or more are sure.
        same: share of their pairs that say the same, in [0, 1]; NaN without a pair.
        alpha: Krippendorff's alpha for nominal values: 1 agreement, 0 what chance gives. NaN where it is not defined:
            without a pair, or where all say the same everywhere.
    """

    name: str
    crops: int
    same: float
    alpha: float


@dataclass(frozen=True)
class Dispute:
    """A crop on which annotators are divided, and what they say of the classes in question."""

    crop: Crop
    classes: tuple[str, ...]
    opinions: Mapping[str, Opinion]

    def __str__(self) -> str:
        area, (row, column, height, width) = self.crop
        said = [
            f"{name}: {', '.join(f'{who} {_word(states.get(name))}' for who, states in self.opinions.items())}"
            for name in self.classes
        ]
        return f"{area} row {row} column {column}, {height}x{width} px; {'; '.join(said)}"


def _word(state: bool | None) -> str:
    return {True: "yes", False: "no", None: "not sure"}[state]


def agreement_of(opinions: Opinions, classes: ClassScheme) -> list[Agreement]:
    """Agreement on every class and on all together; the last is named "all".

    Krippendorff, Content Analysis (2004), chapter 11: units are crops (for "all": pairs of crop and class), values are
    present and absent, and who is not sure or was not asked says nothing.
    """
    people = sorted({who for by_annotator in opinions.values() for who in by_annotator})
    rated = {
        name: [[_value(by.get(who, {}).get(name)) for by in opinions.values()] for who in people]
        for name in classes.object_names
    }
    found = [_agreement(name, values) for name, values in rated.items()]
    together = [[value for values in rated.values() for value in values[index]] for index in range(len(people))]
    return [*found, _agreement("all", together)]


def _value(state: bool | None) -> float:
    return math.nan if state is None else float(state)


def _agreement(name: str, values: Sequence[Sequence[float]]) -> Agreement:
    """From the values of every annotator (annotators, units), NaN for none."""
    table = np.array(values, float).reshape(len(values), -1)
    sure = np.isfinite(table).sum(0)
    yes = np.nansum(table, 0)
    paired = sure >= 2
    pairs = (sure * (sure - 1))[paired].sum()
    alike = (yes * (yes - 1) + (sure - yes) * (sure - yes - 1))[paired].sum()
    return Agreement(name, int(paired.sum()), float(alike / pairs) if pairs else math.nan, _alpha(table[:, paired]))


def _alpha(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    if len(np.unique(table[np.isfinite(table)])) < 2:
        return math.nan
    import krippendorff

    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def disputes_of(opinions: Opinions) -> list[Dispute]:
    """The crops with a class that as many annotators hold present as absent, most such classes first."""
    found = [Dispute(crop, disputed_classes(by), by) for crop, by in opinions.items()]
    return sorted((dispute for dispute in found if dispute.classes), key=lambda dispute: -len(dispute.classes))
