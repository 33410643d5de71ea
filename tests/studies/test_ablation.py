"""Ablation: rows read, trained apart, kept, and tabled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from weakseg.core.bands import Bands, Statistics, known_band
from weakseg.core.classes import ISPRS, load_classes
from weakseg.core.errors import DataError, ParamsError, WeaksegError
from weakseg.core.layout import Layout
from weakseg.core.params import load_params, with_changes
from weakseg.data.areas import Area
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow
from weakseg.pipeline.context import Context, open_context
from weakseg.pipeline.presets import load_preset
from weakseg.stages import run_stage, tiles
from weakseg.stages.segment import train_segmenter
from weakseg.studies.ablation import ablation_table, run_ablation, withhold
from weakseg.studies.variants import Variant, load_variants

PROJECT = Path(__file__).parents[2]


def test_the_committed_rows_fit_the_demo() -> None:
    variants = load_variants(PROJECT / "configs" / "ablation.yaml")
    base = load_params(PROJECT / "params.yaml")
    assert variants[0] == Variant("consistency with tags", "consistency", {})
    changed = [with_changes(base, variant.changes) for variant in variants]
    assert all((params != base) == bool(variant.changes) for params, variant in zip(changed, variants, strict=True))


def test_the_rows_of_joint_fit_every_preset_that_trains_it() -> None:
    """Each row changes something, and what joint chooses on the hold-out is chosen again where it would differ."""
    variants = load_variants(PROJECT / "configs" / "joint_ablation.yaml")
    assert variants[0] == Variant("joint", "joint", {})
    for preset in ("demo", "dubai"):
        base = load_preset(preset)
        assert all((with_changes(base, one.changes) != base) == bool(one.changes) for one in variants)
    for one in variants:
        again = any(path.startswith(("fused.", "pseudo.")) for path in one.changes)
        assert one.stages == (("experts", "choice@joint") if again else ())


@pytest.mark.parametrize(("rows", "preset", "as_it_is"), [("three_steps", "demo", 4), ("vgg16", "dubai_encdec", 2)])
def test_the_rows_of_a_table_fit_its_preset(rows: str, preset: str, as_it_is: int) -> None:
    base = load_preset(preset)
    changed = [with_changes(base, one.changes) for one in load_variants(PROJECT / "configs" / f"{rows}.yaml")]
    assert [params == base for params in changed].count(True) == as_it_is


def test_the_rows_of_heights_measure_areas_without_them_too() -> None:
    variants = load_variants(PROJECT / "configs" / "heights.yaml")
    assert [one.source for one in variants] == ["pixel", "pixel", "joint", "joint"]
    assert {one.lacking for one in variants} == {("height",)}
    drops = [with_changes(load_preset("demo"), one.changes).segment.augment.drop_band for one in variants]
    assert drops == [0, 0.3, 0, 0.3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "no rows"),
        ("- {name: a, source: pixel, sett: {}}", "sett"),
        ("- {name: a, source: crayon}", "source crayon"),
        ("- {name: a, source: cam, stages: [camera]}", "stage camera"),
        ("- {name: a, source: cam, stages: [pseudo]}", "pseudo with source None"),
        ("- {name: a, source: pixel, stages: [cam]}", "no pseudo-masks to make again"),
        ("- {name: a, source: consistency, tag: x.csv}", "expected name, source, set, stages, tags, lacking"),
        ("- {name: a, source: pixel}\n- {name: a, source: full}", "one name"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.yaml").write_text(text)
    with pytest.raises(ParamsError, match=message):
        load_variants(tmp_path / "rows.yaml")


def test_changes_are_checked_like_the_file() -> None:
    base = load_params(PROJECT / "params.yaml")
    assert with_changes(base, {"students.batch": 9}).students.batch == 9
    for path, value in (("studnets.batch", 9), ("students.batch", -1), ("students.bach", 9)):
        with pytest.raises(ParamsError, match=path.split(".")[-1]):
            with_changes(base, {path: value})


def test_rows_are_trained_once_and_leave_no_trace(workspace: Path) -> None:
    tiles.run(workspace)
    said: list[str] = []
    variants = [Variant("plain", "pixel", {}), Variant("oracle", "full", {"segment.crop": 48})]
    with pytest.raises(ParamsError, match="no row plane"):
        run_ablation(workspace, variants, [0], said.append, only=["plane"])
    first = run_ablation(workspace, variants, [0], said.append, only=["plain"])
    both = run_ablation(workspace, variants, [0], said.append)
    assert both["rows"][0] == first["rows"][0]
    assert first["rows"][0]["curve"] == {}  # the hold-out was trained on
    assert [line.endswith("(kept)") for line in said] == [False, True, False]
    assert 0 <= both["rows"][1]["miou"] <= 1
    assert both["rows"][1]["changes"] == {"segment.crop": 48}
    assert json.loads((workspace / "reports" / "ablation.json").read_text())["rows"] == both["rows"]
    assert len((workspace / "reports" / "ablation.md").read_text().splitlines()) == 4
    assert not list((workspace / ".weakseg" / "ablation").glob("*"))
    assert not (workspace / "out" / "checkpoints").exists()


def test_a_row_makes_its_masks_again_in_a_place_of_its_own(workspace: Path) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["segment"]["augment"]["scale"] = [0.7, 1.4]  # four steps without zoom end alike whatever the masks,
    params["segment"]["refit"] = False  # and so do four steps on all of N1
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    tiles.run(workspace)
    for stage in ("classifier", "cam"):
        run_stage(workspace, stage)
    run_stage(workspace, "pseudo", "cam")
    before = {path: path.read_bytes() for path in sorted((workspace / "out").rglob("*.np[yz]"))}
    harder = {"pseudo.scores": (0.5,), "cam.scales": (0.5,)}
    as_it_is = Variant("same", "cam", {}, ("cam", "pseudo@cam"))
    rows = [Variant("cam", "cam", {}), as_it_is, Variant("other", "cam", harder, ("cam", "pseudo@cam"))]
    plain, same, other = run_ablation(workspace, rows, [0], lambda _line: None)["rows"]
    assert same["miou"] == plain["miou"]
    assert set(plain["curve"]) == {"2", "4"}  # mIoU on the hold-out at each report
    assert 0 <= plain["iou_batch_mean"] <= 1
    assert other["iou"] != plain["iou"]
    assert {path: path.read_bytes() for path in sorted((workspace / "out").rglob("*.np[yz]"))} == before
    assert not list((workspace / ".weakseg" / "ablation").glob("*"))


def test_a_row_trains_on_a_tag_table_of_its_own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def training(context: Context, *rest: Any, **options: Any) -> Any:
        seen.append(int(context.crops().select(split="tags").known.sum()))
        return train_segmenter(context, *rest, **options)

    monkeypatch.setattr("weakseg.studies.ablation.train_segmenter", training)
    tiles.run(workspace)
    scheme, tags = load_classes(workspace / "data" / "classes.yaml"), Layout(workspace).tags_csv
    context = open_context(workspace)
    crops = context.crops().select(split="tags")
    names = np.array(scheme.names)
    rows = [
        TagWindow(area, *window, tuple(names[present].tolist()))
        for area, window, present in zip(crops.areas, crops.windows.tolist(), crops.present, strict=True)
    ]
    asked = [replace(row, present=row.present[:0], unknown=("car", "tree")) for row in rows[:3]]  # 3 of 5 classes
    orders = workspace / "orders"
    write_tags(orders / "all-0.csv", rows, scheme)
    write_tags(orders / "few-0.csv", asked, scheme)
    files = {name: orders / f"{name}-{{seed}}.csv" for name in ("all", "few")}
    variants = [Variant("own", "consistency", {})]
    variants += [Variant(name, "consistency", {}, tags=file) for name, file in files.items()]
    own, same, few = run_ablation(workspace, variants, [0], lambda _line: None)["rows"]
    assert same["iou"] == own["iou"]  # the masks' tags, by way of a table
    assert seen == [len(rows) * 5, len(rows) * 5, 9]
    assert (same["label_seconds"], few["label_seconds"]) == (len(rows) * 5.0, 9.0)  # a second a class
    assert "label_seconds" not in own
    table = (workspace / "reports" / "ablation.md").read_text().splitlines()
    assert [line.split(" | ")[4] for line in table] == ["minutes of tags", "---", "-", f"{len(rows) / 12:.1f}", "0.1"]
    assert not tags.exists()
    assert not list((workspace / ".weakseg" / "ablation").glob("*"))
    (orders / "few-0.csv").write_text((orders / "all-0.csv").read_text())  # other tags, another row
    with pytest.raises(ParamsError, match=r"row 'all': no .*all-1\.csv; expected a table of tags for each seed"):
        run_ablation(workspace, variants, [1], lambda _line: None)
    again = run_ablation(workspace, variants, [0], lambda _line: None)["rows"]
    kept = [row["digest"] == before["digest"] for row, before in zip(again, (own, same, few), strict=True)]
    assert kept == [True, True, False]
    assert seen[3:] == [len(rows) * 5]


def test_joint_on_a_table_of_its_own_chooses_again(workspace: Path) -> None:
    """What joint chose with the workspace's tags is not handed on: a row names the stages that choose."""
    tiles.run(workspace)
    write_tags(workspace / "no.csv", [TagWindow("t1", 0, 0, 16, 16, ("tree",))], ISPRS)
    run_stage(workspace, "segment", "pixel")
    with pytest.raises(WeaksegError, match=r"choices\.json"):
        run_ablation(workspace, [Variant("a", "joint", {}, tags=workspace / "no.csv")], [0], print)
    row = Variant("a", "joint", {"fused.experts": ()}, ("experts", "choice@joint"), workspace / "no.csv")
    found = run_ablation(workspace, [row], [0], print)["rows"]
    assert found[0]["label_seconds"] == 5.0


