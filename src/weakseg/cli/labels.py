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
    from weakseg.tagging.suspect_sheet import describe_suspect, draw_suspects
    from weakseg.tagging.suspects import find_suspects, write_suspects

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


@app.command()
def diff(
    context: typer.Context,
    revs: Annotated[str, typer.Argument(metavar="REV", help="A commit, against the workspace; or A..B, two commits.")],
) -> None:
    """Say which crops, boxes and pixels changed, who took how long, and what it did to mIoU; for the report, too."""
    from weakseg.core.layout import Layout
    from weakseg.pipeline.context import write_report
    from weakseg.report.label_versions import compare_labels
    from weakseg.report.label_words import describe_comparison, list_changes, markdown, to_report

    found = compare_labels(context.obj, revs)
    typer.echo("\n".join([*list_changes(found), "", markdown(describe_comparison(found))]))
    file = Layout(context.obj).report("labels_diff")
    write_report(file, to_report(found))
    typer.echo(f"wrote {file}; `dvc repro -f -s report` puts it into the report")
