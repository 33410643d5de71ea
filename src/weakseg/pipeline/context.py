"""What every stage starts from: the workspace, its params, class scheme and machine, and an MLflow run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.core.bands import Bands, load_bands
from weakseg.core.classes import ClassScheme, load_classes
from weakseg.core.files import atomic_path
from weakseg.core.layout import Layout
from weakseg.core.params import Params, load_params
from weakseg.core.sections import Section
from weakseg.data.areas import Area, open_area
from weakseg.data.manifest import TagCrops, load_manifest
from weakseg.data.store import list_areas
from weakseg.evaluation.metrics import to_json
from weakseg.training.machine import Machine, machine_from_environment

if TYPE_CHECKING:
    from weakseg.tracking import Run


@dataclass(frozen=True)
class Context:
    """The workspace as a stage sees it."""

    layout: Layout
    params: Params
    machine: Machine

    @cached_property
    def scheme(self) -> ClassScheme:
        """The class scheme that the tiles stage copied, so that later stages depend on out/tiles alone."""
        return load_classes(self.layout.tiles / "classes.yaml")

    @property
    def bands(self) -> Bands:
        """The bands of all images, with the statistics of N1."""
        return load_bands(self.layout.tiles)

    def crops(self) -> TagCrops:
        """The tile table; read once, for stages ask area by area."""
        return self._crops

    @cached_property
    def _crops(self) -> TagCrops:
        return load_manifest(self.layout.tiles / "manifest.csv", self.scheme.names)

    def pixel_areas(self) -> list[str]:
        return list(self._areas["pixel"])

    def tag_areas(self) -> list[str]:
        return list(self._areas["tags"])

    @cached_property
    def _areas(self) -> dict[str, list[str]]:
        return {split: list_areas(self.layout.tiles, split) for split in ("pixel", "tags")}

    def open_areas(self, names: list[str], *, masks: Path | None = None, tagged: bool = False) -> list[Area]:
        """Memory maps of these N1 or N2 areas; see :func:`weakseg.data.areas.open_area`."""
        crops = self.crops() if tagged else None
        return [open_area(self.layout.tiles, name, masks=masks, crops=crops) for name in names]


def open_context(root: Path) -> Context:
    """Read and check ``root``/params.yaml and the machine's environment variables."""
    layout = Layout(root)
    return Context(layout, load_params(layout.params), machine_from_environment())


@contextmanager
def tracked(context: Context, stage: str, section: Section | Mapping[str, Any], **tags: str) -> Iterator[Run]:
    """An MLflow run for this stage (or one ``seed`` of it), with the params it reads and tags as ``source="pixel"``."""
    from weakseg.tracking import track

    params = section.model_dump() if isinstance(section, Section) else section
    name = f"{stage}@{tags['source']}" if "source" in tags else stage
    name += f" seed {tags['seed']}" if "seed" in tags else ""
    with track(name, root=context.layout.root, params=params, tags=tags) as run:
        yield run


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a small result as JSON, NaN as null, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(to_json(report), indent=1, sort_keys=True) + "\n")
