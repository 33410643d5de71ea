"""The stages of the pipeline: one module, params section and dvc.yaml entry each."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from weakseg.core.errors import ParamsError

STAGES: Final = tuple(sorted(module.name for module in iter_modules(__path__)))
PER_SOURCE: Final = ("choice", "pseudo", "audit", "segment", "evaluate")


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
        from weakseg.core.methods import MASK_MAKERS, SOURCES, WEAK_SOURCES

        known = {"segment": SOURCES, "evaluate": SOURCES, "choice": MASK_MAKERS}.get(name, WEAK_SOURCES)
        if source not in known:
            raise ParamsError(f"stage {name} with source {source}", expected=" | ".join(known), cure="see dvc.yaml")


def run_stage(root: Path, name: str, source: str | None = None) -> None:
    """Run one stage in the workspace ``root``; its module is imported here, so that the command line stays quick."""
    check_stage(name, source)
    if "DVC_STAGE" in os.environ:
        _refuse_empty_target(root)
    module = import_module(f"weakseg.stages.{name}")
    module.run(root, source) if source else module.run(root)


def _refuse_empty_target(root: Path) -> None:
    """DVC takes a target that makes no stages, such as ``pseudo`` without methods, for the whole pipeline (3.67.1)."""
    asked = {"pseudo", "audit"} & set(_dvc_words())
    if not asked:
        return
    from weakseg.core.layout import Layout
    from weakseg.core.params import load_params

    if not load_params(Layout(root).params).methods:
        raise ParamsError(
            f"`dvc repro {min(asked)}` with an empty list of methods, which DVC takes for the whole pipeline",
            expected="methods in params.yaml",
            cure="name one, or ask for other stages",
        )


def _dvc_words() -> list[str]:
    """The command line of the DVC process that runs this stage: the first above us that DVC gave no DVC_STAGE."""
    import psutil  # type: ignore[import-untyped]

    with contextlib.suppress(psutil.Error, OSError):
        for process in psutil.Process().parents():
            if "DVC_STAGE" not in process.environ():
                return list(process.cmdline())
    return []
