"""Exports with something wrong in them, drawn at random: each is read, or refused in one sentence."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.labels.test_cvat import HEAD, IMAGES, TASK
from tests.labels.test_fiftyone import sample, several
from tests.labels.test_label_studio import annotation, choices, task
from tests.labels.test_layer_tags import AREA
from tests.labels.test_via import image, project

from weakseg.core.classes import ISPRS
from weakseg.core.errors import DataError, WeaksegError
from weakseg.labels.box_reading import BoxReading
from weakseg.labels.class_map import ClassMap
from weakseg.labels.crop_layer import read_crop_layer
from weakseg.labels.label_studio_tasks import rectangle
from weakseg.labels.layer_tags import classed_layer, layer_answers, layer_kinds, osm_layer, read_features
from weakseg.labels.osm_tags import OsmMap
from weakseg.labels.projection import crs_of
from weakseg.labels.tag_files import answers_of, read_marks, recognise
from weakseg.labels.tags import window_grid

NAMES, SIZES = ClassMap(ISPRS), {"t1": (64, 64)}
JUNK = [None, True, 0, -1, 1.5, 1e400, float("nan"), "", "x", "a\0b", [], {}, [1], {"a": 1}, 10**30, "http://[x"]
WHERE = rectangle((16, 32, 16, 32), (64, 64))
RING = [[400_000, 5_000_000], [400_010, 5_000_000], [400_010, 4_999_990], [400_000, 5_000_000]]
ABOUT = {"class": "tree", "building": "yes", "annotator": "A", "area": "t1", "tags": {"a": "b"}}
CROP = {
    "area": "t1",
    "row": 0,
    "column": 0,
    "height": 3,
    "width": 3,
    "area_height": 64,
    "is_tree": "yes",
    "is_car": "no",
}
DATA = {"image": "d/t1.png", "area": "t1", "row": 0, "column": 0, "height": 3, "width": 4, "area_height": 64}
MINIMAL = {"image": "t1.png", "choice": {"choices": ["tree"]}, "annotator": 1, "annotation_id": 4, "lead_time": 2}


def collection(about: dict[str, Any], **more: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [RING]}
    feature = {"type": "Feature", "id": "way/1", "properties": about, "geometry": geometry}
    return {"type": "FeatureCollection", "features": [feature], **more}


DRAWN = [{"id": "r", "type": "rectangle", **WHERE}, choices("tree", region="r", **WHERE)]
CHECKBOX = {"type": "checkbox", "options": {"tree": "", "car": ""}}
EXPORTS: dict[str, tuple[str, Any]] = {
    "tasks": ("label-studio", [task(annotation(choices("tree", "car"))), task(annotation(*DRAWN), **DATA)]),
    "minimal": ("label-studio", [MINIMAL]),
    "via": ("via", project([image("t1.png", cover={"tree": True, "car": True})], cover=CHECKBOX)),
    "samples": ("fiftyone", {"samples": [sample("data/t1.png", g=several("tree", "car"))]}),
    "labels": ("fiftyone", {"classes": ["tree", "car"], "labels": {"t1": [0, 1], "a": {"label": "tree"}}}),
    "layer": ("qgis", collection(ABOUT, crs={"type": "name", "properties": {"name": "EPSG:32632"}})),
    "osm": ("osm", collection(ABOUT, crs={"type": "name", "properties": {"name": "EPSG:32632"}})),
    "crops": ("crops", collection(CROP)),
}


def places(content: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield from places(value, (*here, key))


def spoil(content: Any, at: tuple[Any, ...], value: Any, *, take: bool) -> Any:
    if not at:
        return value
    place = content
    for key in at[:-1]:
        place = place[key]
    if take:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    return content


def read_layer(kind: str, file: Path) -> None:
    layer_kinds(file, NAMES, None)
    marks = read_crop_layer(file) if kind == "crops" else None
    if marks is not None:
        answers_of(marks, NAMES, SIZES, kind=kind, unmarked=None, annotator="q", time="t")
        return
    reading = BoxReading(ISPRS, {"t1": AREA})
    source = read_features(file, reading)
    if reading.problems:
        return
    names = OsmMap(ISPRS.names, {"building": "building"})
    layer = osm_layer(source, names) if kind == "osm" else classed_layer(source, NAMES, None)
    how: dict[str, Any] = {"kind": kind, "min_share": 0.0, "unmarked": "absent", "annotator": "q", "time": "t"}
    layer_answers(layer, {"t1": AREA}, lambda _: window_grid(64, 64, 16), **how)


def read_program(kind: str, file: Path) -> None:
    recognise(file)
    answers_of(read_marks(kind, file), NAMES, SIZES, kind=kind, unmarked=None, annotator="a", time="t")


@pytest.mark.parametrize("name", EXPORTS)
def test_spoilt_exports_are_read_or_refused(tmp_path: Path, name: str) -> None:
    kind, export = EXPORTS[name]
    layer = kind in ("qgis", "osm", "crops")
    file, read = tmp_path / ("a.geojson" if layer else "a.json"), read_layer if layer else read_program
    rng, spots = random.Random(name), list(places(export))
    refused = 0
    for _ in range(100):
        take = rng.random() < 0.3
        content = spoil(copy.deepcopy(export), rng.choice(spots), rng.choice(JUNK), take=take)
        file.write_text(json.dumps(content))
        refused += _refuses(read, kind, file)
    assert 5 < refused < 100


def test_spoilt_xml_is_read_or_refused(tmp_path: Path) -> None:
    whole = f"{HEAD}<annotations><meta>{TASK.format(id=3, who='ana')}</meta>{IMAGES}</annotations>".encode()
    rng, file = random.Random(0), tmp_path / "a.xml"
    for _ in range(100):
        content, at = bytearray(whole), rng.randrange(len(whole))
        content[at : at + rng.randrange(40)] = rng.choice(
            [b"", b"\xff", b"<image>", b"</image>", b"<tag/>", b"&amp;", b"<x>"]
        )
        file.write_bytes(content)
        _refuses(read_program, "cvat", file)
    file.write_bytes(whole.replace(b"utf-8", b"uta-8"))
    with pytest.raises(DataError, match="unknown encoding"):
        read_marks("cvat", file)


def _refuses(read: Callable[[str, Path], None], kind: str, file: Path) -> bool:
    """Whether a file is refused, in one line; any other error is a fault."""
    said = ""
    try:
        read(kind, file)
    except WeaksegError as error:
        said = str(error)
    assert "\n" not in said
    return bool(said)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:9/crs", "file:///etc/passwd", "/vsicurl/http://x/y", "./a.prj", "C:\\a"]
)
def test_a_crs_is_a_name_and_nothing_is_fetched_or_opened_for_it(text: str) -> None:
    with pytest.raises(DataError, match=r"a link, or a file.*; expected a CRS that GDAL knows"):
        crs_of(text)
    assert crs_of("http://www.opengis.net/def/crs/EPSG/0/32632") == crs_of("EPSG:32632")
