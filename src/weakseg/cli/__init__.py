"""The command line: thin, and quick to start (every heavy import waits for its command); a module per group."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from weakseg.cli.data import app as data
from weakseg.cli.labels import app as labels
from weakseg.cli.models import app as models
from weakseg.cli.pipeline import app as pipeline
from weakseg.cli.reports import app as reports
from weakseg.cli.runs import app as runs
from weakseg.cli.studies import app as studies
from weakseg.cli.tagging import app as tagging
from weakseg.core.refusals import sentence_for

app = typer.Typer(
    help="Land-cover maps from a few pixel-labelled aerial images and many that carry only cheap tags.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def root_option(
    context: typer.Context,
    root: Annotated[
        Path, typer.Option(help="Workspace: the folder with params.yaml, data/, out/ and reports/.")
    ] = Path("."),
) -> None:
    """Remember the workspace for the command that follows."""
    context.obj = root


for group in (pipeline, data, tagging, labels, reports, studies, models, runs):
    app.add_typer(group)


def main() -> None:
    """Entry point: a WeaksegError, and what the machine refuses, is one line on stderr and exit code 1."""
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("WEAKSEG_THREADS", "1"))
    try:
        app()
    except Exception as error:
        if (told := sentence_for(error)) is None:
            raise
        typer.echo(f"weakseg: {told}", err=True)
        sys.exit(1)
