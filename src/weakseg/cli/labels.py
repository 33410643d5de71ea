"""The commands of `weakseg labels`: what people said, and how far they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="labels", help="What people said about crops, and how far they agree.", no_args_is_help=True)


@app.callback()
def labels() -> None:
    """A group, though it has one command so far."""


@app.command()
def agreement(
    context: typer.Context,
    disputes: Annotated[
        Path | None, typer.Option(help="Write the disputed crops to this CSV, for `weakseg tag --order`.")
    ] = None,
) -> None:
    """Show Krippendorff's alpha per class, and the crops on which people are divided."""
    from weakseg.tagging.merging import describe_agreement, write_disputes

    table, divided = describe_agreement(context.obj)
    typer.echo("\n".join([table, "", f"{len(divided)} disputed crops", *map(str, divided)]))
    if disputes is not None:
        write_disputes(disputes, divided)
        typer.echo(f"wrote {disputes}")
