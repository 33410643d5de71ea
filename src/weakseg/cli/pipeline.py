"""The commands that make a workspace and run its stages."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import weakseg
from weakseg.stages import PER_SOURCE, STAGES, check_stage, run_stage

app = typer.Typer()

FILES = (Path(weakseg.__file__).parent / "pipeline").glob("*.yaml")
PRESETS = sorted(
    file.stem for file in FILES if file.stem != "dvc"
)  # pipeline.presets has them too, with all of pydantic
QUICK = ("code", "settings")  # write a few lines: no launcher, no torch
ONE_PROCESS = ("tiles", "pseudo", "audit", "report")  # under torchrun the main process alone does these


@app.command()
def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=" | ".join(STAGES))],
    source: Annotated[str | None, typer.Argument(help="Source of labels, for " + ", ".join(PER_SOURCE))] = None,
) -> None:
    """Run one pipeline stage, as dvc.yaml does; WEAKSEG_LAUNCH is a launcher to do it with, such as torchrun."""
    check_stage(name, source)
    if name in ONE_PROCESS:
        from weakseg.training.machine import machine_from_environment

        if not machine_from_environment().is_main:
            return
    elif (launcher := _launcher()) and name not in QUICK and "RANK" not in os.environ:
        os.execvp(launcher[0], [*launcher, "-m", "weakseg", *sys.argv[1:]])
    run_stage(context.obj, name, source)


def _launcher() -> list[str]:
    return shlex.split(os.environ.get("WEAKSEG_LAUNCH", ""))


@app.command()
def init(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help=f"A preset ({', '.join(PRESETS)}) or a params file.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of all networks; `weakseg results --also` pools such workspaces.")
    ] = None,
) -> None:
    """Make a workspace at --root: params.yaml from CONFIG, dvc.yaml, DVC's own folder. Without CONFIG: renew one."""
    from weakseg.pipeline.workspace import create_workspace

    typer.echo(create_workspace(context.obj, config, seed))
