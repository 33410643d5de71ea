"""Open a large map, its polygons and its tiles in headless QGIS, and check names, colours and overviews.

    apt-get install python3-qgis
    python scripts/qgis_check.py MODEL IMAGES OUT [--side 10000]

IMAGES are stitched to a raster of SIDE x SIDE px with a made-up place, on which MODEL makes a map with the commands
that users have (`weakseg predict --confidence --polygons`, `weakseg serve --tiles`). The raster is for size alone:
images that the model was trained on may be in it, nothing is said of accuracy. Writes OUT/look.png (map, a part of it,
polygons, tiles) and OUT/qgis.json; exits with 1 where anything is not as it should be. A map that is there is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CRS, PLACE, RES = "EPSG:32640", (325_000.0, 2_789_000.0), 0.72
ZOOM = 600  # m, side of the part that is looked at closely
VIEW = 620  # px of a picture


# ---- with the packages of weakseg -----------------------------------------------------------------------------------


def stitch(folder: Path, target: Path, side: int) -> None:
    """Images of a folder in rows, again and again, until the raster is full."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    files = sorted(path for path in folder.iterdir() if path.suffix in (".tif", ".png", ".jpg"))
    order = iter(np.random.default_rng(0).permutation(np.arange(len(files)).repeat(side)).tolist())
    layout = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "tiled": True}
    layout |= {"compress": "deflate", "photometric": "RGB", "crs": CRS, "transform": from_origin(*PLACE, RES, RES)}
    canvas = np.zeros((3, side, side), np.uint8)
    row = 0
    while row < side:
        images, width = [], 0
        while width < side:
            with rasterio.open(files[next(order)]) as file:
                images.append(file.read([1, 2, 3]))
            width += images[-1].shape[2]
        height, column = min(image.shape[1] for image in images), 0
        for image in images:
            part = image[:, : min(height, side - row), : side - column]
            canvas[:, row : row + part.shape[1], column : column + part.shape[2]] = part
            column += part.shape[2]
        row += height
    with rasterio.open(target, "w", **layout) as file:
        file.write(canvas)


def check_overviews(path: Path, classes: int) -> dict[str, Any]:
    """Factors of the overviews, and whether all their px are classes, of the four px below them."""
    import rasterio

    with rasterio.open(path) as file:
        finer, factors = file.read(1), file.overviews(1)
    fits = True
    for level in range(len(factors)):
        with rasterio.open(path, OVERVIEW_LEVEL=level) as file:
            values = file.read(1)
        height, width = values.shape
        fits &= bool(((values < classes) | (values == 255)).all())
        if finer.shape == (2 * height, 2 * width):  # else a px lies over parts of others
            below = finer.reshape(height, 2, width, 2)
            fits &= bool((below == values[:, None, :, None]).any((1, 3)).all())
        finer = values
    return {"factors": factors, "classes_of_the_map": fits}


