"""Making and describing workspaces: params, pipeline file, embedded data, tags and splits. Commands, not stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import weakseg
from weakseg.core.classes import load_classes
from weakseg.core.config import (
    dump_yaml,
    find_anchors,
    load_commented,
    load_text,
    load_yaml,
    parse_yaml,
    set_values,
)
from weakseg.core.errors import DataError, ParamsError, StageError
from weakseg.core.files import atomic_path, write_text
from weakseg.core.layout import Layout
from weakseg.core.methods import ORACLE
from weakseg.core.params import load_params
from weakseg.data.scenes.painting import write_scenes
from weakseg.labels.box_files import import_boxes
from weakseg.labels.box_table import BoxTable, boxes_from_mask, join_boxes, write_boxes
from weakseg.labels.tag_statistics import best_size, tag_statistics
from weakseg.labels.tag_table import write_tags
from weakseg.labels.tags import TagWindow, count_classes, tags_from_mask, to_tag_windows, window_grid
from weakseg.pipeline.presets import PIPELINE, add_new, build_params, move_old
from weakseg.raster.header import RasterInfo, read_info
from weakseg.raster.open import read_mask, read_valid
from weakseg.raster.partial import is_partly_labelled

PACKAGE = Path(weakseg.__file__).parent
GIT_IGNORES = "/data\n/out\n/.weakseg/\n/mlflow.db*\n/mlruns/\n/dvc_plots/\n"  # if the workspace becomes a repository
# bytecode: else every import would be a change of the code; the others hold code of weakseg with its dvc.yaml, which
# DVC would read as a pipeline of its own: a registered model's, in mlruns/, and workspaces of studies; what
# a killed import had staged lies in data/ until the next one
DVC_IGNORES = ("__pycache__/", "*.pyc", "/mlruns/", "/.weakseg/", ".import-*/")
SUFFIXES = (".tif", ".tiff", ".png")
_SAID = 100  # names of areas in a line


def create_workspace(root: Path, config: str | None, seed: int | None = None) -> str:
    """Fill ``root`` with params.yaml, dvc.yaml, a link to the code and a DVC repository; returns what to do next.

    Args:
        root: a new workspace, or an old one to bring up to date, whose params.yaml keeps its values.
        config: a preset or a params file (:func:`weakseg.pipeline.presets.build_params`); None for an old workspace.
        seed: of all networks of a new workspace, in place of the preset's.

    Raises:
        StageError: ``config`` for an old workspace, or none for a new one; ``seed`` for an old one.
        ParamsError: ``config`` is no preset, or holds what the params refuse.
    """
    layout = Layout(root)
    if config is None:
        if seed is not None:
            raise StageError(f"seed {seed} without a preset", expected="a new workspace", cure="say --config")
        return renew_workspace(layout)
    if layout.params.exists():
        raise StageError(f"{layout.params} is there", expected="a new workspace", cure="choose another --root")
    text, said = build_params(config, seed)
    root.mkdir(parents=True, exist_ok=True)
    write_text(layout.params, text)
    if not (root / ".gitignore").exists():
        (root / ".gitignore").write_text(GIT_IGNORES)
    _write_pipeline(root)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q", "-f", "--no-scm"], cwd=root, check=True)
    for key in ("core.analytics", "core.check_update"):
        subprocess.run([*dvc, "config", key, "false"], cwd=root, check=True)
    made = (
        f"workspace {root} made. Next: weakseg --root {root} data import IMAGES LABELS, "
        f"data split where tiles.areas does not name yours, then `dvc repro` inside {root}"
    )
    return f"{said}\n{made}" if said else made


def renew_workspace(layout: Layout) -> str:
    """Bring an old workspace's dvc.yaml, link to the code and params.yaml up to date; returns what was done.

    Raises:
        StageError: there is no params.yaml.
    """
    if not layout.params.is_file():
        raise StageError(f"no {layout.params}", expected="a workspace to renew", cure="say --config for a new one")
    text = load_text(layout.params, ParamsError)
    shared = "&" in text and bool(list(find_anchors(text)))
    tree = parse_yaml(text, str(layout.params), ParamsError) if shared else load_commented(text)
    moved = move_old(tree)
    if added := add_new(tree):
        moved.append(f"new are {', '.join(added)}")
    if moved or shared:
        with atomic_path(layout.params) as temporary:
            temporary.write_text(dump_yaml(tree))
            load_params(temporary)
        moved += ["what anchors shared is written out, and comments are gone"] * shared
    load_params(layout.params)
    _write_pipeline(layout.root)
    return f"renewed dvc.yaml of {layout.root}" + (f"; params.yaml: {', '.join(moved)}" if moved else "")


def _write_pipeline(root: Path) -> None:
    """dvc.yaml as the package has it, what DVC is not to see, and src/weakseg, the code that it names, as a link."""
    shutil.copyfile(PIPELINE / "dvc.yaml", root / "dvc.yaml")
    ignored = root / ".dvcignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    if missing := [line for line in DVC_IGNORES if line not in lines]:
        write_text(ignored, "\n".join([*lines, *missing]) + "\n")
    link = root / "src" / PACKAGE.name
    if link.resolve() == PACKAGE.resolve():
        return
    if link.exists() and not link.is_symlink():
        raise StageError(f"{link} is there", expected="a link to the installed weakseg", cure="move it away")
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(PACKAGE, link.parent.resolve()), target_is_directory=True)


def ensure_data(root: Path) -> str:
    """Make the embedded scenes where data/ is missing and data.dvc says that it is theirs (``meta.generator``)."""
    layout, pointer = Layout(root), root / "data.dvc"
    if layout.images.is_dir():
        return f"{layout.data} is there"
    meta = (load_yaml(pointer) or {}).get("meta", {}) if pointer.is_file() else {}
    if meta.get("generator") != "weakseg data synth":
        raise DataError(
            f"no {layout.images}", expected="data that data.dvc tracks", cure="run `dvc pull`, or `weakseg data import`"
        )
    write_embedded(root, seed=int(meta["seed"]), tag_size=int(meta["tag_size"]))
    return f"wrote the embedded scenes to {layout.data}"


def write_embedded(root: Path, *, seed: int, tag_size: int) -> None:
    """The embedded data set: scenes and the tags of their crops; whole or not at all."""
    layout = Layout(root)
    staging = root / ".data-in-the-making"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        write_scenes(staging / "data", seed=seed)
        rows, _ = _mask_tags(staging, size=tag_size, min_share=0.0)
        # without the sizes of the rasters: data.dvc holds the checksum of this file
        write_tags(Layout(staging).tags_csv, rows, load_classes(Layout(staging).classes))
        layout.data.mkdir(parents=True, exist_ok=True)
        for child in (staging / "data").iterdir():
            os.replace(child, layout.data / child.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def area_names(root: Path) -> list[str]:
    """Areas with a mask in data/labels, in natural order."""
    labels = Layout(root).labels
    if not labels.is_dir():
        raise DataError(f"no folder {labels}", expected="imported labels", cure="run `weakseg data import` first")
    names = [path.stem for path in labels.iterdir() if path.suffix in SUFFIXES]
    return sorted(names, key=lambda name: (len(name), name))


def _masks(root: Path, names: list[str]) -> Any:
    scheme = load_classes(Layout(root).classes)
    for name in names:
        yield read_mask(_mask_file(root, name), scheme)


def _mask_file(root: Path, name: str) -> Path:
    folder = Layout(root).labels
    return next(path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file())


def write_mask_tags(root: Path, *, size: int, min_share: float) -> str:
    """Derive the tags of all areas from their masks and write data/tags/tags.csv, windows in px of the raw rasters."""
    layout = Layout(root)
    rows, sizes = _mask_tags(root, size=size, min_share=min_share)
    write_tags(layout.tags_csv, rows, load_classes(layout.classes), sizes)
    return f"wrote {len(rows)} tag crops of {len(sizes)} areas to {layout.tags_csv}"


def _mask_tags(root: Path, *, size: int, min_share: float) -> tuple[list[TagWindow], dict[str, tuple[int, int]]]:
    """The tag crops of all masks, and the masks' heights and widths by area, px."""
    names, folder = area_names(root), Layout(root).images
    images = {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}
    scheme = load_classes(Layout(root).classes)
    rows, sizes = [], {}
    for name, mask in zip(names, _masks(root, names), strict=True):
        windows = window_grid(mask.shape[0], mask.shape[1], size)
        valid = read_valid(images[name]) if name in images else None
        partly = is_partly_labelled(_mask_file(root, name))
        rest = scheme.background_index
        present, known = tags_from_mask(
            mask, windows, len(scheme), min_share=min_share, valid=valid, background=rest, partly=partly
        )
        rows += to_tag_windows(name, windows, present, known, scheme)
        sizes[name] = (mask.shape[0], mask.shape[1])
    return rows, sizes


