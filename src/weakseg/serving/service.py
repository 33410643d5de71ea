"""Answers to requests: an image in, its class map and confidence out, within limits and without writing to disk.

The two doors are the model that ``mlflow models serve`` runs (``stages/registered_model.py``) and the page of
``weakseg demo``. Windows, resampling and pixels without data are those of ``weakseg predict``, so the map is too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError, ParamsError
from weakseg.inference.encode import Kind
from weakseg.inference.model import Predictor
from weakseg.inference.options import Options, choose_scale
from weakseg.inference.run import predict_layers, run_predictor
from weakseg.raster.stream import Pixels, Source, open_reader
from weakseg.raster.uploads import encode_pixels, open_upload

MAX_PIXELS: Final = 1 << 24  # 4096 x 4096
MAX_BYTES: Final = 1 << 26  # 64 MiB
MAX_UPLOAD: Final = 1 << 31  # 2 GiB, of files that go to the disk and not to the memory
_WITH_CONFIDENCE: Final = Options(confidence=Path("confidence"))  # only says that the layer is wanted


class TooLargeError(DataError):
    """A request over the limits; HTTP's status 413."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for: px of its images together, bytes of its body, bytes of a file to open in the page."""

    pixels: int = MAX_PIXELS
    content: int = MAX_BYTES
    upload: int = MAX_UPLOAD


def limits_from_environment() -> Limits:
    """WEAKSEG_MAX_PIXELS, _MAX_BYTES and _MAX_UPLOAD, machine facts as the device is; 16.8 Mpx, 64 MiB and 2 GiB."""
    return Limits(
        _positive("WEAKSEG_MAX_PIXELS", MAX_PIXELS),
        _positive("WEAKSEG_MAX_BYTES", MAX_BYTES),
        _positive("WEAKSEG_MAX_UPLOAD", MAX_UPLOAD),
    )


def _positive(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdigit() or int(text) < 1:
        raise ParamsError(f"{name}={text}", expected="a whole number from 1", cure="mend the variable")
    return int(text)


def check_length(length: int, limits: Limits, name: str = "request") -> None:
    """Raise TooLargeError for a body of that many bytes if it is over the limit."""
    if length > limits.content:
        raise TooLargeError(
            f"{name}: {length / 2**20:.3g} MiB",
            expected=f"at most {limits.content / 2**20:.3g} MiB",
            cure="send a smaller image, or use `weakseg predict` for whole scenes",
        )


@dataclass(frozen=True)
class Answer:
    """One image and its map.

    Attributes:
        image: uint8 (H, W, 3), the pixels as they were read, or as ``Bands.picture`` shows other bands.
        classes: uint8 (H, W), class indices, 255 where the image has no data.
        confidence: uint8 (H, W), probability of that class times 254, 255 where the image has no data.
    """

    image: Pixels
    classes: Pixels
    confidence: Pixels

    def shares(self, count: int) -> list[float]:
        """Share of every class among the pixels with data; all 0 where there are none."""
        found = np.bincount(self.classes[self.classes != IGNORE], minlength=count)
        return [float(value) for value in found / max(1, found.sum())]


class MapService:
    """A network behind limits; it may be asked from many threads and predicts one image at a time.

    Attributes:
        turn: who holds it predicts.
    """

    def __init__(self, predictor: Predictor, limits: Limits | None = None) -> None:
        self.predictor, self.limits = predictor, limits or Limits()
        self.turn = threading.Lock()

    def answer_file(
        self,
        content: bytes,
        name: str = "image",
        *,
        bands: Sequence[int] = (),
        stretch: Sequence[float] = (),
        budget: int | None = None,
    ) -> Answer:
        """The map of a GeoTIFF, PNG or JPEG file.

        Args:
            content: the file; ``name`` is what errors call it.
            bands: as many bands from 1 as the model has, needed where the file has another number or order of them.
            stretch: two pixel values that become 0 and 255, needed where the file has not 8 bits.
            budget: px that this image may have; the whole limit without it.

        Raises:
            TooLargeError: over the limits, which are checked before pixels are decoded.
            DataError: what cannot be read, or is not three bands of uint8.
        """
        check_length(len(content), self.limits, name)
        if len(stretch) not in (0, 2):
            raise ParamsError(f"stretch of {len(stretch)} number(s)", expected="two", cure="write for instance 0,2047")
        low_high, wanted = (stretch[0], stretch[1]) if stretch else None, self.predictor.bands
        with open_upload(content, name, tuple(bands) or None, low_high, wanted) as source:
            self._check_pixels(source, self.limits.pixels if budget is None else budget, name)
            with open_reader(source) as reader:
                image = wanted.picture(reader.pixels((0, 0, source.height, source.width)))
            with self.turn:
                classes, confidence = predict_layers(self.predictor, source, _WITH_CONFIDENCE)
        return Answer(image, classes, confidence)

    def answer_pixels(
        self, pixels: Any, name: str = "pixels", *, bands: Sequence[int] = (), budget: int | None = None
    ) -> Answer:
        """The map of nested lists or an array (H, W, bands) of whole numbers in 0..255; else as :meth:`answer_file`.

        Of a model of other bands than three of 8 bits: of numbers as the training images had them.
        """
        return self.answer_file(encode_pixels(pixels, name, self.predictor.bands), name, bands=bands, budget=budget)

    def write_layer(
        self, content: bytes, folder: Path, layer: Kind, *, bands: Sequence[int] = (), stretch: Sequence[float] = ()
    ) -> Path:
        """A layer of the map of a file as a GeoTIFF in ``folder``, band by band: the file of ``weakseg predict``.

        Limits, arguments and errors are those of :meth:`answer_file`.
        """
        check_length(len(content), self.limits, "image")
        if len(stretch) not in (0, 2):
            raise ParamsError(f"stretch of {len(stretch)} number(s)", expected="two", cure="write for instance 0,2047")
        low_high = (stretch[0], stretch[1]) if stretch else None
        target = folder / "classes.tif"
        options = Options().with_layer(layer, folder / f"{layer}.tif")
        with open_upload(content, "image", tuple(bands) or None, low_high, self.predictor.bands) as source:
            self._check_pixels(source, self.limits.pixels, "image")
            with self.turn:
                run_predictor(self.predictor, source, target, options)
        return options.files(target)[layer]

    def _check_pixels(self, source: Source, budget: int, name: str) -> None:
        """The network's own grid counts as well: a raster of coarse pixels is enlarged."""
        scale = max(1.0, choose_scale(self.predictor, source, "auto"))
        if source.height * source.width * scale**2 > budget:
            enlarged = f", enlarged {scale:.3g} times" if scale > 1 else ""
            raise TooLargeError(
                f"{name}: {source.height} x {source.width} px{enlarged}",
                expected=f"at most {self.limits.pixels} px in one request",
                cure="cut it into parts, or use `weakseg predict` for whole scenes",
            )
