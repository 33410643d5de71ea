"""Crops out to Label Studio and QGIS and back: the same crops, the same tags."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rasterio.crs import CRS
from tests.tagging.test_exchange import rows, say, write

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, ImportProblems, ParamsError
from weakseg.labels.tag_table import raster_sizes, read_tags, write_tags
from weakseg.labels.tags import TagWindow
from weakseg.raster.header import RasterInfo
from weakseg.raster.open import read_image, read_window
from weakseg.raster.write import write_raster
from weakseg.tagging import handing_out

OTHERS = ("impervious_surface", "building", "low_vegetation")
TAGS = [
    TagWindow("t1", 0, 0, 16, 16, ("tree", "car")),
    TagWindow("t1", 3, 17, 29, 31, ("tree",), ("car",)),
    TagWindow("t2", 0, 0, 64, 64, ("car",), OTHERS),
    TagWindow("t2", 48, 48, 16, 16),
]
PLACE = RasterInfo(64, 64, 3, "uint8", CRS.from_epsg(32632).to_wkt(), (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_000_000.0))


@pytest.fixture
def tagged(workspace: Path) -> Path:
    write_tags(workspace / "data" / "tags" / "tags.csv", TAGS, ISPRS, raster_sizes(workspace / "data" / "images"))
    return workspace


def forget(workspace: Path) -> None:
    for folder in (workspace / "data" / "tags", workspace / "tagging"):
        shutil.rmtree(folder, ignore_errors=True)


def change(file: Path, row: int, **values: str) -> None:
    """What QGIS does to a row of the table."""
    import geopandas

    frame = geopandas.read_file(file, layer="crops_px")
    for column, value in values.items():
        frame.loc[row, column] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a layer without a CRS
        frame.to_file(file, layer="crops_px", driver="GPKG")


def submit(task: dict[str, Any]) -> dict[str, Any]:
    """What Label Studio exports when somebody submits the prediction as it is."""
    results = [result for one in task["predictions"] for result in one["result"]]
    done = {"id": 1, "completed_by": {"id": 1, "email": "ana@x.org"}, "result": results, "was_cancelled": False}
    return {"id": 1, "data": task["data"], "annotations": [done], "predictions": []}


@pytest.mark.parametrize("pictures", ["chips", "scenes"])
def test_what_label_studio_gets_comes_back_the_same(tagged: Path, pictures: str) -> None:
    said = say(tagged, "--to", "label-studio", "--pictures", pictures, str(tagged / "tasks.json"))
    assert f"of 4 crops to {tagged}/tasks.json" in said
    tasks = json.loads((tagged / "tasks.json").read_text())
    assert len(tasks) == {"chips": 4, "scenes": 2}[pictures]
    forget(tagged)
    file = write(tagged, [submit(task) for task in tasks])
    say(tagged, file)
    assert rows(tagged) == TAGS[:3]  # of the fourth nobody has said anything


def test_chips_are_the_pixels_of_their_windows_and_tasks_say_which(tagged: Path) -> None:
    say(tagged, "--to", "label-studio", str(tagged / "tasks.json"))
    chip = read_image(tagged / "tasks" / "t1__3_17_29_31.png")
    assert np.array_equal(chip, read_window(tagged / "data" / "images" / "t1.tif", (3, 17, 29, 31)))
    task = json.loads((tagged / "tasks.json").read_text())[1]
    assert task["data"] == {
        "image": "/data/local-files/?d=tasks/t1__3_17_29_31.png",
        "area": "t1",
        "row": 3,
        "column": 17,
        "height": 29,
        "width": 31,
        "area_height": 64,
        "area_width": 64,
    }
    assert [(r["from_name"], r["value"]["choices"]) for r in task["predictions"][0]["result"]] == [
        ("classes", ["tree"]),
        ("unsure", ["car"]),
    ]
    view = ElementTree.fromstring((tagged / "tasks.xml").read_text())
    controls = {one.get("name"): one for one in view.iter("Choices")}
    assert {name: one.get("choice") for name, one in controls.items()} == {"classes": "multiple", "unsure": "multiple"}
    assert [one.get("value") for one in controls["classes"]] == list(ISPRS.names)


def test_a_chip_is_known_by_its_name_alone_to_the_other_programs(tagged: Path) -> None:
    say(tagged, "--to", "label-studio", "--prefix", "https://x/", str(tagged / "tasks.json"))
    names = [path.name for path in sorted((tagged / "tasks").iterdir())]
    assert names == ["t1__0_0_16_16.png", "t1__3_17_29_31.png", "t2__0_0_64_64.png", "t2__48_48_16_16.png"]
    assert json.loads((tagged / "tasks.json").read_text())[0]["data"]["image"] == "https://x/t1__0_0_16_16.png"
    forget(tagged)
    marks = "".join(f'<image id="0" name="{name}"><tag label="tree"/><tag label="car"/></image>' for name in names)
    say(tagged, write(tagged, f"<annotations>{marks}</annotations>", "cvat.xml"))
    assert {(row.area, row.window) for row in rows(tagged)} == {(row.area, row.window) for row in TAGS}


@pytest.mark.parametrize("placed", [True, False])
def test_what_qgis_gets_comes_back_the_same(tagged: Path, placed: bool) -> None:
    image = tagged / "data" / "images" / "t1.tif"
    write_raster(image, read_image(image), PLACE if placed else None)
    said = say(tagged, "--to", "qgis", str(tagged / "crops.gpkg"))
    assert said.startswith(f"wrote 4 crops to {tagged}/crops.gpkg; open it in QGIS")
    forget(tagged)
    assert "1 crop(s) nobody has tagged skipped" in say(tagged, str(tagged / "crops.gpkg"))
    assert rows(tagged) == TAGS[:3]


def test_what_people_change_in_qgis_comes_in_under_their_names(tagged: Path) -> None:
    file = tagged / "crops.gpkg"
    say(tagged, "--to", "qgis", str(file))
    change(file, 3, is_building="yes", annotator="Ana")
    change(file, 1, is_car="no")
    say(tagged, "--from", "qgis", str(file))
    assert rows(tagged)[1] == TagWindow("t1", 3, 17, 29, 31, ("tree",))
    assert rows(tagged)[3] == TagWindow(
        "t2", 48, 48, 16, 16, ("building",), ("impervious_surface", "low_vegetation", "tree", "car")
    )
    change(file, 0, is_car="maybe")
    with pytest.raises(ImportProblems, match="row 1: is_car 'maybe'; expected yes, no, unknown or empty"):
        say(tagged, str(file))


def test_crops_of_rasters_with_and_without_a_place_get_a_layer_each_with_a_style(tagged: Path) -> None:
    import shapely
    from pyogrio import list_layers, raw

    image = tagged / "data" / "images" / "t1.tif"
    write_raster(image, read_image(image), PLACE)
    say(tagged, "--to", "qgis", str(tagged / "crops.gpkg"))
    file = tagged / "crops.gpkg"
    assert dict(map(tuple, list_layers(file))) == {"crops": "Polygon", "crops_px": "Polygon", "layer_styles": None}
    meta, _, outlines, _ = raw.read(file, layer="crops")
    assert meta["crs"] == "EPSG:32632"
    assert shapely.from_wkb(outlines[1]).bounds == (400_008.5, 4_999_984.0, 400_024.0, 4_999_998.5)
    meta, _, outlines, _ = raw.read(file, layer="crops_px")
    assert meta["crs"] is None
    assert shapely.from_wkb(outlines[1]).bounds == (48, -64, 64, -48)
    with closing(sqlite3.connect(file)) as base:
        styles = dict(base.execute("SELECT f_table_name, useAsDefault FROM layer_styles").fetchall())
        qml = base.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
    assert styles == {"crops": 1, "crops_px": 1}
    rules = ElementTree.fromstring(qml.split("\n", 1)[1]).findall(".//rule")
    assert [(rule.get("label"), rule.get("filter")) for rule in rules][:2] == [
        ("crop", None),
        ("impervious_surface", "\"is_impervious_surface\" = 'yes'"),
    ]


QGIS = """
import os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import (QgsApplication, QgsVectorLayer, QgsRasterLayer, QgsMapSettings, QgsMapRendererSequentialJob)
from qgis.PyQt.QtCore import QSize
app = QgsApplication([], False)
app.initQgis()
layer = QgsVectorLayer(sys.argv[1] + "|layername=crops", "crops", "ogr")
image = QgsRasterLayer(sys.argv[2], "image")
renderer = layer.renderer()
print(layer.isValid(), renderer.type(), [rule.label() for rule in renderer.rootRule().children()])
field = layer.fields().indexOf("is_tree")
print(layer.editorWidgetSetup(field).type(), layer.editorWidgetSetup(field).config())
settings = QgsMapSettings()
settings.setLayers([layer, image])
settings.setDestinationCrs(layer.crs())
settings.setExtent(image.extent())
settings.setOutputSize(QSize(400, 400))
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[3])
sys.stdout.flush()
os._exit(0)  # exitQgis crashes where layers are still held
"""
SYSTEM = Path("/usr/bin/python3")
HAS_QGIS = SYSTEM.exists() and Path("/usr/lib/python3/dist-packages/qgis").is_dir()


@pytest.mark.skipif(not HAS_QGIS, reason="QGIS is not installed")
def test_qgis_itself_opens_the_layer_with_its_colours_and_its_form(tagged: Path) -> None:
    image = tagged / "data" / "images" / "t1.tif"
    write_raster(image, np.zeros_like(read_image(image)), PLACE)
    say(tagged, "--to", "qgis", str(tagged / "crops.gpkg"))
    words = [str(SYSTEM), "-c", QGIS, str(tagged / "crops.gpkg"), str(image), str(tagged / "map.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    valid, form = done.stdout.splitlines()[:2]
    assert valid == f"True RuleRenderer {['crop', *ISPRS.names]}"
    assert form == "ValueMap {'map': [{'yes': 'yes'}, {'no': 'no'}, {'unknown': 'unknown'}]}"
    picture = read_image(tagged / "map.png", bands=(1, 2, 3)).reshape(-1, 3)
    counts = [int((picture == colour).all(1).sum()) for colour in ISPRS.colours]
    assert counts[1] == 0  # no building
    assert counts[3] > 1.5 * counts[4] > 0  # two crops with a tree, one with a car


def test_an_order_without_a_crop_hands_nothing_out(tagged: Path) -> None:
    """It counted as no order: all crops went out."""
    order = write(tagged, "area,row,column,height,width\n", "next.csv")
    with pytest.raises(DataError, match=r"nothing to tag: no crop in .*next\.csv"):
        say(tagged, "--to", "qgis", "--order", order, str(tagged / "some.gpkg"))
    assert not (tagged / "some.gpkg").exists()


def test_an_order_says_which_crops_go_out(tagged: Path) -> None:
    order = write(tagged, "area,row,column,height,width\nt1,32,32,16,16\nt1,0,0,16,16\n", "next.csv")
    say(tagged, "--to", "qgis", "--order", order, str(tagged / "some.gpkg"))
    with closing(sqlite3.connect(tagged / "some.gpkg")) as base:
        found = base.execute('SELECT "row", is_tree, is_building, guess FROM crops_px').fetchall()
    assert found == [(32, None, None, None), (0, "yes", "no", None)]


def test_options_that_do_not_fit_are_refused(tagged: Path) -> None:
    with pytest.raises(ParamsError, match="--to excel; expected one of label-studio, qgis"):
        say(tagged, "--to", "excel", str(tagged / "a.json"))
    with pytest.raises(ParamsError, match="--to qgis with 0 files; expected the file to write"):
        say(tagged, "--to", "qgis")
    with pytest.raises(DataError, match=r"a name that ends in \.json"):
        say(tagged, "--to", "label-studio", str(tagged / "a.gpkg"))
    with pytest.raises(DataError, match=r"a name that ends in \.gpkg"):
        say(tagged, "--to", "qgis", str(tagged / "a.json"))


def test_without_a_table_the_crops_that_want_tags_go_out(workspace: Path) -> None:
    say(workspace, "--to", "qgis", str(workspace / "a.gpkg"))
    with closing(sqlite3.connect(workspace / "a.gpkg")) as base:
        assert base.execute("SELECT area, count(*) FROM crops_px GROUP BY area").fetchall() == [("t1", 16), ("t2", 16)]


@pytest.mark.parametrize("kind", ["label-studio", "qgis"])
def test_crops_without_an_object_beside_a_background_come_back_too(workspace: Path, kind: str) -> None:
    scheme = replace(ISPRS, background="low_vegetation")
    scheme.save(workspace / "data" / "classes.yaml")
    table = workspace / "data" / "tags" / "tags.csv"
    kept = [
        TagWindow("t1", 0, 0, 16, 16, ("low_vegetation",)),
        TagWindow("t1", 0, 16, 16, 16, ("tree", "car"), ("building",)),
    ]
    write_tags(table, kept, scheme, raster_sizes(workspace / "data" / "images"))
    file = workspace / ("tasks.json" if kind == "label-studio" else "crops.gpkg")
    say(workspace, "--to", kind, str(file))
    forget(workspace)
    if kind == "label-studio":
        file = Path(write(workspace, [submit(task) for task in json.loads(file.read_text())]))
    say(workspace, str(file))
    assert read_tags(table, scheme, raster_sizes(workspace / "data" / "images")) == kept


class Oracle:
    """Guesses the same of every crop."""

    digest, fault = "0123456789abcdef", ""

    def guess(self, crops: list[Any], *, patience: float) -> list[dict[str, float]]:
        assert patience > 0
        return [{"tree": 0.9, "car": 0.5, "building": 0.1} for _ in crops]


def test_a_model_guesses_where_nothing_is_known_and_says_how_sure_it_is(
    tagged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_out, "open_guesser", lambda *_: (Oracle(), Path("out/checkpoints/pixel/seed0.pt")))
    order = write(tagged, "area,row,column,height,width\nt2,48,48,16,16\nt1,0,0,16,16\n", "next.csv")
    how = ["--order", order, "--model", "out/checkpoints/pixel/seed0.pt"]
    say(tagged, "--to", "label-studio", *how, str(tagged / "tasks.json"))
    guessed, known = (task["predictions"][0] for task in json.loads((tagged / "tasks.json").read_text()))
    assert (guessed["model_version"], guessed["score"]) == ("pixel/seed0.pt 0123456789ab", 0.7667)
    assert guessed["result"][0]["value"]["choices"] == ["tree", "car"]
    assert (known["model_version"], known["result"][0]["value"]["choices"]) == ("tags.csv", ["tree", "car"])
    assert "score" not in known
    say(tagged, "--to", "qgis", *how, str(tagged / "crops.gpkg"))
    with closing(sqlite3.connect(tagged / "crops.gpkg")) as base:
        found = base.execute("SELECT is_tree, guess FROM crops_px").fetchall()
    assert found == [(None, "tree 0.90, car 0.50"), ("yes", None)]
