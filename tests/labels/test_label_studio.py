"""Choices of Label Studio, in the shapes that its exports have (1.4 to 1.23: JSON, JSON_MIN)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weakseg.core.errors import DataError
from weakseg.labels.label_studio import is_label_studio, read_label_studio
from weakseg.labels.label_studio_tasks import rectangle
from weakseg.labels.marks import Mark

FILE = Path("ls.json")


def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    """A task as `Export > JSON` of Label Studio 1.20 writes it."""
    return {
        "id": 7,
        "annotations": list(annotations),
        "file_upload": "3f2a1b2c-t1__0_16_32_48.png",
        "drafts": [],
        "predictions": [],
        "data": data or {"image": "/data/upload/3/3f2a1b2c-t1__0_16_32_48.png"},
        "meta": {},
        "created_at": "2026-03-09T21:52:49.513742Z",
        "updated_at": "2026-03-09T22:16:08.746926Z",
        "inner_id": 1,
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "project": 3,
        "updated_by": 1,
        "comment_authors": [],
    }


def annotation(*result: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": 12,
        "completed_by": 1,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-03-09T22:16:08.728353Z",
        "updated_at": "2026-03-09T22:16:09.728353Z",
        "draft_created_at": None,
        "lead_time": 4.288,
        "prediction": {},
        "result_count": 1,
        "unique_id": "9d2f",
        "task": 7,
        **more,
    }


def choices(*names: str, control: str = "choice", region: str = "Dx_a", **where: Any) -> dict[str, Any]:
    value = {**where.pop("value", {}), "choices": list(names)}
    more = {"origin": "manual", "to_name": "image", "from_name": control, **where}
    return {"id": region, "type": "choices", "value": value, **more}


def test_an_export_says_who_marked_what_for_how_long() -> None:
    found = read_label_studio(FILE, [task(annotation(choices("tree", "car")))])
    assert found.rows == [
        Mark(
            "ls.json: task 7",
            "/data/upload/3/3f2a1b2c-t1__0_16_32_48.png",
            ("tree", "car"),
            annotator="label-studio 1",
            seconds=4.288,
            time="2026-03-09T22:16:09.728353Z",
        )
    ]
    assert (found.several, found.offered) == (None, None)


def test_a_task_as_a_server_of_1_23_gives_it_back() -> None:
    """Exported over its API after `data tags --to label-studio`; the annotation began with our prediction."""
    about = {"id": "crop", "type": "choices", "to_name": "image"}
    guess = {**about, "from_name": "classes", "value": {"choices": ["tree"]}}
    unsure = {**about, "from_name": "unsure", "value": {"choices": ["car"]}}
    began = {"id": 1, "result": [guess], "model_version": "tags.csv", "created_ago": "0\u00a0minutes", "score": None}
    began |= {"cluster": None, "neighbors": None, "mislabeling": 0.0, "model": None, "model_run": None, "task": 1}
    given = annotation(guess, unsure, prediction=began, lead_time=4.5, import_id=None, last_action=None)
    given |= {"updated_at": "2026-11-28T20:05:39.225679Z", "parent_prediction": None, "bulk_created": False}
    window = {"area": "p1", "row": 0, "column": 0, "height": 16, "width": 16, "area_height": 64, "area_width": 64}
    row = task(given, image="https://pictures.example/p1__0_0_16_16.png", **window)
    row |= {"predictions": [1], "total_predictions": 1, "allow_skip": True, "comment_count": 0}
    (found,) = read_label_studio(FILE, [row]).rows
    assert (found.present, found.unsure) == (("tree",), ("car",))
    assert (found.seconds, found.time, found.annotator) == (4.5, "2026-11-28T20:05:39.225679Z", "label-studio 1")


def test_people_are_named_by_their_address_their_name_or_their_number() -> None:
    people = [
        {"id": 5, "email": "ana@example.org", "first_name": "Ana", "last_name": "B"},
        {"id": 5, "first_name": "Ana", "last_name": "B"},
        {"id": 5},
    ]
    found = read_label_studio(FILE, [task(*(annotation(choices("tree"), completed_by=who) for who in people))])
    assert [mark.annotator for mark in found.rows] == ["ana@example.org", "Ana B", "label-studio 5"]


def test_skipped_annotations_tasks_without_any_and_predictions_do_not_count() -> None:
    rows = [
        task(annotation(choices("tree"))),
        task(annotation(choices("car"), was_cancelled=True)),
        {**task(), "predictions": [{"model_version": "m", "score": 0.9, "result": [choices("car")]}]},
        task(annotation()),
    ]
    found = read_label_studio(FILE, rows)
    assert [mark.present for mark in found.rows] == [("tree",)]
    assert {note: count for note, count in found.notes.items() if count} == {
        "skipped annotation(s)": 1,
        "task(s) nobody has annotated": 1,
        "rectangle(s) or annotation(s) without a choice": 1,
    }


def test_rectangles_of_a_scene_carry_choices_of_their_own() -> None:
    where = rectangle((16, 32, 16, 32), (64, 128))
    assert where["value"] == {"x": 25.0, "y": 25.0, "width": 25.0, "height": 25.0, "rotation": 0}
    drawn = {"id": "r1", "type": "rectangle", "from_name": "crop", "to_name": "image", **where}
    empty = {**drawn, "id": "r2"}
    marked = [
        choices("tree", control="classes", region="r1", **where),
        choices("car", control="unsure", region="r1", **where),
    ]
    data = {"image": "/data/local-files/?d=scenes/t1.png", "area": "t1"}
    found = read_label_studio(FILE, [task(annotation(drawn, empty, *marked), **data)])
    assert [(m.present, m.unsure, m.edges, m.size, m.seconds) for m in found.rows] == [
        (("tree",), ("car",), (0.25, 0.25, 0.5, 0.5), (64, 128), 0.0)
    ]
    assert found.notes["rectangle(s) or annotation(s) without a choice"] == 1
    assert found.several is True


def test_a_task_of_weakseg_says_its_window_itself() -> None:
    data = {"image": "chips/renamed.png", "area": "t1", "row": 0, "column": 16, "height": 32, "width": 48}
    found = read_label_studio(FILE, [task(annotation(choices("tree", control="classes")), **data)])
    assert (found.rows[0].area, found.rows[0].window, found.several) == ("t1", (0, 16, 32, 48), True)


def test_the_flat_export_has_one_choice_as_text_and_several_as_an_object() -> None:
    """JSON_MIN of label-studio-converter 0.0.59: fields of the data and of the controls side by side."""
    flat = {"id": 1, "annotator": 1, "annotation_id": 4, "created_at": "2026-01-01T10:00:00Z", "lead_time": 2.5}
    rows = [
        {"image": "/data/upload/1/0a1b2c3d-t1.png", "choice": {"choices": ["tree", "car"]}, **flat},
        {"image": "/data/upload/1/0a1b2c3d-t2.png", "choice": "tree", **flat},
    ]
    found = read_label_studio(FILE, rows)
    assert [(m.picture[-6:], m.present, m.annotator, m.seconds) for m in found.rows] == [
        ("t1.png", ("tree", "car"), "label-studio 1", 2.5),
        ("t2.png", ("tree",), "label-studio 1", 2.5),
    ]


def test_the_flat_export_of_our_own_tasks_as_the_sdk_writes_it() -> None:
    """What the converter of label-studio-sdk 2.1.2 makes of tasks by `weakseg data tags --to label-studio`."""
    window = {"area": "t1", "row": 3, "column": 17, "height": 29, "width": 31, "area_height": 64, "area_width": 64}
    flat = {
        "id": 2,
        "classes": "tree",
        "unsure": "car",
        "annotator": "ana@x.org",
        "annotation_id": 11,
        "lead_time": 3.5,
    }
    (mark,) = read_label_studio(FILE, [{"image": "/data/local-files/?d=chips/x.png", **window, **flat}]).rows
    assert (mark.present, mark.unsure, mark.annotator) == (("tree",), ("car",), "ana@x.org")
    assert (mark.area, mark.window, mark.raster) == ("t1", (3, 17, 29, 31), (64, 64))
    box = {
        "x": 0.0,
        "y": 0.0,
        "width": 25.0,
        "height": 25.0,
        "rotation": 0,
        "original_width": 64,
        "original_height": 64,
    }
    scene = {"image": "t1.png", "area": "t1", "id": 1, "crop": [box, box], "annotation_id": 10}
    for classes in ("car", [{**box, "choices": ["tree", "car"]}, "tree"], {**box, "choices": ["tree"]}):
        with pytest.raises(DataError, match=r"JSON_MIN of rectangles, .*; expected an export as JSON"):
            read_label_studio(FILE, [{**scene, "classes": classes}])


def test_two_controls_are_told_apart_by_their_name() -> None:
    rows = [task(annotation(choices("tree", control="cover"), choices("good", control="quality")))]
    with pytest.raises(DataError, match=r"choices of the controls cover, quality; .*--field cover"):
        read_label_studio(FILE, rows)
    assert read_label_studio(FILE, rows, "cover").rows[0].present == ("tree",)
    with pytest.raises(DataError, match="no choices of a control 'colour'"):
        read_label_studio(FILE, rows, "colour")


BOX = {"id": "b", "type": "rectanglelabels", "from_name": "label", "value": {"rectanglelabels": ["car"]}}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task(annotation(BOX))], "no choices; .*weakseg data boxes"),
        ([{"data": {"image": "a.png"}, "annotations": "none"}], "task 0 without data or annotations"),
        ([task({"result": "none"})], "no list result"),
        ([task(annotation(choices("a") | {"value": {"choices": [["a", "b"]]}}))], "flatten nested choices"),
        ([task(annotation(choices("a")), image="a.png", before="b.png", other="x")], None),
        ([task(annotation(choices("a")), left="a.png", right="b.png")], "with 2 pictures"),
        ([task(annotation(choices("a")), text="tree")], "with 0 pictures"),
        (
            [task(annotation(choices("a")), image="a.png", area="t1", row=0.5, column=0, height=1, width=1)],
            "four whole numbers",
        ),
        (
            [task(annotation(choices("a", value={"x": 0, "y": 0, "width": 9, "height": 9, "rotation": 30})))],
            "turned by 30 degrees",
        ),
    ],
)
def test_what_is_no_export_of_choices_is_refused(tasks: list[dict[str, Any]], words: str | None) -> None:
    if words is None:
        assert read_label_studio(FILE, tasks).rows[0].picture == "a.png"
        return
    with pytest.raises(DataError, match=words):
        read_label_studio(FILE, tasks)


def test_only_lists_of_tasks_are_of_label_studio() -> None:
    assert is_label_studio([task()])
    assert is_label_studio([{"annotation_id": 1, "image": "a.png"}])
    assert not any(map(is_label_studio, [[], [1], {}, [{"a": 1}], None]))
