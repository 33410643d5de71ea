"""What a model file or an export says beside its weights: numbers that cannot be what they are called are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from weakseg.core.bands import Bands, is_number
from weakseg.core.errors import WeightsError

_LARGEST_SCALE: Final = 64.0  # enlarging of images
_LARGEST_SIDE: Final = 1 << 14  # px of images of a fixed size


def check_facts(facts: Mapping[str, Any], bands: Bands, classes: int, origin: str) -> None:
    """Refuse (WeightsError) numbers of a model file, or of an export's settings, that cannot be what they are called.

    Args:
        facts: ``scale`` and, if there, ``gsd`` and ``temperatures``; of an export ``mean``, ``std`` and ``side`` too.
        origin: names the file in the error.
    """
    scale, gsd, side = facts.get("scale"), facts.get("gsd"), facts.get("side")
    temperatures = facts.get("temperatures") or ()
    if scale is None or not _are_positive([scale]) or scale > _LARGEST_SCALE:
        raise no_model(origin, f"scale {scale!r}")
    if gsd is not None and not _are_positive([gsd]):
        raise no_model(origin, f"gsd {gsd!r}")
    if temperatures and not (_are_positive(temperatures) and len(temperatures) == classes):
        raise no_model(origin, f"temperatures {temperatures!r}")
    if side is not None and not (type(side) is int and 1 <= side <= _LARGEST_SIDE):
        raise no_model(origin, f"side {side!r}")
    for key in ("mean", "std"):
        numbers = facts.get(key, [1.0] * len(bands))
        sizes = [abs(n) + 1 if key == "mean" and is_number(n) else n for n in numbers] if _is_list(numbers) else None
        if not _are_positive(sizes) or len(numbers) != len(bands):
            raise no_model(origin, f"{key} {numbers!r} of {len(bands)} band(s)")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _are_positive(values: Any) -> bool:
    return _is_list(values) and all(is_number(value) and value > 0 for value in values)


def no_model(origin: str, found: str) -> WeightsError:
    """The error for a model file that says something impossible."""
    return WeightsError(
        f"{origin} has no sensible {found}", expected="a model as weakseg writes it", cure="train or export it again"
    )
