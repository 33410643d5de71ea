"""One class against the rest, through the stages: a tiny workspace of one object and a background that nobody tags."""

from __future__ import annotations

import csv
import json
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
from tests.inference.one_raster import predict_raster
from tests.inference.test_predict import CPU, read
from tests.slim import slim

from weakseg.core.classes import IGNORE, ClassScheme, load_classes
from weakseg.core.layout import Layout
from weakseg.data.manifest import load_manifest
from weakseg.data.store import open_allowed, open_array
from weakseg.export.bundled import main
from weakseg.export.model_files import export_bundle
from weakseg.methods.background import background_score
from weakseg.methods.scores import load_scores
from weakseg.raster.write import write_raster

SCHEME = ClassScheme(("roof", "rest"), ((255, 0, 0), (200, 200, 200)), background="rest")
METHODS = ("cam", "crf", "irnet", "single_stage", "teacher", "fused")
PLAN = (
    *((stage, "") for stage in ("tiles", "classifier", "cam", "crf", "irnet", "single_stage", "experts")),
    *(("segment", "pixel"), ("teacher", ""), ("fused", "")),
    *((stage, method) for method in METHODS for stage in ("pseudo", "audit")),
    *(("choice", "joint"), ("segment", "full"), ("segment", "consistency"), ("segment", "joint")),
    *(("evaluate", source) for source in ("pixel", "full", "consistency", "joint")),
    ("report", ""),
)


