"""From answers to data/tags/tags.csv, which the `tiles` stage reads; and how far the annotators agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from weakseg.core.classes import load_classes
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.core.layout import Layout
from weakseg.core.params import load_params
from weakseg.labels.agreement import Dispute, agreement_of, disputes_of
from weakseg.labels.answer_file import read_answers
from weakseg.labels.answers import TagAnswer
from weakseg.labels.crop_order import write_order
from weakseg.labels.opinions import Merged, merge_answers, opinions_of
from weakseg.labels.tag_table import further_columns, raster_sizes, read_tags, write_tags

_LIKELY: Final = 0.5  # a guess from which on the page marks a class


def merge_tags(root: Path, *, replace: bool = False) -> str:
    """Put the answers of a workspace into its tag table; returns what was done and what is left to do.

    The table is written whole or not at all, and a copy of the answers beside it, so that each version of data/ says
    who tagged it, and a later merge knows which rows are its own.

    Args:
        replace: let answers win over what the table knows from elsewhere.

    Raises:
        DataError: no answers; answers that contradict the table, about rasters of another size or that are gone; or a
            table with columns of the user's own, which would be lost.
    """
    layout = Layout(root)
    answers = read_answers(layout.answers, load_classes(layout.classes))
    if not answers and not layout.merged_answers.is_file():
        raise DataError(f"no answers in {layout.answers}", expected="tagged crops", cure="run `weakseg tag` first")
    merged = try_merge(layout, answers, replace=replace)
    mended = _guesses_mended(answers, read_answers(layout.merged_answers, load_classes(layout.classes)))
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    write_tags(layout.tags_csv, merged.rows, scheme, sizes)
    _write_answers(layout.merged_answers, answers)
    return "\n".join([_describe(merged, layout.tags_csv), *mended, *_reminders(layout, answers)])


def try_merge(layout: Layout, answers: Sequence[TagAnswer], *, replace: bool = False) -> Merged:
    """The tag table as these answers would make it, without writing it; the errors are those of :func:`merge_tags`."""
    scheme, sizes = load_classes(layout.classes), raster_sizes(layout.images)
    _check_rasters(answers, sizes)
    rows = read_tags(layout.tags_csv, scheme, sizes) if layout.tags_csv.is_file() else []
    own = further_columns(layout.tags_csv) if rows else []
    if own and not replace:
        raise DataError(
            f"{layout.tags_csv} has the columns {', '.join(own)}, which a merge would drop",
            expected="the columns of a tag table alone",
            cure="keep a copy of the table and say --replace",
        )
    earlier = read_answers(layout.merged_answers, scheme)
    return merge_answers(rows, answers, scheme, earlier=earlier, replace=replace)


def _check_rasters(answers: Sequence[TagAnswer], sizes: dict[str, tuple[int, int]]) -> None:
    for answer in answers:
        if sizes.get(answer.area) != answer.raster:
            found = "no such raster" if answer.area not in sizes else "{} x {} px now".format(*sizes[answer.area])
            raise DataError(
                f"answers about {answer.area} of {answer.raster[0]} x {answer.raster[1]} px, {found}",
                expected="the rasters that were tagged",
                cure="bring them back, or move the file of answers away",
            )


def _write_answers(path: Path, answers: Sequence[TagAnswer]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in answers))


def _describe(merged: Merged, path: Path) -> str:
    parts = [
        f"wrote {len(merged.rows)} rows to {path}: {merged.added} new, {merged.filled} filled, "
        f"{merged.changed} changed, {merged.same} as they were"
    ]
    if merged.nothing:
        parts.append(f"{merged.nothing} crop(s) hold none of the classes, which a tag table cannot say: left out")
    if merged.disputed:
        parts.append(f"{merged.disputed} crop(s) are disputed, those classes stay unknown: `weakseg tag --disputes`")
    return "\n".join(parts)


def _guesses_mended(answers: Sequence[TagAnswer], earlier: Sequence[TagAnswer]) -> list[str]:
    """How often people said otherwise than the model that guessed, of the answers that are new."""
    known = {answer.id for answer in earlier}
    right = [
        (answer.guess[name] >= _LIKELY) == (name in answer.present)
        for answer in answers
        if answer.id not in known
        for name in (*answer.present, *answer.absent)
        if name in answer.guess
    ]
    return [f"{right.count(False)} of the model's {len(right)} guesses about them were wrong"] if right else []


def _reminders(layout: Layout, answers: Sequence[TagAnswer]) -> list[str]:
    """What of params.yaml keeps the pipeline from using the tags."""
    tiles = load_params(layout.params).tiles
    outside = sorted({answer.area for answer in answers} - set(tiles.areas.tags))
    said = []
    if tiles.tag_source != "csv":
        said.append(f"params.yaml has tiles.tag_source: {tiles.tag_source}; set it to csv to train on these tags")
    if outside:
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        said.append(f"not in tiles.areas.tags of params.yaml, so not trained on: {' '.join(outside[:5])}{more}")
    return said


def describe_agreement(root: Path) -> tuple[str, list[Dispute]]:
    """A table of how far the annotators of a workspace agree, and the crops on which they are divided.

    Raises:
        DataError: no answers.
    """
    layout = Layout(root)
    scheme = load_classes(layout.classes)
    answers = read_answers(layout.answers, scheme)
    if not answers:
        raise DataError(f"no answers in {layout.answers}", expected="tagged crops", cure="run `weakseg tag` first")
    opinions = opinions_of(answers)
    lines = [*_people(answers), "", f"{'class':24} {'crops':>6} {'same':>7} {'alpha':>7}"]
    lines += [
        f"{one.name:24} {one.crops:6} {_number(one.same):>7} {_number(one.alpha):>7}"
        for one in agreement_of(opinions, scheme)
    ]
    return "\n".join(lines), disputes_of(opinions)


def write_disputes(path: Path, disputes: Sequence[Dispute]) -> None:
    """A CSV of disputed crops that `weakseg tag --order` serves, with the classes in question."""
    names = [";".join(dispute.classes) for dispute in disputes]
    write_order(path, [dispute.crop for dispute in disputes], {"disputed": names})


def _people(answers: Sequence[TagAnswer]) -> list[str]:
    """Per annotator: answers, and the median of the seconds of one crop with all classes."""
    lines = []
    for who in sorted({answer.annotator for answer in answers}):
        mine = [answer for answer in answers if answer.annotator == who]
        seconds = sorted(answer.seconds for answer in mine if answer.mode == "crop")
        median = f", median {seconds[len(seconds) // 2]:.1f} s per crop" if seconds else ""
        lines.append(f"{who}: {len(mine)} answers, {sum(answer.seconds for answer in mine) / 60:.1f} min{median}")
    return lines


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"
