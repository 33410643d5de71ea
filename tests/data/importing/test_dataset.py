"""Imports of tiny ISPRS archives and of plain folders; every kind of wrong source; nothing half-written."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS

from weakseg.core.classes import IGNORE, ISPRS, ClassScheme, load_classes
from weakseg.core.errors import DataError, ImportProblems
from weakseg.data.importing import area_import, publishing
from weakseg.data.importing.archives import Limits
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.outcome import ImportReport
from weakseg.labels.box_table import BoxTable, write_boxes
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_image, read_mask
from weakseg.raster.write import write_raster

ROTATED = (0.08, 0.03, 497000.0, 0.03, -0.08, 5420000.0)
PLACED = RasterInfo(6, 8, 3, "uint8", crs=CRS.from_epsg(25832).to_wkt(), transform=ROTATED)
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
MASK = np.array([[0, 0, 1, 1, 2, 2, 3, 3]] * 5 + [[4, 4, 4, 4, 255, 255, 255, 255]], np.uint8)


def tif(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF")
    return buffer.getvalue()


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_folders(root: Path, areas: tuple[str, ...] = ("a", "b")) -> tuple[Path, Path]:
    for area in areas:
        write_raster(root / "images" / f"{area}.tif", IMAGE, PLACED)
        write_raster(root / "labels" / f"{area}.png", MASK)
    return root / "images", root / "labels"


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def run(images: Path, labels: Path | list[Path], target: Path, **options: object) -> ImportReport:
    sources = labels if isinstance(labels, list) else [labels]
    return import_dataset(images, sources, target, progress=False, **options)  # type: ignore[arg-type]


def refused(images: Path, labels: Path | list[Path], target: Path, **options: object) -> list[str]:
    """The problems of an import; checks that nothing at all was written."""
    before = files_of(target.parent)
    with pytest.raises(ImportProblems) as caught:
        run(images, labels, target, **options)
    assert files_of(target.parent) == before
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    lines = str(caught.value).splitlines()
    assert tuple(lines) == caught.value.problems
    assert all(line.count(";") >= 2 for line in lines)  # found; expected; cure
    return lines


def test_isprs_archives_as_distributed(tmp_path: Path) -> None:
    eroded = MASK.copy()
    eroded[:, 1] = IGNORE
    black = ISPRS.to_colours(eroded)
    black[:, 1] = 0  # the boundary colour
    world = b"0.09\n0\n0\n-0.09\n1000.045\n1999.955\n"
    images = {"top/top_mosaic_09cm_area1.tif": tif(IMAGE), "top/top_mosaic_09cm_area1.tfw": world}
    images |= {"top/top_mosaic_09cm_area12.tif": tif(IMAGE[::-1].copy()), "dsm/dsm_09cm_area1.tif": tif(MASK)}
    images |= {"gts_for_participants/top_mosaic_09cm_area1.tif": tif(ISPRS.to_colours(MASK))}
    complete = {f"top_mosaic_09cm_area{n}.tif": tif(ISPRS.to_colours(MASK)) for n in (1, 12)}
    no_boundary = {f"top_mosaic_09cm_area{n}_noBoundary.tif": tif(black) for n in (1, 12)}
    target = tmp_path / "data"
    report = run(
        make_zip(tmp_path / "images.zip", images),
        [make_zip(tmp_path / "complete.zip", complete), make_zip(tmp_path / "eroded.zip", no_boundary)],
        target,
    )
    expected = [f"{kind}/area{n}.tif" for kind in ("images", "labels", "labels_eroded") for n in (1, 12)]
    assert files_of(target) == ["classes.yaml", *expected]
    assert load_classes(target / "classes.yaml") == ISPRS
    np.testing.assert_array_equal(read_image(target / "images" / "area12.tif"), IMAGE[::-1])
    np.testing.assert_array_equal(read_mask(target / "labels" / "area1.tif", ISPRS), MASK)
    np.testing.assert_array_equal(read_mask(target / "labels_eroded" / "area1.tif", ISPRS), eroded)
    for kind in ("images", "labels", "labels_eroded"):  # the world file reaches the labels too
        assert read_info(target / kind / "area1.tif").transform == pytest.approx((0.09, 0, 1000, 0, -0.09, 2000))
        assert read_info(target / kind / "area12.tif").transform is None
    assert report.areas == report.eroded == ("area1", "area12")
    assert report.unlabelled == ()
    assert report.pixels == 96
    assert dict(report.class_pixels) == {
        "impervious_surface": 20,
        "building": 20,
        "low_vegetation": 20,
        "tree": 20,
        "car": 8,
        "ignore": 8,
    }
    assert report.unused == tuple(
        str(tmp_path / "images.zip" / name)
        for name in ("dsm/dsm_09cm_area1.tif", "gts_for_participants/top_mosaic_09cm_area1.tif")
    )
    assert str(report).splitlines() == [
        "2 areas, 96 px",
        "masks: impervious_surface 20.8%, building 20.8%, low_vegetation 20.8%, tree 20.8%, car 8.3%, ignore 8.3%",
        "2 areas also with eroded boundaries",
        f"2 files not used, the first: {report.unused[0]}",
    ]


def test_folders_keep_a_rotated_place_and_repeat_byte_by_byte(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path)
    run(images, labels, tmp_path / "one")
    run(images, labels, tmp_path / "deep" / "two")
    assert files_of(tmp_path / "one") == [
        "classes.yaml",
        "images/a.tif",
        "images/b.tif",
        "labels/a.tif",
        "labels/b.tif",
    ]
    for kind, bands, nodata in (("images", 3, None), ("labels", 1, 255)):
        info = read_info(tmp_path / "one" / kind / "a.tif")
        assert (info.bands, info.nodata, info.transform) == (bands, nodata, ROTATED)
        assert info.crs is not None
        assert CRS.from_wkt(info.crs).to_epsg() == 25832
    for name in files_of(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "deep" / "two" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "images", "labels", "one"]


def test_image_takes_the_place_of_its_label(tmp_path: Path) -> None:
    write_raster(tmp_path / "i" / "a_RGB.png", IMAGE)
    write_raster(tmp_path / "l" / "a_label.tif", ISPRS.to_colours(MASK), PLACED)
    run(tmp_path / "i", tmp_path / "l", tmp_path / "data")
    assert read_info(tmp_path / "data" / "images" / "a.tif").transform == ROTATED


@pytest.mark.parametrize(("orientation", "shape"), [(3, (64, 96)), (6, (64, 64)), (6, (64, 96)), (8, (64, 96))])
def test_masks_drawn_on_what_people_see_lie_on_it(tmp_path: Path, orientation: int, shape: tuple[int, int]) -> None:
    seen, mask = np.full((*shape, 3), 60, np.uint8), np.full(shape, 2, np.uint8)
    seen[:20, :20], mask[:20, :20] = 250, 1  # a white roof, upper left
    stored = np.ascontiguousarray(np.rot90(seen, {3: 2, 6: 1, 8: -1}[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    for folder in ("i", "l", "turned"):
        (tmp_path / folder).mkdir()
    Image.fromarray(stored).save(tmp_path / "i" / "a.jpg", quality=95, exif=exif)
    Image.fromarray(mask).save(tmp_path / "l" / "a.png")
    turned = np.ascontiguousarray(np.rot90(mask, {3: 2, 6: 1, 8: -1}[orientation]))
    Image.fromarray(turned).save(tmp_path / "turned" / "a.tif", tiffinfo={274: orientation})
    for labels in ("l", "turned"):
        target = tmp_path / f"data_{labels}"
        report = run(tmp_path / "i", tmp_path / labels, target)
        assert report.turned[0] == str(tmp_path / "i" / "a.jpg")
        assert len(report.turned) == (1 if labels == "l" else 2)
        assert f"{len(report.turned)} files turned by their EXIF orientation" in str(report)
        image, label = read_image(target / "images" / "a.tif"), read_mask(target / "labels" / "a.tif", ISPRS)
        assert image.shape[:2] == label.shape == shape
        assert image[label == 1].mean() == pytest.approx(250, abs=0.5)


def test_the_crs_of_a_sidecar_is_kept_from_folders_and_zips(tmp_path: Path) -> None:
    layout = {"height": 6, "width": 8, "count": 3, "dtype": "uint8", "crs": CRS.from_epsg(25832)}
    (tmp_path / "i").mkdir()
    with rasterio.open(tmp_path / "i" / "a.png", "w", driver="PNG", transform=rasterio.Affine(*ROTATED), **layout) as f:
        f.write(IMAGE.transpose(2, 0, 1))
    assert files_of(tmp_path / "i") == ["a.png", "a.png.aux.xml"]
    write_raster(tmp_path / "l" / "a.png", MASK)
    members = {f"x/{name.upper()}": (tmp_path / "i" / name).read_bytes() for name in files_of(tmp_path / "i")}
    archive = make_zip(tmp_path / "i.zip", members)
    make_zip(tmp_path / "l.zip", {"A.PNG": (tmp_path / "l" / "a.png").read_bytes()})
    run(tmp_path / "i", tmp_path / "l", tmp_path / "from_folder")
    run(archive, tmp_path / "l.zip", tmp_path / "from_zip")
    for kind, name in (("from_folder", "a"), ("from_zip", "A")):
        for folder in ("images", "labels"):
            info = read_info(tmp_path / kind / folder / f"{name}.tif")
            assert info.transform == pytest.approx(ROTATED)
            assert info.crs is not None
            assert CRS.from_wkt(info.crs).to_epsg() == 25832


def test_other_classes_with_an_ignored_index(tmp_path: Path) -> None:
    scheme = ClassScheme(("land", "water"), ((1, 1, 1), (2, 2, 2)), (("unlabeled", (0, 0, 0)),))
    write_raster(tmp_path / "i" / "a.png", IMAGE[:2, :2])
    write_raster(tmp_path / "l" / "a.png", np.array([[0, 1], [2, 255]], np.uint8))
    (problem,) = refused(tmp_path / "i", tmp_path / "l", tmp_path / "data", classes=scheme)
    assert "1 px of values out of range, first 2 at row 1, column 0; expected 0 to 1 (land, water)" in problem
    report = run(tmp_path / "i", tmp_path / "l", tmp_path / "data", classes=scheme, ignore_values=(2,))
    assert report.class_pixels == (("land", 1), ("water", 1), ("ignore", 2))
    assert read_mask(tmp_path / "data" / "labels" / "a.tif", scheme).tolist() == [[0, 1], [255, 255]]
    assert load_classes(tmp_path / "data" / "classes.yaml") == scheme


def test_bands_of_the_images_are_chosen(tmp_path: Path) -> None:
    write_raster(tmp_path / "i" / "a.tif", np.dstack([IMAGE, MASK]))
    write_raster(tmp_path / "l" / "a.tif", MASK)
    (problem,) = refused(tmp_path / "i", tmp_path / "l", tmp_path / "data")
    assert "the fourth may be alpha or near infrared; expected 3 bands of 8 bits, or bands whose names" in problem
    run(tmp_path / "i", tmp_path / "l", tmp_path / "data", bands=(4, 1, 2))
    written = read_image(tmp_path / "data" / "images" / "a.tif")
    np.testing.assert_array_equal(written, np.dstack([MASK, IMAGE[..., :2]]))


def test_images_without_labels_only_if_allowed(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path)
    (labels / "b.png").unlink()
    (problem,) = refused(images, labels, tmp_path / "data")
    assert "b.tif: no label for area b" in problem
    assert "allow images without labels" in problem
    report = run(images, labels, tmp_path / "data", allow_unlabelled=True)
    assert (report.areas, report.unlabelled) == (("a", "b"), ("b",))
    assert files_of(tmp_path / "data") == ["classes.yaml", "images/a.tif", "images/b.tif", "labels/a.tif"]


def test_all_problems_come_in_one_report(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("good", "alone", "small", "colour", "deep", "short", "range"))
    (labels / "alone.png").unlink()
    write_raster(labels / "stray.png", MASK)
    write_raster(labels / "small.png", MASK[:5])
    strange = ISPRS.to_colours(MASK)
    strange[2:4, 3] = (9, 9, 9)
    write_raster(labels / "colour.png", strange)
    write_raster(images / "deep.tif", IMAGE.astype(np.uint16))
    whole = (images / "short.tif").read_bytes()
    (images / "short.tif").write_bytes(whole[:-20])
    write_raster(labels / "range.png", MASK + np.uint8(3))
    lines = refused(images, labels, tmp_path / "data")
    assert len(lines) == 7
    for start, rest in (
        (images / "alone.tif", "no label for area alone"),
        (labels / "stray.png", "no image for area stray"),
        (labels / "small.png", f"5x8 px; expected 6x8 px like {images / 'small.tif'}"),
        (labels / "colour.png", "2 px of unknown colours, first (9, 9, 9) at row 2, column 3"),
        (images / "deep.tif", "dtype uint16; expected uint8"),
        (images / "short.tif", "cannot be read"),
        (labels / "range.png", "24 px of values out of range, first 5 at row 0, column 4"),
    ):
        assert sum(line.startswith(f"{start}: {rest}") for line in lines) == 1, (start, lines)


def test_problems_in_archives_name_the_member(tmp_path: Path) -> None:
    images = make_zip(tmp_path / "i.zip", {"top/a.tif": tif(IMAGE)[:-100], "../evil.tif": tif(IMAGE)})
    labels = make_zip(tmp_path / "l.zip", {"x/a.tif": tif(np.full((6, 8), 77, np.uint8))})
    slip, image, label = refused(images, labels, tmp_path / "data")
    assert f"{images}: member '../evil.tif' leaves the folder" in slip
    assert image.startswith(f"{images}/top/a.tif: cannot be read")
    assert label.startswith(f"{labels}/x/a.tif: 48 px of values out of range, first 77 at row 0, column 0")
    assert not (tmp_path.parent / "evil.tif").exists()


def test_bombs_are_refused(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    lines = refused(images, labels, tmp_path / "data", limits=Limits(pixels=47))
    assert [line.split(";")[0] for line in lines] == [f"{images / 'a.tif'}: 6x8 px", f"{labels / 'a.png'}: 6x8 px"]
    bomb = make_zip(tmp_path / "bomb.zip", {"a.tif": bytes(500_000)})
    lines = refused(bomb, labels, tmp_path / "data", limits=Limits(ratio_from_bytes=100_000))
    assert len(lines) == 1
    assert "unpacks to 500000 bytes" in lines[0]


def test_labels_of_another_grid_are_resampled_when_asked(tmp_path: Path) -> None:
    moved = (*ROTATED[:2], ROTATED[2] + 0.08, *ROTATED[3:5], ROTATED[5] + 0.03)  # one px along the rows
    write_raster(tmp_path / "i" / "a.tif", IMAGE, PLACED)
    write_raster(tmp_path / "l" / "a.tif", MASK, RasterInfo(6, 8, 1, "uint8", crs=PLACED.crs, transform=moved))
    (problem,) = refused(tmp_path / "i", tmp_path / "l", tmp_path / "data")
    assert f"lies 1.0 px off {tmp_path / 'i' / 'a.tif'}; expected the place of its image, to 0.1 px" in problem
    report = run(tmp_path / "i", tmp_path / "l", tmp_path / "data", resample=True)
    expected = np.full((6, 8), IGNORE, np.uint8)
    expected[:, 1:] = MASK[:, :-1]
    np.testing.assert_array_equal(read_mask(tmp_path / "data" / "labels" / "a.tif", ISPRS), expected)
    assert read_info(tmp_path / "data" / "labels" / "a.tif").transform == ROTATED
    assert report.resampled == (str(tmp_path / "l" / "a.tif"),)
    assert f"1 labels resampled to their images, the first: {report.resampled[0]}" in str(report)


def test_a_dry_run_reports_the_same_and_writes_nothing(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path / "s")
    before = files_of(tmp_path)
    dry = run(images, labels, tmp_path / "data", dry_run=True)
    assert files_of(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    wet = run(images, labels, tmp_path / "data")
    assert str(dry) == str(wet)
    assert [preview.area for preview in dry.previews] == ["a", "b"]
    np.testing.assert_array_equal(dry.previews[0].image, IMAGE)
    np.testing.assert_array_equal(dry.previews[0].mask, MASK)
    with pytest.raises(DataError, match="has data already"):
        run(images, labels, tmp_path / "data", dry_run=True)
    (labels / "a.png").unlink()
    assert len(refused(images, labels, tmp_path / "s" / "data2", dry_run=True)) == 1


def test_images_and_masks_of_one_folder_are_told_apart_by_patterns(tmp_path: Path) -> None:
    for area in ("Süd", "2_10"):
        write_raster(tmp_path / "s" / area / "rgb.tif", IMAGE)
        write_raster(tmp_path / "s" / area / "truth.png", MASK)
    write_raster(tmp_path / "s" / "2_10" / "height.tif", MASK)
    options = {"image_pattern": "{area}/rgb", "label_pattern": "(?P<area>[^/]+)/truth"}
    report = run(tmp_path / "s", tmp_path / "s", tmp_path / "data", **options)
    assert report.areas == ("2_10", "Süd")
    assert report.unused == (str(tmp_path / "s" / "2_10" / "height.tif"),)
    with pytest.raises(DataError, match=r"pattern '\{area\}_x' fits none of 5 files"):
        run(tmp_path / "s", tmp_path / "s", tmp_path / "other", image_pattern="{area}_x", label_pattern="{area}/truth")


def test_labels_of_another_place_are_refused(tmp_path: Path) -> None:
    moved = (*ROTATED[:2], ROTATED[2] + 0.8, *ROTATED[3:])
    write_raster(tmp_path / "i" / "a.tif", IMAGE, PLACED)
    write_raster(tmp_path / "l" / "a.tif", MASK, RasterInfo(6, 8, 1, "uint8", transform=moved))
    (problem,) = refused(tmp_path / "i", tmp_path / "l", tmp_path / "data")
    # 0.8 m east on pixels of sqrt(0.08^2 + 0.03^2) = 0.0854 m
    assert "lies 9.4 px off" in problem


@pytest.mark.parametrize("kind", ["empty folder", "missing", "no zip", "same"])
def test_sources_without_pairs_are_refused(tmp_path: Path, kind: str) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.zip").write_text("not a zip")
    choices = {
        "empty folder": (tmp_path / "empty", "no raster in"),
        "missing": (tmp_path / "none", "expected a folder or zip"),
        "no zip": (tmp_path / "no.zip", "File is not a zip file"),
        "same": (images, "1 file(s) are image and label at once"),
    }
    labels, text = choices[kind]
    (problem,) = refused(images, labels, tmp_path / "data")
    assert text in problem


def test_areas_that_come_twice_are_refused(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    write_raster(images / "more" / "a.png", IMAGE)
    (problem,) = refused(images, labels, tmp_path / "data")
    assert problem.startswith("area a has 2 images: ")


def test_a_target_with_data_stays_unless_replaced(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    more_images, more_labels = make_folders(tmp_path / "more", ("b", "c"))
    target = tmp_path / "data"
    (target / "tags").mkdir(parents=True)
    (target / "tags" / "tags.csv").write_text("mine")
    (target / "images").mkdir()  # empty: no data yet
    run(images, labels, target)
    before = {name: (target / name).read_bytes() for name in files_of(target)}
    with pytest.raises(DataError, match=r"has data already \(images, labels, classes.yaml\); .*may be replaced"):
        run(more_images, more_labels, target)
    (more_labels / "c.png").rename(tmp_path / "c.png")
    with pytest.raises(ImportProblems):
        run(more_images, more_labels, target, replace=True)
    assert {name: (target / name).read_bytes() for name in files_of(target)} == before
    (tmp_path / "c.png").rename(more_labels / "c.png")
    run(more_images, more_labels, target, replace=True)
    assert files_of(target) == [
        "classes.yaml", "images/b.tif", "images/c.tif", "labels/b.tif", "labels/c.tif", "tags/tags.csv"
    ]  # fmt: skip
    assert sorted(path.name for path in target.iterdir()) == ["classes.yaml", "images", "labels", "tags"]


def test_boxes_of_images_of_another_size_are_said(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    target = tmp_path / "data"
    write_boxes(target / "boxes" / "boxes.json", BoxTable((), {"a": ("car",)}), ISPRS, {"a": (1, 1)})
    height, width = IMAGE.shape[:2]
    said = str(run(images, labels, target))
    assert (
        f"note: {target}/boxes/boxes.json counts pixels of rasters of another size: 1 area(s), first a, 1x1 px" in said
    )
    write_boxes(target / "boxes" / "boxes.json", BoxTable((), {"a": ("car",)}), ISPRS, {"a": (height, width)})
    assert "boxes" not in str(run(images, labels, target, replace=True)).replace(str(tmp_path), "")


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DataError, match=r"import into .*data stopped \(.*Not a directory"):
        run(images, labels, tmp_path / "data")
    assert (tmp_path / "data").read_text() == "mine"


def test_sources_inside_what_is_replaced_are_refused(tmp_path: Path) -> None:
    images, labels = make_folders(tmp_path / "data", ("a",))
    with pytest.raises(DataError, match="lies in the data of the target"):
        run(images, labels, tmp_path / "data", replace=True)
    assert files_of(tmp_path / "data") == ["images/a.tif", "labels/a.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("at", range(6))
def test_an_interrupted_move_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException], at: int
) -> None:
    images, labels = make_folders(tmp_path, ("a",))
    target = tmp_path / "data"
    run(images, labels, target)
    before = {name: (target / name).read_bytes() for name in files_of(target)}
    more = make_folders(tmp_path / "more", ("b",))
    moves, real = 0, os.replace

    def interrupted(origin: Path, goal: Path) -> None:
        nonlocal moves
        if goal.parent == target or origin.parent == target:
            moves += 1
            if moves == at + 1:
                raise error
        real(origin, goal)

    monkeypatch.setattr(publishing.os, "replace", interrupted)
    with pytest.raises((KeyboardInterrupt, DataError)):
        run(*more, target, replace=True)
    assert {name: (target / name).read_bytes() for name in files_of(target)} == before
    assert sorted(path.name for path in target.iterdir()) == ["classes.yaml", "images", "labels"]


def test_an_interrupted_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = make_folders(tmp_path)
    written: list[Path] = []

    def interrupted(path: Path, *arguments: object, **options: object) -> None:
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write_raster(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(area_import, "write_raster", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(images, labels, tmp_path / "data")
    assert len(written) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels"]


def test_import_problems_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImportProblems(["one; two; three", "four; five; six"])))
    assert str(error) == "one; two; three\nfour; five; six"
    assert isinstance(error, DataError)