def import_box_files(
    root: Path, sources: list[Path], *, single_objects: bool, skip_classes: tuple[str, ...], replace: bool
) -> str:
    """Check the user's box files and bring them into data/boxes/boxes.json, or report all problems and do nothing."""
    layout = Layout(root)
    found = import_boxes(
        sources,
        layout.box_file,
        load_classes(layout.classes),
        _image_infos(layout),
        single_objects=single_objects,
        skip_classes=skip_classes,
        replace=replace,
    )
    return "\n".join([_describe_boxes(found, layout.box_file), *(f"note: {notice}" for notice in found.notices)])


def write_mask_boxes(root: Path, classes: tuple[str, ...], *, min_pixels: int, replace: bool) -> str:
    """Derive the boxes of all areas from their masks and write data/boxes/boxes.json, in px of the raw rasters."""
    layout, names = Layout(root), area_names(root)
    if layout.box_file.exists() and not replace:
        raise DataError(f"{layout.box_file} is there", expected="no boxes yet", cure="say --replace, or keep them")
    scheme = load_classes(layout.classes)
    tables, sizes = [], {}
    for name, mask in zip(names, _masks(root, names), strict=True):
        table = boxes_from_mask(name, mask, scheme, classes, min_pixels=min_pixels)
        tables.append(BoxTable(table.boxes) if is_partly_labelled(_mask_file(root, name)) else table)
        sizes[name] = (mask.shape[0], mask.shape[1])
    table = join_boxes(tables)
    write_boxes(layout.box_file, table, scheme, sizes)
    return _describe_boxes(table, layout.box_file)


