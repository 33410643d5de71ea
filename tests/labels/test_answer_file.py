"""The file of answers: what is kept, what is refused, and what is left after power failures and repeats."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError
from weakseg.labels.answer_file import AnswerFile, ClosedFileError, read_answers
from weakseg.labels.answers import TagAnswer, TakenBack, check_annotator, in_force, now


def answer(name: str = "a1", **changes: Any) -> TagAnswer:
    """Ana saw building and tree in the first crop of t1, was not sure about car, in 2.5 s."""
    plain = TagAnswer(
        name, "t1", (0, 16, 16, 16), (64, 64), ("building", "tree"), ("impervious_surface", "low_vegetation"), ("car",),
        "Ana", "2026-11-28T05:00:00.000Z", 2.5,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def undo(of: str, name: str = "u1") -> TakenBack:
    return TakenBack(name, (of,), "Ana", "2026-11-28T05:01:00.000Z")


def test_an_answer_is_one_line_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "tagging" / "answers.jsonl"
    second = answer(
        "a2", mode="grid", batch="b", present=("car",), absent=(), unsure=(), guess={"car": 0.25}, model="d"
    )
    with AnswerFile(path, ISPRS) as file:
        assert file.add([answer(), second]) == [answer(), second]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {
        "id": "a1", "event": "answer", "area": "t1", "row": 0, "column": 16, "height": 16, "width": 16,
        "raster": [64, 64], "present": ["building", "tree"], "absent": ["impervious_surface", "low_vegetation"],
        "unsure": ["car"], "annotator": "Ana", "time": "2026-11-28T05:00:00.000Z", "seconds": 2.5, "mode": "crop",
    }  # fmt: skip
    assert {key: lines[1][key] for key in ("batch", "guess", "model")} == {
        "batch": "b", "guess": {"car": 0.25}, "model": "d",
    }  # fmt: skip
    assert read_answers(path, ISPRS) == [answer(), second]
    assert read_answers(tmp_path / "none.jsonl", ISPRS) == []


def test_the_same_id_is_the_same_answer_and_the_file_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ISPRS) as file:
        file.add([answer(), answer()])
        before = path.read_bytes()
        assert file.add([answer(), answer("a2")]) == [answer("a2")]
    assert path.read_bytes().startswith(before)
    with AnswerFile(path, ISPRS) as file:
        assert file.add([answer("a2")]) == []
        assert [event.id for event in file.events] == ["a1", "a2"]


def test_what_is_taken_back_is_not_in_force(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ISPRS) as file:
        file.add([answer(), answer("a2")])
        file.add([undo("a1")])
        assert [one.id for one in in_force(file.events)] == ["a2"]
    assert [one.id for one in read_answers(path, ISPRS)] == ["a2"]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("left", "kept"),
    [(b'{"id": "a2", "event": "ans', 1), (b"\0\0\0\0", 1), (b"", 1), (None, 2)],
    ids=["cut off", "never written", "whole", "whole but for the end of its line"],
)
def test_what_a_power_failure_leaves_of_a_line_goes(tmp_path: Path, left: bytes | None, kept: int) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ISPRS) as file:
        file.add([answer()])
    rest = json.dumps(answer("a2").to_json()).encode() if left is None else left
    path.write_bytes(path.read_bytes() + rest)
    assert len(read_answers(path, ISPRS)) == kept
    with AnswerFile(path, ISPRS) as file:
        assert len(file.events) == kept
        file.add([answer("a3")])
    assert [one.id for one in read_answers(path, ISPRS)][-1] == "a3"
    assert len(path.read_text().splitlines()) == kept + 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.jsonl"
    real = os.write
    with AnswerFile(path, ISPRS) as file:
        file.add([answer()])
        before = path.read_bytes()

        def full(handle: int, content: bytes) -> int:
            if len(content) < 20:
                raise OSError(28, "No space left on device")
            return real(handle, bytes(content)[:100])

        monkeypatch.setattr("os.write", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); .* was not kept"):
            file.add([answer("a2", annotator="B" * 11)])
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert file.add([answer("a2")]) == [answer("a2")]
    assert [one.id for one in read_answers(path, ISPRS)] == ["a1", "a2"]


def test_a_closed_file_takes_nothing(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "answers.jsonl", ISPRS) as file:
        pass
    with pytest.raises(ClosedFileError, match="is closed; expected a server that runs"):
        file.add([answer()])
    assert read_answers(tmp_path / "answers.jsonl", ISPRS) == []


def test_many_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ISPRS) as file:

        def work(who: int) -> None:
            for number in range(25):
                file.add([answer(f"{who}-{number}"), answer(f"{who}-{number}")])
                file.add([answer("shared-" + str(number))])

        threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 4 * 25 + 25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"present": ("house",)}, "class 'house'"),
        (
            {"present": ("car",), "absent": ()},
            "an answer about car, car; expected each class once",
        ),
        ({"present": (), "absent": (), "unsure": ()}, "an answer about no class"),
        ({"window": (56, 0, 16, 16)}, "window at row 56, column 0, 16x16 px; expected a rectangle inside 64x64 px"),
        ({"annotator": " "}, "annotator ' '; expected a name of 1 to 60 letters"),
        ({"annotator": "a\nb"}, "expected a name"),
        ({"seconds": float("nan")}, "nan seconds"),
        ({"seconds": -1.0}, "-1.0 seconds"),
        ({"mode": "list"}, "in mode 'list'"),
        ({"id": ""}, "answer ''; expected an id"),
        ({"guess": {"car": 1.5}}, "guesses in 0..1"),
    ],
)
def test_an_answer_without_sense_is_refused_and_nothing_written(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerFile(path, ISPRS) as file, pytest.raises(DataError) as caught:
        file.add([answer(), answer("a2", **changes)])
    assert words in str(caught.value)
    assert path.read_bytes() == b""


def edited(**changes: Any) -> str:
    """A second answer, whose line somebody has changed by hand."""
    return json.dumps(answer("a2", present=("car",), unsure=()).to_json() | changes)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_last_line_that_a_hand_has_spoilt_is_not_dropped(tmp_path: Path, end: str) -> None:
    """Not even where the editor leaves out its end, as a power failure does."""
    path = tmp_path / "answers.jsonl"
    spoilt = json.dumps(answer().to_json()) + "\n" + edited()[:-1] + ",}" + end
    path.write_text(spoilt)
    for read in (lambda: read_answers(path, ISPRS), lambda: AnswerFile(path, ISPRS)):
        with pytest.raises(DataError, match=r"line 2: JSONDecodeError"):
            read()
    assert path.read_text() == spoilt


def test_a_line_twice_is_one_answer_as_two_branches_may_leave_it(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text((json.dumps(answer().to_json() | {"guess": None}) + "\n") * 2)
    assert read_answers(path, ISPRS) == [answer()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: JSONDecodeError"),
        ('{"event": "answer"}', "line 2: KeyError: 'row'"),
        ('{"id": "x", "event": "boxes"}', "line 2: event 'boxes'"),
        (json.dumps(answer("a2", present=("roof",)).to_json()), "line 2: class 'roof'"),
        (edited(row=3.7), "line 2: row 3.7"),
        (edited(guess=[1]), "line 2: TypeError"),
        (edited(presnt=["car"]), "line 2: presnt ['car']"),
        (edited(annotator="Ana "), "line 2: annotator 'Ana '"),
        (edited(id="a1"), "line 2: id 'a1' a second time"),
        (json.dumps(undo("a1").to_json() | {"of": "a1"}), "line 2: of 'a1'"),
    ],
)
def test_a_strange_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "answers.jsonl"
    good = json.dumps(answer().to_json())
    path.write_text(f"{good}\n{line}\n")
    for read in (lambda: read_answers(path, ISPRS), lambda: AnswerFile(path, ISPRS)):
        with pytest.raises(DataError) as caught:
            read()
        assert words in str(caught.value)
    assert path.read_text() == f"{good}\n{line}\n"


def test_names_are_kept_composed_and_without_blanks_around() -> None:
    assert check_annotator("  Ju\u0308rgen ") == "J\u00fcrgen"
    assert now()[-1] == "Z"
