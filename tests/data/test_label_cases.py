"""Label deliveries as people have them, imported: binary masks, strays in palettes, nodata and ids from 1."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from weakseg.core.classes import ISPRS, ClassScheme, load_classes
from weakseg.core.errors import ImportProblems
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.outcome import ImportReport
from weakseg.raster.open import read_mask

BINARY = ClassScheme(("background", "building"), ((0, 0, 0), (255, 255, 255)))
FOUR = ("road", "water", "forest", "field")
PLAIN = ClassScheme(FOUR, tuple((index, index, 9) for index in range(4)))
VALUED = ClassScheme(FOUR, PLAIN.colours, (), (1, 2, 3, 4))


def bring_in(folder: Path, masks: dict[str, np.ndarray | Image.Image], classes: ClassScheme, **options: object) -> str:
    """Import masks and images of their sizes; the shares of the report as text."""
    (folder / "img").mkdir()
    (folder / "gt").mkdir()
    for name, mask in masks.items():
        picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        picture.save(folder / "gt" / name)
        image = np.random.default_rng(0).integers(0, 256, (picture.height, picture.width, 3), np.uint8)
        Image.fromarray(image).save(folder / "img" / f"{Path(name).stem}.png")
    return shares(run(folder, classes, **options))


def run(folder: Path, classes: ClassScheme, **options: object) -> ImportReport:
    settings = {"classes": classes, "progress": False, "replace": True, **options}
    return import_dataset(folder / "img", [folder / "gt"], folder / "data", **settings)  # type: ignore[arg-type]


def shares(report: ImportReport) -> str:
    total = sum(count for _, count in report.class_pixels)
    return ", ".join(f"{name} {count / total:.1%}" for name, count in report.class_pixels if count)


def from_1(folder: Path, nodata: float | None = None) -> None:
    """15 of 40 rows without a label, the others 1, 2 and 3: road 25 %, water 25 %, forest 12.5 %."""
    mask = np.zeros((40, 40), np.uint8)
    mask[:10], mask[10:20], mask[20:25] = 1, 2, 3
    (folder / "img").mkdir()
    (folder / "gt").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "img" / "a.png")
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": "uint8", "nodata": nodata}
    with warnings.catch_warnings(action="ignore"), rasterio.open(folder / "gt" / "a.tif", "w", **profile) as file:
        file.write(mask, 1)


def test_binary_masks(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:50] = 255
    assert bring_in(tmp_path, {"a.png": mask, "b.png": mask}, BINARY) == "background 83.3%, building 16.7%"
    assert np.array_equal(read_mask(tmp_path / "data" / "labels" / "a.tif", BINARY), mask // 255)


def test_masks_of_0_and_255_alone_ignore_no_object_in_silence(tmp_path: Path) -> None:
    """The same masks with colours that are no grey: 255 would be "ignore" by rule, and nothing would be left."""
    red = ClassScheme(("background", "building"), ((0, 0, 0), (255, 0, 0)))
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:50] = 255
    refused = (
        r"masks with background and 1600 px to ignore alone, first a\.png; .*--masks-hold indices .*255 for building"
    )
    with pytest.raises(ImportProblems, match=refused):
        bring_in(tmp_path, {"a.png": mask, "b.png": mask}, red)
    assert not (tmp_path / "data").exists()
    assert shares(run(tmp_path, red, masks_hold="indices")) == "background 83.3%, ignore 16.7%"
    valued = ClassScheme(red.names, red.colours, (), (0, 255))
    assert shares(run(tmp_path, valued)) == "background 83.3%, building 16.7%"
    mask[0, 0] = 1
    (tmp_path / "other").mkdir()
    assert bring_in(tmp_path / "other", {"a.png": mask}, red) == "background 83.3%, building 0.0%, ignore 16.7%"


@pytest.mark.parametrize("stray", [0, 3])
def test_a_renumbered_palette_with_a_stray_colour(tmp_path: Path, stray: int) -> None:
    mask = np.zeros((40, 40), np.uint8)  # tree
    mask[:, 20:] = 1  # building
    mask[30:, :] = 2  # impervious surface
    mask[5, 5 : 5 + stray] = 4
    picture = Image.fromarray(mask, "P")
    picture.putpalette([0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 255, 255, 250, 252, 1])
    if not stray:
        wanted = "impervious_surface 25.0%, building 37.5%, tree 37.5%"
        assert bring_in(tmp_path, {"a.png": picture}, ISPRS) == wanted
        return
    with pytest.raises(ImportProblems, match=r"3 px of unknown colours, first \(250, 252, 1\) at row 5, column 5"):
        bring_in(tmp_path, {"a.png": picture}, ISPRS)


def test_nodata_0_with_ids_from_1(tmp_path: Path) -> None:
    from_1(tmp_path, nodata=0)
    with pytest.raises(ImportProblems, match=r"600 px of 0, which is nodata by the file and road among indices.*value"):
        run(tmp_path, PLAIN)
    right = "road 25.0%, water 25.0%, forest 12.5%, ignore 37.5%"
    assert shares(run(tmp_path, VALUED)) == right
    assert shares(run(tmp_path, PLAIN, nodata_is_class=True)) == "road 37.5%, water 25.0%, forest 25.0%, field 12.5%"
    assert load_classes(tmp_path / "data" / "classes.yaml") == PLAIN  # masks in there hold indices


def test_ids_from_1_without_nodata(tmp_path: Path) -> None:
    from_1(tmp_path)
    three = ClassScheme(FOUR[:3], PLAIN.colours[:3])
    grey = ClassScheme(FOUR[:3], ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (("unlabelled", (0, 0, 0)),))
    with pytest.raises(ImportProblems, match=r"200 px of values out of range, first 3 .*`value:` gives a class its id"):
        run(tmp_path, three)
    with pytest.raises(ImportProblems, match=r"ignore values \(0,\) and indices \(0 road\).*`value:`"):
        run(tmp_path, three, ignore_values=(0,))
    right = "road 25.0%, water 25.0%, forest 12.5%, ignore 37.5%"
    assert shares(run(tmp_path, grey)) == right
    assert shares(run(tmp_path, grey, ignore_values=(0,))) == right
    assert shares(run(tmp_path, VALUED, ignore_values=(0,))) == right
    with pytest.raises(ImportProblems, match="600 px of values out of range, first 0"):
        run(tmp_path, VALUED)
    hint = "are indices (0 road, 1 water, 2 forest, 3 field); where 0 is no data and ids begin at 1, give each class"
    assert hint in str(run(tmp_path, PLAIN))


def test_masks_of_one_delivery_are_read_one_way(tmp_path: Path) -> None:
    drawn = np.array([[0, 1], [1, 1]], np.uint8)
    with pytest.raises(ImportProblems, match=re.escape("a.png holds indices, b.png holds colours; expected one kind")):
        bring_in(tmp_path, {"a.png": drawn, "b.png": drawn * 255}, BINARY)
    # a picture with nothing but the black of ignore, saved as grey by a program that saves space
    Image.fromarray(ISPRS.to_colours(drawn)).save(tmp_path / "gt" / "a.png")
    Image.fromarray(drawn * 0).save(tmp_path / "gt" / "b.png")
    with pytest.raises(ImportProblems, match=re.escape("a.png holds colours, b.png holds indices; expected one kind")):
        run(tmp_path, ISPRS)
    assert (
        shares(run(tmp_path, ISPRS, masks_hold="colours")) == "impervious_surface 12.5%, building 37.5%, ignore 50.0%"
    )
    assert shares(run(tmp_path, ISPRS, masks_hold="indices")) == "impervious_surface 62.5%, building 37.5%"


def test_masks_saved_as_jpeg_are_refused(tmp_path: Path) -> None:
    drawn = np.repeat(np.array([[0, 1], [2, 3]], np.uint8), 16, axis=0)
    with pytest.raises(ImportProblems, match=r"gt/a\.jpg: a JPEG, which changes values.*--lossy-masks"):
        bring_in(tmp_path, {"a.jpg": drawn}, PLAIN)
    (tmp_path / "gt" / "a.jpg").unlink()
    Image.fromarray(np.ones((32, 2), np.uint8)).save(tmp_path / "gt" / "a.jpg", quality=100)
    assert shares(run(tmp_path, PLAIN, lossy_masks=True)) == "water 100.0%"
