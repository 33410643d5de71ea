"""The command line: thin, and quick to start (every heavy import waits for its command)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from weakseg.errors import ParamsError, WeaksegError

app = typer.Typer(
    help="Land-cover maps from a few pixel-labelled aerial images and many that carry only cheap tags.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Make, import and describe data.", no_args_is_help=True)
app.add_typer(data_app, name="data")
runs_app = typer.Typer(help="MLflow runs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")

STAGES = (
    *("tiles", "classifier", "cam", "crf", "irnet", "single_stage", "teacher", "fused"),
    *("pseudo", "audit", "segment", "evaluate", "report"),
)
PER_SOURCE = ("pseudo", "audit", "segment", "evaluate")


@app.callback()
def root_option(
    context: typer.Context,
    root: Annotated[
        Path, typer.Option(help="Workspace: the folder with params.yaml, data/, out/ and reports/.")
    ] = Path("."),
) -> None:
    """Remember the workspace for the command that follows."""
    context.obj = root


@app.command()
def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=" | ".join(STAGES))],
    source: Annotated[str | None, typer.Argument(help="Source of labels, for " + ", ".join(PER_SOURCE))] = None,
) -> None:
    """Run one pipeline stage, as dvc.yaml does."""
    from importlib import import_module

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
    module = import_module(f"weakseg.stages.{name}")
    module.run(context.obj, source) if source else module.run(context.obj)


@app.command()
def init(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="A whole params file, for instance configs/dubai.yaml.")],
) -> None:
    """Make a workspace at --root: params.yaml from CONFIG, dvc.yaml, and a DVC repository of its own."""
    from weakseg.workspace import create_workspace

    typer.echo(create_workspace(context.obj, config))


@data_app.command()
def synth(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
) -> None:
    """Write the 33 procedural scenes into the workspace's data/."""
    from weakseg.data.scenes import write_scenes
    from weakseg.layout import Layout

    layout = Layout(context.obj)
    write_scenes(layout.data, seed=seed)
    typer.echo(f"wrote 33 scenes to {layout.data}")


@data_app.command()
def ensure(context: typer.Context) -> None:
    """See to it that data/ is there: make the embedded scenes where data.dvc is theirs, else say `dvc pull`."""
    from weakseg.workspace import ensure_data

    typer.echo(ensure_data(context.obj))


@data_app.command(name="import")
def import_(
    context: typer.Context,
    images: Annotated[Path, typer.Argument(help="Zip or folder of images.")],
    labels: Annotated[list[Path], typer.Argument(help="Zips or folders of masks; eroded ones end in _noBoundary.")],
    classes: Annotated[Path | None, typer.Option(help="classes.yaml of the masks; ISPRS without it.")] = None,
    bands: Annotated[str | None, typer.Option(help="Three bands to read, from 1, e.g. 4,1,2.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Values of index masks that mean ignore, e.g. 5,6.")] = None,
    replace: Annotated[bool, typer.Option(help="Replace data that is there.")] = False,
) -> None:
    """Check every image and mask and bring them into the workspace's data/, or report all problems and do nothing."""
    from weakseg.classes import load_classes
    from weakseg.data.importing import import_dataset
    from weakseg.layout import Layout

    report = import_dataset(
        images,
        labels,
        Layout(context.obj).data,
        classes=load_classes(classes) if classes else None,
        bands=_numbers(bands) or None,
        ignore_values=_numbers(ignore),
        replace=replace,
    )
    typer.echo(report)


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ParamsError(f"{text!r}", expected="whole numbers and commas", cure="write for instance 4,1,2") from error


@data_app.command()
def tags(
    context: typer.Context,
    size: Annotated[int, typer.Option(help="Side of a tag crop, px of the raw image.")] = 200,
    min_share: Annotated[float, typer.Option(help="Percent of a crop that makes a class present; 0: any pixel.")] = 0.0,
    write: Annotated[bool, typer.Option(help="Write data/tags/tags.csv; without it only the table is shown.")] = False,
) -> None:
    """Derive crop tags from the masks, and show what tags say per crop size: presence, entropy, co-occurrence."""
    from weakseg.workspace import describe_tags, write_mask_tags

    if write:
        typer.echo(write_mask_tags(context.obj, size=size, min_share=min_share))
    typer.echo(describe_tags(context.obj, min_share=min_share))


@data_app.command()
def split(
    context: typer.Context,
    pixel: Annotated[int, typer.Option(help="Areas of N1.")],
    tagged: Annotated[int, typer.Option(help="Areas of N2.")],
    validation: Annotated[int, typer.Option(help="Areas of validation.")],
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    every_class: Annotated[bool, typer.Option(help="Draw again until N1 holds every class.")] = True,
) -> None:
    """Draw a split once and write it into params.yaml as explicit lists."""
    from weakseg.workspace import write_split

    typer.echo(write_split(context.obj, (pixel, tagged, validation), seed=seed, every_class=every_class))


@app.command()
def show(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="cam, crf, irnet, single_stage, teacher or fused.")],
    area: Annotated[str, typer.Option(help="Area of N1 or N2.")],
) -> None:
    """Write one sheet: image, truth, each class's map, refinement, pseudo-mask."""
    from weakseg.stages.sheets import draw_area_sheet

    typer.echo(draw_area_sheet(context.obj, method, area))


@app.command()
def readme(context: typer.Context) -> None:
    """Rewrite the results block of README.md from the reports."""
    from weakseg.readme import update_readme

    typer.echo("README.md updated" if update_readme(context.obj) else "README.md is up to date")


@runs_app.command()
def send(context: typer.Context) -> None:
    """Send what was kept while the tracking server was away."""
    from weakseg.tracking import send_spool

    typer.echo(send_spool(context.obj))


def main() -> None:
    """Entry point: a WeaksegError is one line on stderr and exit code 1."""
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("WEAKSEG_THREADS", "1"))
    try:
        app()
    except WeaksegError as error:
        typer.echo(f"weakseg: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
