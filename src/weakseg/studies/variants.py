"""The rows of `weakseg ablate`: what differs from the workspace, read from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from weakseg.core.config import load_yaml
from weakseg.core.errors import ParamsError
from weakseg.core.methods import MASK_MAKERS, SOURCES, WEAK_SOURCES, Source
from weakseg.stages import check_stage

_ORDER: Final = ("name", "source", "set", "stages", "tags", "lacking")


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        source: of labels.
        changes: the params that differ from params.yaml, by path.
        stages: to run again with them before the training, in this order, ``stage`` or ``stage@source``; of all others
            the workspace's own outputs are used.
        tags: a table to train on instead of data/tags/tags.csv; ``{seed}`` in its name stands for the seed. Of the
            workspace only task (i)'s network is used then, which has seen no tag of N2: ``stages`` make all else.
        lacking: bands that the validation areas lack in a second measurement of the same network.
    """

    name: str
    source: Source
    changes: Mapping[str, Any]
    stages: tuple[str, ...] = ()
    tags: Path | None = None
    lacking: tuple[str, ...] = ()

    def tags_of(self, seed: int) -> Path | None:
        """The table of a seed.

        Raises:
            ParamsError: it is not there.
        """
        if self.tags is None:
            return None
        file = self.tags.with_name(self.tags.name.replace("{seed}", str(seed)))
        if not file.is_file():
            raise ParamsError(
                f"row {self.name!r}: no {file}", expected="a table of tags for each seed", cure="mend the row"
            )
        return file


def load_variants(path: Path) -> list[Variant]:
    """Read a list of ``{name, source, set: {path: value}, stages: [stage], tags: file, lacking: [band]}``.

    All but two are at will; where a table of tags lies is said from where the list does.

    Raises:
        ParamsError: no list, an unknown key, source or stage, a row without a name or one name twice.
    """
    rows = load_yaml(path, ParamsError)
    if not isinstance(rows, list) or not rows:
        raise ParamsError(f"no rows in {path}", expected="a list", cure="see configs/ablation.yaml")
    variants = []
    for row in rows:
        if not isinstance(row, dict) or not {"name", "source"} <= set(row) <= set(_ORDER):
            raise ParamsError(f"{path}: row {row}", expected=", ".join(_ORDER), cure="see configs/ablation.yaml")
        if row["source"] not in SOURCES:
            raise ParamsError(
                f"{path}: source {row['source']}", expected=f"one of {', '.join(SOURCES)}", cure="mend the row"
            )
        lacking = tuple(str(band) for band in row.get("lacking") or ())
        tags, stages = (path.parent / str(row["tags"]) if row.get("tags") else None), _stages_of(path, row)
        variants.append(Variant(str(row["name"]), row["source"], row.get("set") or {}, stages, tags, lacking))
    names = [variant.name for variant in variants]
    if len(set(names)) != len(names):
        raise ParamsError(f"{path}: two rows have one name", expected="each once", cure="rename one")
    return variants


def _stages_of(path: Path, row: Mapping[str, Any]) -> tuple[str, ...]:
    stages = tuple(str(stage) for stage in row.get("stages") or ())
    for stage in stages:
        name, _, source = stage.partition("@")
        check_stage(name, source or None)
    remade = (*WEAK_SOURCES, *MASK_MAKERS)
    if stages and row["source"] not in remade:
        raise ParamsError(
            f"{path}: row {row['name']!r} has stages, but source {row['source']} no pseudo-masks to make again",
            expected=f"stages with {', '.join(remade)}",
            cure="mend the row",
        )
    return stages
