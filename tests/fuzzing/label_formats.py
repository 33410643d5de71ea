"""Files of annotation programs and of GIS: boxes, tags, layers."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import geopandas
import shapely
from tests.fuzzing.harness import Format, same, sure
from tests.fuzzing.mutations import as_json, change_bytes, change_text, change_tree
from tests.labels.test_box_files import coco, collection, square
from tests.labels.test_cvat import HEAD, IMAGES, TASK
from tests.labels.test_fiftyone import sample, several
from tests.labels.test_hostile_tag_files import DATA, DRAWN, EXPORTS, MINIMAL, read_layer
from tests.labels.test_label_studio import annotation, choices, task
from tests.labels.test_layer_tags import AREA

from weakseg.core.classes import ISPRS
from weakseg.core.errors import ImportProblems
from weakseg.labels.answers import TagAnswer
from weakseg.labels.box_files import ImportedBoxes, import_boxes, read_boxes
from weakseg.labels.class_map import ClassMap
from weakseg.labels.tag_files import answers_of, read_marks, recognise
from weakseg.raster.header import RasterInfo

NAMES, SIZES = ClassMap(ISPRS), {"t1": (64, 64), "t2": (64, 64)}
AREAS = {"a": RasterInfo(20, 30, 3, "uint8"), "b": RasterInfo(20, 30, 3, "uint8")}


class TreeFormat(Format):
    """JSON that is changed as a tree, and seldom as bytes."""

    suffix = ".json"
    trees: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seeds = [as_json(tree) for tree in self.trees]

    def draw(self, rng: Random) -> bytes:
        number = rng.randrange(len(self.trees))
        if rng.random() < 0.85:
            return as_json(change_tree(rng, self.trees[number]))
        return change_bytes(rng, self.seeds[number], self.seeds)


class BoxFormat(TreeFormat):
    """Boxes: what was imported is read again as it is, and lies inside its raster."""

    areas: ClassVar[dict[str, RasterInfo]] = AREAS

    def take(self, path: Path) -> ImportedBoxes:
        target = self.folder / "boxes.json"
        found = import_boxes([path], target, ISPRS, self.areas, replace=True)
        sizes = {area: (info.height, info.width) for area, info in self.areas.items()}
        again = read_boxes(target, ISPRS, sizes)
        same(sorted(map(repr, again.boxes)), sorted(map(repr, found.boxes)), "written and read again")
        for box in found.boxes:
            height, width = sizes[box.area]
            sure(box.name in ISPRS.names and box.height > 0 < box.width, f"{box}")
            sure(box.row >= 0 <= box.column, f"{box}")
            sure(box.row + box.height <= height and box.column + box.width <= width, f"{box} leaves its raster")
        return found


RING = [1, 1, 9, 1, 9, 9, 1, 9]


class CocoFormat(BoxFormat):
    name = "coco"
    inputs = 3000
    trees = (
        coco(),
        coco(
            annotations=[
                {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [RING], "bbox": [1, 1, 8, 8]},
                {"id": 2, "image_id": 8, "category_id": 3, "segmentation": {"size": [20, 30], "counts": [5, 4, 591]}},
            ]
        ),
    )  # fmt: skip

    def read(self, path: Path, content: bytes) -> None:
        found = self.take(path)
        stated = json.loads(content.decode("utf-8-sig"))
        same(len(found.boxes), len(stated["annotations"]), "annotations")
        boxes = sorted((box.column, box.row, box.width, box.height) for box in found.boxes)
        expected = []
        for row in stated["annotations"]:
            if row.get("bbox") and not row.get("segmentation"):
                x, y, width, height = map(float, row["bbox"])
                left, top = max(0, math.floor(x + 0.01)), max(0, math.floor(y + 0.01))
                right, bottom = min(30, math.ceil(x + width - 0.01)), min(20, math.ceil(y + height - 0.01))
                if not (row.get("attributes") or {}).get("rotation"):
                    expected.append((left, top, max(1, right - left), max(1, bottom - top)))
        for window in expected:
            sure(any(all(abs(a - b) <= 1 for a, b in zip(window, box, strict=True)) for box in boxes), f"bbox {window}")


UTM = {"type": "name", "properties": {"name": "EPSG:32632"}}
LEFT, TOP = 400_000.0, 5_000_000.0
NEAR = (LEFT + 2, TOP - 8, LEFT + 6, TOP - 3)
PARTS = [shapely.box(LEFT, TOP - 1, LEFT + 1, TOP), shapely.box(LEFT + 5, TOP - 9, LEFT + 7, TOP - 5)]
TWO = shapely.geometry.mapping(shapely.MultiPolygon(PARTS))


class GeojsonFormat(BoxFormat):
    name = "geojson boxes"
    inputs = 3000
    suffix = ".geojson"
    areas: ClassVar[dict[str, RasterInfo]] = {"t1": AREA}
    trees = (
        collection(square(*NEAR), square(LEFT, TOP - 2, LEFT + 3, TOP), crs=UTM),
        collection(square(*NEAR, area="t1", crowd=True), crs=UTM, areas=["t1"], classes=["tree"]),
        collection({"type": "Feature", "properties": {"class": "tree"}, "geometry": TWO}, crs=UTM),
    )

    def read(self, path: Path, content: bytes) -> None:
        found = self.take(path)
        stated = json.loads(content.decode("utf-8-sig"))
        crs = stated.get("crs") or {}
        if (crs.get("properties") or {}).get("name") != "EPSG:32632":
            return  # the places of another CRS are those of tests/generators
        outlines = [shapely.geometry.shape(row["geometry"]) for row in stated["features"] if row.get("geometry")]
        raster = shapely.box(LEFT, TOP - 32, LEFT + 32, TOP)
        for outline in outlines:
            whole = outline if outline.is_valid else shapely.make_valid(outline, method="structure")
            seen = whole.intersection(raster)  # what reaches over the rim is cut off
            sure(not seen.is_empty, f"outside {outline.wkt[:200]}")
            left, low, right, top = seen.bounds
            columns, rows = ((left - LEFT) / 0.5, (right - LEFT) / 0.5), ((TOP - top) / 0.5, (TOP - low) / 0.5)
            inside = [
                box for box in found.boxes
                if box.column >= columns[0] - 1.5 and box.column + box.width <= columns[1] + 1.5
                and box.row >= rows[0] - 1.5 and box.row + box.height <= rows[1] + 1.5
            ]  # fmt: skip
            sure(bool(inside), f"no box in {outline.wkt[:200]}")


class VectorFormat(BoxFormat):
    """GeoPackage and FlatGeobuf with wrong bytes: the reader is GDAL's."""

    name = "gpkg and fgb"
    inputs = 1500
    sample = 15
    suffix = ".gpkg"
    areas: ClassVar[dict[str, RasterInfo]] = {"t1": AREA}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shapes = [shapely.box(LEFT + 2, TOP - 8, LEFT + 6, TOP - 3), shapely.box(LEFT, TOP - 2, LEFT + 3, TOP)]
        frame = geopandas.GeoDataFrame({"class": ["car", "tree"]}, geometry=shapes, crs="EPSG:32632")
        for suffix in (".gpkg", ".fgb"):
            frame.to_file(folder / f"seed{suffix}")
            self.seeds.append((folder / f"seed{suffix}").read_bytes())

    def draw(self, rng: Random) -> bytes:
        return change_bytes(rng, rng.choice(self.seeds))

    def read(self, path: Path, content: bytes) -> None:
        named = path if content[:6] == b"SQLite" else path.with_suffix(".fgb")
        named.write_bytes(content)
        self.take(named)


