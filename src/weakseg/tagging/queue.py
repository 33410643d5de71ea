"""Who tags which crop next: no crop twice without need, some twice on purpose, and none kept by a page that is gone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from weakseg.labels.answers import Crop
from weakseg.labels.opinions import Opinions

LEASE: Final = 600.0  # seconds that a crop is kept for a page which says nothing

Page = tuple[str, str]
"""Annotator and page: somebody with two windows gets different crops in them."""


class CropQueue:
    """Hands out crops; safe to be asked from many threads.

    A crop is done for a set of classes when enough annotators have said something about each of those that are asked of
    it. It is kept for the page that got it until that answers, gives it back, or is silent for :data:`LEASE` seconds.

    Args:
        crops: in the order in which they are wanted.
        classes: names of all classes.
        asks: for some crops, the only classes that are asked about.
        overlap: share of crops, in [0, 1], that two annotators tag; which ones depends on the crop alone.
        more: annotators that a crop wants on top of those who have tagged it when the queue is made (disputes).
        clock: seconds.
    """

    def __init__(
        self,
        crops: Sequence[Crop],
        classes: Sequence[str],
        opinions: Opinions,
        *,
        asks: Mapping[Crop, Sequence[str]] | None = None,
        overlap: float = 0.0,
        more: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.crops, self._classes, self._clock = list(crops), tuple(classes), clock
        self._only = {crop: frozenset(names) for crop, names in (asks or {}).items()}
        self._lock = threading.Lock()
        self._asked: dict[Crop, dict[str, set[str]]] = {}
        self._leases: dict[Crop, dict[Page, float]] = {}
        self._closed: set[Crop] = set()
        self._cursors: dict[tuple[str, tuple[str, ...]], int] = {}
        self._members = frozenset(self.crops)
        self._whole: dict[str, set[Crop]] = {}  # by annotator, the crops of the queue with all classes
        for crop, by_annotator in opinions.items():
            for annotator, opinion in by_annotator.items():
                self._asked.setdefault(crop, {}).setdefault(annotator, set()).update(opinion)
                self._count(crop, annotator)
        extra = {crop: len(self._asked.get(crop, {})) for crop in crops} if more else {}
        self._wanted = {crop: 1 + extra.get(crop, chosen_twice(crop, overlap)) for crop in crops}

    def hand_out(self, page: Page, count: int, *, held: Iterable[Crop] = (), classes: Sequence[str] = ()) -> list[Crop]:
        """Up to ``count`` crops for a page beyond those it holds, which it keeps.

        Args:
            held: crops that the page has and has not answered.
            classes: that it will ask for; all of them without it.
        """
        names, annotator, kept = tuple(classes) or self._classes, page[0], set(held)
        found: list[Crop] = []
        with self._lock:
            for crop in kept:
                self._lease(crop, page)
            start, contiguous = self._cursors.get((annotator, names), 0), True
            for index in range(start, len(self.crops)):
                if len(found) >= count:
                    break
                crop = self.crops[index]
                finished = self._finished(crop, annotator, names)
                if contiguous and finished:
                    self._cursors[annotator, names] = index + 1  # whoever comes back starts here
                contiguous = contiguous and finished
                if not finished and crop not in kept and not self._taken(crop, page, names):
                    self._lease(crop, page)
                    found.append(crop)
        return found

    def record(self, crop: Crop, annotator: str, classes: Iterable[str]) -> None:
        """Somebody has said something about these classes of a crop; its lease ends."""
        with self._lock:
            self._asked.setdefault(crop, {}).setdefault(annotator, set()).update(classes)
            self._count(crop, annotator)
            self._drop(crop, annotator)

    def take_back(self, crop: Crop, page: Page, still: Iterable[str]) -> None:
        """Of what an annotator said about a crop only ``still`` is in force; the page has the crop again."""
        with self._lock:
            self._asked.setdefault(crop, {})[page[0]] = set(still)
            self._count(crop, page[0])
            self._cursors.clear()
            self._lease(crop, page)

    def close(self, crop: Crop) -> None:
        """Nobody needs to tag this crop: there is nothing to be seen."""
        with self._lock:
            self._closed.add(crop)
            self._leases.pop(crop, None)

    def release(self, page: Page) -> None:
        """The page is gone."""
        with self._lock:
            for leases in self._leases.values():
                leases.pop(page, None)

    def progress(self, annotator: str, classes: Sequence[str] = ()) -> dict[str, int]:
        """Crops of the queue that the annotator has tagged for these classes, that anybody has, and all of them."""
        names = tuple(classes) or self._classes
        with self._lock:
            if names == self._classes:
                mine, done = len(self._whole.get(annotator, ())), len(set().union(*self._whole.values()))
            else:
                people = [self._people(crop, names) for crop in self.crops if self._wants(crop, names)]
                mine, done = sum(annotator in who for who in people), sum(map(bool, people))
            wanted = sum(self._wants(crop, names) for crop in self.crops) if self._only else len(self.crops)
            return {"mine": mine, "done": done, "all": wanted - len(self._closed)}

    def _count(self, crop: Crop, annotator: str) -> None:
        whole = self._whole.setdefault(annotator, set())
        if crop in self._members and annotator in self._people(crop, self._classes):
            whole.add(crop)
        else:
            whole.discard(crop)

    def _wants(self, crop: Crop, names: tuple[str, ...]) -> bool:
        """Whether any of these classes is asked of the crop."""
        return crop not in self._only or not self._only[crop].isdisjoint(names)

    def _people(self, crop: Crop, names: tuple[str, ...]) -> set[str]:
        """Who has said something about each of these classes, as far as they are asked of the crop."""
        wanted = self._only[crop].intersection(names) if crop in self._only else names
        return {who for who, asked in self._asked.get(crop, {}).items() if asked.issuperset(wanted)}

    def _finished(self, crop: Crop, annotator: str, names: tuple[str, ...]) -> bool:
        """Whether the annotator will never be asked for these classes of the crop, as things stand."""
        people = self._people(crop, names)
        settled = crop in self._closed or not self._wants(crop, names)
        return settled or annotator in people or len(people) >= self._wanted[crop]

    def _taken(self, crop: Crop, page: Page, names: tuple[str, ...]) -> bool:
        """Whether others have, or will have, tagged it often enough; or another page of the same person has it."""
        now, leases = self._clock(), self._leases.get(crop, {})
        others = {who: None for who, until in leases.items() if until > now and who != page}
        people = self._people(crop, names)
        waiting = {who for who, _ in others} - people
        return page[0] in waiting or len(people) + len(waiting) >= self._wanted[crop]

    def _lease(self, crop: Crop, page: Page) -> None:
        self._leases.setdefault(crop, {})[page] = self._clock() + LEASE

    def _drop(self, crop: Crop, annotator: str) -> None:
        leases = self._leases.get(crop, {})
        for page in [page for page in leases if page[0] == annotator]:
            del leases[page]


def chosen_twice(crop: Crop, share: float) -> bool:
    """Whether a crop is among the share, in [0, 1], that two annotators tag; the same on every machine."""
    digest = hashlib.blake2b(repr(crop).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def key_of(crop: Crop) -> str:
    """A crop as one text, for addresses: ``row_column_height_width_area``."""
    return "_".join(map(str, (*crop[1], crop[0])))
