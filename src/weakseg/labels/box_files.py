"""Box files of other programs, checked: COCO JSON, GeoJSON, GeoPackage, Shapefile; all problems in one report.

Features lie on the ground: GeoJSON without a ``crs`` member counts longitude and latitude (RFC 7946), every other file
names its CRS; an area whose raster names no CRS takes the coordinates as its own map units, or as pixels (x right, y
down) where it has no place. COCO counts pixels (:mod:`weakseg.labels.coco`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weakseg.core.class_names import did_you_mean, fold_name
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError, ImportProblems
from weakseg.core.reading import read_json
from weakseg.labels.box_reading import BoxReading
from weakseg.labels.box_table import Box, BoxTable, write_boxes
from weakseg.labels.coco import read_coco
from weakseg.labels.feature_boxes import place_features
from weakseg.labels.geojson import VECTOR_SUFFIXES, read_geojson, read_vector
from weakseg.raster.header import RasterInfo

SUFFIXES: Final = (".json", ".geojson", *VECTOR_SUFFIXES)
_LISTED: Final = 200


@dataclass(frozen=True)
class ImportedBoxes(BoxTable):
    """Boxes that came in.

    Attributes:
        notices: what was left out, and what could have been read in another way; a sentence each.
    """

    notices: tuple[str, ...] = ()


def import_boxes(
    sources: Sequence[Path],
    target: Path,
    scheme: ClassScheme,
    areas: Mapping[str, RasterInfo],
    *,
    single_objects: bool = False,
    skip_classes: Sequence[str] = (),
    replace: bool = False,
) -> ImportedBoxes:
    """Check box files and write them as one COCO JSON, or report every problem and write nothing.

    Args:
        sources: COCO JSON, GeoJSON, GeoPackage, Shapefile or FlatGeobuf files, or folders of them.
        target: usually data/boxes/boxes.json.
        scheme: the classes that boxes may name.
        areas: header of every raster that boxes may lie in.
        single_objects: COCO's ``iscrowd: 1`` is one object whose outline is run lengths (CVAT, Label Studio).
        skip_classes: classes of the files to leave out, whether or not the scheme has them.
        replace: give up the boxes that are there.

    Raises:
        ImportProblems: anything wrong with the sources, a line each.
        DataError: ``target`` exists and ``replace`` is off.
    """
    if target.exists() and not replace:
        raise DataError(f"{target} is there", expected="no boxes yet", cure="say --replace, or keep them")
    reading = BoxReading(scheme, areas, single_objects, frozenset(skip_classes))
    files = [file for source in sources for file in _files(source, reading)]
    found = _join([_read(file, reading) for file in files], reading)
    if files and not reading.problems and not found.boxes and not found.searched:
        reading.refuse("no box", expected="one at least", cure="name files that hold boxes")
    for name in (name for name in skip_classes if name not in reading.left_out):
        if meant := next((one for one in scheme.names if fold_name(one) == fold_name(name)), None):
            reading.refuse(
                f"--skip-classes {name}, which no file has",
                expected=f"a name as the files have it{did_you_mean(name, [meant])}",
                cure="mend it, or leave it out",
            )
    if reading.problems:
        more = [f"and {len(reading.problems) - _LISTED} more"] if len(reading.problems) > _LISTED else []
        raise ImportProblems([*reading.problems[:_LISTED], *more])
    write_boxes(target, found, scheme, {area: (info.height, info.width) for area, info in areas.items()})
    notices = [*reading.notices, *(f"{count} of {name} left out" for name, count in reading.left_out.items())]
    return ImportedBoxes(found.boxes, found.searched, tuple(notices))


def read_boxes(path: Path, scheme: ClassScheme, sizes: Mapping[str, tuple[int, int]]) -> BoxTable:
    """Read a COCO JSON that weakseg has written; ``sizes``: height and width of each area, px.

    Raises DataError with the first problems where the file has been changed by hand and is wrong now.
    """
    if not path.is_file():
        raise DataError(
            f"no file {path}", expected="boxes", cure="run `weakseg data boxes`, or set boxes.source: masks"
        )
    areas = {area: RasterInfo(height, width, 3, "uint8") for area, (height, width) in sizes.items()}
    reading = BoxReading(scheme, areas)
    table = _read(path, reading)
    if reading.problems:
        raise DataError(
            f"{path}: {len(reading.problems)} problem(s), first {reading.problems[0]}",
            expected="boxes as `weakseg data boxes` writes them",
            cure="import them again",
        )
    return table


def _join(tables: Sequence[BoxTable], reading: BoxReading) -> BoxTable:
    """One table of all files: an area may have boxes of several; the same box twice is a problem."""
    named = {name for table in tables for names in table.searched.values() for name in names}
    order = tuple(name for name in reading.scheme.names if name in named)
    boxes = [box for table in tables for box in table.boxes]
    searched: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for area, names in table.searched.items():
            searched[area] = tuple(n for n in order if n in {*searched.get(area, ()), *names})
    repeats = Counter((box.area, box.window, box.name) for box in boxes)
    reading.problems += [f"area {a}: box {w} of {n} {count} times" for (a, w, n), count in repeats.items() if count > 1]
    return BoxTable((*boxes, *_reaching(boxes, searched, reading)), searched)


def _reaching(boxes: Sequence[Box], searched: Mapping[str, tuple[str, ...]], reading: BoxReading) -> list[Box]:
    """Crowd regions where an object reaches from the raster that it names into another that was searched for it.

    Without them the class would be absent there. An object that has its box there too needs none.
    """
    drawn: dict[tuple[str, str], list[Box]] = defaultdict(list)
    for box in boxes:
        drawn[box.area, box.name].append(box)
    regions = [
        region
        for region in dict.fromkeys(reading.reaching)
        if region.name in searched.get(region.area, ())
        and not any(_covers(box, region) for box in drawn[region.area, region.name])
    ]
    if regions:
        reading.notices.append(
            f"{len(regions)} object(s) reach into rasters other than the one that they or their files name: "
            "their class stays possible there"
        )
    return regions


def _covers(box: Box, other: Box) -> bool:
    """Whether ``other``, of the same area, lies wholly in ``box``."""
    left = box.row <= other.row and box.column <= other.column
    return (
        left
        and box.row + box.height >= other.row + other.height
        and box.column + box.width >= other.column + other.width
    )


def _files(source: Path, reading: BoxReading) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(p for p in source.glob("*") if p.suffix.lower() in SUFFIXES) if source.is_dir() else []
    if not found:
        reading.refuse(f"{source}: no box file", expected=f"one of {', '.join(SUFFIXES)}", cure="mend the path")
    return found


def _read(file: Path, reading: BoxReading) -> BoxTable:
    if file.suffix.lower() in VECTOR_SUFFIXES:
        return place_features(read_vector(file, reading), reading)
    try:
        content = read_json(file)
    except DataError as error:
        reading.problems.append(str(error))
        return BoxTable()
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return place_features(read_geojson(file, content, reading), reading)
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content):
        return read_coco(file, content, reading)
    wanted = "a GeoJSON FeatureCollection, or COCO with images, annotations and categories"
    reading.refuse(f"{file}: neither GeoJSON nor COCO", expected=wanted, cure="export it again")
    return BoxTable()
