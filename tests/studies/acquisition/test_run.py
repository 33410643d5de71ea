"""`weakseg next` on a tiny workspace: three files that others open, the same without any truth, and what is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from PIL import Image
from typer.testing import CliRunner

from weakseg.cli import app
from weakseg.core.classes import load_classes
from weakseg.core.errors import ParamsError, StageError
from weakseg.core.layout import Layout
from weakseg.labels.crop_order import read_order
from weakseg.labels.crop_style import order_style
from weakseg.labels.tag_table import raster_sizes
from weakseg.methods.scores import ScoreMaps, save_scores
from weakseg.pipeline.context import open_context
from weakseg.raster.header import RasterInfo
from weakseg.raster.open import read_image
from weakseg.raster.write import write_raster
from weakseg.stages.segment import save_segmenter
from weakseg.stages.tiles import run as run_tiles
from weakseg.studies.acquisition.run import suggest_next
from weakseg.tagging.proposals import propose_crops
from weakseg.training.seeds import seed_everything
from weakseg.training.segmenter import segmenter_of


def with_networks(root: Path, *sources: str) -> Path:
    """Untrained networks, each of its own seed: they disagree."""
    run_tiles(root)
    context = open_context(root)
    for seed, source in enumerate(sources):
        seed_everything(seed)
        file = context.layout.checkpoints(source) / "seed0.pt"
        file.parent.mkdir(parents=True)
        save_segmenter(file, segmenter_of(context.params.segment.network, 5).eval(), context)
    return root


@pytest.fixture(scope="module")
def trained(make_workspace: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_networks(make_workspace(tmp_path_factory.mktemp("next")), "pixel", "untagged", "full")


def test_the_order_is_what_tag_serves(trained: Path) -> None:
    found = suggest_next(trained, count=10)
    assert found.asked == ("pixel/seed0", "untagged/seed0")  # not the oracle
    file = trained / "out" / "next" / "crops.csv"
    order = read_order(file, raster_sizes(Layout(trained).images), load_classes(Layout(trained).classes))
    crops = list(order)
    assert crops == [(one.area, one.window) for one in found.found["tags"]]
    assert len(crops) == 10
    assert set(crops) <= set(propose_crops(trained).crops)
    assert propose_crops(trained, order=file).crops == tuple(crops)
    gains = [one.gain for one in found.found["tags"]]
    alone = [one.gain for one in found.found["tags"] if len(one.asks) == 1]
    assert alone == sorted(alone, reverse=True)  # in the order of first questions; others get more of them later
    assert all(one.gain <= len(one.asks) * gains[0] for one in found.found["tags"])
    assert min(gains) >= 0
    assert [order[one.area, one.window] for one in found.found["tags"]] == [one.asks for one in found.found["tags"]]
    assert [one.seconds for one in found.found["tags"]] == [len(one.asks) for one in found.found["tags"]]  # 1 s each
    assert propose_crops(trained, order=file).asks == order


def test_boxes_and_pixels_are_of_whole_images(trained: Path) -> None:
    found = suggest_next(trained, count=10).found
    assert sorted(one.area for one in found["pixels"]) == ["t1", "t2"]
    assert {one.window for one in found["pixels"]} == {(0, 0, 64, 64)}
    assert found["pixels"][0].seconds == pytest.approx(64 * 64 / 1e6 * 2575)
    assert {one.asks for one in found["boxes"]} == {("car",)}
    assert {one.seconds % 7 for one in found["boxes"]} == {0.0}
    assert found["pixels"][0].per_hour == pytest.approx(3600 * found["pixels"][0].gain / found["pixels"][0].seconds)


def test_a_geopackage_in_pixels_and_a_sheet(trained: Path) -> None:
    found = suggest_next(trained, count=3)
    layers = {name for name, _ in pyogrio.list_layers(found.files[1])}
    assert layers == {"tags_in_pixels", "boxes_in_pixels", "pixels_in_pixels", "layer_styles"}
    with closing(sqlite3.connect(found.files[1])) as base:
        styles = dict(base.execute("SELECT f_table_name, styleQML FROM layer_styles WHERE useAsDefault").fetchall())
    assert set(styles) == layers - {"layer_styles"}
    assert styles["tags_in_pixels"] == order_style(3)
    table = pyogrio.read_dataframe(found.files[1], layer="tags_in_pixels")
    assert table["rank"].tolist() == [1, 2, 3]
    row, column, height, width = found.found["tags"][0].window
    assert table.geometry[0].bounds == (column, -row - height, column + width, -row)
    assert table["reason"][0] == found.found["tags"][0].reason
    with Image.open(found.files[2]) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width == 6 * 230 + 10


def test_images_with_a_place_lie_there(make_workspace: Callable[[Path], Path], tmp_path: Path) -> None:
    """UTM with 0.5 m per px: the polygon of a crop is where its pixels are."""
    root = make_workspace(tmp_path)
    file = Layout(root).images / "t1.tif"
    from rasterio.crs import CRS

    place = RasterInfo(64, 64, 3, "uint8", CRS.from_epsg(25832).to_wkt(), (0.5, 0, 500_000.0, 0, -0.5, 5_400_000.0))
    write_raster(file, read_image(file), place)
    found = suggest_next(with_networks(root, "pixel"), count=40)
    assert {name for name, _ in pyogrio.list_layers(found.files[1])} >= {"tags", "tags_in_pixels", "pixels"}
    table = pyogrio.read_dataframe(found.files[1], layer="tags")
    assert table.crs.to_epsg() == 25832
    assert len(table) == 16
    first = table[(table["row"] == 16) & (table["column"] == 32)]
    assert first.geometry.iloc[0].bounds == (500_016.0, 5_399_984.0, 500_024.0, 5_399_992.0)


def test_nothing_changes_where_no_truth_is_there(trained: Path, tmp_path: Path) -> None:
    """Neither hidden truth nor validation nor any mask of data/labels is read: without them the files are the same."""
    blind = tmp_path / "blind"
    shutil.copytree(trained, blind, ignore=shutil.ignore_patterns("next"))
    layout = Layout(blind)
    for folder in (layout.hidden, layout.validation, layout.labels):
        assert folder.is_dir()
        shutil.rmtree(folder)
    (layout.images / "v1.tif").write_bytes(b"not to be opened" * 10)
    with pytest.raises(Exception, match=r"v1"):
        read_image(layout.images / "v1.tif")
    shutil.copy(Layout(trained).images / "p1.tif", layout.images / "v1.tif")  # its size is read, with all others'
    seen, unseen = suggest_next(trained, count=20), suggest_next(blind, count=20)
    assert unseen.found == seen.found
    for name in ("crops.csv", "next.png"):
        assert (layout.next / name).read_bytes() == (Layout(trained).next / name).read_bytes()


def test_experts_vote_where_their_scores_say_something(trained: Path, tmp_path: Path) -> None:
    """An expert that is sure of cars in all of t1 and silent in t2 moves the presence of cars in t1 alone."""
    root = tmp_path / "expert"
    shutil.copytree(trained, root)
    layout = Layout(root)
    scores = np.zeros((5, 64, 64), np.float32)
    scores[4] = 0.7
    save_scores(layout.scores("irnet") / "t1.npz", ScoreMaps.of(scores))
    save_scores(layout.scores("irnet") / "t2.npz", ScoreMaps.of(scores * 0))
    before, after = suggest_next(trained, count=32), suggest_next(root, count=32)
    assert after.asked == (*before.asked, "irnet")
    reasons = [{(one.area, one.window): one.reason for one in found.found["tags"]} for found in (before, after)]
    changed = {crop[0] for crop in reasons[0] if reasons[0][crop] != reasons[1][crop]}
    assert "t1" in changed


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        (("full",), ParamsError, r"--sources full; expected .*the oracle saw the truth"),
        (("nobody",), ParamsError, r"--sources nobody"),
        (("cam",), StageError, r"no network of cam in .*tag what `weakseg tag` serves"),
    ],
)
def test_networks_that_cannot_be_asked_are_refused(
    trained: Path, sources: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        suggest_next(trained, sources=sources)


def test_the_command_says_what_costs_what(trained: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--root", str(trained), "next", "--count", "4", "--out", str(tmp_path / "here")])
    assert done.exit_code == 0, done.output
    assert "64 crops, seen by pixel/seed0, untagged/seed0" in done.output
    order = read_order(
        tmp_path / "here" / "crops.csv", raster_sizes(Layout(trained).images), load_classes(Layout(trained).classes)
    )
    assert f"tags of 4 crops: {sum(map(len, order.values())) / 60:.1f} min" in done.output  # 1 s a question
    assert "1 per class of a crop (literature: Bearman et al. 2016" in done.output
    assert f"weakseg tag --order {tmp_path / 'here' / 'crops.csv'}" in done.output.replace("\n", "")