def _image_infos(layout: Layout) -> dict[str, RasterInfo]:
    if not layout.images.is_dir():
        raise DataError(f"no folder {layout.images}", expected="images", cure="run `weakseg data import` first")
    paths = sorted(path for path in layout.images.iterdir() if path.suffix in (*SUFFIXES, ".jpg"))
    return {path.stem: read_info(path) for path in paths}


def _describe_boxes(table: BoxTable, path: Path) -> str:
    """Boxes per class, their number and the areas that were searched for it."""
    lines = [f"wrote {table.count()} boxes of {len(table.searched)} areas to {path}"]
    for name in dict.fromkeys(name for names in table.searched.values() for name in names):
        mine = [box for box in table.boxes if box.name == name and not box.crowd]
        searched = sum(name in names for names in table.searched.values())
        side = float(np.median([(box.height * box.width) ** 0.5 for box in mine])) if mine else 0.0
        regions = sum(box.name == name and box.crowd for box in table.boxes)
        lines.append(
            f"{name}: {len(mine)} boxes, median side {side:.0f} px, {regions} crowd regions, {searched} areas searched"
        )
    return "\n".join(lines)


def describe_tags(root: Path, *, min_share: float) -> str:
    """Tables of what tags say per crop size, and the size that says most per tag."""
    scheme = load_classes(Layout(root).classes)
    whole = [name for name in area_names(root) if not is_partly_labelled(_mask_file(root, name))]
    if not whole:
        raise DataError(
            f"masks of part of each area in {Layout(root).labels}",
            expected="an area that is labelled throughout",
            cure="choose tiles.tag_size by eye, or label one area whole",
        )
    statistics = tag_statistics(_masks(root, whole), scheme, min_share=min_share)
    rates = statistics.classes["rate"].unstack().loc[:, list(scheme.names)]
    parts = [
        "presence rate per crop size (px) and class",
        rates.to_string(float_format="%.2f"),
        "\nwhat a crop of that size says",
        statistics.sizes.to_string(float_format="%.4g"),
    ]
    for size, table in statistics.together.items():
        parts += [f"\nshare of {size} px crops with both classes", table.to_string(float_format="%.2f")]
    return "\n".join([*parts, f"\nmost bits per tagged crop: {best_size(statistics)} px"])


def write_split(root: Path, counts: tuple[int, int, int], *, seed: int, every_class: bool, tries: int = 1000) -> str:
    """Draw N1, N2 and validation areas and write the lists into params.yaml; all else in the file stays.

    With ``every_class`` the draw is repeated until N1 holds every class of the scheme. Areas without a mask can
    serve N2 alone: all of them go there, on top of those drawn. Where N2 has no mask at all the oracle leaves
    ``sources``.
    """
    layout, names = Layout(root), area_names(root)
    unlabelled = sorted(set(_image_infos(layout)) - set(names), key=lambda name: (len(name), name))
    if sum(counts) > len(names):
        raise DataError(f"{sum(counts)} areas wanted of {len(names)}", expected="at most as many", cure="ask for fewer")
    scheme = load_classes(layout.classes)
    whole = [count_classes(m, [(0, 0, *m.shape)], len(scheme))[0] > 0 for m in _masks(root, names)]
    rng = np.random.default_rng(seed)
    for _ in range(tries):
        order = rng.permutation(len(names))
        if not every_class or np.any([whole[i] for i in order[: counts[0]]], axis=0).all():
            break
    else:
        raise DataError(f"no draw of {counts[0]} areas holds every class", expected="one", cure="ask for more N1 areas")
    drawn, places = [names[i] for i in order], {name: place for place, name in enumerate(names)}
    ends = np.cumsum(counts)
    lists = {
        "pixel": sorted(drawn[: ends[0]], key=places.__getitem__),
        "tags": sorted(drawn[ends[0] : ends[1]], key=places.__getitem__) + unlabelled,
        "validation": sorted(drawn[ends[1] : ends[2]], key=places.__getitem__),
    }
    changes = {f"tiles.areas.{split}": areas for split, areas in lists.items()}
    said = [f"{split}: {' '.join(areas[:_SAID])}{_more(areas)}" for split, areas in lists.items()]
    sources = (load_yaml(layout.params) or {}).get("sources", [])
    if ORACLE in sources and not set(lists["tags"]) & places.keys():
        changes["sources"] = [source for source in sources if source != ORACLE]
        said.append(f"no area of N2 has a mask: there is no oracle, so {ORACLE} left sources")
    text = set_values(load_text(layout.params, ParamsError), changes)
    with atomic_path(layout.params) as temporary:
        temporary.write_text(text)
        load_params(temporary)
    return "\n".join(said)


def _more(areas: list[str]) -> str:
    return f" and {len(areas) - _SAID} more" if len(areas) > _SAID else ""
