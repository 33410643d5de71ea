"""What the page may ask for, checked at the door: next crops, answers to keep, the last answer back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.answer_file import AnswerFile
from weakseg.labels.answers import Crop, TagAnswer, TakenBack, check_annotator, in_force, now
from weakseg.labels.opinions import Opinion, opinions_of
from weakseg.tagging.guesses import Guesser
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.proposals import Proposal
from weakseg.tagging.queue import CropQueue, key_of

_MOST: Final = 200  # crops in one request
_LOADING: Final = 20.0  # seconds that a guess waits for its network; the page does not wait for the guess
_TEXT: Final = 200  # letters of a name, an id or a key

Text = Annotated[str, Field(min_length=1, max_length=_TEXT)]
Names = Annotated[list[Text], Field(max_length=255)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageRequest(_Request):
    """Who asks, from which page (a browser window)."""

    annotator: Text
    page: Text


class NextRequest(PageRequest):
    """Up to ``count`` more crops than those in ``held``; of a grid, for its one class."""

    count: Annotated[int, Field(ge=1, le=_MOST)]
    held: Annotated[list[Text], Field(max_length=_MOST)] = []
    name: Text | None = None


class OneAnswer(_Request):
    """A crop and what was said of it; the id is the page's, so that it can send the answer again."""

    id: Text
    area: Text
    window: tuple[int, int, int, int]
    present: Names
    absent: Names
    unsure: Names
    seconds: float
    guess: Annotated[dict[Text, float], Field(max_length=255)] = {}


class AnswersRequest(PageRequest):
    """Answers of one crop, or of one page of a grid."""

    answers: Annotated[list[OneAnswer], Field(min_length=1, max_length=_MOST)]
    mode: Text = "crop"
    batch: Annotated[str, Field(max_length=_TEXT)] = ""


class UndoRequest(PageRequest):
    """The annotator's last answer back; the id as of an answer."""

    id: Text


