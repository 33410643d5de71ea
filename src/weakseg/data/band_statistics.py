"""Mean, deviation and percentiles of bands over images, one image in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.bands import PERCENTILES, Bands, Statistics
from weakseg.core.errors import DataError

SAMPLE: Final = 200_000  # px per image and band that percentiles are taken from, evenly over the image

Valid = npt.NDArray[np.bool_]


class BandMeter:
    """Collects the statistics of bands, hole by hole left out.

    Args:
        bands: of the images.
    """

    def __init__(self, bands: Bands) -> None:
        self.bands = bands
        self.counts = np.zeros(len(bands), np.int64)
        self.sums, self.squares = np.zeros(len(bands)), np.zeros(len(bands))
        self.samples: list[list[npt.NDArray[Any]]] = [[] for _ in bands.members]

    def add(self, image: npt.NDArray[Any], valid: Valid | None, *, lacking: Sequence[str] = ()) -> None:
        """An image (H, W, K), where it has data (None: everywhere), and names of bands that it lacks."""
        for index, band in enumerate(self.bands.members):
            if band.name in lacking:
                continue
            values = image[..., index]
            kept = ~band.holes(values) if valid is None else valid & ~band.holes(values)
            values = values[kept].astype(np.float64)
            if values.size:
                self.counts[index] += values.size
                self.sums[index] += values.sum()
                self.squares[index] += np.square(values).sum()
                self.samples[index].append(values[:: max(1, values.size // SAMPLE)].astype(np.float32))

    def statistics(self) -> list[Statistics]:
        """Of every band; one without a single value raises DataError."""
        empty = [name for name, count in zip(self.bands.names, self.counts, strict=True) if not count]
        if empty:
            raise DataError(
                f"no value of band {', '.join(empty)} in any area that is measured",
                expected="areas of N1 that have every band",
                cure="put such areas into tiles.areas.pixel, or import without the band",
            )
        means = self.sums / self.counts
        spreads = np.sqrt(np.maximum(self.squares / self.counts - means**2, 0))
        places = [np.percentile(np.concatenate(parts), PERCENTILES).tolist() for parts in self.samples]
        return [
            Statistics(float(mean), float(spread), tuple(found))
            for mean, spread, found in zip(means, spreads, places, strict=True)
        ]


def measure_bands(bands: Bands, images: Iterable[tuple[str, npt.NDArray[Any], Valid | None]]) -> Bands:
    """The same bands with the statistics of areas: their names, images (H, W, K) and where these have data."""
    meter = BandMeter(bands)
    for area, image, valid in images:
        meter.add(image, valid, lacking=bands.missing.get(area, ()))
    return bands.with_statistics(meter.statistics())
