"""What docs/tutorial.md and docs/tutorial_tagging.md start from, and the pictures of the first.

    python scripts/tutorial.py data work/photos                      a folder as people have one
    python scripts/tutorial.py thirty work/thirty                    thirty images without tags, eight with masks
    python scripts/tutorial.py pictures work/photos work/tutorial    docs/pictures/tutorial_*.jpg, from a finished run

The images are embedded scenes (``weakseg data synth``) given a place on Earth.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

MASKED = ("area1", "area13", "area26", "area31", "area33", "area35")
TAGGED = ("area2", "area3", "area4", "area6", "area8", "area10", "area12", "area14", "area16", "area20")
NEW = "area37"
MASKED_OF_THIRTY = (*MASKED, "area32", "area34")
NEW_OF_THIRTY = ("area37", "area38")
TAG_SIZE = 32  # px
METRES = 0.3  # per px
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def make_data(target: Path) -> None:
    """``target``: images/, masks/ of some, tags.csv of the others, classes.yaml, and new/ with an image to map."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for words in (["synth"], ["tags", "--size", str(TAG_SIZE), "--write"]):
            command = [sys.executable, "-m", "weakseg", "--root", str(scratch), "data", *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        data = scratch / "data"
        for number, area in enumerate((*MASKED, *TAGGED, NEW)):
            folder = target / ("new" if area == NEW else "images")
            write_placed(data / "images" / f"{area}.tif", folder / f"{area}.tif", east=399_000 + 100 * number)
        for area in MASKED:
            write_mask(data / "labels" / f"{area}.tif", target / "masks" / f"{area}_mask.png")
        write_tags(data / "tags" / "tags.csv", target / "tags.csv")
        (target / "classes.yaml").write_text((data / "classes.yaml").read_text())


def make_thirty(target: Path) -> None:
    """``target``: images/ with thirty images, masks/ of eight of them, classes.yaml, and new/ with images to map."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "weakseg", "--root", name, "data", "synth"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        data = Path(name) / "data"
        others = [path.stem for path in sorted((data / "images").glob("*.tif")) if path.stem not in MASKED_OF_THIRTY]
        unmasked = [area for area in others if area not in NEW_OF_THIRTY][: 30 - len(MASKED_OF_THIRTY)]
        for number, area in enumerate((*MASKED_OF_THIRTY, *unmasked, *NEW_OF_THIRTY)):
            folder = target / ("new" if area in NEW_OF_THIRTY else "images")
            write_placed(data / "images" / f"{area}.tif", folder / f"{area}.tif", east=399_000 + 100 * number)
        for area in MASKED_OF_THIRTY:
            write_mask(data / "labels" / f"{area}.tif", target / "masks" / f"{area}_mask.png")
        (target / "classes.yaml").write_text((data / "classes.yaml").read_text())


def write_placed(source: Path, target: Path, *, east: float) -> None:
    """A copy of a raster in UTM zone 32 north."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as file:
        pixels = file.read()
    bands, height, width = pixels.shape
    place = {"crs": "EPSG:32632", "transform": from_origin(east, 5_400_000, METRES, METRES)}
    with rasterio.open(
        target, "w", driver="GTiff", height=height, width=width, count=bands, dtype="uint8", compress="deflate", **place
    ) as file:
        file.write(pixels)


def write_mask(source: Path, target: Path) -> None:
    """A mask of colours as a PNG."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as file:
        cv2.imwrite(str(target), np.moveaxis(file.read(), 0, -1)[..., ::-1])


def write_tags(source: Path, target: Path) -> None:
    """The rows of the tagged areas, as a spreadsheet writes them: semicolons, file names."""
    with source.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["area"] in TAGGED]
    columns = ("area", "row", "column", "height", "width", "tags")
    with target.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(columns)
        writer.writerows([f"{row['area']}.tif", *(row[column] for column in columns[1:])] for row in rows)


def draw_pictures(folder: Path, workspace: Path) -> None:
    """The contact sheet, and the new image beside its map, each below 300 kB."""
    sheet = cv2.imread(str(workspace / "out" / "sheets" / "import.png"))
    save(PICTURES / "tutorial_sheet.jpg", sheet[: sheet.shape[0] // 2])
    with rasterio.open(folder / "new" / f"{NEW}.tif") as file:
        image = np.moveaxis(file.read(), 0, -1)
    parts = [image]
    for name in ("map_pixel", "map"):
        with rasterio.open(folder / f"{name}.tif") as file:
            table = np.array([file.colormap(1)[value][:3] for value in range(256)], np.uint8)
            parts.append(table[file.read(1)])
    gap = np.full((image.shape[0], 8, 3), 255, np.uint8)
    row = np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)
    save(
        PICTURES / "tutorial_map.jpg", cv2.resize(row, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST)[..., ::-1]
    )


def save(path: Path, picture: np.ndarray) -> None:
    width = min(1400, picture.shape[1])
    small = cv2.resize(picture, (width, width * picture.shape[0] // picture.shape[1]), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, [cv2.IMWRITE_JPEG_QUALITY, 85])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("data", "thirty"):
        commands.add_parser(name).add_argument("folder", type=Path)
    pictures = commands.add_parser("pictures")
    pictures.add_argument("folder", type=Path)
    pictures.add_argument("workspace", type=Path)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    if chosen.command == "data":
        make_data(chosen.folder)
    elif chosen.command == "thirty":
        make_thirty(chosen.folder)
    else:
        draw_pictures(chosen.folder, chosen.workspace)


if __name__ == "__main__":
    main()