def test_a_row_that_chooses_again_has_the_experts_of_the_workspace(workspace: Path) -> None:
    """It said FileNotFoundError: what stage tiles made for untagged, and experts for joint, was not linked."""
    tiles.run(workspace)
    run_stage(workspace, "segment", "pixel")
    row = Variant("a", "untagged", {}, ("choice@untagged",))
    assert run_ablation(workspace, [row], [0], print)["rows"][0]["seed"] == 0


def test_two_processes_share_a_table(workspace: Path) -> None:
    tiles.run(workspace)
    for stage in ("classifier", "cam"):
        run_stage(workspace, stage)
    again = Variant("again", "cam", {"pseudo.scores": (0.5,)}, ("pseudo@cam",))
    rows = [Variant("plain", "pixel", {}), Variant("oracle", "full", {}), again]
    begun: list[str] = []

    def meanwhile(line: str) -> None:
        """Another process trains and ends while this one has trained but not ended."""
        if not begun:
            begun.append(line)
            run_ablation(workspace, rows, [0], lambda _line: None, only=["oracle", "again"])

    run_ablation(workspace, rows, [0], meanwhile, only=["plain"])
    written = json.loads((workspace / "reports" / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in written] == ["plain", "oracle", "again"]
    assert len((workspace / "reports" / "ablation.md").read_text().splitlines()) == 5


def test_rows_that_are_not_chosen_keep_what_their_killed_training_made(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles.run(workspace)
    for stage in ("classifier", "cam"):
        run_stage(workspace, stage)
    rows = [Variant("plain", "pixel", {}), Variant("again", "cam", {}, ("pseudo@cam",))]
    with monkeypatch.context() as patch:
        patch.setattr("weakseg.studies.ablation.train_segmenter", lambda *_args, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_ablation(workspace, rows, [0], lambda _line: None, only=["again"])
    made = sorted((workspace / ".weakseg" / "ablation").rglob("done.txt"))
    run_ablation(workspace, rows, [0], lambda _line: None, only=["plain"])
    assert made
    assert sorted((workspace / ".weakseg" / "ablation").rglob("done.txt")) == made
    run_ablation(workspace, rows, [0], lambda _line: None)
    assert not list((workspace / ".weakseg" / "ablation").glob("*"))


def test_areas_without_a_band_have_its_mean_there() -> None:
    bands = Bands((known_band("red", dtype="float32"), known_band("height", dtype="float32"))).with_statistics(
        [Statistics(1.0, 1.0, (0.0,) * 5), Statistics(2.5, 1.0, (0.0,) * 5)]
    )
    image = np.array([[[9, 7], [8, np.nan]]], np.float32)
    found = withhold({"a": Area(image)}, bands, ["height"])["a"].image
    assert found.tolist() == [[[9, 2.5], [8, 2.5]]]
    assert image[0, 0, 1] == 7
    with pytest.raises(DataError, match="areas that lack red; expected that they lack none but height"):
        withhold({"a": Area(image)}, bands, ["red"])


def test_table_of_areas_that_lack_a_band_by_hand() -> None:
    less = {"bands": ["height"], "miou": 0.4, "iou": {"car": 0.1}}
    rows = [
        {"name": "plain", "source": "pixel", "seed": 0, "miou": 0.5, "iou": {"car": 0.2}},
        {"name": "high", "source": "pixel", "seed": 0, "miou": 0.5, "iou": {"car": 0.2}, "lacking": less},
        {
            "name": "high",
            "source": "pixel",
            "seed": 1,
            "miou": 0.6,
            "iou": {"car": 0.4},
            "lacking": {**less, "miou": 0.3},
        },
    ]
    head, _, *lines = ablation_table(rows, ["car"]).splitlines()
    assert head == "| what | source | mIoU | seeds | against the first | car | mIoU without height | seeds without |"
    assert lines == [
        "| plain | pixel | 0.500 | 0.500 to 0.500 (1) | - | 0.200 | - | - |",
        "| high | pixel | 0.550 | 0.500 to 0.600 (2) | +0.000 | 0.300 | 0.350 | 0.300 to 0.400 |",
    ]


def test_table_by_hand() -> None:
    rows = [
        {"name": "all", "source": "consistency", "seed": 0, "miou": 0.5, "iou": {"car": 0.2}},
        {"name": "all", "source": "consistency", "seed": 1, "miou": 0.7, "iou": {"car": 0.4}},
        {"name": "less", "source": "pixel", "seed": 1, "miou": 0.6, "iou": {"car": 0.1}},
    ]
    assert ablation_table(rows, ["car"]).splitlines()[2:] == [
        "| all | consistency | 0.600 | 0.500 to 0.700 (2) | - | 0.300 |",
        "| less | pixel | 0.600 | 0.600 to 0.600 (1) | -0.100 | 0.100 |",
    ]
