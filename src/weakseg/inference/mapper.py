"""What turns windows of a raster into maps, whatever runs it: torch, or ONNX Runtime where there is no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

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
    def settle(self) -> Callable[[float, Callable[[], Pixels]], Choice] | None: ...

    def network(self, *, index: bool = False) -> Network:
        """What runs it; with ``index`` a last layer is the dissimilarity index over its limit, where it is known."""
        ...
