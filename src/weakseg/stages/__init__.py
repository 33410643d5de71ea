"""The stages of the pipeline: one module, params section and dvc.yaml entry each."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from weakseg.errors import ParamsError

STAGES: Final = (
    *("code", "settings"),
    *("tiles", "classifier", "cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes"),
    *("pseudo", "audit", "segment", "evaluate", "report"),
)
PER_SOURCE: Final = ("pseudo", "audit", "segment", "evaluate")


def check_stage(name: str, source: str | None) -> None:
    """Refuse what dvc.yaml could not name either.

    Raises:
        ParamsError: an unknown stage, a source too many or missing, or one that the stage does not know.
    """
    if name not in STAGES:
        raise ParamsError(f"stage {name}", expected=" | ".join(STAGES), cure="see dvc.yaml")
    if (source is None) == (name in PER_SOURCE):
        raise ParamsError(
            f"stage {name} with source {source}",
            expected="a source exactly for " + ", ".join(PER_SOURCE),
            cure="see dvc.yaml",
        )
    if source is not None:
        from weakseg.params import SOURCES, WEAK_SOURCES

        known = SOURCES if name in ("segment", "evaluate") else WEAK_SOURCES
        if source not in known:
            raise ParamsError(f"stage {name} with source {source}", expected=" | ".join(known), cure="see dvc.yaml")


def run_stage(root: Path, name: str, source: str | None = None) -> None:
    """Run one stage in the workspace ``root``; its module is imported here, so that the command line stays quick."""
    check_stage(name, source)
    module = import_module(f"weakseg.stages.{name}")
    module.run(root, source) if source else module.run(root)
