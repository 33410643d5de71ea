"""The commands that make a workspace and run its stages."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import weakseg
from weakseg.core.errors import ParamsError
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
    shard: Annotated[
        str | None,
        typer.Option(help="Do part 2/3 of the areas and stop; join/3 ends the stage once all parts are done."),
    ] = None,
) -> None:
    """Run one pipeline stage, as dvc.yaml does; WEAKSEG_LAUNCH is a launcher to do it with, such as torchrun."""
    check_stage(name, source)
    if "WEAKSEG_REPRO" in os.environ:
        from weakseg.pipeline.repro.leash import follow_leader

        follow_leader(context.obj)
    if name in ONE_PROCESS:
        from weakseg.training.machine import machine_from_environment

        if not machine_from_environment().is_main:
            return
    elif (launcher := _launcher()) and shard is None and name not in QUICK and "RANK" not in os.environ:
        os.execvp(launcher[0], [*launcher, "-m", "weakseg", *sys.argv[1:]])
    if shard is None:
        run_stage(context.obj, name, source)
    else:
        _run_part(context.obj, name, source, shard)


def _run_part(root: Path, name: str, source: str | None, text: str) -> None:
    from weakseg.tracking.lineage import stage_inputs
    from weakseg.training.shards import ShardDoneError, forget, parse_shard, shard_folder

    (part, parts), whole = parse_shard(text, name), f"{name}@{source}" if source else name
    folder = shard_folder(root, whole, stage_inputs(root, whole), parts)
    os.environ["WEAKSEG_SHARD"] = f"{part} {parts} {folder}"
    if part:
        os.environ["WEAKSEG_TRACKING"] = "off"  # the one that joins reports the run
    try:
        run_stage(root, name, source)
    except ShardDoneError as done:
        typer.echo(f"{whole}: {done}")
        return
    if part == 0:
        forget(folder)
    else:
        typer.echo(f"{whole}: all parts are done; --shard join/{parts} ends the stage")


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


@app.command()
def repro(
    context: typer.Context,
    targets: Annotated[list[str] | None, typer.Argument(help="Stages, as `dvc repro` takes them; none: all.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Stages that run at once.")] = 2,
    cluster: Annotated[
        str | None, typer.Option(help="Run each stage as a job: slurm, or local (submitit's processes).")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Of the cluster's jobs, as NAME=VALUE: slurm_partition=gpu. May be repeated."),
    ] = None,
) -> None:
    """What `dvc repro` does, with ready stages side by side; DVC's cache and dvc.lock stay true, whatever is killed."""
    from weakseg.pipeline.repro import repro as bring_up_to_date

    pairs = dict(_pair(one) for one in option or [])
    bring_up_to_date(context.obj, targets or (), jobs=jobs, cluster=cluster, options=pairs, say=typer.echo)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ParamsError(f"--option {text}", expected="NAME=VALUE", cure="such as --option slurm_partition=gpu")
    return name, value
