"""What turns windows of a raster into maps, whatever runs it: torch, or ONNX Runtime where there is no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import Bands
from weakseg.core.classes import ClassScheme
from weakseg.raster.stream import Pixels

if TYPE_CHECKING:
    from weakseg.inference.engine import Choice

Maps = npt.NDArray[np.float32]
Network = Callable[[Pixels], Maps]
"""Images (B, K, h, w) -> maps (B, C, h, w) float32: probabilities and what comes with them."""
Settle = Callable[[float, Callable[[], Pixels], bool], "Choice"]
PASS: Final = 1 << 18  # px, one window of the default size


class Mapper(Protocol):
    """A trained model ready to run; :class:`weakseg.inference.model.Predictor` says what the attributes are."""

    @property
    def scheme(self) -> ClassScheme: ...
    @property
    def scale(self) -> float: ...
    @property
    def gsd(self) -> float | None: ...
    @property
    def digest(self) -> str: ...
    @property
    def temperatures(self) -> tuple[float, ...]: ...
    @property
    def bands(self) -> Bands: ...
    @property
    def applicable(self) -> bool: ...
    @property
    def settle(self) -> Settle | None: ...

    def network(self, *, index: bool = False) -> Network:
        """What runs it; with ``index`` a last layer is the dissimilarity index over its limit, where it is known."""
        ...


def in_passes(network: Network) -> Network:
    """The same network with at most :data:`PASS` px of windows at once, so that memory does not grow with the batch.

    Not fewer: torch convolves a single small image (below 20480 numbers) in another way, with other rounding.
    """

    def run(images: Pixels) -> Maps:
        count = max(1, PASS // (images.shape[2] * images.shape[3]))
        found = [network(images[at : at + count]) for at in range(0, len(images), count)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    return run
