"""Permute and rename the classes: every table, gate, card, page and metric follows, for each number is its class's own.

The reports are written as evaluate writes them, with sorted keys, from matrices that hypothesis draws; what must stand
beside each name is counted here from the matrix itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import label_of
from weakseg.core.params import EvaluateParams, ReportParams
from weakseg.evaluation.bootstrap import Interval, bootstrap
from weakseg.evaluation.metrics import scores_of, to_json
from weakseg.evaluation.reports import EvaluationReport, read_evaluation
from weakseg.pipeline.context import write_report
from weakseg.registry.promotion import evidence_of, model_card, numbers_of
from weakseg.registry.versions import Gates, check_gates
from weakseg.report import gather as page_content
from weakseg.report import table
from weakseg.report.comparison import compare_evaluations
from weakseg.report.content import Audit, Page
from weakseg.report.render import render_page
from weakseg.stages import evaluate

SOURCES = ("pixel", "cam", "full")
OPTIONS = ReportParams(draws=20, seed=0)
Matrices = dict[str, dict[str, npt.NDArray[np.int64]]]  # by source and area


def write(layout: Layout, source: str, names: Sequence[str], areas: dict[str, npt.NDArray[np.int64]]) -> None:
    """reports/evaluate/<source>.json of one seed, through the writer of the stages."""
    pooled = scores_of(sum(areas.values(), np.zeros((len(names),) * 2, np.int64)), names)
    content = {
        **{"classes": tuple(names), "validation_data": "h", "selection": "last", "steps": 4, **pooled},
        "areas": {name: {**scores_of(matrix, names), "confusion": matrix} for name, matrix in areas.items()},
        "miou_over_seeds": {"mean": pooled["miou"], "low": pooled["miou"], "high": pooled["miou"], "count": 1},
    }
    write_report(layout.report("evaluate", source), EvaluationReport.model_validate(content).model_dump())


def counted(areas: dict[str, npt.NDArray[np.int64]]) -> list[float]:
    """IoU of each row: hits over truth and prediction together, NaN for a class in neither."""
    whole = sum(areas.values(), np.zeros_like(next(iter(areas.values()))))
    unions = [int(whole[i].sum() + whole[:, i].sum() - whole[i, i]) for i in range(len(whole))]
    return [int(whole[i, i]) / union if union else math.nan for i, union in enumerate(unions)]


class Drawn(NamedTuple):
    """Names in index order, matrices in that order, and the same classes under other names in another order."""

    names: tuple[str, ...]
    matrices: Matrices
    order: tuple[int, ...]
    renamed: dict[str, str]

    @property
    def turned(self) -> Matrices:
        where = np.ix_(self.order, self.order)
        return {s: {a: matrix[where] for a, matrix in areas.items()} for s, areas in self.matrices.items()}

    @property
    def turned_names(self) -> tuple[str, ...]:
        """The old names in the other order."""
        return tuple(self.names[i] for i in self.order)

    @property
    def new_names(self) -> tuple[str, ...]:
        return tuple(self.renamed[name] for name in self.turned_names)


WORDS = st.text("abcdefghijkl", min_size=1, max_size=8)


@st.composite
def schemes(draw: st.DrawFn) -> Drawn:
    count = draw(st.integers(2, 4))
    names = draw(st.lists(WORDS, min_size=count, max_size=count, unique=True))
    others = draw(st.lists(WORDS, min_size=count, max_size=count, unique=True))
    numbers = st.lists(st.integers(0, 40), min_size=count * count, max_size=count * count)

    def matrix() -> npt.NDArray[np.int64]:
        return np.array(draw(numbers), np.int64).reshape(count, count) + np.eye(count, dtype=np.int64)

    matrices = {source: {area: matrix() for area in ("v1", "v2")} for source in SOURCES}
    return Drawn(
        tuple(names), matrices, tuple(draw(st.permutations(range(count)))), dict(zip(names, others, strict=True))
    )


@dataclass
class Place:
    """Two workspaces, for the classes as they are and permuted, which every example writes anew."""

    left: Layout
    right: Layout

    def fill(self, layout: Layout, names: Sequence[str], matrices: Matrices) -> dict[str, EvaluationReport]:
        for source, areas in matrices.items():
            write(layout, source, names, areas)
        return {source: read_evaluation(layout.report("evaluate", source)) for source in matrices}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[], dict[str, Any]]) -> Place:
    layouts = []
    for name in ("left", "right"):
        root = tmp_path_factory.mktemp(name)
        (root / "params.yaml").write_text(yaml.safe_dump(tiny() | {"report": {"draws": 20, "seed": 0}}))
        layouts.append(Layout(root))
    return Place(*layouts)


def rows_of(table: str) -> dict[str, list[str]]:
    """The cells of `runs compare` by class."""
    return {line.split()[0]: line.replace("[", " ").replace("]", " ").split()[1:] for line in table.splitlines()[1:]}


@settings(max_examples=25)
@given(drawn=schemes())
def test_runs_compare(drawn: Drawn, place: Place) -> None:
    place.fill(place.left, drawn.names, drawn.matrices)
    before = compare_evaluations(place.left.root, "pixel", "full") or ""
    rows = rows_of(before)
    pairs = zip(drawn.names, counted(drawn.matrices["pixel"]), counted(drawn.matrices["full"]), strict=True)
    for name, one, two in pairs:
        assert rows[name][:3] == [f"{one:.4f}", f"{two:.4f}", f"{two - one:+.4f}"]
    place.fill(place.right, drawn.new_names, drawn.turned)
    turned = rows_of(compare_evaluations(place.right.root, "pixel", "full") or "")
    assert turned == {drawn.renamed.get(name, name): cells for name, cells in rows.items()}
    write(place.left, "full", drawn.turned_names, drawn.turned["full"])  # one of the two in another order
    assert compare_evaluations(place.left.root, "pixel", "full") == before


def table_of(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table, by the words of its head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@settings(max_examples=25)
@given(drawn=schemes())
def test_results_and_report_json(drawn: Drawn, place: Place) -> None:
    """Read with the class table of the workspace, whatever the order of each report: the columns are in its order."""
    place.fill(place.right, drawn.turned_names, drawn.turned)
    write(place.right, "cam", drawn.names, drawn.matrices["cam"])
    reports = table.read_evaluations(place.right, drawn.names)
    rows = [table.compare(source, reports, OPTIONS) for source in SOURCES]
    text = table.render(rows, {})
    shown = dict(zip(SOURCES, table_of(text), strict=True))
    assert text.splitlines()[0].split(" | ")[3 : 3 + len(drawn.names)] == list(drawn.names)
    for source, row in zip(SOURCES, rows, strict=True):
        written: Any = to_json(row)
        assert written["classes"] == list(drawn.names)
        for name, value in zip(drawn.names, counted(drawn.matrices[source]), strict=True):
            assert shown[source][name] == f"{value:.3f}"
            assert written["iou"][name] == pytest.approx(value)
    with pytest.raises(StageError, match=r"cam\.json has classes .*; expected .*other"):
        table.read_evaluations(place.right, [*drawn.names[1:], "other"])


@settings(max_examples=25)
@given(drawn=schemes())
def test_gates_metrics_and_card(drawn: Drawn, place: Place) -> None:
    def promoted(layout: Layout, names: Sequence[str], matrices: Matrices) -> tuple[Any, dict[str, float], str]:
        reports = place.fill(layout, names, matrices)
        candidate, champion = evidence_of(reports["cam"]), evidence_of(reports["pixel"])
        gates = check_gates(candidate, champion, Gates(), gain=(0.1, 0.2))
        own = bootstrap(reports["cam"].confusions, reports["cam"].classes, draws=20, seed=0)
        return gates, numbers_of(candidate), model_card(layout.root, "cam", reports["cam"], own, None)

    gates, metrics, card = promoted(place.left, drawn.names, drawn.matrices)
    after, before = counted(drawn.matrices["cam"]), counted(drawn.matrices["pixel"])
    lost = {gate.name.removeprefix("class "): gate for gate in gates if gate.name.startswith("class ")}
    lines = {row["class"]: row for row in table_of(card)}
    for index, name in enumerate(drawn.names):
        assert lost[name].found == f"{before[index]:.4f} -> {after[index]:.4f}"
        assert lost[name].passed == (before[index] - after[index] <= 0.02 + 1e-12)
        assert metrics[f"iou/{name}"] == pytest.approx(after[index])
        assert lines[name]["IoU"] == f"{after[index]:.3f}"
        low, high = map(float, lines[name]["95 %, bootstrap over areas"].split(" to "))
        areas = [counted({"v": matrix})[index] for matrix in drawn.matrices["cam"].values()]
        assert min(areas) - 6e-4 <= low <= high <= max(areas) + 6e-4  # pooled over two areas, it lies between them
    gates, other, card = promoted(place.right, drawn.new_names, drawn.turned)
    new = {gate.name.removeprefix("class "): gate.found for gate in gates if gate.name.startswith("class ")}
    assert new == {drawn.renamed[name]: gate.found for name, gate in lost.items()}
    turned = {row["class"]: [*row.values()][1:] for row in table_of(card)}
    assert turned == {drawn.renamed.get(name, name): [*row.values()][1:] for name, row in lines.items()}
    assert other == pytest.approx(
        {f"iou/{drawn.renamed[k[4:]]}" if k.startswith("iou/") else k: value for k, value in metrics.items()}
    )


@settings(max_examples=10)
@given(drawn=schemes())
def test_page(drawn: Drawn, place: Place) -> None:
    """Table of results, the chart of each class and the confusion matrices, as a reader sees them."""
    place.fill(place.right, drawn.turned_names, drawn.turned)
    reports = table.read_evaluations(place.right, drawn.names)
    rows = [page_content.row_of(table.compare(s, reports, OPTIONS)) for s in SOURCES]
    colours = tuple((20 * index, 0, 0) for index in range(1, len(drawn.names) + 1))
    html = render_page(
        Page(
            **{"title": "t", "written": "w", "scheme": ClassScheme(drawn.names, colours), "safe_colours": True},
            **{"counts": (1, 1, 2), "rows": rows},
            audits=[Audit("cam", 1.0, 1.0, 1.0, dict(reports["cam"].iou))],
            confusions={source: reports[source].pooled for source in SOURCES},
        )
    )
    taken = re.findall(r'title="(\w+) taken for (\w+): (\d+) px"', html)
    assert len(taken) == len(SOURCES) * len(drawn.names) ** 2
    per_source = np.array([int(pixels) for *_, pixels in taken]).reshape(len(SOURCES), len(drawn.names), -1)
    places = iter(taken)
    for number, source in enumerate(SOURCES):
        whole = sum(drawn.matrices[source].values(), np.zeros_like(per_source[0]))
        for true, row in zip(drawn.names, whole, strict=True):
            for guess, pixels in zip(drawn.names, row, strict=True):
                assert next(places) == (true, guess, str(pixels))
        assert per_source[number].tolist() == whole.tolist()
    for index, name in enumerate(drawn.names):
        chart = html.split(f'aria-label="IoU of {name} by source"', 1)[1].split("</svg>", 1)[0]
        for source in SOURCES:
            assert f"<title>{label_of(source)}: {counted(drawn.matrices[source])[index]:.3f}</title>" in chart


@settings(max_examples=20)
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_what_evaluate_measures(order: list[int], seed: int) -> None:
    """The same maps under a class table in another order: every number of the report is the same by name."""
    rng = np.random.default_rng(seed)
    truth, guess = (rng.integers(0, 4, (24, 24)).astype(np.uint8) for _ in range(2))
    names = ("road", "building", "tree", "car")
    params = EvaluateParams(window=32, overlap=0.25, batch=1, views=False, batch_mean_tile=8, erosion=1)

    def measured(truth: npt.NDArray[np.uint8], guess: npt.NDArray[np.uint8], names: Sequence[str]) -> dict[str, Any]:
        scheme = ClassScheme(tuple(names), tuple((index, 1, 1) for index in range(4)))
        area: Any = type("Area", (), {"mask": truth})()
        return evaluate.measure({"v": area}, {"v": guess}, scheme, params)

    place_of = np.argsort(order).astype(np.uint8)  # class order[i] becomes number i
    one, two = measured(truth, guess, names), measured(place_of[truth], place_of[guess], [names[i] for i in order])
    assert {key: pytest.approx(value, nan_ok=True) for key, value in one.items()} == two


def test_the_demo_case_by_hand(workspace: Path) -> None:
    """Names that are not in alphabetical order, as ISPRS: each row is its own class's, in the order of the table.

    pixel: road 8 of 10, building 10 of 12; full: road 10 of 15, building 5 of 10. Both areas are alike: the intervals
    are points.
    """
    layout = Layout(workspace)
    one, two = np.array([[8, 2], [0, 10]]), np.array([[10, 0], [5, 5]])
    write(layout, "pixel", ("road", "building"), {"v1": one, "v2": one})
    write(layout, "full", ("road", "building"), {"v1": two, "v2": two})
    done = CliRunner().invoke(app, ["--root", str(workspace), "runs", "compare", "pixel", "full"])
    assert [line.split() for line in done.output.splitlines()[2:]] == [
        ["road", "0.8000", "0.6667", "-0.1333", "[-0.1333,", "-0.1333]"],
        ["building", "0.8333", "0.5000", "-0.3333", "[-0.3333,", "-0.3333]"],
    ]
    write(layout, "full", ("building", "roof"), {"v1": two, "v2": two})
    done = CliRunner().invoke(app, ["--root", str(workspace), "runs", "compare", "pixel", "full"])
    assert done.exit_code != 0
    assert "full has classes building, roof; expected road, building, in any order" in str(
        done.exception or done.output
    )


def test_intervals_of_the_card_are_the_classes_own(tmp_path: Path) -> None:
    """road is right everywhere, building nowhere: 1.000 to 1.000 and 0.000 to 0.000, as no other order gives."""
    matrix = np.array([[9, 0, 0], [0, 0, 4], [0, 0, 0]])
    write(Layout(tmp_path), "cam", ("road", "building", "car"), {"v1": matrix, "v2": matrix})
    found = read_evaluation(Layout(tmp_path).report("evaluate", "cam"))
    own = bootstrap(found.confusions, found.classes, draws=20)
    assert own.iou["road"] == Interval(1.0, 1.0, 1.0)
    card = model_card(tmp_path, "cam", found, own, None)
    assert "| road | 1.000 | 1.000 to 1.000 |\n| building | 0.000 | 0.000 to 0.000 |\n| car | 0.000 |" in card
