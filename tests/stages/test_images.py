"""Images of differing sizes with a set of tags each, and a background: from the import to a bundle without weakseg."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.inference.one_raster import predict_raster

from weakseg.core.classes import IGNORE, load_classes
from weakseg.core.layout import Layout
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.image_tags import TagSource
from weakseg.data.manifest import load_manifest
from weakseg.data.scenes.object_pictures import REST, make_object_image, object_classes
from weakseg.data.store import open_allowed, open_array
from weakseg.export.model_files import export_bundle
from weakseg.labels.class_map import read_class_map
from weakseg.raster.open import read_mask
from weakseg.raster.write import write_raster
from weakseg.training.machine import Machine

COUNT, MASKED, VALIDATED = 16, 8, 3
SLIM = {"steps": 3, "batch": 4, "report_every": 2}
SCHEME = object_classes(12)
PLAN = (
    *((stage, "") for stage in ("tiles", "classifier", "cam", "crf")),
    *((stage, "crf") for stage in ("pseudo", "audit", "segment", "evaluate")),
    *((stage, source) for source in ("pixel", "consistency") for stage in ("segment", "evaluate")),
    ("report", ""),
)


def slim(raw: dict[str, Any]) -> dict[str, Any]:
    raw["methods"], raw["sources"] = ["crf"], ["pixel", "crf", "consistency"]  # no image of N2 has a mask
    raw["tiles"] |= {"tag_source": "csv", "tag_size": 4096, "holdout": 0.25}
    raw["classifier"] |= {"arch": "vgg16_bn", "weights": "none", "width": 16, "crop": 32, "context": 0.0}
    raw["classifier"]["optimiser"] |= SLIM
    raw["segment"] |= {"class_weights": {}, "refit": False}
    raw["segment"]["favour"] |= {"class_name": "car", "probability": 0.0}
    raw["boxes"] |= {"classes": [], "complete": []}
    return raw


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[], dict[str, Any]]) -> Layout:
    """Sixteen images, the first eight with masks, the others with tags of a CSV, three of which have masks as well."""
    root = tmp_path_factory.mktemp("images")
    names, rows = [], ["image,tags"]
    for number in range(1, COUNT + 1):
        made = make_object_image(12, 0, number)
        write_raster(root / "pictures" / f"{made.name}.png", made.image)
        if number <= MASKED or number > COUNT - VALIDATED:
            write_raster(root / "masks" / f"{made.name}.png", made.mask)
        here = [SCHEME.names[index] for index in np.unique(made.mask) if SCHEME.names[index] != REST]
        rows += [f"{made.name}.png,{' '.join(here) or REST}"] if number > MASKED else []
        names.append(made.name)
    (root / "tags.csv").write_text("\n".join(rows))
    tags = TagSource(root / "tags.csv", read_class_map(None, SCHEME))
    options: dict[str, Any] = {"classes": SCHEME, "tags": tags, "progress": False}
    import_dataset(root / "pictures", [root / "masks"], root / "data", **options)
    raw = slim(tiny())
    raw["tiles"]["areas"] = {
        "pixel": names[:MASKED],
        "tags": names[MASKED:-VALIDATED],
        "validation": names[-VALIDATED:],
    }
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage, source in PLAN:
        module = import_module(f"weakseg.stages.{stage}")
        module.run(root, source) if source else module.run(root)
    return Layout(root)


def test_one_image_is_one_crop_and_of_n1_every_fourth_is_held_out(done: Layout) -> None:
    crops = load_manifest(done.tiles / "manifest.csv", SCHEME.names)
    assert len(crops.ids) == COUNT - VALIDATED
    assert [crops.splits.count(split) for split in ("pixel", "holdout", "tags")] == [6, 2, 5]
    held = [area for area, split in zip(crops.areas, crops.splits, strict=True) if split == "holdout"]
    assert held == ["o004", "o008"]
    for area, window in zip(crops.areas, crops.windows, strict=True):
        assert tuple(window) == (0, 0, *open_array(done.tiles / "images", area).shape[:2])
        if area in (*held, "o001"):
            assert (open_array(done.tiles / "labels", area) == IGNORE).all() == (area in held)
            assert (open_array(done.tiles / "holdout", area) == IGNORE).all() == (area not in held)
    row = crops.select(area="o009")
    present = {SCHEME.names[index] for index in np.flatnonzero(row.present[0])}
    made = make_object_image(12, 0, 9)
    assert present == {SCHEME.names[index] for index in np.unique(made.mask)} - {REST}
    allowed = open_allowed(done.tiles, "o009")
    assert {SCHEME.names[index] for index in allowed.classes} == {*present, REST}  # the background is never absent


def test_the_report_has_a_mean_without_the_background(done: Layout) -> None:
    report = json.loads((done.reports / "evaluate" / "crf.json").read_text())
    assert report["classes"] == list(SCHEME.names)
    assert "mIoU objects" in done.results.read_text()
    assert "without rest" in done.page.read_text()


def test_a_bundle_maps_images_of_any_size_as_predict_does(done: Layout, tmp_path: Path) -> None:
    """Background and classes travel in the model, the bundle and the map; the script needs no weakseg."""
    checkpoint = done.checkpoints("consistency") / "seed0.pt"
    assert load_classes(done.classes).background == REST
    export_bundle(checkpoint, tmp_path / "bundle")
    stored = json.loads((tmp_path / "bundle" / "classes.json").read_text())
    assert REST in json.dumps(stored)
    machine = Machine(device="cpu", precision="no", quiet=True)
    for area in ("o001", "o014"):
        source = done.images / f"{area}.tif"
        predict_raster(checkpoint, source, tmp_path / f"{area}.tif", window=96, machine=machine)
        predict_raster(tmp_path / "bundle", source, tmp_path / f"{area}_bundle.tif", window=96, machine=machine)
        script = [sys.executable, "-I", str(tmp_path / "bundle" / "predict.py"), str(source)]
        alone = tmp_path / f"{area}_alone.tif"
        subprocess.run([*script, str(alone), "--window", "96", "--threads", "1"], check=True, capture_output=True)
        maps = [read_mask(tmp_path / f"{area}{end}.tif", SCHEME) for end in ("", "_bundle", "_alone")]
        assert maps[0].shape == read_mask(done.labels / f"{area}.tif", SCHEME).shape
        assert all((one != maps[0]).mean() <= 2e-3 for one in maps[1:])
