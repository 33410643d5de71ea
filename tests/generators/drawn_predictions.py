"""Drawn rasters to predict, by a model whose class is a known function of the px, so that the right map is known.

The class of a px is red >= 128, plus 2 where green >= 128, plus 4 where blue >= 128, as a person sees the px; 255 where
there is no image data. ``predict_rasters`` runs as ``weakseg predict`` calls it, but for the opening of the model file.
What a bundle of the same network makes of the rasters is the same, byte for byte or word for word.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from rasterio.transform import from_gcps
from tests.generators.drawn_images import LOSSY, WRITERS, ImageSpec, images, placeless
from tests.generators.drawn_places import same_crs, same_transform
from tests.generators.outcomes import Outcome, crash, refusal
from torch import Tensor, nn

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import WeaksegError
from weakseg.export.bundled import main
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options
from weakseg.inference.predict import predict_rasters
from weakseg.networks.portable import write_onnx
from weakseg.training.machine import machine_from_environment

SCHEME = ClassScheme(tuple("abcdefgh"), tuple((i, 9, 9) for i in range(8)))
NAMES = ("a", "scene[1]", "scene 2", "Größe", "b*c", "x.y", "2_10", "q?")
PLAIN_KINDS = ("rgb", "jpeg", "four_bands", "uint16", "float32")
STRAYS = ("c.jp2", "c.img", "c.docx")  # files of a folder that are not read
_BLUR = 6  # of 255: two decoders of a JPEG may disagree on the class of a px so near to 128


@dataclass(frozen=True)
class PredictCase:
    """Rasters to predict; ``odd`` names what is unusual about them.

    Attributes:
        where: file, folder or pattern.
        stray: a file of the folder that is no raster: leaving it out in silence is wrong.
        sampled: the model knows its ground sampling distance, and the raster has the same.
    """

    images: tuple[ImageSpec, ...]
    names: tuple[str, ...]
    where: str
    stray: str | None
    sampled: bool
    odd: frozenset[str]

    @property
    def plain(self) -> bool:
        """Whether the rasters are plainly valid and have to be taken."""
        return not self.odd

    @property
    def traits(self) -> tuple[str, ...]:
        """What the case is counted under."""
        first = self.images[0]
        return (
            f"odd: {', '.join(sorted(self.odd)) or 'nothing'}",
            f"image: {first.kind}",
            f"where: {self.where}",
            f"orientation: {'upright' if first.orientation == 1 else 'turned'}",
            f"stray file: {self.stray is not None}",
            f"model knows its sampling distance: {self.sampled}",
            *sorted({f"place: {i.place.carrier if i.place else 'none'}" for i in self.images}),
            *sorted({f"crs: {i.place.crs}" for i in self.images if i.place}),
        )


@st.composite
def predict_cases(draw: st.DrawFn) -> PredictCase:
    """One or two rasters; a third of the cases plainly valid."""
    odd = draw(
        st.sampled_from([frozenset()] + [frozenset([o]) for o in ("image", "image", "file", "place", "name", "folder")])
    )
    kind = draw(st.sampled_from(tuple(WRITERS) if "image" in odd else PLAIN_KINDS))
    where = draw(st.sampled_from(["folder", "pattern"])) if "folder" in odd else "file"
    count = draw(st.integers(1, 2)) if where != "file" else 1
    specs = [draw(images(kind, odd_file="file" in odd, odd_place="place" in odd)) for _ in range(count)]
    choice = NAMES if odd & {"name", "folder"} else NAMES[:1]
    names = draw(
        st.lists(st.sampled_from(choice if count == 1 else NAMES), min_size=count, max_size=count, unique=True)
    )
    stray = draw(st.sampled_from([None, None, *STRAYS])) if where == "folder" else None
    return PredictCase(tuple(specs), tuple(names), where, stray, draw(st.booleans()), odd)


def forward(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, h, w) -> probabilities (B, 8, h, w): 1 for the class of the px."""
    bright = (pixels >= 128).long()
    return F.one_hot(bright[:, 0] + 2 * bright[:, 1] + 4 * bright[:, 2], 8).permute(0, 3, 1, 2).float()


