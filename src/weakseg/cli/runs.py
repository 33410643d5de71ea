"""The commands of `weakseg runs`: MLflow's runs."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(name="runs", help="MLflow runs.", no_args_is_help=True)


@app.command()
def send(context: typer.Context) -> None:
    """Send what was kept while the tracking server was away."""
    from weakseg.tracking import send_spool

    typer.echo(send_spool(context.obj))


@app.command()
def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="Run id, stage, or a source that is evaluated.")],
    b: Annotated[str, typer.Argument(help="The same.")],
) -> None:
    """Two evaluations with intervals (paired bootstrap over areas), or the last metrics of any two runs."""
    from weakseg.report.comparison import card_warnings, compare_evaluations

    for warning in card_warnings(context.obj):
        typer.echo(f"warning: {warning}", err=True)
    if table := compare_evaluations(context.obj, a, b):
        typer.echo(table)
        return
    from weakseg.tracking import compare as compare_runs

    found = compare_runs(context.obj, a, b)
    typer.echo(f"{'':40} {found.names[0]:>16} {found.names[1]:>16} {'b - a':>10}")
    for name, one, two, difference in found.metrics:
        cells = ["none" if value is None else f"{value:.4f}" for value in (one, two)]
        typer.echo(f"{name:40} {cells[0]:>16} {cells[1]:>16} {difference:>+10.4f}")
    for name, left, right in found.params:
        typer.echo(f"{name}: {left} | {right}")
