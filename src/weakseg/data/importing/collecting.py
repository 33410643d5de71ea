"""Which files of the sources are images, labels and tags of which area, and which files none of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.core.errors import DataError
from weakseg.data.importing.archives import Limits, Listing, list_source
from weakseg.data.importing.image_tags import ImageTags, TagSource, choose_format, merge_copies, tags_of_images
from weakseg.data.importing.name_patterns import NamePattern
from weakseg.data.importing.pairing import Pair, choose_entries, pair_up
from weakseg.labels.image_tags import TagFormat


@dataclass(frozen=True)
class Collected:
    """The pairs, the files that no pair uses, and which tags there are, see ``image_tags``."""

    pairs: list[Pair]
    unused: tuple[str, ...] = ()
    chosen: tuple[TagFormat, list[Path]] | None = None
    copies: Mapping[str, list[str]] = field(default_factory=dict)

    def read_tags(self, tags: TagSource | None, allow_unlabelled: bool, problems: list[str]) -> ImageTags:
        """The tags of the images of all pairs, none without ``tags``; see ``tags_of_images``."""
        if tags is None or self.chosen is None:
            return ImageTags({})
        return tags_of_images(
            tags,
            self.chosen,
            {pair.area: pair.image for pair in self.pairs},
            self.copies,
            masked={pair.area for pair in self.pairs if pair.label is not None},
            allow_untagged=allow_unlabelled,
            problems=problems,
        )


def collect(
    images: Path,
    labels: Sequence[Path],
    limits: Limits,
    patterns: Sequence[NamePattern | None],
    allow_unlabelled: bool,
    tags: TagSource | None,
) -> tuple[Collected, list[str]]:
    """What the sources hold, and the problems so far."""
    for_images, for_labels = patterns
    endings = dict.fromkeys(labels, _ending(for_labels)) | {images: _ending(for_images)}
    sources: dict[Path, Listing] = {
        source: list_source(source, limits, endings[source]) for source in [images, *labels]
    }
    image_entries = choose_entries(sources[images].rasters, "image", for_images)
    label_entries = [
        entry for source in labels for entry in choose_entries(sources[source].rasters, "label", for_labels)
    ]
    problems = [problem for listing in sources.values() for problem in listing.problems]
    chosen, singles = None, image_entries
    copies: dict[str, list[str]] = {}
    if tags is not None and not problems:
        chosen = choose_format(tags, images, image_entries)
        if chosen[0] == "folders":
            singles, copies = merge_copies(image_entries, problems)
    # a source that cannot be listed would make every file of the others look lonely
    alone = allow_unlabelled or tags is not None
    pairs, lonely = pair_up(
        singles, label_entries, allow_unlabelled=alone, image_name=for_images, label_name=for_labels
    )
    both = sorted(str(entry) for entry in set(image_entries) & set(label_entries))
    if both:
        twice = DataError(
            f"{len(both)} file(s) are image and label at once, first {both[0]}",
            expected="images and labels in sources of their own",
            cure="put them into two folders",
        )
        return Collected([]), [*problems, str(twice)]
    problems += lonely if all(listing.rasters for listing in sources.values()) else []
    used = {*image_entries, *label_entries}
    unused = [str(entry) for listing in sources.values() for entry in listing.rasters if entry not in used]
    read = {str(file) for file in chosen[1]} if chosen is not None else set()
    unused += [name for listing in sources.values() for name in listing.unused if name not in read]
    return Collected(pairs, tuple(sorted(unused)), chosen, copies), problems


def _ending(pattern: NamePattern | None) -> str:
    return pattern.ending if pattern else ""
