"""Answers become tags: majorities, what stays unknown, what is never overwritten, and Krippendorff's alpha."""

from __future__ import annotations

import math
from typing import Any

import pytest

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.labels.agreement import agreement_of, disputes_of
from weakseg.labels.answers import TagAnswer
from weakseg.labels.opinions import decide, disputed_classes, merge_answers, opinions_of
from weakseg.labels.tags import TagWindow

SCHEME = ClassScheme(("road", "roof", "tree"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def say(states: str, crop: int = 0, who: str = "Ana", **more: Any) -> TagAnswer:
    """An answer about road, roof, tree as ``+-?`` (present, absent, not sure; a blank: not asked)."""
    said = {sign: tuple(n for n, s in zip(SCHEME.names, states, strict=True) if s == sign) for sign in "+-?"}
    return TagAnswer(
        f"{who}{crop}{states}{more}", "t1", (16 * crop, 0, 16, 16), (640, 64), said["+"], said["-"], said["?"],
        who, "2026-11-28T05:00:00.000Z", 1.0, **more,
    )  # fmt: skip


def row(present: str = "", unknown: str = "", crop: int = 0) -> TagWindow:
    return TagWindow("t1", 16 * crop, 0, 16, 16, tuple(present.split()), tuple(unknown.split()))


def merged(rows: list[TagWindow], *answers: TagAnswer, **more: Any) -> tuple[TagWindow, ...]:
    return merge_answers(rows, answers, SCHEME, **more).rows


def test_the_last_answer_of_a_person_counts_class_by_class() -> None:
    found = opinions_of([say("+--"), say("-+?"), say("  +", mode="grid")])
    assert found == {("t1", (0, 0, 16, 16)): {"Ana": {"road": False, "roof": True, "tree": True}}}


@pytest.mark.parametrize(
    ("said", "decided", "disputed"),
    [
        (["+-?"], {"road": True, "roof": False, "tree": None}, ()),
        (["+-?", "+-+"], {"road": True, "roof": False, "tree": True}, ()),
        (["++-", "+--"], {"road": True, "roof": None, "tree": False}, ("roof",)),
        (["++-", "+--", "-+-"], {"road": True, "roof": True, "tree": False}, ()),
        (["+  ", " ? "], {"road": True, "roof": None}, ()),
    ],
)
def test_the_majority_of_those_who_are_sure_decides(
    said: list[str], decided: dict[str, bool | None], disputed: tuple[str, ...]
) -> None:
    (opinion,) = opinions_of([say(text, who=str(index)) for index, text in enumerate(said)]).values()
    assert decide(opinion) == decided
    assert disputed_classes(opinion) == disputed


def test_new_crops_become_rows_and_what_nobody_knows_is_unknown() -> None:
    assert merged([], say("+-?"), say("???", 1), say("  +", 2, mode="grid")) == (
        row("road", "tree"), row("", "road roof tree", 1), row("tree", "road roof", 2),
    )  # fmt: skip


def test_crops_without_any_class_are_counted_and_left_out() -> None:
    found = merge_answers([row("", "road roof tree", 1)], [say("---"), say("---", 1)], SCHEME)
    assert (found.rows, found.nothing, found.added) == ((row("", "road roof tree", 1),), 2, 0)


def test_a_table_is_filled_where_it_knows_nothing_and_other_rows_stay() -> None:
    rows = [row("roof", "", 5), row(), row("road", "tree", 1), row("", "", 7)]
    found = merge_answers(rows, [say("+--"), say("+-+", 1), say("-+-", 5)], SCHEME)
    assert found.rows == (row("roof", "", 5), row("road"), row("road tree", "", 1), row("", "", 7))
    assert (found.added, found.filled, found.changed, found.same) == (0, 2, 0, 1)


def test_what_the_table_knows_from_elsewhere_is_not_overwritten() -> None:
    rows = [row("road"), row("roof", "", 1)]
    with pytest.raises(DataError) as caught:
        merged(rows, say("++-"), say("-+-", 1))
    assert str(caught.value) == (
        "answers contradict 1 crop(s) of tags.csv that were tagged otherwise before: t1 at row 0, column 0 (roof); "
        "expected crops of which tags.csv knows nothing, or the same; "
        "cure".replace("cure", "say --replace to let the answers win, or move the old table away and merge again")
    )
    found = merge_answers(rows, [say("++-")], SCHEME, replace=True)
    assert (found.rows, found.changed) == ((row("road roof"), row("roof", "", 1)), 1)


def test_what_an_earlier_merge_wrote_follows_its_answers() -> None:
    first, second = [say("+--"), say("-+-", 1), say("--+", 2)], [say("+--"), say("-+-", 1), say("++-", 1)]
    rows = list(merged([], *first))
    found = merge_answers(rows, second, SCHEME, earlier=first)
    assert found.rows == (row("road"), row("road roof", "", 1), row("", "road roof tree", 2))
    assert (found.same, found.changed) == (1, 2)
    by_hand = [row("road tree"), *rows[1:]]
    with pytest.raises(DataError, match=r"row 0, column 0 \(tree\)"):
        merge_answers(by_hand, first, SCHEME, earlier=first)


def test_a_dispute_leaves_the_class_unknown_and_is_listed() -> None:
    answers = [say("+--"), say("++-", who="Ben"), say("+-+", 1), say("---", 1, who="Ben"), say("+--", 2)]
    found = merge_answers([], answers, SCHEME)
    assert found.rows == (row("road", "roof"), row("", "road tree", 1), row("road", "", 2))
    assert found.disputed == 2
    listed = disputes_of(opinions_of(answers))
    assert [(one.crop[1][0], one.classes) for one in listed] == [(16, ("road", "tree")), (0, ("roof",))]
    assert str(listed[1]) == "t1 row 0 column 0, 16x16 px; roof: Ana no, Ben yes"


def test_alpha_is_krippendorffs() -> None:
    """His nominal example for two observers, ten units (2011, "Computing Krippendorff's alpha-reliability", part B)."""
    meg, owen = "0100000000", "1110010100"
    answers = []
    for index, (first, second) in enumerate(zip(meg, owen, strict=True)):
        answers += [say(f"{'-+'[int(first)]}-?", index, "Meg"), say(f"{'-+'[int(second)]}-+", index, "Owen")]
    answers.append(say("+++", 20, "Meg"))  # a crop of one person is no unit
    road, roof, tree, together = agreement_of(opinions_of(answers), SCHEME)
    assert (road.name, road.crops, road.same) == ("road", 10, 0.6)
    assert road.alpha == pytest.approx(0.095, abs=0.0005)
    assert (roof.crops, roof.same, math.isnan(roof.alpha)) == (10, 1.0, True)  # all say no: nothing to tell apart
    assert (tree.crops, math.isnan(tree.same), math.isnan(tree.alpha)) == (0, True, True)
    # 20 pairs, 4 of them divided; of 40 values 6 are "present": 1 - (39 * 8) / (2 * 6 * 34)
    assert (together.name, together.crops, together.same) == ("all", 20, 0.8)
    assert together.alpha == pytest.approx(1 - 39 * 8 / (2 * 6 * 34))


def test_nobody_is_asked_for_a_background_and_no_object_is_an_answer() -> None:
    scheme = ClassScheme(SCHEME.names, SCHEME.colours, background="tree")
    found = merge_answers([], [say("-- "), say("+- ", 1)], scheme)
    assert found.rows == (row("tree"), row("road", "", 1))
    assert (found.added, found.nothing) == (2, 0)
    assert merge_answers(found.rows, [], scheme).rows == found.rows
