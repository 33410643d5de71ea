"""Folders of images of differing sizes with one tag set each: CSV, COCO, XML, folders per class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.image_tags import TagSource
from weakseg.data.importing.outcome import ImportReport
from weakseg.labels.class_map import read_class_map
from weakseg.labels.tag_table import read_tags
from weakseg.raster.write import write_raster

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9))
CLASSES = ClassScheme(("cat", "dog", "red car", "rest"), COLOURS, background="rest")
PLAIN = ClassScheme(("cat", "dog"), COLOURS[:2])
SIZES = {"a": (8, 12), "b": (10, 6), "c": (7, 7)}


def make_images(folder: Path, names: tuple[str, ...] = ("a", "b", "c"), suffix: str = ".jpg") -> Path:
    for seed, name in enumerate(names):
        height, width = SIZES.get(Path(name).name, (8, 8))
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}{suffix}")
    return folder


def run(
    images: Path,
    tags: Path,
    target: Path,
    scheme: ClassScheme = CLASSES,
    labels: tuple[Path, ...] = (),
    **options: object,
) -> ImportReport:
    keys = {"kind": options.pop("kind", None), "unmarked": options.pop("unmarked", None)}
    source = TagSource(tags, read_class_map(options.pop("names", None), scheme), **keys)  # type: ignore[arg-type]
    return import_dataset(
        images,
        labels,
        target,
        classes=scheme,
        tags=source,
        progress=False,
        **options,  # type: ignore[arg-type]
    )


def rows(
    target: Path, scheme: ClassScheme = CLASSES
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]]:
    return {row.area: (row.window, row.present, row.unknown) for row in read_tags(target / "tags" / "tags.csv", scheme)}


def refusal(images: Path, tags: Path, target: Path, scheme: ClassScheme = CLASSES, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        run(images, tags, target, scheme, **options)
    assert not target.exists()
    assert all(line.count(";") >= 2 for line in str(caught.value).splitlines())  # found; expected; cure
    return str(caught.value)


def test_a_csv_of_images_of_differing_sizes(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    table = tmp_path / "tags.csv"
    table.write_text('image,tags,unknown\na.jpg,cat; red car,dog\nimages/b.jpg,rest,\nc,dog,"cat"\n')
    report = run(images, table, tmp_path / "data")
    assert report.areas == ("a", "b", "c")
    assert report.tags[0] == "tags of 3 images: cat 1, dog 1, red car 1, rest 1"
    assert rows(tmp_path / "data") == {
        "a": ((0, 0, 8, 12), ("cat", "red car"), ("dog",)),
        "b": ((0, 0, 10, 6), ("rest",), ()),
        "c": ((0, 0, 7, 7), ("dog",), ("cat",)),
    }


def coco(path: Path, images: dict[str, list[int]], categories: dict[int, str], **rest: object) -> Path:
    content = {
        "images": [{"id": n, "file_name": name, **rest} for n, name in enumerate(images)],
        "annotations": [
            {"id": 9 * n + k, "image_id": n, "category_id": k, "bbox": [0, 0, 1, 1]}
            for n, kinds in enumerate(images.values())
            for k in kinds
        ],
        "categories": [{"id": k, "name": name} for k, name in categories.items()],
    }
    path.write_text(json.dumps(content))
    return path


def test_coco_is_read_for_its_names(tmp_path: Path) -> None:
    """Two boxes of a class are one tag; an image without any holds no object; what is not listed was not looked for."""
    images = make_images(tmp_path / "images")
    categories = {0: "things", 1: "cat", 2: "dog"}  # a root that nothing is of, as Roboflow writes
    file = coco(tmp_path / "coco.json", {"train/a.jpg": [1, 1, 2], "b.jpg": [], "c.jpg": [2]}, categories)
    report = run(images, file, tmp_path / "data")
    assert rows(tmp_path / "data") == {
        "a": ((0, 0, 8, 12), ("cat", "dog"), ("red car",)),
        "b": ((0, 0, 10, 6), (), ("red car",)),
        "c": ((0, 0, 7, 7), ("dog",), ("red car",)),
    }
    assert any("things: nothing is of it, left out" in line for line in report.tags)
    assert any("lists no red car: unknown in every image" in line for line in report.tags)


XML = "<annotation><filename>{}</filename><size><width>3</width></size>{}</annotation>"
OBJECT = "<object><name>{}</name><part><name>head</name></part><difficult>{}</difficult></object>"


def test_xml_of_voc_and_imagenet_det(tmp_path: Path) -> None:
    """Synset names by --map; an object's parts are none; what is difficult alone is unknown."""
    images = make_images(tmp_path / "images")
    folder = tmp_path / "Annotations" / "train"
    folder.mkdir(parents=True)
    for name, objects in {"a": [("n02084071", 0), ("cat", 1)], "b": [], "c": [("cat", 1), ("cat", 0)]}.items():
        (folder / f"{name}.xml").write_text(XML.format(name, "".join(OBJECT.format(*one) for one in objects)))
    names = tmp_path / "names.yaml"
    names.write_text("n02084071: dog\n")
    run(images, tmp_path / "Annotations", tmp_path / "data", names=names)
    assert rows(tmp_path / "data") == {
        "a": ((0, 0, 8, 12), ("dog",), ("cat",)),
        "b": ((0, 0, 10, 6), ("rest",), ()),
        "c": ((0, 0, 7, 7), ("cat",), ()),
    }


