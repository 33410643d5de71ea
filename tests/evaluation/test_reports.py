"""Reports carry the order of their classes; one that does not is read where it proves its order, and else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.core.classes import ISPRS, find_classes
from weakseg.core.errors import DataError, StageError
from weakseg.core.methods import label_of
from weakseg.data.scenes.object_pictures import object_classes
from weakseg.evaluation.metrics import scores_of
from weakseg.evaluation.reports import (
    AuditReport,
    EvaluationReport,
    order_among,
    order_of,
    parse_evaluation,
    read_audit,
    read_evaluation,
)

PROJECT = Path(__file__).parents[2]
COMMITTED = sorted(PROJECT.glob("results/*/report.json"))


def content_of(names: tuple[str, ...], **areas: list[list[int]]) -> dict[str, Any]:
    """A report as evaluate writes it, its keys sorted."""
    matrices = {area: np.array(matrix, np.int64) for area, matrix in areas.items()}
    pooled = scores_of(sum(matrices.values(), np.zeros((len(names),) * 2, np.int64)), names)
    content = {
        **{"classes": list(names), "validation_data": "h", "miou": pooled["miou"], "iou": pooled["iou"]},
        "areas": {a: {**scores_of(matrix, names), "confusion": matrix.tolist()} for a, matrix in matrices.items()},
    }
    return dict(json.loads(json.dumps(content, sort_keys=True).replace("NaN", "null")))


def parse(content: dict[str, Any], **options: bool) -> EvaluationReport:
    return parse_evaluation(json.dumps(content), "r.json", cure="evaluate again", **options)


def test_matrices_keep_the_order_that_the_list_says() -> None:
    report = parse(content_of(("road", "building"), v1=[[8, 2], [0, 10]], v2=[[8, 2], [0, 10]]))
    assert report.classes == ("road", "building")
    assert report.pooled.tolist() == [[16, 4], [0, 20]]
    turned = report.aligned_to(("building", "road"), "it")
    assert turned.classes == ("building", "road")
    assert turned.pooled.tolist() == [[20, 0], [4, 16]]
    assert (report.iou["road"], turned.iou["road"]) == (0.8, 0.8)  # 16 of 20


def test_other_names_are_refused() -> None:
    report = parse(content_of(("road", "building"), v1=[[8, 2], [0, 10]]))
    with pytest.raises(StageError, match=r"cam\.json has classes road, building; expected road, house, in any order"):
        report.aligned_to(("road", "house"), "cam.json")
    assert order_among(("b", "c", "a"), ("a", "b", "c"), "it") == [2, 0, 1]


def test_a_report_of_before_is_read_where_its_numbers_prove_the_order() -> None:
    """road .8 and building .833 follow from the rows 0 and 1, whatever the order of the keys."""
    content = content_of(("road", "building"), v1=[[8, 2], [0, 10]])
    del content["classes"]
    assert list(content["iou"]) == ["building", "road"]
    assert parse(content).classes == ("road", "building")


def test_a_report_of_before_that_leaves_two_orders_is_refused() -> None:
    content = content_of(("road", "building", "car"), v1=[[8, 2, 0], [2, 8, 0], [0, 0, 5]])  # the same IoU twice
    del content["classes"]
    with pytest.raises(DataError, match=r"r\.json does not say which class each row .*`classes`.*; evaluate again"):
        parse(content)
    del content["areas"]["v1"]["iou"]
    with pytest.raises(DataError, match="does not say which class"):
        parse(content)
    assert parse(content, any_order=True).miou == pytest.approx((2 * 8 / 12 + 1) / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["road", "road"]}, "classes road, road: one name at least and each once"),
        ({"classes": ["road", "house"]}, "classes road, house, but IoU of building, road"),
        ({"classes": ["building", "road"]}, "area v1: the IoU of building is not what its confusion matrix gives"),
        ({"areas": {"v1": {"confusion": [[1]]}}}, "area v1 has a matrix of 1 classes"),
        ({"areas": {"v1": {"confusion": [[1, 2]]}}}, r"areas\.v1\.confusion: a confusion matrix is square"),
        ({"validation_data": None}, "validation_data: "),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    content = content_of(("road", "building"), v1=[[8, 2], [0, 10]])
    with pytest.raises(DataError, match=said):
        parse({**content, **change})


def test_what_is_no_report_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "cam.json"
    for text, said in (("{", "is no JSON"), ("[]", "is a JSON list"), ("{}", "does not say which class")):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"{said}.*; run `dvc repro -f -s evaluate@cam`") as caught:
            read_evaluation(path)
        assert "\n" not in str(caught.value)
    path.write_text('{"classes": ["a"], "iou": {"b": 1}, "miou": 1, "accuracy": 1, "coverage": 1}')
    with pytest.raises(DataError, match=r"classes a, but IoU of b; .*audit@cam"):
        read_audit(path)


def test_null_is_undefined() -> None:
    report = parse(content_of(("road", "building", "car"), v1=[[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    assert np.isnan(report.iou["car"])
    audit = AuditReport.model_validate({"miou": None, "iou": {"car": None}, "accuracy": None, "coverage": 0.5})
    assert np.isnan([audit.miou, audit.iou["car"], audit.accuracy]).all()


@given(st.data())
def test_an_order_is_found_only_where_it_is_the_one(data: st.DataObject) -> None:
    """Small counts, so that many reports leave several orders: then none is taken."""
    count = data.draw(st.integers(1, 4))
    names = tuple(data.draw(st.permutations(["a", "b", "c", "d"][:count])))
    row = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    matrix = st.lists(row, min_size=count, max_size=count)
    content = content_of(names, v1=data.draw(matrix), v2=data.draw(matrix))
    found = order_of(content)
    vectors = [tuple(area["iou"][name] for area in content["areas"].values()) for name in names]
    assert found == (names if len(set(vectors)) == count else None)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_tables_name_the_classes_of_their_data(path: Path) -> None:
    """report.json has the order of the data's class table, and results.md every IoU under its own class's name."""
    folder = path.parent.name
    own = {
        "dubai72_building": ("building", "rest"),
        "dubai72_water": ("water", "rest"),
        "objects12": object_classes(12).names,
    }
    names = own.get(folder) or (find_classes("dubai") if folder.startswith("dubai") else ISPRS).names
    lines = (path.parent / "results.md").read_text().split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = {cells[0]: dict(zip(head, cells, strict=True)) for cells in rows}
    report = json.loads(path.read_text())
    assert len(shown) == len(report)
    for source, row in report.items():
        assert tuple(row["classes"]) == names
        for name in names:
            assert shown[label_of(source)][name.replace("_", " ")] == f"{row['iou'][name]:.3f}"


def test_committed_label_costs_name_their_classes() -> None:
    runs = json.loads((PROJECT / "results" / "demo_sources" / "label_cost.json").read_text())["runs"]
    assert all(tuple(run["classes"]) == ISPRS.names for run in runs.values())