class ProgramFormat(TreeFormat):
    """Exports of annotation programs: what is read names classes of the file, and crops that are there."""

    def read(self, path: Path, content: bytes) -> None:
        recognise(path)
        marks = read_marks(self.name, path)
        read = answers_of(marks, NAMES, SIZES, kind=self.name, unmarked="unknown", annotator="a", time="t")
        _refuse(read.problems)
        check_answers(read.answers, content.decode("utf-8-sig"))


def _refuse(problems: tuple[str, ...]) -> None:
    if problems:
        raise ImportProblems(problems)


def check_answers(answers: tuple[TagAnswer, ...], text: str) -> None:
    """Classes that are present stand in the file; crops lie inside their areas."""
    for answer in answers:
        row, column, height, width = answer.window
        rows, columns = SIZES[answer.area]
        sure(
            row >= 0 <= column and height > 0 < width and row + height <= rows and column + width <= columns,
            f"{answer}",
        )
        sure(set(answer.asked) <= set(ISPRS.names) and len(set(answer.asked)) == len(answer.asked), f"{answer}")
        sure(all(name in text for name in answer.present), f"present {answer.present}, nowhere in the file")
        sure(math.isfinite(answer.seconds) and answer.seconds >= 0, f"{answer}")
        replace(answer, id="x").check(ISPRS)