def test_an_image_in_two_class_folders_has_both(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ("cat/a", "dog/b"))
    (images / "dog" / "a.jpg").write_bytes((images / "cat" / "a.jpg").read_bytes())
    (images / "rest").mkdir()
    make_images(images / "rest", ("c",))
    run(images, images, tmp_path / "data", unmarked="absent")
    assert rows(tmp_path / "data") == {
        "a": ((0, 0, 8, 12), ("cat", "dog"), ()),
        "b": ((0, 0, 10, 6), ("dog",), ()),
        "c": ((0, 0, 7, 7), ("rest",), ()),
    }


def test_one_class_per_folder_is_asked_about(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ("cat/a", "dog/b"))
    assert "every image has one class; expected to know whether the other classes are absent" in refusal(
        images, images, tmp_path / "data", PLAIN
    )
    run(images, images, tmp_path / "data", PLAIN, unmarked="unknown")
    assert rows(tmp_path / "data", PLAIN) == {
        "a": ((0, 0, 8, 12), ("cat",), ("dog",)),
        "b": ((0, 0, 10, 6), ("dog",), ("cat",)),
    }


def test_masks_stand_for_tags(tmp_path: Path) -> None:
    """N1 has masks, N2 tags: an image needs one of them, and neither with --allow-unlabelled."""
    images, labels = make_images(tmp_path / "images"), tmp_path / "labels"
    write_raster(labels / "b.png", np.zeros((10, 6), np.uint8))
    table = tmp_path / "tags.csv"
    table.write_text("image,tags\na.jpg,cat\nc.jpg,\n")
    found = refusal(images, table, tmp_path / "data", PLAIN, labels=(labels,))
    assert f"1 images without tags in {table}, the first: {images / 'c.jpg'}" in found
    report = run(images, table, tmp_path / "data", PLAIN, labels=(labels,), allow_unlabelled=True)
    assert list(rows(tmp_path / "data", PLAIN)) == ["a"]
    assert "1 images without tags and mask are unlabelled" in report.tags
    assert report.unlabelled == ("a", "c")


def test_two_ways_to_read_a_folder_are_refused_until_one_is_named(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ("cat/a", "dog/b"))
    (images / "tags.csv").write_text("image,tags\na.jpg,dog\nb.jpg,dog\n")
    found = refusal(images, images, tmp_path / "data", PLAIN)
    assert f"{images} holds tags in two ways: a CSV (tags.csv) and folders of the images (cat, dog)" in found
    run(images, images, tmp_path / "data", PLAIN, kind="csv")
    assert rows(tmp_path / "data", PLAIN)["a"][1] == ("dog",)
    (images / "more.csv").write_text("image,tags\na.jpg,dog\n")
    assert "holds 2 tables: more.csv, tags.csv; expected one" in refusal(images, images, tmp_path / "new", kind="csv")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no such tags: none" in refusal(images, empty, tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("image,tags\na.jpg,cat\nd.jpg,cat\nb,cat\nc,cat\n", "1 entries of images that are not there: d.jpg ("),
        ("image,tags\na.jpg,cow\nb,cat\nc,cat\n", "line 2: unknown class 'cow'"),
        ("image,tags\na.jpg,cat\na,dog\nb,cat\nc,cat\n", "line 3: a again, after"),
        ("image,tags\na.jpg,cat,dog\nb,cat\nc,cat\n", "line 2: more cells than columns"),
        ("image,tags,unknown\na.jpg,cat,cat\nb,cat,\nc,cat,\n", "line 2: cat in tags and in unknown"),
        ("image,tags,unknown\na.jpg,cat,rest\nb,cat,\nc,cat,\n", "rest, the background, among the unknown"),
        ("image,label\na.jpg,cat\n", "columns image, label; expected image,tags"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, found: str) -> None:
    images, table = make_images(tmp_path / "images"), tmp_path / "tags.csv"
    table.write_text(text)
    assert found in refusal_of_any(images, table, tmp_path / "data")


def refusal_of_any(images: Path, tags: Path, target: Path) -> str:
    with pytest.raises(DataError) as caught:
        run(images, tags, target)
    assert not target.exists()
    return str(caught.value)


def test_names_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ("cat/a", "cow/b"))
    assert "classes 'cow'; expected classes of cat, dog" in refusal(
        images, images, tmp_path / "data", PLAIN, unmarked="absent"
    )


def test_different_images_of_one_name_are_refused(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", ("cat/a", "dog/a"))
    assert "a.jpg is another image in each of cat, dog" in refusal(
        images, images, tmp_path / "data", PLAIN, unmarked="absent"
    )


def test_no_object_needs_a_background(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    file = coco(tmp_path / "coco.json", {"a.jpg": [], "b.jpg": [1], "c.jpg": [1]}, {1: "cat", 2: "dog"})
    assert "image 0: no class; expected at least one where the scheme has no background" in refusal(
        images, file, tmp_path / "data", PLAIN
    )


def test_tags_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    images, table = make_images(tmp_path / "images"), tmp_path / "tags.csv"
    table.write_text("image,tags\na,cat\nb,cat\nc,cat\n")
    run(images, table, tmp_path / "data")
    with pytest.raises(DataError, match=r"tags.csv is there; expected no tags yet"):
        run(images, table, tmp_path / "data", replace=True)
    (tmp_path / "data" / "tags" / "tags.csv").unlink()
    run(images, table, tmp_path / "data", replace=True)
    assert len(rows(tmp_path / "data")) == 3


def test_xml_that_is_none_is_refused(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images")
    file = tmp_path / "a.xml"
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    assert "XML with a DOCTYPE or entities" in refusal(images, file, tmp_path / "data")
    file.write_text("<html/>")
    assert "XML of <html>" in refusal(images, file, tmp_path / "data")
