"""What labels cost an annotator, in seconds, and who says so: people measured here, params.yaml, or the literature.

The page of `weakseg tag` records seconds with every answer. Their **median** per class of a crop replaces the assumed
time as soon as there are :data:`FEWEST` of them: half of the answers are quicker, so a coffee beside one crop, or ten,
moves it little, where it would move a mean. Of an answer about several classes the seconds are shared out among those
that were asked (all of them for a single crop, one in the grid). Where there are as many answers about few classes as
about many, the line through both medians tells the look at a crop from the question: a second question about a crop
that is on the screen costs less than the first. Answers without seconds, from other tools, count not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from weakseg.core.classes import ClassScheme
from weakseg.core.layout import Layout
from weakseg.core.params import LabelCostParams
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer

FEWEST: Final = 20  # answers that make a measurement
LEAST: Final = 0.1  # seconds of a question, whatever the line says: nobody presses a key in less
LITERATURE: Final = {
    "tag_seconds_per_class": (1.0, "Bearman et al. 2016, 20 s for 20 classes"),
    "box_seconds": (7.0, "Papadopoulos et al. 2017, extreme clicking"),
    "pixel_seconds_per_megapixel": (2575.0, "Cordts et al. 2016, Cityscapes, 1.5 h for 2.1 Mpx"),
}
"""The values with which `weakseg init` fills the section ``label_cost``, and where they are from."""


@dataclass(frozen=True)
class Price:
    """Seconds of an annotator for one label.

    Attributes:
        seconds: above 0.
        source: "median of 812 answers of 2 annotators", "literature: ..." or "params.yaml: label_cost....".
    """

    seconds: float
    source: str


@dataclass(frozen=True)
class LabelPrices:
    """What labels cost.

    Attributes:
        tag: of one class of one crop, a yes or no.
        look: of a crop before its first question, 0 where it was not measured: the literature counts questions alone.
        box: of one box.
        megapixel: of a million pixels of the raw raster, each given a class.
    """

    tag: Price
    box: Price
    megapixel: Price
    look: Price = Price(0.0, "not measured")

    def crop_seconds(self, classes: int) -> float:
        """Seconds of one crop about which so many classes are asked."""
        return (self.look.seconds if classes else 0.0) + classes * self.tag.seconds

    def pixel_seconds(self, pixels: int) -> float:
        """Seconds of so many pixels of a raw raster, each given a class."""
        return pixels / 1e6 * self.megapixel.seconds


def read_prices(layout: Layout, classes: ClassScheme, assumed: LabelCostParams) -> LabelPrices:
    """The prices of a workspace: measured where the answers beside its tag table suffice, else the assumed ones.

    Only answers that `weakseg tag --merge` has brought into data/ count, so that one version of data/ has one price.

    Raises:
        DataError: an answer that makes no sense.
    """
    return price_labels(read_answers(layout.merged_answers, classes), assumed)


def price_labels(answers: Sequence[TagAnswer], assumed: LabelCostParams) -> LabelPrices:
    """The prices that these answers and assumptions make."""
    tag, look = _measured(answers) or (
        _assumed("tag_seconds_per_class", assumed.tag_seconds_per_class),
        LabelPrices.look,
    )
    return LabelPrices(
        tag=tag,
        look=look,
        box=_assumed("box_seconds", assumed.box_seconds),
        megapixel=_assumed("pixel_seconds_per_megapixel", assumed.pixel_seconds_per_megapixel),
    )


def _measured(answers: Sequence[TagAnswer]) -> tuple[Price, Price] | None:
    """The prices of a question and of a look; None where too few answers have seconds."""
    timed = [answer for answer in answers if answer.seconds > 0]
    if len(timed) < FEWEST:
        return None
    people = len({answer.annotator for answer in timed})
    source = f"median of {len(timed)} answers of {people} annotator{'s' * (people > 1)}"
    by_count: dict[int, list[float]] = {}
    for answer in timed:
        by_count.setdefault(len(answer.asked), []).append(answer.seconds)
    medians = {count: median(seconds) for count, seconds in by_count.items() if len(seconds) >= FEWEST}
    if len(medians) > 1:
        few, many = min(medians), max(medians)
        question = max(LEAST, (medians[many] - medians[few]) / (many - few))
        if (look := medians[few] - few * question) > 0:
            return Price(question, f"{source} about {few} to {many} classes"), Price(look, source)
    return Price(median(answer.seconds / len(answer.asked) for answer in timed), source), LabelPrices.look


def _assumed(key: str, seconds: float) -> Price:
    known, where = LITERATURE[key]
    return Price(seconds, f"literature: {where}" if seconds == known else f"params.yaml: label_cost.{key}")
