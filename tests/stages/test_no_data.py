"""Pixels without image data: in no target, tag, score, pseudo-mask, audit or metric; without them nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import yaml
from tests.bit_sets import bits_of

from weakseg.core.classes import IGNORE, ISPRS
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.data.areas import Area
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.manifest import load_manifest
from weakseg.data.store import open_allowed, open_array
from weakseg.labels.tag_table import read_tags, write_tags
from weakseg.labels.tags import TagWindow
from weakseg.methods.scores import load_scores
from weakseg.pipeline.context import open_context
from weakseg.pipeline.workspace import write_mask_tags
from weakseg.raster.open import read_image, read_mask, read_valid
from weakseg.raster.write import write_raster
from weakseg.stages import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
COLLAR = np.zeros((64, 64), bool)  # without data: the left quarter, and a corner of one crop beside it
COLLAR[:, :16] = True
COLLAR[:4, 16:24] = True
AREAS = ("p1", "p2", "t1", "t2", "v1")
COLLARED = ("p2", "t2", "v1")


def write_alpha(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Red, green, blue and alpha; black and transparent in the collar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layout: dict[str, Any] = {"driver": "GTiff", "count": 4, "dtype": "uint8", "height": 64, "width": 64}
    with rasterio.open(path, "w", photometric="RGB", alpha="yes", **layout) as file:
        file.write(np.moveaxis(np.where(COLLAR[..., None], 0, image), -1, 0).astype(np.uint8), [1, 2, 3])
        file.write(np.where(COLLAR, 0, 255).astype(np.uint8), 4)


def edit(root: Path, **changes: Any) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    for name, value in changes.items():
        place, *keys = raw, *name.split("__")
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def run(root: Path, stage: str, source: str = "") -> None:
    module = import_module(f"weakseg.stages.{stage}")
    module.run(root, source) if source else module.run(root)


def slim(root: Path) -> None:
    for section in ("classifier", "irnet", "single_stage", "segment"):
        for key, value in {"steps": 2, "batch": 2, "report_every": 2}.items():
            edit(root, **{f"{section}__optimiser__{key}": value})
    edit(root, classifier__arch="vgg16_bn", classifier__weights="none", classifier__width=16, classifier__crop=16)
    edit(root, classifier__pooling="gap", cam__scales=[1.0], cam__flips=False)
    edit(root, irnet__weights="none", irnet__crop=64, irnet__walk_steps=[2], irnet__anchors=[1.0])
    edit(root, irnet__label_score=0.1, irnet__label_margin=0.0, single_stage__backbone="resnet38")
    edit(root, single_stage__weights="none", single_stage__width=16, single_stage__channels=16, single_stage__crop=32)
    edit(root, fused__weights=[1.0], pseudo__min_coverage=0.0, consistency__share_weight=0.1)
    edit(root, consistency__align=True)


@pytest.fixture(scope="module")
def collared(tmp_path_factory: pytest.TempPathFactory, make_workspace: Callable[[Path], Path]) -> Layout:
    """The tiny workspace, imported again with a collar on three of five areas, after the tiles stage."""
    root, sources = make_workspace(tmp_path_factory.mktemp("collared")), tmp_path_factory.mktemp("sources")
    for area in AREAS:
        image = read_image(root / "data" / "images" / f"{area}.tif")
        write = write_alpha if area in COLLARED else write_raster
        write(sources / "images" / f"{area}.tif", image if write is write_alpha else np.dstack([image, image[..., :1]]))
        mask = read_mask(root / "data" / "labels" / f"{area}.tif", ISPRS)
        write_raster(sources / "labels" / f"{area}.tif", mask)
    import_dataset(
        sources / "images", [sources / "labels"], root / "data", classes=ISPRS, bands=(1, 2, 3), replace=True,
        progress=False,
    )  # fmt: skip
    slim(root)
    run(root, "tiles")
    return Layout(root)


def test_an_import_keeps_where_the_image_has_data(collared: Layout) -> None:
    valid = read_valid(collared.images / "t2.tif")
    assert valid is not None
    assert np.array_equal(valid, ~COLLAR)
    assert read_valid(collared.images / "t1.tif") is None
    mask = read_mask(collared.labels / "t2.tif", ISPRS)
    assert (mask[COLLAR] == IGNORE).all()
    assert (mask[~COLLAR] != IGNORE).sum() > 2900


def test_tiles_say_nothing_about_the_collar(collared: Layout) -> None:
    for area in ("p2", "t2"):
        allowed = bits_of(open_allowed(collared.tiles, area))
        assert not allowed[COLLAR].any()
        assert (allowed[~COLLAR] != 0).all()
        assert (np.array(open_array(collared.tiles / "windows", area))[COLLAR] == -1).all()
    for folder, area in ((collared.tiles / "labels", "p2"), (collared.tiles / "holdout", "p2")):
        assert (np.array(open_array(folder, area))[COLLAR] == IGNORE).all()
    for folder, area in ((collared.hidden, "t2"), (collared.validation / "labels", "v1")):
        assert (np.array(open_array(folder, area))[COLLAR] == IGNORE).all()


def test_tags_are_those_of_the_pixels_with_data(collared: Layout) -> None:
    crops = load_manifest(collared.tiles / "manifest.csv", ISPRS.names).select(area="t2")
    assert len(crops.ids) == 12  # the four of the left column hold no data
    mask = np.array(open_array(collared.hidden, "t2"))
    for (row, column, height, width), present in zip(crops.windows, crops.present, strict=True):
        inside = np.unique(mask[row : row + height, column : column + width])
        assert set(inside.tolist()) - {IGNORE} == set(np.flatnonzero(present).tolist())
    allowed = bits_of(open_allowed(collared.tiles, "t2"))
    labelled = mask != IGNORE
    assert ((allowed[labelled] >> mask[labelled]) & 1 == 1).all()


def test_shares_count_pixels_with_data(collared: Layout) -> None:
    """The crop at row 0, column 16 has 224 px with data: a class of 12 px is 5.4 % of these, 4.7 % of all 256."""
    image = read_image(collared.images / "t2.tif")
    mask = np.zeros((64, 64), np.uint8)
    mask[8:10, 18:24] = 3
    root = collared.root.parent / "shares"
    write_raster(root / "data" / "images" / "t2.tif", image, valid=~COLLAR)
    write_raster(root / "data" / "labels" / "t2.tif", np.where(COLLAR, np.uint8(IGNORE), mask))
    ISPRS.save(root / "data" / "classes.yaml")
    write_mask_tags(root, size=16, min_share=5.0)
    rows = {row.window: row for row in read_tags(Layout(root).tags_csv, ISPRS, {"t2": (64, 64)})}
    assert rows[(0, 16, 16, 16)].present == ("impervious_surface", "tree")
    assert not rows[(0, 0, 16, 16)].tagged
    write_mask_tags(root, size=16, min_share=5.5)
    rows = {row.window: row for row in read_tags(Layout(root).tags_csv, ISPRS, {"t2": (64, 64)})}
    assert rows[(0, 16, 16, 16)].present == ("impervious_surface",)
    assert rows[(0, 16, 16, 16)].unknown == ("tree",)


def test_contradicting_tags_are_said_by_the_stage(collared: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """32 x 16 px say tree, the right half of them car: 256 px, of which the stage has no class to give."""
    try:
        write_tags(
            collared.tags_csv,
            [TagWindow("t2", 0, 16, 16, 32, ("tree",)), TagWindow("t2", 0, 32, 16, 16, ("car",))],
            ISPRS,
        )
        edit(collared.root, tiles__tag_source="csv")
        run(collared.root, "tiles")
    finally:
        edit(collared.root, tiles__tag_source="masks")
    said = capsys.readouterr().err
    assert "tags.csv: area t2: no class fits 256 px of overlapping tags, first row 0, column 32" in said
    assert "1 tag(s) that other windows rule out, first car in window (0, 32, 16, 16)" in said


def test_a_tag_row_in_the_collar_constrains_nothing(collared: Layout) -> None:
    try:
        rows = [TagWindow("t2", 0, 0, 32, 16, ("car",)), TagWindow("t2", 0, 16, 16, 16, ("car", "tree"))]
        write_tags(collared.tags_csv, rows, ISPRS)
        edit(collared.root, tiles__tag_source="csv")
        run(collared.root, "tiles")
        crops = load_manifest(collared.tiles / "manifest.csv", ISPRS.names).select(area="t2")
        assert crops.ids == ("t2_0_16",)
        allowed = bits_of(open_allowed(collared.tiles, "t2"))
        assert set(np.unique(allowed[~COLLAR]).tolist()) == {0b11000, 0b11111}
        assert not allowed[COLLAR].any()
    finally:
        edit(collared.root, tiles__tag_source="masks")
        run(collared.root, "tiles")


def test_a_smaller_scale_leaves_no_mixed_pixel(collared: Layout) -> None:
    try:
        edit(collared.root, tiles__scale=0.4)
        run(collared.root, "tiles")
        allowed = bits_of(open_allowed(collared.tiles, "t2"))
        image = np.array(open_array(collared.tiles / "images", "t2"))
        assert allowed.shape == (26, 26)
        assert not allowed[:, :7].any()  # column 6 is 14.8 to 17.2 px of the raster
        assert (allowed[4:, 7:] != 0).all()
        whole = read_image(collared.images / "t2.tif")[~COLLAR]
        assert (image[allowed != 0].min(0) >= whole.min(0)).all()  # no black mixed in
    finally:
        edit(collared.root, tiles__scale=1.0)
        run(collared.root, "tiles")


METHODS = ("cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes")
PLAN = (
    *(("classifier", ""), ("cam", ""), ("crf", ""), ("irnet", ""), ("single_stage", ""), ("segment", "pixel")),
    *(("teacher", ""), ("fused", ""), ("boxes", ""), *(("pseudo", method) for method in METHODS)),
    *(("audit", "fused"), ("segment", "fused"), ("segment", "consistency"), ("segment", "full")),
    *(("evaluate", "consistency"),),
)


def test_no_method_says_anything_about_the_collar(collared: Layout) -> None:
    for stage, source in PLAN:
        run(collared.root, stage, source)
    for method in METHODS:
        for area in ("p2", "t2"):
            scores = load_scores(collared.scores(method) / f"{area}.npz").dense()
            assert not scores[:, COLLAR].any(), method
            assert scores[:, ~COLLAR].any(), method
        assert (np.array(open_array(collared.pseudo(method), "t2"))[COLLAR] == IGNORE).all(), method


def test_a_metric_is_that_of_the_area_without_its_collar(collared: Layout) -> None:
    """Whatever was predicted in the collar."""
    params = load_params(collared.params).evaluate.model_copy(update={"erosion": 0, "batch_mean_tile": 16})
    context = open_context(collared.root)
    assert context.scheme == ISPRS
    image, truth = (np.array(open_array(collared.validation / name, "v1")) for name in ("images", "labels"))
    guess = np.random.default_rng(0).integers(0, 5, truth.shape).astype(np.uint8)
    whole = evaluate.measure({"v1": Area(image, truth)}, {"v1": guess}, ISPRS, params)
    inner = Area(image[:, 16:], truth[:, 16:])
    cropped = evaluate.measure({"v1": inner}, {"v1": guess[:, 16:]}, ISPRS, params)
    for key in ("miou", "oa", "kappa", "iou", "f1"):
        assert whole[key] == cropped[key], key
    other = np.where(COLLAR, (guess + 1) % 5, guess).astype(np.uint8)
    assert evaluate.measure({"v1": Area(image, truth)}, {"v1": other}, ISPRS, params)["iou"] == whole["iou"]
