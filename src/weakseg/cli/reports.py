"""The commands that show and keep what a pipeline found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def show(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Weak-label method, such as irnet.")],
    area: Annotated[str, typer.Option(help="Area of N1 or N2.")],
) -> None:
    """Write one sheet: image, truth, each class's map, refinement, pseudo-mask."""
    from weakseg.report.sheets import draw_area_sheet

    typer.echo(draw_area_sheet(context.obj, method, area))


@app.command()
def objects(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CLASS", help="A class of the scheme, such as car.")],
    brief: Annotated[bool, typer.Option(help="Only sizes that hold a tenth of the objects, and their IoU.")] = False,
) -> None:
    """Which objects of a class every stage finds, by their size: maps before thresholds, masks and networks."""
    from weakseg.report.objects import object_tables

    typer.echo(object_tables(context.obj, name, brief=brief))


@app.command()
def results(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to keep the run, for instance results/demo.")],
    also: Annotated[
        list[Path] | None,
        typer.Option(help="A workspace of the same pipeline with another seed, pooled into one table."),
    ] = None,
) -> None:
    """Keep a finished run: its tables, numbers and maps, and the machine that made them, for git."""
    from weakseg.report.results import save_results

    typer.echo(f"{folder}: {', '.join(save_results(context.obj, folder, also or ()))}")


@app.command()
def readme(context: typer.Context) -> None:
    """Rewrite the generated tables of README.md and docs/results.md from results/."""
    from weakseg.report.readme import update_documents

    typer.echo("\n".join(map(str, update_documents(context.obj))) or "nothing to change")


@app.command()
def areas(
    map_file: Annotated[Path, typer.Argument(metavar="MAP", help="A map that `weakseg predict` wrote.")],
    zones: Annotated[Path | None, typer.Argument(metavar="POLYGONS", help="Measure inside each of them too.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            help="Correct for them: reports/evaluate/SOURCE.json, or a .csv (rows truth, columns map) of points."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Column that names the polygons.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Write a table.")] = None,
    record: Annotated[
        Path | None, typer.Option("--json", help="Write JSON; reports/areas.json is shown on the page of the report.")
    ] = None,
) -> None:
    """How much of each class there is, in hectares, corrected for the errors of the map (Olofsson et al. 2014)."""
    from weakseg.report.class_areas import measure_areas, table_text, write_csv, write_json

    found = measure_areas(map_file, zones, errors=errors, name=name)
    if table is not None:
        write_csv(table, found)
    if record is not None:
        write_json(record, found, map_file=map_file, errors=errors)
    typer.echo(table_text(found))