class LabelStudioFormat(ProgramFormat):
    name = "label-studio"
    trees = (
        [task(annotation(choices("tree", "car"))), task(annotation(*DRAWN), image="d/t1.png")],
        [task(annotation(choices("tree")), **{**DATA, "height": 64, "width": 64, "area_width": 64})],
        [MINIMAL],
    )


class ViaFormat(ProgramFormat):
    name = "via"
    trees = (EXPORTS["via"][1],)


class FiftyOneFormat(ProgramFormat):
    name = "fiftyone"
    trees = (
        {"samples": [sample("d/t1.png", metadata=None, g=several("tree", "car"))]},
        {"classes": ["tree", "car"], "labels": {"t1": [0, 1], "t2": {"label": "tree"}}},
    )


class LayerFormat(TreeFormat):
    """Layers of GIS programs and of OpenStreetMap, and crops that QGIS has tagged."""

    name = "layers"
    suffix = ".geojson"
    trees = tuple(EXPORTS[kind][1] for kind in ("layer", "osm", "crops"))

    def read(self, path: Path, content: bytes) -> None:
        for kind in ("crops", "osm"):
            read_layer(kind, path)


class CvatFormat(Format):
    """XML, and the zip that it comes in."""

    name = "cvat"
    suffix = ".xml"
    tokens = (
        "<image>", "</image>", "<tag/>", '<tag label="tree"/>', "&amp;", "&#0;", "&x;", "<x>", "<!-- -->",
        "<![CDATA[", '"',
        "<!DOCTYPE a>", "label=", "t1__0_0_16_16.png", "-1", "1e9", "tree", "hedge", "\0", "<?xml?>", "\ud800",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.text = f"{HEAD}<annotations><meta>{TASK.format(id=3, who='ana')}</meta>{IMAGES}</annotations>"
        self.text = self.text.replace('source="auto"', 'source="manual"')
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.xml", self.text)
        self.seeds = [self.text.encode(), packed.getvalue()]

    def draw(self, rng: Random) -> bytes:
        if rng.random() < 0.7:
            return change_text(rng, self.text, self.tokens).encode("utf-8", "surrogatepass")
        return change_bytes(rng, rng.choice(self.seeds))

    def read(self, path: Path, content: bytes) -> None:
        named = path.with_suffix(".zip") if content[:2] == b"PK" else path
        named.write_bytes(content)
        recognise(named)
        marks = read_marks("cvat", named)
        read = answers_of(marks, NAMES, SIZES, kind="cvat", unmarked="unknown", annotator="a", time="t")
        _refuse(read.problems)
        text = content if content[:2] != b"PK" else zipfile.ZipFile(io.BytesIO(content)).read("annotations.xml")
        check_answers(read.answers, text.decode("utf-8", "replace"))


LABEL_FORMATS = (
    CocoFormat, GeojsonFormat, VectorFormat, LabelStudioFormat, ViaFormat, FiftyOneFormat, LayerFormat, CvatFormat,
)  # fmt: skip
