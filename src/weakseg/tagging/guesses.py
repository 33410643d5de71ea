"""What a trained network guesses of a crop: which classes are in it, to be confirmed by whoever tags."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.labels.answers import Crop
from weakseg.labels.tags import Window
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.proposals import find_image

if TYPE_CHECKING:
    from weakseg.inference.model import Predictor
    from weakseg.training.machine import Machine

_TOP: Final = 0.01  # share of a crop's pixels that speaks for a class
_FEWEST: Final = 4  # px
_KEPT: Final = 4096
_WINDOW: Final = 512  # px: large crops go through the network in parts

Predict = Callable[[str, npt.NDArray[Any]], npt.NDArray[np.float32]]
"""Area, and pixels (h, w, K) of it with the bands of its file -> probabilities float32 (C, h, w)."""


class Guesser:
    """Guesses of one network, one crop at a time; made in a thread, so that the page need not wait for torch.

    Args:
        load: opens the network: class names, digest, and how it predicts an image.
        classes: names that may be guessed.
    """

    def __init__(
        self, load: Callable[[], tuple[Sequence[str], str, Predict]], pictures: CropPictures, classes: Sequence[str]
    ) -> None:
        self._pictures, self._classes = pictures, tuple(classes)
        self._one, self._ready = threading.Lock(), threading.Event()
        self._kept: dict[Crop, dict[str, float]] = {}
        self.digest, self.fault = "", ""
        self._names: Sequence[str] = ()
        self._predict: Predict | None = None
        threading.Thread(target=self._load, args=(load,), daemon=True).start()

    def _load(self, load: Callable[[], tuple[Sequence[str], str, Predict]]) -> None:
        try:
            self._names, self.digest, self._predict = load()
        except Exception as error:  # people can tag without guesses; the page shows why there are none
            self.fault = " ".join(str(error).split()) or type(error).__name__
        self._ready.set()

    def guess(self, crops: Sequence[Crop], *, patience: float = 0.0) -> list[dict[str, float]]:
        """For each crop, how likely each class is in it, by name, in [0, 1]; empty where the network is not to be had.

        ``patience``: seconds to wait for a network that is still being loaded.

        A class is as likely as the mean of its probabilities at the hundredth of the crop's pixels where it is
        likeliest: a car covers few pixels, and a single wrong one should not count.
        """
        self._ready.wait(patience)
        if self._predict is None:
            return [{} for _ in crops]
        with self._one:
            return [self._kept.get(crop) or self._one_crop(crop, self._predict) for crop in crops]

    def _one_crop(self, crop: Crop, predict: Predict) -> dict[str, float]:
        frame = self._pictures.frame(crop)
        maps = predict(crop[0], self._pictures.pixels(crop[0], frame))
        found = presence(maps, _inside(frame, crop[1]))
        shares = {name: round(float(share), 3) for name, share in zip(self._names, found, strict=True)}
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[crop] = {name: share for name, share in shares.items() if name in self._classes}
        return self._kept[crop]


def _inside(frame: Window, window: Window) -> Window:
    return window[0] - frame[0], window[1] - frame[1], window[2], window[3]


def presence(maps: npt.NDArray[np.float32], window: Window) -> npt.NDArray[np.float32]:
    """From probabilities (C, h, w), how likely each class is in a window: (C,)."""
    row, column, height, width = window
    pixels = np.sort(maps[:, row : row + height, column : column + width].reshape(len(maps), -1), axis=1)
    count = min(pixels.shape[1], max(_FEWEST, round(_TOP * pixels.shape[1])))
    return np.asarray(pixels[:, -count:].mean(1), np.float32)


def seen_by(predictor: Predictor, images: Path) -> Callable[[str, npt.NDArray[Any]], tuple[npt.NDArray[Any], float]]:
    """How a network sees pixels of an area: its own bands in its order, and the scale of its ground sampling distance.

    Takes the area and pixels (h, w, K) with the bands of the area's file in ``images``; holes, and bands that may be
    missing and are, come out with the mean that training gave them.
    """
    from weakseg.inference.options import choose_scale
    from weakseg.raster.stream import Source, inspect_source

    @cache
    def facts_of(area: str) -> tuple[Source, float]:
        source = inspect_source(find_image(images, area), None, wanted=predictor.bands)
        return source, choose_scale(predictor, source, "auto")

    def see(area: str, image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
        source, scale = facts_of(area)
        if image.shape[2] != len(source.bands) or source.bands != tuple(range(1, len(source.bands) + 1)):
            own = np.zeros((*image.shape[:2], len(source.bands)), image.dtype)
            for index, number in enumerate(source.bands):
                own[..., index] = image[..., number - 1] if number else predictor.bands.fill_value(index)
            image = own
        return (image if predictor.bands.plain else predictor.bands.filled(image, area)), scale

    return see


def predict_with(predictor: Predictor, images: Path, machine: Machine) -> Predict:
    """How a network predicts pixels of an area, at the ground sampling distance that it was trained at."""
    from weakseg.inference.scene import sweep_windows
    from weakseg.raster.resample import resize_image

    see = seen_by(predictor, images)

    def predict(area: str, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        height, width = image.shape[:2]
        image, scale = see(area, image)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        seen = image if scale == 1 else resize_image(image, size, how)
        maps = sweep_windows(predictor.forward, seen, window=_WINDOW, overlap=0.25, batch=1, machine=machine)
        if scale == 1:
            return maps
        return np.stack([cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR) for layer in maps])

    return predict
