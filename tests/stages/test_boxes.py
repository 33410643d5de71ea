"""Stage boxes and what tiles writes for it, on a tiny workspace; and the command that brings boxes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.bit_sets import bits_of, save_bits
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.layout import Layout
from weakseg.data.store import open_allowed
from weakseg.labels.box_files import read_boxes
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.raster.header import RasterInfo
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster

CAR = ISPRS.index("car")
SIZES = dict.fromkeys(("p1", "p2", "t1", "t2", "v1"), (64, 64))


def run(root: Path, stage: str, source: str = "") -> None:
    module = import_module(f"weakseg.stages.{stage}")
    module.run(root, source) if source else module.run(root)


def edit(root: Path, section: str, **changes: Any) -> None:
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section] |= changes
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def cli(root: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["--root", str(root), *words])


def plain_teacher(layout: Layout) -> None:
    """A teacher that takes everything for road, and knows a little of the rest."""
    for area in ("p1", "p2", "t1", "t2"):
        scores = np.full((5, 64, 64), 0.05, np.float32)
        scores[0] = 0.8
        save_scores(layout.scores("teacher") / f"{area}.npz", ScoreMaps(scores, np.ones(5, bool)))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    root = make_workspace(tmp_path_factory.mktemp("boxes"))
    run(root, "tiles")
    plain_teacher(Layout(root))
    for stage, source in (("boxes", ""), ("pseudo", "boxes"), ("audit", "boxes")):
        run(root, stage, source)
    return Layout(root)


def test_tiles_writes_boxes_of_n1_and_n2_from_masks(done: Layout, paint: Callable[[int], Any]) -> None:
    table = read_boxes(done.boxes / "boxes.json", ISPRS, SIZES)
    assert set(table.searched) == {"p1", "p2", "t1", "t2"}  # never of a validation area
    truth = paint(2)[1] == CAR
    covered = np.zeros((64, 64), bool)
    for box in table.of("t1"):
        assert box.name == "car"
        covered[box.row : box.row + box.height, box.column : box.column + box.width] = True
    assert covered[truth].all()
    assert covered.mean() < 0.2
    allowed = bits_of(open_allowed(done.tiles, "t1"))
    assert ((allowed >> CAR & 1 == 1) & ~covered).any()  # constrain is off: tags alone


def test_boxes_on_top_of_the_teacher(done: Layout, paint: Callable[[int], Any]) -> None:
    for seed, area in ((0, "p1"), (2, "t1")):
        scores = load_scores(done.scores("boxes") / f"{area}.npz").dense()
        truth = paint(seed)[1]
        car = truth == CAR
        assert scores.sum(0) == pytest.approx(np.ones((64, 64)), abs=2e-3)
        guess = scores.argmax(0) == CAR
        assert (guess & car).sum() / (guess | car)[truth != IGNORE].sum() > 0.8
        allowed = bits_of(open_allowed(done.tiles, area))
        assert not scores[(allowed[None] >> np.arange(5)[:, None, None]) & 1 == 0].any()
    report = json.loads(done.report("boxes").read_text())
    assert report["boxes"] == report["per_class"]["car"] > report["boxes_n2"] > 0
    assert report["areas_searched_n2"] == 2
    assert report["contradicted"] == 0
    assert report["holdout_fill_iou"]["car"] > 0.8
    audit = json.loads(done.report("audit", "boxes").read_text())
    assert audit["iou"]["car"] > 0.8


def test_the_users_boxes_are_scaled_and_constrain_the_tags(workspace: Path) -> None:
    """One box in t1, which was searched; t2 was not, and stays as its tags leave it."""
    layout = Layout(workspace)
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 8, 4]}
    images = [{"id": 1, "file_name": "t1.tif"}]
    source = workspace / "mine.json"
    source.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "car"}], "annotations": [box]}))
    result = cli(workspace, "data", "boxes", str(source))
    assert result.exit_code == 0, result.output
    assert "wrote 1 boxes of 1 areas" in result.output
    assert "car: 1 boxes, median side 6 px, 0 crowd regions, 1 areas searched" in result.output
    edit(workspace, "boxes", source="file")
    edit(workspace, "tiles", scale=0.5, tag_size=8)
    run(workspace, "tiles")
    before = {area: bits_of(open_allowed(layout.tiles, area)) for area in ("p1", "t1", "t2")}
    edit(workspace, "boxes", constrain=True)
    run(workspace, "tiles")
    after = {area: bits_of(open_allowed(layout.tiles, area)) for area in ("p1", "t1", "t2")}
    inside = np.zeros((32, 32), bool)
    inside[10:12, 5:9] = True
    assert np.array_equal(after["t1"], np.where(inside, before["t1"], before["t1"] & ~np.int32(1 << CAR)))
    assert np.array_equal(after["t2"], before["t2"])
    assert (after["p1"] != before["p1"]).any()  # N1 has its boxes from its masks
    table = read_boxes(layout.boxes / "boxes.json", ISPRS, dict.fromkeys(SIZES, (32, 32)))
    assert [found.window for found in table.of("t1")] == [(10, 5, 2, 4)]
    assert "t2" not in table.searched


def test_an_object_across_a_seam_is_forbidden_nowhere(workspace: Path) -> None:
    """Two neighbours of 64 px, t1 and t2, a car of rows 20 to 30, columns 50 to 80 of both together, another in t2."""
    from rasterio.crs import CRS

    layout, gsd, left, top = Layout(workspace), 0.5, 500000.0, 5300000.0
    for index, area in enumerate(("t1", "t2")):
        place = (gsd, 0.0, left + 32 * index, 0.0, -gsd, top)
        path = layout.images / f"{area}.tif"
        write_raster(path, read_image(path), RasterInfo(64, 64, 3, "uint8", CRS.from_epsg(25832).to_wkt(), place))
    rings = []
    for c0, r0, c1, r1 in ((50, 20, 80, 30), (100, 40, 110, 44), (4, 50, 12, 54)):
        x0, x1, y0, y1 = left + gsd * c0, left + gsd * c1, top - gsd * r0, top - gsd * r1
        rings.append([[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]])
    dissolved = {"type": "MultiPolygon", "coordinates": rings}
    features = [{"type": "Feature", "properties": {"CLASS": "car", "area": 81.5}, "geometry": dissolved}]
    crs = {"type": "EPSG", "properties": {"code": 25832}}
    source = workspace / "cars.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    assert "wrote 4 boxes of 2 areas" in cli(workspace, "data", "boxes", str(source)).output
    edit(workspace, "boxes", source="file", classes=["car"], complete=["car"])
    run(workspace, "tiles")
    before = {area: bits_of(open_allowed(layout.tiles, area)) for area in ("t1", "t2")}
    edit(workspace, "boxes", constrain=True)
    run(workspace, "tiles")
    for area, boxes in (("t1", [(20, 50, 30, 64), (50, 4, 54, 12)]), ("t2", [(20, 0, 30, 16), (40, 36, 44, 46)])):
        inside = np.zeros((64, 64), bool)
        for r0, c0, r1, c1 in boxes:
            inside[r0:r1, c0:c1] = True
        wanted = np.where(inside, before[area], before[area] & ~np.int32(1 << CAR))
        assert np.array_equal(bits_of(open_allowed(layout.tiles, area)), wanted)


def test_the_command_says_what_it_left_out(workspace: Path) -> None:
    rows = [{"image_id": 1, "category_id": number, "bbox": [9, 9, 4, 4 + number], "iscrowd": 1} for number in (1, 2)]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "lorry"}]
    source = workspace / "masks.json"
    images = [{"id": 1, "file_name": "0a1b2c3d-t1.png"}]
    source.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    refused = cli(workspace, "data", "boxes", str(source))
    assert "categories lorry; expected classes of" in str(refused.exception)
    result = cli(workspace, "data", "boxes", str(source), "--skip-classes", "lorry,bus")
    assert "car: 0 boxes, median side 0 px, 1 crowd regions" in result.output
    assert "1 annotation(s) with iscrowd or ignore are read as regions" in result.output
    assert "1 of lorry left out" in result.output
    more = ("--skip-classes", "lorry", "--single-objects", "--replace")
    assert (
        "car: 1 boxes, median side 4 px, 0 crowd regions" in cli(workspace, "data", "boxes", str(source), *more).output
    )


def test_boxes_lose_against_tags(workspace: Path) -> None:
    layout = Layout(workspace)
    edit(workspace, "boxes", refiner="none")
    run(workspace, "tiles")
    plain_teacher(layout)
    table = read_boxes(layout.boxes / "boxes.json", ISPRS, SIZES)
    first = table.of("t1")[0]
    row, column, height, width = first.window
    here = (slice(row, row + height), slice(column, column + width))
    allowed = bits_of(open_allowed(layout.tiles, "t1"))
    allowed[here] &= ~np.int32(1 << CAR)  # a tag that contradicts the box
    save_bits(layout.tiles, "t1", allowed)
    run(workspace, "boxes")
    scores = load_scores(layout.scores("boxes") / "t1.npz").dense()
    assert not scores[CAR][here].any()
    assert json.loads(layout.report("boxes").read_text())["contradicted"] == 1


def test_no_classes_no_boxes(workspace: Path) -> None:
    edit(workspace, "boxes", classes=[], complete=[])
    run(workspace, "tiles")
    plain_teacher(Layout(workspace))
    run(workspace, "boxes")
    report = json.loads(Layout(workspace).report("boxes").read_text())
    assert (report["boxes"], report["per_class"], report["areas_searched_n2"]) == (0, {}, 0)
    scores = load_scores(Layout(workspace).scores("boxes") / "t1.npz").dense()
    road = bits_of(open_allowed(Layout(workspace).tiles, "t1")) & 1 == 1
    assert (scores.argmax(0)[road] == 0).all()


def test_a_class_outside_the_scheme_and_an_incomplete_section_are_refused(workspace: Path) -> None:
    edit(workspace, "boxes", classes=["lorry"], complete=[])
    with pytest.raises(DataError, match="class 'lorry'"):
        run(workspace, "tiles")
    edit(workspace, "boxes", classes=["car"], complete=["tree"])
    with pytest.raises(ParamsError, match=r"boxes: .*complete names tree"):
        run(workspace, "tiles")


def test_command_derives_boxes_from_masks(workspace: Path) -> None:
    result = cli(workspace, "data", "boxes", "--from-masks", "car,building", "--min-pixels", "5")
    assert result.exit_code == 0, result.output
    assert "of 5 areas" in result.output
    table = read_boxes(Layout(workspace).box_file, ISPRS, SIZES)
    assert {box.name for box in table.boxes} == {"car", "building"}
    again = cli(workspace, "data", "boxes", "--from-masks", "car")
    assert isinstance(again.exception, DataError)
    assert cli(workspace, "data", "boxes", "--from-masks", "car", "--replace").exit_code == 0


def test_command_reports_every_problem_and_writes_nothing(workspace: Path) -> None:
    bad = workspace / "bad.json"
    bad.write_text(json.dumps({"type": "FeatureCollection", "features": [3, {"properties": {}, "geometry": {}}]}))
    result = cli(workspace, "data", "boxes", str(bad), str(workspace / "nowhere.json"))
    assert result.exit_code == 1
    assert len(str(result.exception).splitlines()) == 3
    assert not Layout(workspace).box_file.parent.exists()
    for words in ((), (str(bad), "--from-masks", "car")):
        assert isinstance(cli(workspace, "data", "boxes", *words).exception, ParamsError)
