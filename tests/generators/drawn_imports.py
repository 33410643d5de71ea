"""Drawn deliveries of images and labels, imported as ``weakseg data import`` does, and compared with what was drawn."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from hypothesis import strategies as st
from rasterio.transform import from_gcps
from tests.generators.drawn_images import FLOATS, LOSSY, PLAIN_KINDS, ImageSpec, images, placeless
from tests.generators.drawn_images import WRITERS as IMAGE_WRITERS
from tests.generators.drawn_labels import IGNORE, LabelKind, LabelSpec, label_kinds
from tests.generators.drawn_names import PAIRINGS, PLAIN_PAIRINGS, named, stems
from tests.generators.drawn_places import WORLD, Place, same_crs, same_transform
from tests.generators.drawn_schemes import Scheme, schemes
from tests.generators.outcomes import Outcome, crash, refusal

from weakseg.core.classes import load_classes
from weakseg.core.errors import WeaksegError
from weakseg.data.importing.dataset import import_dataset
from weakseg.data.importing.outcome import ImportReport

# how the grid of the labels lies to that of the images; the last ones have no right answer but a refusal
GRIDS = ("none", "same", "rounded", "label_only", "one_px", "half_px", "other_crs", "other_size", "flipped")
ASTRAY = ("one_px", "half_px", "other_crs", "other_size", "flipped")
CONTAINERS = ("folder", "subfolder", "zip")
IMAGE_KINDS = tuple(kind for kind in IMAGE_WRITERS if kind not in FLOATS and kind != "uint16_nodata")
ODDITIES = ("scheme", "label", "image", "file", "place", "grid", "names", "stray")
FORMS = (("NFC", "NFC"), ("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD"))
_TOLERANCE = 4  # of 255 between two decoders of one JPEG


@dataclass(frozen=True)
class AreaSpec:
    """One area: its files and their stems."""

    image: ImageSpec
    label: LabelSpec
    image_stem: str
    label_stem: str

    @property
    def place(self) -> tuple[str | None, tuple[float, ...] | None]:
        """crs and transform that the area has, from its image or, where that has none, from its label."""
        known = [place for place in (self.image.place, self.label.place) if place is not None]
        crs = next((place.crs for place in known if place.crs is not None), None)
        return crs, next((place.transform for place in known), None)

    @property
    def truth(self) -> npt.NDArray[np.uint8]:
        """The index mask as drawn, 255 where the image has no data."""
        return np.where(self.image.valid, self.label.truth, IGNORE).astype(np.uint8)


@dataclass(frozen=True)
class ImportCase:
    """A delivery: a scheme and areas, in two folders or zips; ``odd`` names what is unusual about it."""

    scheme: Scheme
    labels: LabelKind
    areas: tuple[AreaSpec, ...]
    odd: frozenset[str]
    grid: str
    pairing: str
    image_form: str
    label_form: str
    image_container: str
    label_container: str

    @property
    def bands(self) -> tuple[int, ...] | None:
        """What --bands says."""
        return self.areas[0].image.bands

    @property
    def ignore_values(self) -> tuple[int, ...]:
        """What --ignore says."""
        return (self.labels.ignore_id,) if self.labels.ignore == "option" else ()

    @property
    def astray(self) -> bool:
        """Whether nothing but a refusal is right."""
        return self.grid in ASTRAY or bool(any(area.label.astray.any() for area in self.areas))

    @property
    def plain(self) -> bool:
        """Whether the delivery is plainly valid and has to be taken."""
        two_ways = self.labels.encoding == "palette_renumbered" and self.scheme.values is not None
        return not self.odd and not two_ways  # a palette's numbers may happen to be ids of other classes

    @property
    def traits(self) -> tuple[str, ...]:
        """What the case is counted under."""
        carriers = {area.image.place.carrier if area.image.place else "none" for area in self.areas}
        values = "none" if self.scheme.values is None else "from 1" if min(self.scheme.values) == 1 else "anywhere"
        turned = self.areas[0].image.orientation, self.labels.orientation
        odd = "nothing" if not self.odd else next(iter(self.odd)) if len(self.odd) == 1 else "several"
        return (
            f"odd: {odd}",
            f"image: {self.areas[0].image.kind}",
            f"label: {self.labels.encoding}",
            f"label ignore: {self.labels.ignore}",
            f"--masks-hold: {self.labels.told}",
            f"label dtype: {self.labels.dtype}",
            f"stray px: {any(area.label.astray.any() for area in self.areas)}",
            f"colours: {self.scheme.style}",
            f"value: {values}",
            f"label grid: {self.grid}",
            f"pairing: {self.pairing}",
            f"unicode: {self.image_form} {self.label_form}",
            f"orientation: {'upright' if turned == (1, 1) else 'turned'}",
            f"source: {self.image_container}",
            *(f"place of image: {carrier}" for carrier in carriers),
        )


@st.composite
def oddities(draw: st.DrawFn) -> frozenset[str]:
    """What is unusual about a delivery: nothing, one thing (else one refusal would hide the other), or several."""
    how = draw(st.sampled_from(["plain", "one", "one", "several"]))
    if how == "plain":
        return frozenset()
    if how == "one":
        return frozenset([draw(st.sampled_from(ODDITIES))])
    return draw(st.frozensets(st.sampled_from(ODDITIES), min_size=2))


@st.composite
def import_cases(draw: st.DrawFn) -> ImportCase:
    """Deliveries of one to three areas; a fourth of them plainly valid."""
    odd = draw(oddities())
    scheme = draw(schemes(odd="scheme" in odd))
    kind = draw(label_kinds(scheme, odd="label" in odd, odd_file="file" in odd))
    count = draw(st.integers(1, 3))
    content = draw(st.sampled_from(IMAGE_KINDS if "image" in odd else PLAIN_KINDS))
    specs = [draw(images(content, odd_file="file" in odd, odd_place="place" in odd)) for _ in range(count)]
    grid = draw(st.sampled_from(GRIDS if "grid" in odd else ("none", "same", "rounded")))
    pairing = draw(st.sampled_from(tuple(PAIRINGS) if "names" in odd else PLAIN_PAIRINGS))
    forms = draw(st.sampled_from(FORMS)) if "names" in odd else FORMS[0]
    if any(spec.place is not None and spec.place.carrier == "gcps" for spec in specs):
        grid = "none"
    areas = []
    for stem, spec in zip(draw(stems(count, odd="names" in odd)), specs, strict=True):
        label = _label_of(draw, scheme, kind, spec, grid, "stray" in odd and not areas)
        spec = replace(spec, place=None) if grid == "label_only" else spec
        areas.append(AreaSpec(spec, label, *(named(stem, pairing, label=bool(i), form=f) for i, f in enumerate(forms))))
    if grid in ("one_px", "half_px", "other_crs", "flipped") and all(area.label.place is None for area in areas):
        grid = "none"
    if grid == "other_crs" and all(area.image.place is None or area.image.place.crs is None for area in areas):
        grid = "one_px"
    containers = [draw(st.sampled_from(CONTAINERS)) for _ in range(2)]
    return ImportCase(scheme, kind, tuple(areas), odd, grid, pairing, *forms, *containers)


def _label_of(draw: st.DrawFn, scheme: Scheme, kind: LabelKind, image: ImageSpec, grid: str, stray: bool) -> LabelSpec:
    height, width = image.height + (grid == "other_size"), image.width
    place = None if grid in ("none", "other_size") else _label_place(draw, kind, image, grid)
    return LabelSpec(
        scheme,
        kind.encoding,
        kind.writer,
        kind.suffix,
        height,
        width,
        draw(st.integers(0, 10**6)),
        kind.ignore,
        kind.ignore_id,
        stray,
        kind.dtype,
        kind.orientation,
        place,
    )


def _label_place(draw: st.DrawFn, kind: LabelKind, image: ImageSpec, grid: str) -> Place | None:
    """The place of the image's label, told in a way that the label's format knows."""
    if image.place is None or kind.orientation != 1:
        return None
    form = kind.writer.split(".")[1]
    crs, transform = image.place.crs, image.place.transform
    carriers = ["aux", "world+aux", "world+esri"] if crs else ["world"]
    if kind.writer == "rasterio.tif" and crs:
        carriers = ["tags"]
    place = Place(crs, transform, draw(st.sampled_from(carriers)), draw(st.sampled_from(WORLD[form])))
    if grid == "other_crs" and crs is not None:
        return Place("EPSG:4326" if crs == "EPSG:25833" else "EPSG:25833", transform, place.carrier, place.world_suffix)
    if grid in ("one_px", "other_crs"):
        return place.moved(1, draw(st.integers(0, 1)))
    if grid == "half_px":
        return place.moved(draw(st.sampled_from([0.5, -0.5])), draw(st.sampled_from([0.5, 0])))
    if grid == "flipped":  # the same ground, row by row from the other side
        a, b, c, d, e, f = place.transform
        return replace(place, transform=(a, -b, c + b * image.height, d, -e, f + e * image.height))
    return place.moved(1e-5, -1e-5) if grid == "rounded" else place


def check_import(case: ImportCase) -> Outcome:
    """Write the delivery, import it, and compare what came in with what was drawn."""
    with tempfile.TemporaryDirectory(prefix="drawn-") as name:
        folder = Path(name)
        write_delivery(case, folder)
        try:
            scheme = load_classes(folder / "classes.yaml")
            report = import_dataset(
                _container(folder / "images", case.image_container),
                [_container(folder / "labels", case.label_container)],
                folder / "data",
                classes=scheme,
                bands=case.bands,
                ignore_values=case.ignore_values,
                **({"masks_hold": case.labels.told} if case.labels.told else {}),
                progress=False,
            )
        except WeaksegError as error:
            return refusal(error)
        except Exception as error:  # whatever it is, it is no sentence
            return crash(error)
        if case.astray:
            return Outcome("silent", f"taken, although {_why_astray(case)}")
        with placeless():
            different = difference(case, folder, report)
        return Outcome("silent", different) if different else Outcome("equal")


def write_delivery(case: ImportCase, folder: Path) -> None:
    """classes.yaml, images and labels under ``folder``."""
    (folder / "classes.yaml").write_text(case.scheme.yaml(), encoding="utf-8")
    for role, container in (("images", case.image_container), ("labels", case.label_container)):
        place = folder / role / "deep" / "er" if container == "subfolder" else folder / role
        place.mkdir(parents=True)
        for area in case.areas:
            if role == "images":
                area.image.write(place / f"{area.image_stem}{area.image.suffix}")
            else:
                area.label.write(place / f"{area.label_stem}{area.label.suffix}")
        if container == "zip":
            with zipfile.ZipFile(folder / f"{role}.zip", "w") as archive:
                for path in sorted(place.iterdir()):
                    archive.write(path, f"{role}/{path.name}")
                    archive.writestr(f"__MACOSX/{role}/._{path.name}", b"as macOS packs it")


def _container(place: Path, container: str) -> Path:
    return place.with_name(f"{place.name}.zip") if container == "zip" else place


def _why_astray(case: ImportCase) -> str:
    return f"the label's grid is {case.grid}" if case.grid in ASTRAY else "px hold a value or colour of no class"


def difference(case: ImportCase, folder: Path, report: ImportReport) -> str:
    """What differs between the data folder and what was drawn; empty where nothing does."""
    found = sorted((folder / "data" / "images").iterdir())
    if len(found) != len(case.areas):
        return f"{len(found)} areas of {len(case.areas)}"
    left = list(case.areas)
    for path in found:
        reasons = [(_area_difference(area, path, folder), area) for area in left]
        match = next((area for reason, area in reasons if not reason), None)
        if match is None:
            return max((reason for reason, _ in reasons), key=len)
        left.remove(match)
    counts = np.bincount(np.concatenate([area.truth.ravel() for area in case.areas]), minlength=256)
    wanted = [int(counts[i]) for i in (*range(len(case.scheme.names)), IGNORE)]
    told = [count for _, count in report.class_pixels]
    return "" if told == wanted else f"the report counts {told} px of the classes, not {wanted}"


def _area_difference(area: AreaSpec, path: Path, folder: Path) -> str:
    """What is wrong with one area, the more harmless the longer: image, label, then place."""
    with rasterio.open(path) as file:
        image, crs, transform = np.moveaxis(file.read(), 0, -1), file.crs, tuple(file.transform)[:6]
        if file.gcps[0]:
            crs, transform = file.gcps[1], tuple(from_gcps(file.gcps[0]))[:6]
    shown = area.image.as_shown(_source_of(area, folder))
    slack = _TOLERANCE if area.image.kind in LOSSY else 0
    valid = area.image.valid
    if image.shape != shown.shape:
        return f"image {image.shape}, not {shown.shape}"
    off = np.abs(image.astype(int) - shown)[valid]
    if off.size and off.max() > slack:
        return f"image differs by up to {off.max()}"
    with rasterio.open(folder / "data" / "labels" / path.name) as file:
        label = file.read(1)
    if not np.array_equal(label, area.truth):
        row, column = (int(i[0]) for i in np.nonzero(label != area.truth))
        count, first = (label != area.truth).sum(), label[row, column]
        return f"label differs in {count} px, first {first} and not {area.truth[row, column]}"
    wanted_crs, wanted = area.place
    if not same_crs(crs, wanted_crs):
        return f"the image and label came in as drawn, but the crs is {crs} and not {wanted_crs}"
    if not same_transform(transform, wanted or (1, 0, 0, 0, 1, 0)):
        return f"the image, label and crs came in as drawn, but the transform is {transform} and not {wanted}"
    return ""


def _source_of(area: AreaSpec, folder: Path) -> Path:
    return next(path for path in (folder / "images").rglob("*") if path.name == f"{area.image_stem}{area.image.suffix}")
