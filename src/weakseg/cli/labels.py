"""The commands of `weakseg labels`: how far people agree, which tags may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="labels", help="How far people agree, which tags may be wrong.", no_args_is_help=True)


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


@app.command()
def suspects(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option(help="CSV of all crops, best first; tagging/suspects.csv without it.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Contact sheet of the first; out/sheets/suspects.jpg without it.")
    ] = None,
    shown: Annotated[int, typer.Option(min=1, help="Crops on the sheet.")] = 36,
) -> None:
    """List the crops that are most likely mistagged: pixels against tags, and people against people."""
    from weakseg.core.layout import Layout
    from weakseg.tagging.suspects import describe_suspect, draw_suspects, find_suspects, write_suspects

    layout = Layout(context.obj)
    found = find_suspects(context.obj)
    table = output or layout.answers.with_name("suspects.csv")
    picture = sheet or layout.out / "sheets" / "suspects.jpg"
    write_suspects(table, found)
    draw_suspects(context.obj, picture, found[:shown])
    for number, one in enumerate(found[:10], 1):
        area, (row, column, height, width) = one.crop
        typer.echo(f"{describe_suspect(number, one):32} {area} row {row} column {column}, {height}x{width} px")
    typer.echo(f"wrote {table}, {len(found)} crops, the most suspect first, and {picture}")
    typer.echo(f"`weakseg tag --order {table} --again` serves them")
