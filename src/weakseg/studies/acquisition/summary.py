"""What `weakseg next` says: the best of each kind, what it costs and where its price is from, and how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from weakseg.studies.acquisition.run import Next
from weakseg.studies.acquisition.suggest import Kind, Suggestion

_SHOWN: Final = 5
_HEADS: Final[dict[Kind, str]] = {
    "tags": "tags of {} crops",
    "boxes": "boxes in {} images",
    "pixels": "pixels of {} images",
}


def describe(found: Next) -> str:
    """Lines for the terminal."""
    lines = [line for kind, each in found.found.items() for line in _kind(kind, each)]
    prices = found.prices
    look = f"{prices.look.seconds:.3g} per crop and " if prices.look.seconds else ""
    lines += [
        "",
        "Points: how much of the map is expected to change, as mIoU counts it, to compare places; no promise.",
        f"Seconds: {look}{prices.tag.seconds:.3g} per class of a crop ({prices.tag.source}),",
        f"{prices.box.seconds:.3g} per box ({prices.box.source}),",
        f"{prices.megapixel.seconds:.4g} per megapixel ({prices.megapixel.source}).",
        "wrote " + ", ".join(map(str, found.files)),
    ]
    if found.found["tags"]:
        lines += [
            "These mend the map of these very images fastest: `weakseg predict --tags`. To train a network for",
            "other images, tags at random, as `weakseg tag` serves them, have been worth no less (docs/tagging.md).",
            f"Go on with `weakseg tag --order {found.files[0]}`",
        ]
    return "\n".join(lines)


def _kind(kind: Kind, each: Sequence[Suggestion]) -> list[str]:
    if not each:
        return ["", "no crop to tag: none is left that a tag would tell something about"] if kind == "tags" else []
    seconds, points = sum(one.seconds for one in each), sum(one.gain for one in each)
    lines = ["", f"{_HEADS[kind].format(len(each))}: {seconds / 60:.1f} min, {points:.2g} points"]
    for rank, one in enumerate(each[:_SHOWN], 1):
        asks = f" about {', '.join(one.asks)}" if kind == "tags" else ""
        place = f"{one.area} at row {one.window[0]}, column {one.window[1]}" if kind == "tags" else one.area
        lines.append(f"  {rank}. {place}{asks}: {one.gain:.2g} points, {one.seconds:.0f} s. {one.reason}")
    return lines
