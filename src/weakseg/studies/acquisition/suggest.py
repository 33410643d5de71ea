"""From what is seen to what should be labelled: tag crops, boxes and pixels, each best first by change per second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from weakseg.labels.prices import LabelPrices
from weakseg.labels.tags import Window
from weakseg.studies.acquisition.change import (
    Floats,
    Look,
    as_miou,
    in_points,
    pixel_changes,
    tag_changes,
    take,
    weigh_disagreement,
)
from weakseg.studies.acquisition.cover import Kernel, choose, choose_questions, likeness, reach_of, standardise
from weakseg.studies.acquisition.looks import Seen
from weakseg.studies.acquisition.places import Places

Kind = Literal["tags", "boxes", "pixels"]
Index = npt.NDArray[np.intp]

REPRESENTATIVES: Final = 4096  # places that stand for all where there are more: bounds time and memory
_NAMED: Final = 2  # classes in a reason
_TELLING: Final = 0.2  # share of a crop's change below which a class is not named
_SPLIT: Final = 0.9  # quantile of the disagreement from which it is a reason
_FAR: Final = 0.2  # likeness to what is labelled below which a place is new
_ALIKE: Final = 0.5  # likeness from which one place stands for another


@dataclass(frozen=True)
class Suggestion:
    """One label to make.

    Attributes:
        kind: tags of a crop, boxes or pixels of an image.
        window: px of the raster; of the whole image for boxes and pixels.
        gain: expected change of the map, in points of mIoU, beyond what those before it in the list change.
        seconds: of an annotator.
        asks: the classes that are asked of a crop; of an image, those about which it would tell most.
        reason: for people.
    """

    kind: Kind
    area: str
    window: Window
    gain: float
    seconds: float
    asks: tuple[str, ...]
    reason: str

    @property
    def per_hour(self) -> float:
        """Points per hour of labelling."""
        return 3600 * self.gain / self.seconds


@dataclass(frozen=True)
class Scorer:
    """All that the scores are made of.

    Attributes:
        places, seen: what there is and what the committee sees of it.
        names: of the C classes; boxed: which of them boxes are drawn for, bool (C,).
        prices: seconds of labels.
    """

    places: Places
    seen: Seen
    names: tuple[str, ...]
    boxed: npt.NDArray[np.bool_]
    prices: LabelPrices

    def suggest(self, count: int) -> dict[Kind, list[Suggestion]]:
        """The best ``count`` of every kind that something is left of."""
        features = standardise(self.seen.features, self.seen.weights)
        reach = self._reach(features, count)
        return {
            "tags": self.suggest_tags(count),
            "boxes": self._images("boxes", features, reach, count),
            "pixels": self._images("pixels", features, reach, count),
        }

    def suggest_tags(self, count: int) -> list[Suggestion]:
        """The best questions about ``count`` crops."""
        features = standardise(self.seen.features, self.seen.weights)
        return self._tags(features, self._reach(features, count), count)

    def _reach(self, features: Floats, count: int) -> float:
        """So that what is labelled and the batch together reach all places, were they spread evenly."""
        drawn = _some(np.arange(len(features)))
        labelled = int(self.places.tagged.sum() + self.places.drawn.sum())
        return reach_of(features[drawn], round(len(drawn) / (count + labelled + 1)))

    def held(self) -> Floats:
        """Pixels (C,) that each class wins in the images without pixel labels."""
        inside = [self.seen.look.won[crops].sum(0) for crops in self.places.images.values()]
        return np.asarray(np.sum(inside, 0)) if inside else np.zeros(len(self.names))

    def _weights(self) -> Floats:
        """How much each place counts by the committee's disagreement, 1 on average where nothing is labelled."""
        return weigh_disagreement(self.seen.look.disagreement, ~(self.places.tagged | self.places.drawn))

    def _tags(self, features: Floats, reach: float, count: int) -> list[Suggestion]:
        places, look = self.places, self.seen.look
        open_ = np.flatnonzero(places.asked.any(1))
        if not len(open_):
            return []
        worth = in_points(tag_changes(look, places.asked), self.held()) * self._weights()[:, None]
        alike, reps, factor = _reader(features, open_, reach)
        labelled = np.flatnonzero(places.tagged | places.drawn)
        covered = np.repeat(_covered(features, reps, labelled, reach)[:, None], len(self.names), 1)
        for index, column in enumerate(covered.T):  # crops that are known in part cover the classes that are known
            partly = np.flatnonzero(places.asked.any(1) & ~places.asked[:, index])
            np.maximum(column, _covered(features, reps, partly, reach), out=column)
        chosen = choose_questions(
            places.asked,
            worth[reps] * factor,
            alike,
            covered,
            look=self.prices.look.seconds,
            question=self.prices.tag.seconds,
            count=count,
        )
        split = float(np.quantile(look.disagreement[open_], _SPLIT))
        found = []
        for index, classes, gain in chosen:
            here = np.array([index], np.intp)
            near = float(_covered(features, here, labelled, reach)[0])
            stands = factor * float((alike(here)[0] >= _ALIKE).sum())
            asks = tuple(self.names[k] for k in sorted(classes))
            disagree = bool(look.disagreement[index] >= split > 0)
            reason = self._reason(take(look, here), asks, disagree=disagree, near=near, stands=stands)
            seconds = self.prices.crop_seconds(len(asks))
            found.append(Suggestion("tags", *places.crops[index], gain, seconds, asks, reason))
        return found

    def _images(self, kind: Kind, features: Floats, reach: float, count: int) -> list[Suggestion]:
        places, look = self.places, self.seen.look
        classes = self.boxed if kind == "boxes" else np.ones(len(self.names), bool)
        known = places.boxed if kind == "boxes" else np.repeat(places.drawn[:, None], len(classes), 1)
        changes = pixel_changes(look, classes) * ~known
        open_ = [area for area, crops in places.images.items() if (changes[crops] > 0).any()]
        if not open_:
            return []
        crops = np.concatenate([places.images[area] for area in open_])
        alike, reps, factor = _reader(features, crops, reach)
        done = np.flatnonzero(known[:, classes].all(1))
        covered = _covered(features, reps, done, reach)
        seconds = np.array([self._image_seconds(kind, area) for area in open_])
        worth = (as_miou(changes, self.held()) * self._weights())[reps] * factor
        items = [places.images[area] for area in open_]
        chosen, gains = choose(items, worth, alike, covered, seconds, count=count)
        found = []
        for number, gain in zip(chosen, gains, strict=True):
            area, part = open_[number], items[number]
            asks = self._telling(changes[part].sum(0))
            window = (0, 0, *places.sizes[area])
            reason = ", ".join(f"{name} {changes[part, self.names.index(name)].sum():.0f} px in doubt" for name in asks)
            found.append(Suggestion(kind, area, window, gain, float(seconds[number]), asks, reason))
        return found

    def _image_seconds(self, kind: Kind, area: str) -> float:
        """Pixels by their number, boxes by about as many objects as the committee sees; one look at least."""
        if kind == "pixels":
            return self.prices.pixel_seconds(self.places.sizes[area][0] * self.places.sizes[area][1])
        objects = self.seen.look.objects[self.places.images[area]][:, self.boxed].sum()
        return max(1.0, float(objects)) * self.prices.box.seconds

    def _telling(self, changes: Floats) -> tuple[str, ...]:
        """The classes that change most, as shares of what they hold."""
        shares = changes / np.maximum(self.held(), 1.0)
        best = np.argsort(-shares)[:_NAMED]
        return tuple(self.names[i] for i in best if shares[i] >= _TELLING * shares.sum() > 0)

    def _reason(self, look: Look, asks: Sequence[str], *, disagree: bool, near: float, stands: float) -> str:
        likely = [f"{name}? {look.presence[0, self.names.index(name)]:.0%}".replace("%", " %") for name in asks]
        said = [", ".join(likely)] if likely else []
        said += ["networks disagree"] * disagree
        said += [f"like {stands:.0f} others"] * (stands >= 2)
        said += ["like nothing labelled"] * (near < _FAR)
        return "; ".join(said)


def _reader(features: Floats, places: Index, reach: float) -> tuple[Callable[[Index], Kernel], Index, float]:
    """How alike some of ``places`` are to the representatives of all of them, these, and how many each stands for."""
    reps = _some(places)
    others = features[reps]
    if len(places) > REPRESENTATIVES:
        return (lambda index: likeness(features[index], others, reach)), reps, len(places) / len(reps)
    kernel = likeness(features[places], others, reach)  # once, as greedy choice asks for each row many times
    row = np.zeros(len(features), np.intp)
    row[places] = np.arange(len(places))
    return (lambda index: kernel[row[index]]), reps, 1.0


def _covered(features: Floats, reps: Index, labelled: Index, reach: float) -> Floats:
    """The largest likeness (R,) of each representative to what is labelled."""
    found = np.zeros(len(reps))
    for first in range(0, len(labelled), REPRESENTATIVES):
        part = labelled[first : first + REPRESENTATIVES]
        found = np.maximum(found, likeness(features[reps], features[part], reach).max(1))
    return found


def _some(places: Index) -> Index:
    """All places, or a sample of them in their order."""
    if len(places) <= REPRESENTATIVES:
        return places
    return np.sort(np.random.default_rng(0).choice(places, REPRESENTATIVES, replace=False))