@contextmanager
def serving(model: Path, tiles: Path) -> Iterator[str]:
    """The address of `weakseg serve` with tiles of a map."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [*_weakseg(), "serve", "--model", str(model), "--tiles", str(tiles), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(240):
            time.sleep(0.5)
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
                break
            except OSError:
                continue
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _weakseg() -> list[str]:
    return [sys.executable, "-m", "weakseg"]


def main() -> None:
    """Make, serve, look, tell."""
    from weakseg.maps.legend import read_legend

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=10_000, help="px")
    parser.add_argument("--overlap", default="0.15", help="of windows")
    parser.add_argument("--qgis-python", default="/usr/bin/python3", help="the Python that has qgis")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scene, made = options.out / "scene.tif", options.out / "map.tif"
    if not scene.is_file():
        stitch(options.images, scene, options.side)
    polygons, seconds = options.out / "map.gpkg", 0.0
    if not polygons.is_file():
        began = time.monotonic()
        command = [*_weakseg(), "predict", str(scene), str(made), "--model", str(options.model)]
        command += ["--overlap", options.overlap, "--confidence", str(options.out / "sure.tif")]
        subprocess.run([*command, "--polygons", str(polygons)], check=True)
        seconds = time.monotonic() - began
    scheme = read_legend(made)
    wanted = {
        name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in zip(scheme.names, scheme.colours, strict=True)
    }
    with serving(options.model, made) as address:
        asked = {"map": str(made), "polygons": str(polygons), "tiles": address, "look": str(options.out / "look.png")}
        inside = [options.qgis_python, __file__, "--inside", json.dumps(asked)]
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
        environment.pop("PYTHONPATH", None)
        answer = subprocess.run(inside, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(answer.strip().splitlines()[-1])
    found |= {"overviews": check_overviews(made, len(scheme)), "seconds": round(seconds, 1)}
    checks = {
        "the map has its CRS": found["crs"] == CRS,
        "names and colours of the map": found["classes"] == wanted,
        "names and colours of the polygons": found["categories"] == wanted,
        "QGIS finds the overviews": sum(found["pyramids"]) >= len(found["overviews"]["factors"]) - 1,
        "overviews are classes of the map": found["overviews"]["classes_of_the_map"],
        "the map shows its colours alone": set(found["shown"]) <= {*wanted.values(), "#ffffff"},
        "polygons show what the map does": found["polygons_as_map"] > 0.9,
        "tiles show what the map does": found["tiles_as_map"] > 0.9,
    }
    (options.out / "qgis.json").write_text(json.dumps({"checks": checks, **found}, indent=1) + "\n")
    for name, holds in checks.items():
        print("ok  " if holds else "FAIL", name)
    made_in = f"map and polygons in {seconds:.0f} s" if seconds else "map and polygons were there"
    print(f"QGIS {found['version']}, {found['count']} polygons, {made_in}")
    sys.exit(not all(checks.values()))


# ---- with the Python of QGIS ----------------------------------------------------------------------------------------


def look(asked: dict[str, str]) -> dict[str, Any]:
    """Open the three in QGIS as a user does who drags them in; what it says of them, and a picture."""
    from qgis.core import Qgis, QgsApplication, QgsCoordinateReferenceSystem, QgsRasterLayer, QgsVectorLayer
    from qgis.PyQt.QtGui import QColor, QImage, QPainter

    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    made = QgsRasterLayer(asked["map"], "map")
    areas = QgsVectorLayer(asked["polygons"] + "|layername=classes", "polygons", "ogr")
    address = f"type=xyz&url={asked['tiles']}/tiles/{{z}}/{{x}}/{{y}}.png&zmin=0&zmax=19"
    tiles = QgsRasterLayer(address, "tiles", "wms")
    for layer in (made, areas, tiles):
        assert layer.isValid(), layer.name()
    mercator = QgsCoordinateReferenceSystem("EPSG:3857")
    whole, near = made.extent(), _middle(made.extent(), ZOOM)
    pictures = [_render(made, whole, made.crs()), _render(made, near, made.crs()), _render(areas, near, made.crs())]
    pictures += [_render(tiles, near, mercator, made.crs()), _render(made, near, mercator, made.crs())]
    sheet = QImage(2 * VIEW + 12, 2 * VIEW + 12, QImage.Format_RGB32)
    sheet.fill(QColor("#ffffff"))
    painter = QPainter(sheet)
    for number, picture in enumerate(pictures[:4]):
        painter.drawImage((number % 2) * (VIEW + 12), (number // 2) * (VIEW + 12), picture)
    painter.end()
    sheet.save(asked["look"])
    renderer = areas.renderer()
    colours = [entry.color.name() for entry in made.renderer().classes()]
    return {
        "version": Qgis.QGIS_VERSION,
        "crs": made.crs().authid(),
        "classes": {entry.label: entry.color.name() for entry in made.renderer().classes()},
        "pyramids": [bool(one.exists) for one in made.dataProvider().buildPyramidList()],
        "shown": sorted({colour for picture in pictures[:2] for colour in _colours(picture)}),
        "categories": {one.label(): one.symbol().color().name() for one in renderer.categories() if one.label()},
        "count": areas.featureCount(),
        "polygons_as_map": _alike(pictures[1], pictures[2], colours),
        "tiles_as_map": _alike(pictures[3], pictures[4], colours),
    }


def _middle(extent: Any, side: float) -> Any:
    from qgis.core import QgsRectangle

    centre = extent.center()
    return QgsRectangle(centre.x() - side / 2, centre.y() - side / 2, centre.x() + side / 2, centre.y() + side / 2)


def _render(layer: Any, extent: Any, crs: Any, extent_crs: Any = None) -> Any:
    """A picture of a layer alone."""
    from qgis.core import QgsCoordinateTransform, QgsMapRendererParallelJob, QgsMapSettings, QgsProject
    from qgis.PyQt.QtCore import QSize
    from qgis.PyQt.QtGui import QColor

    if extent_crs is not None:
        extent = QgsCoordinateTransform(extent_crs, crs, QgsProject.instance()).transformBoundingBox(extent)
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(crs)
    settings.setOutputSize(QSize(VIEW, VIEW))
    settings.setExtent(extent)
    settings.setBackgroundColor(QColor("#ffffff"))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage()


def _colours(picture: Any) -> set[str]:
    return {picture.pixelColor(x, y).name() for x in range(0, VIEW, 3) for y in range(0, VIEW, 3)}


def _alike(one: Any, two: Any, colours: list[str]) -> float:
    """Share of px whose class the other picture has there or in a px beside.

    QGIS scales tiles smoothly, so a px between two classes has a mixed colour: it counts as the class nearest to it.
    """
    known = [tuple(int(text[at : at + 2], 16) for at in (1, 3, 5)) for text in colours]

    def classes(picture: Any) -> list[list[int]]:
        return [[_nearest(picture.pixelColor(x, y), known) for x in range(0, VIEW, 2)] for y in range(0, VIEW, 2)]

    first, second = classes(one), classes(two)
    places = [(x, y) for x in range(1, len(first) - 1) for y in range(1, len(first) - 1)]
    beside = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    return sum(first[y][x] in {second[y + d][x + r] for r, d in beside} for x, y in places) / len(places)


def _nearest(colour: Any, known: list[tuple[int, ...]]) -> int:
    here = (colour.red(), colour.green(), colour.blue())
    away = [sum((one - other) ** 2 for one, other in zip(here, there, strict=True)) for there in known]
    return away.index(min(away))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        print(json.dumps(look(json.loads(sys.argv[2]))), flush=True)
        os._exit(0)  # QGIS ends badly where its application is deleted late
    main()