class TagSession:
    """The file of answers, the queue and the pictures of one `weakseg tag`; to be asked from many threads.

    Args:
        file: open for adding.
        proposal: the crops to be tagged.
        guesser: None where no model guesses.
        overlap: share of crops that two annotators tag.
        disputes: the crops are disputed ones and want one annotator more each.
        since: answers of before this time are left alone: their crops are served again.
    """

    def __init__(
        self,
        file: AnswerFile,
        proposal: Proposal,
        scheme: ClassScheme,
        pictures: CropPictures,
        guesser: Guesser | None = None,
        *,
        overlap: float = 0.0,
        disputes: bool = False,
        since: str = "",
    ) -> None:
        self.scheme, self.proposal, self.pictures, self.guesser = scheme, proposal, pictures, guesser
        self._file, self._undoing = file, threading.Lock()
        self._crops = {key_of(crop): crop for crop in proposal.crops}
        self._since = since
        self._opinions = opinions_of(self._answers())
        self._queue = CropQueue(
            proposal.crops, scheme.object_names, self._opinions, asks=proposal.asks, overlap=overlap, more=disputes
        )

    def _answers(self) -> list[TagAnswer]:
        return [answer for answer in in_force(self._file.events) if answer.time >= self._since]

    def crop(self, key: str) -> Crop:
        """A crop by its key, whose area is known and whose window lies in it; DataError for all else."""
        if key in self._crops:
            return self._crops[key]
        *numbers, area = key.split("_", 4)
        if len(numbers) != 4 or not all(number.isdecimal() and len(number) < 10 for number in numbers):
            raise DataError(f"crop {key!r}", expected="row_column_height_width_area", cure="load the page again")
        return self._inside(area, tuple(int(number) for number in numbers))

    def area(self, name: str) -> str:
        """A known area; DataError for all else."""
        if name not in self.proposal.sizes:
            raise DataError(f"area {name!r}", expected="an area of data/images", cure="load the page again")
        return name

    def _inside(self, area: str, window: Sequence[int]) -> Crop:
        height, width = self.proposal.sizes[self.area(area)]
        row, column, tall, wide = window
        if min(row, column) < 0 or min(tall, wide) < 1 or row + tall > height or column + wide > width:
            raise DataError(f"window {tuple(window)} of {area}", expected="one inside the area", cure="mend it")
        return area, (row, column, tall, wide)

    def hand_out(self, request: NextRequest) -> dict[str, Any]:
        """The next crops for a page; those without any image data are passed over."""
        page = (check_annotator(request.annotator), request.page)
        names = () if request.name is None else (self.scheme.names[self.scheme.index(request.name)],)
        held = [self.crop(key) for key in request.held]
        found: list[Crop] = []
        while len(found) < request.count:
            offered = self._queue.hand_out(page, request.count - len(found), held=[*held, *found], classes=names)
            if not offered:
                break
            found += [crop for crop in offered if self._has_data(crop)]
        return {"crops": [self._describe(crop, page[0]) for crop in found], **self._queue.progress(page[0], names)}

    def _has_data(self, crop: Crop) -> bool:
        seen = self.pictures.has_data(crop)
        if not seen:
            self._queue.close(crop)
        return seen

    def _describe(self, crop: Crop, annotator: str) -> dict[str, Any]:
        """A crop for the page. What is known of it is prefilled, but never what another annotator has said."""
        area, window = crop
        described = {"key": key_of(crop), "area": area, "window": window, "frame": self.pictures.frame(crop)}
        said = self._opinions.get(crop)
        known = self.proposal.known.get(crop, {}) if said is None else said.get(annotator, {})
        asks = self.proposal.asks.get(crop, self.scheme.object_names)
        return described | {"raster": self.proposal.sizes[area], "known": known, "asks": asks}

    def keep(self, request: AnswersRequest) -> dict[str, Any]:
        """Write answers, wait until they are on disk, and say how far the annotator is."""
        annotator, time = check_annotator(request.annotator), now()
        digest = self.guesser.digest if self.guesser else ""
        answers = [self._answer(one, request, annotator, time, digest) for one in request.answers]
        fresh = self._file.add(answers)
        for answer in answers:
            self._opinions.setdefault(answer.crop, {}).setdefault(annotator, {}).update(_states(answer))
            self._queue.record(answer.crop, annotator, answer.asked)
        names = answers[0].asked if request.mode == "grid" else ()
        return {"kept": len(fresh), **self._queue.progress(annotator, names)}

    def _answer(self, one: OneAnswer, request: AnswersRequest, annotator: str, time: str, digest: str) -> TagAnswer:
        area, window = self._inside(one.area, one.window)
        return TagAnswer(
            one.id, area, window, self.proposal.sizes[area], tuple(one.present), tuple(one.absent), tuple(one.unsure),
            annotator, time, round(one.seconds, 2), request.mode, request.batch, one.guess, digest if one.guess else "",
        ).check(self.scheme)  # fmt: skip

    def undo(self, request: UndoRequest) -> dict[str, Any]:
        """Take back the annotator's last answer, or the last page of a grid, and hand its crops out again."""
        annotator = check_annotator(request.annotator)
        with self._undoing:
            again = [event for event in self._file.events if event.id == request.id and isinstance(event, TakenBack)]
            of = again[0].of if again else self._last(annotator)
            if of:
                self._file.add([TakenBack(request.id, of, annotator, now())])
            return self._give_back((annotator, request.page), of)

    def _last(self, annotator: str) -> tuple[str, ...]:
        mine = [answer for answer in in_force(self._file.events) if answer.annotator == annotator]
        if not mine:
            return ()
        batch = mine[-1].batch
        return tuple(answer.id for answer in mine if batch and answer.batch == batch) or (mine[-1].id,)

    def _give_back(self, page: tuple[str, str], of: Iterable[str]) -> dict[str, Any]:
        gone = set(of)
        answers = [event for event in self._file.events if event.id in gone and isinstance(event, TagAnswer)]
        crops = {answer.crop for answer in answers}
        mine = [one for one in self._answers() if one.annotator == page[0] and one.crop in crops]
        still = opinions_of(mine)
        for crop in crops:
            self._opinions.setdefault(crop, {})[page[0]] = still.get(crop, {}).get(page[0], {})
            self._queue.take_back(crop, page, self._opinions[crop][page[0]])
        said = [{**self._describe(answer.crop, page[0]), "answer": _states(answer)} for answer in answers]
        mode = answers[0].mode if answers else "crop"
        names = answers[0].asked if mode == "grid" else ()
        return {"crops": said, "mode": mode, "name": (*names, None)[0], **self._queue.progress(page[0], names)}

    def release(self, request: PageRequest) -> dict[str, Any]:
        """The page closes: others may have its crops."""
        self._queue.release((check_annotator(request.annotator), request.page))
        return {}

    def guess(self, keys: Sequence[str]) -> dict[str, Any]:
        """How likely each class is in each crop, by key and name; empty without a model."""
        crops = [self.crop(key) for key in keys[:_MOST]]
        found = self.guesser.guess(crops, patience=_LOADING) if self.guesser else [{} for _ in crops]
        fault = self.guesser.fault if self.guesser else ""
        return {"guesses": dict(zip(keys, found, strict=False)), "fault": fault}


def _states(answer: TagAnswer) -> Opinion:
    said = ((answer.present, True), (answer.absent, False), (answer.unsure, None))
    return {name: state for names, state in said for name in names}


Actions = Mapping[str, tuple[type[PageRequest], Callable[[Any], dict[str, Any]]]]


def actions_of(session: TagSession) -> Actions:
    """What a page may post: by address, the form of the request and what is done with it."""
    return {
        "next": (NextRequest, session.hand_out),
        "answers": (AnswersRequest, session.keep),
        "undo": (UndoRequest, session.undo),
        "release": (PageRequest, session.release),
    }