def paint_roofs(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Image (64, 64, 3) and mask: 16 px cells, half of them with a bright square."""
    rng = np.random.default_rng(seed)
    mask = np.ones((64, 64), np.uint8)
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            if (row // 16 + column // 16 + seed) % 2:
                mask[row + 4 : row + 12, column + 4 : column + 12] = 0
    image = np.where(mask[..., None] == 0, 200, 90) + rng.integers(-10, 11, (64, 64, 3))
    return image.astype(np.uint8), mask


@pytest.fixture(scope="module", params=["aerial", "irn_voc"])
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[], dict[str, Any]]
) -> Layout:
    root = tmp_path_factory.mktemp("background")
    raw = tiny()
    areas = raw["tiles"]["areas"]
    for seed, area in enumerate([*areas["pixel"], *areas["tags"], *areas["validation"]]):
        image, mask = paint_roofs(seed)
        write_raster(root / "data" / "images" / f"{area}.tif", image)
        write_raster(root / "data" / "labels" / f"{area}.tif", SCHEME.to_colours(mask))
    SCHEME.save(root / "data" / "classes.yaml")
    slim(raw)
    raw["irnet"] |= {"preset": request.param, "anchors": [1.0, 0.85]}
    raw["crf"] |= {"gaussian_weight": 0.1, "bilateral_weight": 0.1}  # untrained maps do not survive more
    raw["boxes"] |= {"classes": [], "complete": []}
    raw["segment"] |= {"class_weights": {}, "favour": {"class_name": "roof", "probability": 0.2}}
    raw["classifier"]["optimiser"] |= {"steps": 40, "batch": 8, "lr": 0.01}  # so long until it sees the roofs at all
    if request.param == "irn_voc":
        raw["irnet"]["encoder"] = "resnet18"
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN if request.param == "aerial" else PLAN[:5]:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)
    return Layout(root)


def test_nobody_tags_the_background_and_it_may_be_anywhere(done: Layout) -> None:
    scheme = load_classes(done.tiles / "classes.yaml")
    assert scheme.background_index == 1
    crops = load_manifest(done.tiles / "manifest.csv", scheme.names)
    assert not crops.present[:, 1].any()
    assert not crops.known[:, 1].any()
    assert crops.known[:, 0].all()
    assert 0 < crops.present[:, 0].sum() < len(crops.ids)
    allowed = bits_of(open_allowed(done.tiles, "t1"))
    mask = paint_roofs(2)[1]
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            cell = np.s_[row : row + 16, column : column + 16]
            assert np.unique(allowed[cell]).size == 1
            assert (allowed[row, column] == allowed[0, 0]) == ((mask[cell] == 0).any() == (mask[:16, :16] == 0).any())
    with (done.tiles / "manifest.csv").open() as file:
        assert {row["unknown"] for row in csv.DictReader(file)} == {"rest"}


def assert_drawn(scores: np.ndarray, power: float) -> None:
    """The background of (2, H, W) is drawn from the object as it was before both were rounded to float16.

    Below 1 float16 has steps of 2 ** -11, so the object was within half of one; near 1 the root of that is a hundredth.
    """
    least, most = (background_score(scores[:1] + half, power) for half in (2**-12, -(2**-12)))
    assert (least - 2**-12 <= scores[1]).all()
    assert (scores[1] <= most + 2**-12).all()


def test_its_scores_follow_from_the_objects(done: Layout) -> None:
    power = None
    for area in ("p1", "p2", "t1", "t2"):
        maps = load_scores(done.scores("cam") / f"{area}.npz")
        assert maps.present.tolist() == [True, True]
        inside = (maps.scores[0] > 0.1) & (maps.scores[0] < 0.9)
        found = np.log(maps.scores[1][inside]) / np.log(1 - maps.scores[0][inside])
        power = power or float(np.median(found))
        assert_drawn(maps.scores, round(power, 1))
    assert round(power or 0, 1) in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def test_irnet_says_the_power_of_its_background(done: Layout) -> None:
    report = json.loads(done.report("irnet").read_text())
    published = report["background_power"]
    assert published in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0) or published == pytest.approx(4.818842)
    maps = load_scores(done.scores("irnet") / "t1.npz")
    assert_drawn(maps.scores, published)


def test_crops_without_an_object_are_background_for_certain(done: Layout) -> None:
    if not done.pseudo("cam").is_dir() or not list(done.pseudo("cam").glob("*.npy")):
        pytest.skip("the published preset stops at irnet")
    truth = paint_roofs(2)[1]
    empty = np.repeat(np.repeat(~(truth == 0).reshape(4, 16, 4, 16).any((1, 3)), 16, 0), 16, 1)
    for method in METHODS:
        mask = np.asarray(open_array(done.pseudo(method), "t1"))
        assert (mask[empty] == 1).all()
        assert set(np.unique(mask)) <= {0, 1, IGNORE}


def test_tables_show_the_background_and_a_mean_without_it(done: Layout) -> None:
    if not done.results.is_file():
        pytest.skip("the published preset stops at irnet")
    report = json.loads(done.report("evaluate", "pixel").read_text())
    assert report["miou_objects"] == pytest.approx(report["iou"]["roof"])
    audit = json.loads(done.report("audit", "cam").read_text())
    assert audit["miou_objects"] == audit["iou"]["roof"]
    assert set(audit["iou"]) == {"roof", "rest"}
    text = done.results.read_text()
    assert text.count("mIoU objects") == 2
    assert "without rest" in done.page.read_text()


def test_predict_and_a_bundle_draw_the_background_as_a_class(done: Layout, tmp_path: Path) -> None:
    checkpoint = done.checkpoints("joint") / "seed0.pt"
    if not checkpoint.is_file():
        pytest.skip("the published preset stops at irnet")
    export_bundle(checkpoint, tmp_path / "bundle")
    source = next(iter(sorted(done.images.iterdir())))
    main(tmp_path / "bundle", [str(source), str(tmp_path / "alone.tif"), "--window", "64", "--threads", "1"])
    predict_raster(checkpoint, source, tmp_path / "map.tif", window=64, machine=CPU)
    found = read(tmp_path / "alone.tif")
    np.testing.assert_array_equal(found, read(tmp_path / "map.tif"))
    assert set(np.unique(found)) <= {0, 1}  # nowhere "no data": what is no object is the background, not a hole
    with rasterio.open(tmp_path / "alone.tif") as file:
        assert file.colormap(1)[1][:3] == SCHEME.colours[1]
        assert file.tags()["CLASS_1"] == "rest"
