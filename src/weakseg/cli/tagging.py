"""The command to tag crops in a browser, and what becomes of the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.core.errors import ParamsError

app = typer.Typer()


@app.command()
def tag(
    context: typer.Context,
    order: Annotated[
        Path | None, typer.Option(help="CSV of crops, best first, as `weakseg next` writes: area,row,column,...")
    ] = None,
    areas: Annotated[str, typer.Option(help="Only these areas: area2,area3. Else those of tiles.areas.tags.")] = "",
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the crops, px of the images, in areas without any.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of crops that two people tag.")] = 0.0,
    model: Annotated[
        str,
        typer.Option(
            help="Whose guesses are shown: a model's address, none, or auto: the champion, or what makes most of tags."
        ),
    ] = "auto",
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 takes a free one.")] = 8009,
    disputes: Annotated[bool, typer.Option("--disputes", help="Tag the crops on which people are divided.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="With --order: crops too that were tagged before the list was written.")
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Write the answers into data/tags/tags.csv, and end.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="With --merge: answers win over other tags.")] = False,
) -> None:
    """Show a local page to tag crops, for one person or several; every answer is on disk before the next crop shows."""
    if (merge and disputes) or (replace and not merge):
        raise ParamsError(
            "options that exclude each other",
            expected="--merge, with or without --replace, or --disputes",
            cure="choose",
        )
    if merge:
        from weakseg.tagging.merging import merge_tags

        typer.echo(merge_tags(context.obj, replace=replace))
    else:
        _serve(context.obj, order, _names(areas), size, overlap, model, port, disputes, again)


def _serve(
    root: Path,
    order: Path | None,
    areas: list[str],
    size: int | None,
    overlap: float,
    model: str,
    port: int,
    disputes: bool,
    again: bool,
) -> None:
    from weakseg.tagging.run import tag_server

    crops = {"order": order, "areas": areas, "size": size, "disputes": disputes, "again": again}
    with tag_server(root, **crops, overlap=overlap, model=model, port=port) as (server, said):  # type: ignore[arg-type]
        typer.echo(f"{said}\nCtrl-C ends it; then `weakseg tag --merge` writes the answers into data/tags/tags.csv")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended; all answers are on disk")


@app.command(name="next")
def label_next(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="Tag crops in the order, and at most so many images.")] = 100,
    areas: Annotated[str, typer.Option(help="Only these: area2,area3. Else tags for N2, the rest for all.")] = "",
    size: Annotated[int | None, typer.Option(min=1, help="Side of the crops, px of the images.")] = None,
    sources: Annotated[
        str, typer.Option(help="Whose networks are asked: pixel,joint. Else those of params.yaml, never the oracle.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the files; out/next without it.")] = None,
) -> None:
    """Say what to label next: tag crops, boxes and pixels, by what each would change in a second of an annotator.

    Writes crops.csv (serve it by `weakseg tag --order`), next.gpkg for QGIS, and next.png with the first pictures.
    Asks the networks that are trained so far; reads no truth of what is to be labelled, and no validation area.
    """
    from weakseg.studies.acquisition.run import suggest_next
    from weakseg.studies.acquisition.summary import describe

    found = suggest_next(
        context.obj, count=count, areas=_names(areas), size=size, sources=_names(sources), out=out, say=typer.echo
    )
    typer.echo(describe(found))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
