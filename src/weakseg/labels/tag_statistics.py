"""What tags say per crop size: presence, entropy, co-occurrence, and the size that says most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from weakseg.core.classes import ClassScheme, Mask
from weakseg.core.errors import DataError, ParamsError
from weakseg.labels.tags import Bools, Counts, check_share, count_classes, tags_from_counts, window_grid, window_pixels

SIZES: Final = (50, 100, 128, 200, 300)


@dataclass(frozen=True)
class TagStatistics:
    """What tags of several crop sizes say.

    Attributes:
        classes: one row per (size, class): ``rate`` of crops that hold it, ``entropy`` of that in bits.
        sizes: one row per size: ``crops`` (with tags), ``pixels`` (mean per crop), ``classes_per_crop``, ``single``
            (share with one class), ``all`` (share with every class), ``mean_entropy`` (over classes, bits),
            ``bits_per_crop`` (sum over classes), ``bits_per_pixel``.
        together: per size a (C, C) table, share of the crops that hold both classes; its diagonal is the rate.
    """

    classes: pd.DataFrame
    sizes: pd.DataFrame
    together: dict[int, pd.DataFrame]


def tag_statistics(
    masks: Iterable[Mask], classes: ClassScheme, *, sizes: Sequence[int] = SIZES, min_share: float = 0.0
) -> TagStatistics:
    """Presence rate, entropy and co-occurrence of the tags that ``masks`` imply, per crop size.

    Crops are those of :func:`window_grid`. A class's rate is over the crops where it is known, co-occurrence over the
    crops where both are; crops without a labelled pixel count nowhere. Each mask is read once.

    Args:
        masks: uint8 (H, W) each.
        sizes: crop sizes in px.
        min_share: as in :func:`tags_from_mask`.
    """
    check_share(min_share)
    gathered: dict[int, list[tuple[Counts, Counts]]] = {size: [] for size in sizes}
    for mask in masks:
        grids = [window_grid(mask.shape[0], mask.shape[1], size) for size in sizes]
        counts = count_classes(mask, [window for grid in grids for window in grid], len(classes))
        ends = np.cumsum([len(grid) for grid in grids])
        for size, grid, part in zip(sizes, grids, np.split(counts, ends[:-1]), strict=True):
            gathered[size].append((part, window_pixels(grid)))
    if not all(gathered.values()):
        raise DataError("no masks or no crop sizes", expected="one of each", cure="import labels first")
    class_rows, size_rows, together = [], [], {}
    for size, parts in gathered.items():
        counts, pixels = (np.concatenate(column) for column in zip(*parts, strict=True))
        present, known = tags_from_counts(counts, pixels, min_share)
        pairs = _rates(present, known)
        entropy = _entropy(np.diagonal(pairs))
        class_rows += [
            {"size": size, "class": name, "rate": pairs[index, index], "entropy": entropy[index]}
            for index, name in enumerate(classes.names)
        ]
        size_rows.append({"size": size, **_summary(present, known, pixels, entropy)})
        together[size] = pd.DataFrame(pairs, index=list(classes.names), columns=list(classes.names))
    return TagStatistics(
        pd.DataFrame(class_rows).set_index(["size", "class"]), pd.DataFrame(size_rows).set_index("size"), together
    )


def _rates(present: Bools, known: Bools) -> npt.NDArray[np.float64]:
    """Share of crops with both classes among those where both are known: (C, C), NaN where there are none."""
    both = present.T.astype(np.int64) @ present.astype(np.int64)
    judged = known.T.astype(np.int64) @ known.astype(np.int64)
    return both / np.where(judged == 0, np.nan, judged)


def _entropy(rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy in bits of yes-or-no tags of these rates; 0 at rates 0 and 1, NaN stays NaN."""
    bits = np.zeros_like(rates)
    for share in (rates, 1 - rates):
        bits -= share * np.log2(np.where(share == 0, 1.0, share))
    return bits


def _summary(present: Bools, known: Bools, pixels: Counts, entropy: npt.NDArray[np.float64]) -> dict[str, float]:
    tagged = known.any(1) | present.any(1)
    held = present[tagged].sum(1)
    crops = int(tagged.sum())
    mean_pixels = float(pixels[tagged].mean()) if crops else float("nan")
    bits = float(np.nansum(entropy))
    return {
        "crops": crops,
        "pixels": mean_pixels,
        "classes_per_crop": float(held.mean()) if crops else float("nan"),
        "single": float((held == 1).mean()) if crops else float("nan"),
        "all": float((held == present.shape[1]).mean()) if crops else float("nan"),
        "mean_entropy": bits / present.shape[1],
        "bits_per_crop": bits,
        "bits_per_pixel": bits / mean_pixels,
    }


def best_size(statistics: TagStatistics, by: Literal["crop", "pixel"] = "crop") -> int:
    """Crop size whose tags say most; the larger one of equals.

    ``crop``, recommended: bits per crop, that is per tag decision paid for. It falls for large crops, where every class
    is everywhere, and for small ones, where the rare class is nowhere. Near its top it is flat, so read the table too:
    of sizes that say about as much per crop, a smaller one says it about fewer pixels. ``pixel``: bits per pixel, that
    is per area tagged; it nearly always names the smallest size, so it is the choice only where tags cost nothing
    (derived from an existing map, say). Both add the classes' entropies as if classes were independent: an upper limit.
    """
    column = {"crop": "bits_per_crop", "pixel": "bits_per_pixel"}.get(by)
    if column is None:
        raise ParamsError(f"criterion {by!r}", expected="crop or pixel", cure="use crop")
    bits = statistics.sizes[column].sort_index(ascending=False)
    return int(bits.index[int(bits.to_numpy().argmax())])
