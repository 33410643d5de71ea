"""From answers to tags: what each annotator holds of each crop, what they agree on, and the rows of a tag table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.answers import Crop, TagAnswer
from weakseg.labels.tags import TagWindow

State = bool | None
"""A class of a crop: present, absent, or None where the annotator was not sure."""
Opinion = dict[str, State]
"""States of the classes that somebody was asked for."""
Opinions = dict[Crop, dict[str, Opinion]]
"""By crop and annotator."""

_NAMED: Final = 3


def opinions_of(answers: Iterable[TagAnswer]) -> Opinions:
    """What every annotator last said about every class of every crop."""
    found: Opinions = {}
    for answer in answers:
        mine = found.setdefault(answer.crop, {}).setdefault(answer.annotator, {})
        for names, state in ((answer.present, True), (answer.absent, False), (answer.unsure, None)):
            mine |= dict.fromkeys(names, state)
    return found


def disputed_classes(by_annotator: Mapping[str, Opinion]) -> tuple[str, ...]:
    """Classes that as many annotators hold present as absent, in order of their first mention."""
    votes = _votes(by_annotator)
    return tuple(name for name, (yes, no) in votes.items() if yes == no > 0)


def _votes(by_annotator: Mapping[str, Opinion]) -> dict[str, tuple[int, int]]:
    """(present, absent) votes by class; who is not sure has none."""
    names = dict.fromkeys(name for opinion in by_annotator.values() for name in opinion)
    states = {name: [opinion.get(name) for opinion in by_annotator.values()] for name in names}
    return {name: (found.count(True), found.count(False)) for name, found in states.items()}


def decide(by_annotator: Mapping[str, Opinion]) -> Opinion:
    """The states that a crop gets: the majority of those who are sure; None in a draw, or where nobody is sure."""
    return {name: None if yes == no else yes > no for name, (yes, no) in _votes(by_annotator).items()}


@dataclass(frozen=True)
class Merged:
    """A tag table with answers in it.

    Attributes:
        rows: all rows, old ones in their order, new ones after them.
        added, filled, changed, same: crops that are new, that had unknown classes, that earlier answers had written
            otherwise, that were so already.
        nothing: crops with none of the classes, which a tag table cannot say.
        disputed: crops with a class on which the annotators are divided; it stays unknown.
    """

    rows: tuple[TagWindow, ...]
    added: int
    filled: int
    changed: int
    same: int
    nothing: int
    disputed: int


def merge_answers(
    rows: Sequence[TagWindow],
    answers: Sequence[TagAnswer],
    classes: ClassScheme,
    *,
    earlier: Sequence[TagAnswer] = (),
    replace: bool = False,
) -> Merged:
    """Put answers into a tag table. What is unknown in it may be filled; what is known is not changed.

    Args:
        rows: of the table; windows in px of the rasters in data/images.
        answers: all that are in force.
        earlier: those that an earlier merge has put into the table: what it wrote may change with its answers.
        replace: let answers win over what the table knows otherwise.

    Raises:
        DataError: an answer contradicts what the table knows from elsewhere, and ``replace`` is off.
    """
    before = {(row.area, row.window): known_states(row, classes) for row in rows}
    ours = {crop: decide(opinion) for crop, opinion in opinions_of(earlier).items()}
    opinions = opinions_of(answers)
    table, clashes = dict(before), {}
    tally = dict.fromkeys(("added", "filled", "changed", "same", "nothing"), 0)
    for crop in {**ours, **opinions}:  # of those that were taken back since, opinions are none
        kept = _without(before.get(crop, {}), ours.get(crop, {}))
        said: Opinion = {name: state for name, state in decide(opinions.get(crop, {})).items() if state is not None}
        clash = [name for name, state in said.items() if kept.get(name, state) is not state]
        if clash and not replace:
            clashes[crop] = clash
        change, after = _change(before.get(crop), kept | said, classes)
        tally[change] += crop in opinions or change == "changed"
        if crop in table or change == "added":
            table[crop] = after
    if clashes:
        raise _contradiction(clashes)
    found = [
        row
        if table[row.area, row.window] == before[row.area, row.window]
        else _row((row.area, row.window), table, classes)
        for row in rows
    ]
    found += [_row(crop, table, classes) for crop in table if crop not in before]
    disputed = sum(bool(disputed_classes(by_annotator)) for by_annotator in opinions.values())
    return Merged(tuple(found), **tally, disputed=disputed)


def known_states(row: TagWindow, classes: ClassScheme) -> Opinion:
    """What a row knows: no class of a row without tags, else all but the unknown ones, and never the background."""
    known = [name for name in classes.object_names if row.tagged and name not in row.unknown]
    return {name: name in row.present for name in known}


def _without(states: Opinion, written: Opinion) -> Opinion:
    """The states without those that are as an earlier merge wrote them."""
    return {name: state for name, state in states.items() if written.get(name) is not state}


def _change(before: Opinion | None, after: Opinion, classes: ClassScheme) -> tuple[str, Opinion]:
    """What happens to a row, by the name of its count, and the states that it gets."""
    if len(after) == len(classes) and not any(after.values()):  # never beside a background, of which nobody is asked
        return "nothing", {}
    if before is None:
        return "added", after
    if before == after:
        return "same", after
    lost = any(after.get(name) is not state for name, state in before.items())
    return "changed" if lost else "filled", after


def _row(crop: Crop, table: Mapping[Crop, Opinion], classes: ClassScheme) -> TagWindow:
    """A row of the table; one of which nothing is known has all classes under ``unknown``."""
    states = table[crop]
    present = tuple(name for name in classes.names if states.get(name))
    unknown = tuple(name for name in classes.object_names if name not in states)
    if classes.background and not present and not unknown:
        present = (classes.background,)
    return TagWindow(crop[0], *crop[1], present, unknown)


def _contradiction(clashes: Mapping[Crop, Sequence[str]]) -> DataError:
    named = [
        f"{area} at row {row}, column {column} ({', '.join(names)})"
        for (area, (row, column, _, _)), names in list(clashes.items())[:_NAMED]
    ]
    more = f" and {len(clashes) - _NAMED} more" if len(clashes) > _NAMED else ""
    return DataError(
        f"answers contradict {len(clashes)} crop(s) of tags.csv that were tagged otherwise before: "
        f"{'; '.join(named)}{more}",
        expected="crops of which tags.csv knows nothing, or the same",
        cure="say --replace to let the answers win, or move the old table away and merge again",
    )
