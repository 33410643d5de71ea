"""What an import says that went well: what came in, and how it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from weakseg.core.bands import Bands
from weakseg.data.importing.previews import Preview

_NAMED: Final = 40  # areas in a line


@dataclass(frozen=True)
class ImportReport:
    """What an import has written.

    Attributes:
        areas: names of the areas, sorted.
        unlabelled: those without a label.
        eroded: those with a label with eroded boundaries.
        pixels: of all images.
        class_pixels: (name, labelled px) per class in index order, then ("ignore", px).
        unused: files of the sources that were not imported and are no known companions of rasters.
        codes: how the numbers of one-band labels were read; empty where their colours said it all.
        blank: px without image data by area, of areas that have some; they count nowhere.
        turned: files whose pixels were turned as their EXIF orientation says.
        resampled: labels that were brought to the grid of their image.
        previews: of some areas, small, as they were taken.
        bands: of the images, None for three of 8 bits without names.
        reordered: images whose bands were brought to the order of the others by their names.
        portal: a sentence about where they come from.
        tags: lines about the tags of the images, where they came along.
        boxes: a sentence where boxes that were there fit the new rasters no more.
    """

    areas: tuple[str, ...]
    unlabelled: tuple[str, ...]
    eroded: tuple[str, ...]
    pixels: int
    class_pixels: tuple[tuple[str, int], ...]
    unused: tuple[str, ...]
    codes: str = ""
    blank: tuple[tuple[str, int], ...] = ()
    turned: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    previews: tuple[Preview, ...] = ()
    boxes: str = ""
    bands: Bands | None = None
    reordered: tuple[str, ...] = ()
    portal: str = ""
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people: what came in, the share of each class, and what was left out."""
        total = max(sum(count for _, count in self.class_pixels), 1)
        shares = ", ".join(f"{name} {count / total:.1%}" for name, count in self.class_pixels)
        lines = [f"{len(self.areas)} areas, {self.pixels:,} px", f"masks: {shares}"]
        lines += self.tags
        if self.portal:
            lines.append(self.portal)
        if self.bands is not None:
            lines += _band_lines(self.bands)
        if self.reordered:
            many = f"{len(self.reordered)} images have their bands in another order"
            lines.append(f"{many}, the first: {self.reordered[0]}; brought to this one by their names")
        if self.codes:
            lines.append(self.codes)
        if self.eroded:
            lines.append(f"{len(self.eroded)} areas also with eroded boundaries")
        if self.blank:
            blank = sum(count for _, count in self.blank)
            lines.append(f"{blank:,} px without image data are ignored, in {len(self.blank)} areas")
        if self.turned:
            lines.append(f"{len(self.turned)} files turned by their EXIF orientation, the first: {self.turned[0]}")
        if self.resampled:
            lines.append(f"{len(self.resampled)} labels resampled to their images, the first: {self.resampled[0]}")
        if self.unlabelled:
            rest = f" and {len(self.unlabelled) - _NAMED} more" if len(self.unlabelled) > _NAMED else ""
            lines.append(f"without a label: {', '.join(self.unlabelled[:_NAMED])}{rest}")
        if self.unused:
            lines.append(f"{len(self.unused)} files not used, the first: {self.unused[0]}")
        if self.boxes:
            lines.append(f"note: {self.boxes}")
        return "\n".join(lines)


def _band_lines(bands: Bands) -> list[str]:
    said = ", ".join(f"{band.name} ({band.dtype}{' ' + band.unit if band.unit else ''})" for band in bands.members)
    lines = [f"bands: {said}"]
    if bands.missing:
        names = sorted({name for lacking in bands.missing.values() for name in lacking})
        lines.append(
            f"{len(bands.missing)} areas lack {', '.join(names)}, the first: {min(bands.missing)}; "
            "set segment.augment.drop_band above 0 to train with them"
        )
    return lines
