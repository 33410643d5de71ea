"""`weakseg predict --tags`: what a tag rules out wins nowhere in its crop, and everything else is as without tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.generators.plain_rasters import save_raster
from tests.inference.test_predict import UTM, model_file, picture, predictor, read, widening

from weakseg.cli.models import say_tag_errors
from weakseg.core.classes import ISPRS
from weakseg.core.config import load_yaml, save_yaml
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.layout import Layout
from weakseg.inference.held_tags import HeldTags, TagTable, locate_table
from weakseg.inference.options import Options
from weakseg.inference.predict import predict_mosaic, predict_rasters
from weakseg.inference.run import predict_layers, run_predictor
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow, allowed_raster, tag_arrays
from weakseg.methods.fusion import constrain_scores
from weakseg.raster.stream import inspect_source
from weakseg.training.machine import Machine

CPU = Machine(device="cpu", precision="no", quiet=True)
NAMES = ISPRS.names
ROWS = [
    TagWindow("scene", 10, 20, 90, 70, NAMES[:2]),
    TagWindow("scene", 60, 50, 80, 60, NAMES[1:3], NAMES[4:]),  # overlaps the first
    TagWindow("scene", 150, 0, 30, 30, (), ()),  # no tag
    TagWindow("scene", 0, 130, 40, 40, NAMES[:1]),
    TagWindow("scene", 0, 130, 40, 30, NAMES[1:2]),  # contradicts the one before
    TagWindow("other", 0, 0, 64, 64, NAMES[3:4]),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for name, height, width in (("scene", 180, 200), ("other", 64, 64), ("blank", 64, 64)):
        save_raster(folder / f"{name}.tif", picture(height, width), **UTM)
    (tmp_path / "data" / "tags").mkdir()
    write_tags(folder.parent / "tags" / "tags.csv", ROWS, ISPRS)
    return folder


def table_of(images: Path) -> TagTable:
    return locate_table(images.parent / "tags" / "tags.csv", "anywhere")


def test_held_maps_by_hand() -> None:
    """Three pixels at row 4: outside the crop; in it, where the winner is ruled out; in it, where nothing is left."""
    tags = HeldTags(np.array([[4, 7, 3, 9]]), np.array([[False, True, True]]))
    maps = np.array([[0.7, 0.6, 1.0], [0.2, 0.1, 0.0], [0.1, 0.3, 0.0]], np.float32)[:, None, :]
    found = tags.hold(maps, 4, 6)
    assert found[:, 0].T.tolist() == pytest.approx(np.array([[0.7, 0.2, 0.1], [0, 0.1, 0.3], [0, 1, 1]], np.float32))
    assert tags.hold(maps, 4, 16) is maps  # beside the crop
    assert tags.hold(maps, 7, 8) is maps  # below it
    assert tags.hold(np.zeros_like(maps), 4, 8).any() == np.False_  # no data stays no data


@pytest.mark.parametrize("block", [7, 64, 200])
def test_blocks_are_held_as_trainings_hold_whole_areas(images: Path, block: int) -> None:
    source = inspect_source(images / "scene.tif", None)
    tags = table_of(images).of(source, ISPRS)
    assert len(tags.windows) == 4  # a row without a tag is none
    maps = np.random.default_rng(0).dirichlet(np.ones(5), (180, 200)).transpose(2, 0, 1).astype(np.float32)
    found = np.zeros_like(maps)
    for row in range(0, 180, block):
        for column in range(0, 200, block):
            here = np.s_[:, row : row + block, column : column + block]
            found[here] = tags.hold(maps[here], row, column)
    mine = [one for one in ROWS if one.area == "scene" and one.tagged]
    allowed = allowed_raster(180, 200, [one.window for one in mine], *tag_arrays(mine, ISPRS))
    wanted = constrain_scores(maps, allowed).dense()
    somewhere = ~allowed.nothing
    assert (~somewhere).sum() == 40 * 30
    assert (found / found.sum(0))[:, somewhere] == pytest.approx(wanted[:, somewhere], abs=1e-4)
    assert np.array_equal(found[:, ~somewhere], maps[:, ~somewhere])  # tags that contradict each other say nothing


def test_a_map_is_held_and_its_other_pixels_are_as_before(images: Path, tmp_path: Path) -> None:
    source, options = inspect_source(images / "scene.tif", None), {"window": 64, "probabilities": tmp_path / "p.tif"}
    free = predict_layers(predictor(widening), source, Options(**options))
    held = predict_layers(predictor(widening), source, Options(**options, tags=table_of(images)))
    tagged = np.zeros((180, 200), bool)
    for row in ROWS[:2]:
        place = np.s_[row.row : row.row + row.height, row.column : row.column + row.width]
        tagged[place] = True
        possible = [NAMES.index(name) for name in (*row.present, *row.unknown)]
        assert np.isin(held[0][place], possible).all()
        assert not np.isin(free[0][place], possible).all()
        assert held[1:][:, *place].astype(int).sum(0) == pytest.approx(254, abs=3)
    tagged[0:40, 160:170] = True  # of the crop that another contradicts, what that leaves
    assert np.array_equal(held[:, ~tagged], free[:, ~tagged])
    both = np.s_[60:100, 50:90]  # where the crops overlap, both hold
    assert (held[0][both] == 1).all()
    written = run_predictor(predictor(widening), source, tmp_path / "m.tif", Options(**options, tags=table_of(images)))
    assert written.held == 4
    assert np.array_equal(read(tmp_path / "m.tif")[0], held[0])
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.tags()["WEAKSEG_TAGS"] == "4 crops"


def test_maps_are_held_in_px_of_the_raster_at_any_scale_of_the_network(images: Path) -> None:
    source = inspect_source(images / "scene.tif", None)
    held = predict_layers(predictor(widening, scale=0.5), source, Options(window=64, tags=table_of(images)))
    assert np.isin(held[0][10:100, 20:90], (0, 1)).all()


def test_a_map_is_made_anew_where_its_own_tags_change_and_only_then(images: Path, tmp_path: Path) -> None:
    source, path = inspect_source(images / "scene.tif", None), images.parent / "tags" / "tags.csv"

    def windows() -> int:
        table = TagTable(path, images)
        return run_predictor(predictor(), source, tmp_path / "m.tif", Options(window=64, tags=table)).windows

    assert windows() > 0
    assert windows() == 0
    write_tags(path, [*ROWS[:5], TagWindow("other", 0, 0, 64, 64, NAMES[:1])], ISPRS)
    assert windows() == 0
    write_tags(path, ROWS[1:], ISPRS)
    assert windows() > 0
    before = read(tmp_path / "m.tif")
    assert run_predictor(predictor(), source, tmp_path / "m.tif", Options(window=64)).windows > 0
    assert not np.array_equal(read(tmp_path / "m.tif"), before)


def test_a_folder_is_checked_before_its_first_map_is_made(images: Path, tmp_path: Path) -> None:
    options, model = Options(window=64, tags=table_of(images)), model_file(tmp_path / "m.pt")
    done = predict_rasters(model, str(images), tmp_path / "maps", machine=CPU, options=options)
    assert {one.target.stem: one.held for one in done} == {"blank": 0, "other": 1, "scene": 4}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_raster(elsewhere / "other.tif", picture(64, 64), **UTM)
    save_raster(elsewhere / "scene.tif", picture(180, 201), **UTM)
    with pytest.raises(DataError, match=r"scene.tif: 180x201 px; expected 180x200 as in .*; predict that image"):
        predict_rasters(model, str(elsewhere), tmp_path / "none", machine=CPU, options=options)
    (elsewhere / "scene.tif").rename(elsewhere / "new.tif")
    with pytest.raises(DataError, match=r"new.tif: no image of this name in .*; name the raster like its area"):
        predict_rasters(model, str(elsewhere), tmp_path / "none", machine=CPU, options=options)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ParamsError, match="--tags with --mosaic"):
        predict_mosaic(model, str(images), tmp_path / "all.tif", machine=CPU, options=options)


def test_another_image_of_the_same_name_and_size_is_refused(images: Path, tmp_path: Path) -> None:
    """By its place, or by its pixels where one of them has none; a copy of the image is the image."""
    tags = table_of(images)
    copy = tmp_path / "copy" / "scene.tif"
    copy.parent.mkdir()
    for placed in (UTM, {}):
        save_raster(copy, picture(180, 200), **placed)
        assert len(tags.of(inspect_source(copy, None), ISPRS).windows) == 4
    moved = {"crs": UTM["crs"], "transform": UTM["transform"] @ rasterio.Affine.translation(200, 0)}
    save_raster(copy, picture(180, 200), **moved)
    with pytest.raises(DataError, match=r"copy/scene.tif: lies elsewhere than .*images/scene.tif of the same name"):
        tags.of(inspect_source(copy, None), ISPRS)
    save_raster(copy, picture(180, 200)[:, ::-1])
    with pytest.raises(DataError, match=r"copy/scene.tif: shows other pixels than .*images/scene.tif of the same name"):
        tags.of(inspect_source(copy, None), ISPRS)


def test_stated_errors_of_tags_are_said(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = Layout(workspace).tags_csv
    say_tag_errors(workspace, tags)
    assert capsys.readouterr().err == ""
    params = load_yaml(workspace / "params.yaml")
    save_yaml(workspace / "params.yaml", params | {"tags": params["tags"] | {"missing_rate": 0.3}})
    say_tag_errors(workspace, tags.with_name("others.csv"))
    assert capsys.readouterr().err == ""
    say_tag_errors(workspace, tags)
    assert "tags of which 30% are missing and 0% wrong: --tags takes them for right" in capsys.readouterr().err


def test_images_stand_beside_the_table_or_are_those_that_are_predicted(images: Path, tmp_path: Path) -> None:
    assert table_of(images).images == images
    loose = tmp_path / "loose.csv"
    loose.write_text((images.parent / "tags" / "tags.csv").read_text())
    assert locate_table(loose, str(images)).images == images
    assert locate_table(loose, str(images / "scene.tif")).images == images
    several = locate_table(loose, str(tmp_path / "*" / "images" / "scene.tif"))
    with pytest.raises(DataError, match=r"no folder .*; name the rasters by their folder"):
        several.of(inspect_source(images / "scene.tif", None), ISPRS)