def classes_of(seen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3) -> the class of every px, uint8 (H, W)."""
    return ((seen >= 128) * np.array([1, 2, 4])).sum(-1).astype(np.uint8)


def ground_distance(spec: ImageSpec) -> float | None:
    """True metres per px: the root of the ground that a px covers on the ellipsoid."""
    if spec.place is None or spec.place.crs is None:
        return None
    a, b, c, d, e, f = spec.place.transform
    corners = [(0, 0), (spec.width, 0), (spec.width, spec.height), (0, spec.height)]
    xs, ys = zip(*((a * x + b * y + c, d * x + e * y + f) for x, y in corners), strict=True)
    to_degrees = pyproj.Transformer.from_crs(spec.place.crs, "EPSG:4326", always_xy=True)
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*to_degrees.transform(xs, ys))
    return float(np.sqrt(abs(area) / (spec.width * spec.height)))


def check_prediction(case: PredictCase) -> Outcome:
    """Write the rasters, predict them, and compare the maps with what was drawn."""
    with tempfile.TemporaryDirectory(prefix="drawn-") as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for spec, stem in zip(case.images, case.names, strict=True):
            spec.write(folder / f"{stem}{spec.suffix}")
        if case.stray:
            (folder / case.stray).write_bytes(b"not read")
        try:
            _predict(case, folder, Path(name) / "out")
        except WeaksegError as error:
            told = _predict_alone(case, folder, Path(name))
            return refusal(error) if told == str(error) else Outcome("silent", f"{error}, but of a bundle: {told}")
        except Exception as error:  # whatever it is, it is no sentence
            return crash(error)
        if case.stray:
            return Outcome("silent", f"{case.stray} was left out")
        for spec, stem in zip(case.images, case.names, strict=True):
            single = case.where == "file"
            with placeless():
                different = difference(
                    spec, folder / f"{stem}{spec.suffix}", Path(name) / ("out.tif" if single else f"out/{stem}.tif")
                )
            if different:
                return Outcome("silent", different)
        told = _predict_alone(case, folder, Path(name))
        maps = {path.name: path.read_bytes() for path in _maps(Path(name) / "out")}
        same = not told and maps == {path.name: path.read_bytes() for path in _maps(Path(name) / "alone" / "out")}
        return Outcome("equal") if same else Outcome("silent", f"a bundle gives another map {told}")


def _maps(out: Path) -> list[Path]:
    """The map, or those of a folder."""
    return sorted(out.iterdir()) if out.is_dir() else [out.with_suffix(".tif")]


def _sampling(case: PredictCase) -> float | None:
    """The ground sampling distance that the model was trained at."""
    known = case.sampled and len({ground_distance(image) for image in case.images}) == 1
    return ground_distance(case.images[0]) if known else None


def _where(case: PredictCase, folder: Path) -> Path:
    return {
        "file": folder / f"{case.names[0]}{case.images[0].suffix}",
        "folder": folder,
        "pattern": folder / "*.[tTpPjJ]*[fFgG]",
    }[case.where]


class _Bright(nn.Module):
    """:func:`forward` in what ONNX has, as ``write_onnx`` takes networks."""

    outputs: Final = ["probabilities"]

    def zeros(self, *size: int) -> Tensor:
        return torch.zeros(size[0], 3, *size[1:])

    def forward(self, pixels: Tensor) -> Tensor:
        bright = (pixels >= 128).float()
        channels = [(1 - bright[:, i], bright[:, i]) for i in range(3)]
        return torch.stack([channels[0][k & 1] * channels[1][k >> 1 & 1] * channels[2][k >> 2] for k in range(8)], 1)


@cache
def _onnx() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(_Bright(), Path(folder) / "m.onnx")  # type: ignore[arg-type]
        return (Path(folder) / "m.onnx").read_bytes()


def _predict_alone(case: PredictCase, folder: Path, work: Path) -> str:
    """Map the rasters into ``work/alone`` by a bundle's program; what it refuses them with, "" where it takes them."""
    bundle, spec = work / "bundle", case.images[0]
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(_onnx())
    (bundle / "classes.json").write_text(json.dumps(SCHEME.by_index().to_table()))
    plain = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "scale": 1.0, "gsd": _sampling(case)}
    (bundle / "preprocessing.json").write_text(json.dumps(plain))
    out = work / "alone" / ("out.tif" if case.where == "file" else "out")
    words = [str(_where(case, folder)), str(out), "--window", "16", "--batch", "2", "--threads", "1"]
    words += ["--bands", ",".join(map(str, spec.bands))] if spec.bands else []
    words += ["--stretch", ",".join(map(str, spec.stretch))] if spec.stretch else []
    with contextlib.redirect_stdout(None):
        try:
            main(bundle, words)
        except SystemExit as error:
            return str(error.code)
    return ""


def _predict(case: PredictCase, folder: Path, out: Path) -> None:
    spec, digest = case.images[0], hashlib.blake2b(_onnx(), digest_size=16).hexdigest()
    predictor = Predictor(forward, SCHEME, 1.0, _sampling(case), torch.device("cpu"), digest)
    with mock.patch("weakseg.inference.predict.load_predictor", return_value=predictor):
        predict_rasters(
            Path("drawn.pt"),
            str(_where(case, folder)),
            out.with_suffix(".tif") if case.where == "file" else out,
            bands=spec.bands,
            stretch=(float(spec.stretch[0]), float(spec.stretch[1])) if spec.stretch else None,
            machine=machine_from_environment(),
            options=Options(window=16, batch=2),
        )


def difference(spec: ImageSpec, source: Path, target: Path) -> str:
    """What differs between a map and what was drawn; empty where nothing does."""
    if not target.is_file():
        return f"no map {target.name}"
    with rasterio.open(target) as file:
        found, crs, transform, nodata = file.read(1), file.crs, tuple(file.transform)[:6], file.nodata
        if file.gcps[0]:
            crs, transform = file.gcps[1], tuple(from_gcps(file.gcps[0]))[:6]
    shown = spec.as_shown(source)
    wanted = np.where(spec.valid, classes_of(shown), 255)
    if found.shape != wanted.shape:
        return f"map {found.shape}, not {wanted.shape}"
    sure = (np.abs(shown.astype(int) - 127.5) > _BLUR).all(-1) if spec.kind in LOSSY else np.ones(wanted.shape, bool)
    wrong = (found != wanted) & sure
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        return f"map differs in {wrong.sum()} px, first {found[row, column]} and not {wanted[row, column]}"
    place = spec.place
    if not same_crs(crs, place.crs if place else None):
        return f"the map is right, but its crs is {crs} and not {place and place.crs}"
    if not same_transform(transform, place.transform if place else (1, 0, 0, 0, 1, 0)):
        return f"the map is right, but its transform is {transform} and not {place and place.transform}"
    return "" if nodata == 255 else f"the map is right, but names {nodata} as nodata"
