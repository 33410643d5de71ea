"""The commands that train many times, search, ablation, cost of labels, and the one that compares what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weakseg.core.errors import ParamsError
from weakseg.core.numbers import whole_numbers

if TYPE_CHECKING:
    from weakseg.studies.choose import Candidate

app = typer.Typer()
tune_app = typer.Typer(
    name="tune", help="Hyper-parameter search on the hold-out inside N1.", invoke_without_command=True
)
app.add_typer(tune_app)

StudyName = Annotated[str, typer.Option(help="Name of the study.")]
Storage = Annotated[
    str | None, typer.Option(envvar="WEAKSEG_TUNE_STORAGE", help="Database URL; without it a journal file here.")
]


@tune_app.callback()
def tune(
    context: typer.Context,
    study: StudyName = "tune",
    storage: Storage = None,
    trials: Annotated[int | None, typer.Option(help="Of the study; tune.trials without it.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on with, or join, the study.")] = False,
) -> None:
    """Search the space of the section `tune`; results in reports/tuning/."""
    if context.invoked_subcommand is not None:
        return
    from weakseg.core.layout import Layout
    from weakseg.core.params import load_params
    from weakseg.studies import best_trial, write_tuning_report
    from weakseg.studies import tune as run_tuning
    from weakseg.studies.objective import tuning_objective

    root: Path = context.obj
    params = load_params(Layout(root).params)
    search = params.tune if trials is None else params.tune.model_copy(update={"trials": trials})
    objective = tuning_objective(root, search.source)
    found = run_tuning(
        root,
        params,
        search,
        objective,
        study=study,
        storage=storage,
        workers=workers,
        resume=resume,
        identity=objective.identity,
        on_end=lambda ended: write_tuning_report(ended, Layout(root).reports / "tuning"),
    )
    best, baseline = best_trial(found), found.user_attrs["baseline"]
    typer.echo(f"trial {best.number}: mIoU {best.values[0]:.4f} on the hold-out, untuned {baseline['miou']:.4f}")
    typer.echo("`weakseg tune apply` writes its values into params.yaml")


@tune_app.command()
def apply(
    context: typer.Context,
    study: StudyName = "tune",
    storage: Storage = None,
    trial: Annotated[int | None, typer.Option(help="Number of a trial; the best without it.")] = None,
) -> None:
    """Write the best trial's values into params.yaml; `git diff` shows them."""
    from weakseg.core.layout import Layout
    from weakseg.studies import apply_best, load_study, open_storage

    found = load_study(open_storage(context.obj, storage), study)
    changed = apply_best(found, Layout(context.obj).params, number=trial)
    for path, (old, new) in changed.items():
        typer.echo(f"{path}: {old:g} -> {new:g}")
    if not changed:
        typer.echo("params.yaml has these values already")


@app.command()
def ablate(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help="YAML rows of name, source and set, such as configs/ablation.yaml.")],
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2.")] = "0",
    only: Annotated[list[str] | None, typer.Option(help="Train only this row now; may be given again.")] = None,
) -> None:
    """Train again with one thing changed at a time; reports/ablation.md says what each is worth."""
    from weakseg.studies.ablation import run_ablation
    from weakseg.studies.variants import load_variants

    run_ablation(context.obj, load_variants(table), whole_numbers(seeds), typer.echo, only=only or ())
    typer.echo((context.obj / "reports" / "ablation.md").read_text())


@app.command(name="label-cost")
def label_cost(
    context: typer.Context,
    steps: Annotated[int | None, typer.Option(min=1, help="Most steps of a training; without it all.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Train only this budget now; may be given again.")] = None,
) -> None:
    """Train at the budgets of the section `label_cost`, draw mIoU against hours, say what an hour more buys."""
    from weakseg.studies.budgets import run_label_cost

    points, sentences = run_label_cost(context.obj, steps=steps, only=only or ())
    for point in points:
        spread = f"{min(point.seeds):.3f} to {max(point.seeds):.3f} ({len(point.seeds)})"
        typer.echo(f"{point.name:24} {point.hours:8.2f} h   mIoU {point.miou:.3f}   seeds {spread}")
    for sentence in sentences:
        typer.echo(sentence)


@app.command()
def choose(
    context: typer.Context,
    blocks: Annotated[
        int | None, typer.Option(min=2, help="Rotate the hold-out: train anew without each of so many blocks.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of these trainings; segment.optimiser.steps without.")
    ] = None,
    sources: Annotated[str, typer.Option(help="With --blocks: sources to choose among, such as joint,untagged.")] = "",
    apply: Annotated[bool, typer.Option(help="With --blocks: write experts and refiners into params.yaml.")] = False,
) -> None:
    """Say by N1 alone which trained source to take; with --blocks which refiners, weights, thresholds and source."""
    if blocks is None and (steps is not None or sources or apply):
        raise ParamsError(
            "--steps, --sources or --apply", expected="--blocks beside them", cure="name the number of blocks"
        )
    lines = _rotated(context.obj, blocks, steps, sources, apply=apply) if blocks else _ranked(context.obj)
    for line in lines:
        typer.echo(line)


def _ranked(root: Path) -> list[str]:
    from weakseg.studies.choose import choose_source, sentence

    ranked = choose_source(root)
    return [*_table(ranked), sentence(ranked)]


def _rotated(root: Path, blocks: int, steps: int | None, names: str, *, apply: bool) -> list[str]:
    from weakseg.core.layout import Layout
    from weakseg.core.methods import SOURCES
    from weakseg.pipeline.context import open_context
    from weakseg.studies.recipe import apply_recipe, choose_recipe, tell

    sources = [name.strip() for name in names.split(",") if name.strip()]
    strays = [name for name in sources if name not in SOURCES]
    if strays:
        raise ParamsError(f"--sources {', '.join(strays)}", expected=f"some of {', '.join(SOURCES)}", cure="correct it")
    recipe = choose_recipe(root, blocks=blocks, steps=steps, sources=sources)
    context = open_context(root)
    lines = [*_table(recipe.ranked), *tell(recipe, context.scheme.names, context.params.fused.experts)]
    changed = apply_recipe(recipe, Layout(root).params) if apply else {}
    if apply and not changed:
        lines.append("params.yaml has these values already")
    return [*lines, *(f"{path}: {old} -> {new}" for path, (old, new) in changed.items())]


def _table(ranked: Sequence[Candidate]) -> list[str]:
    lines = []
    for one in ranked:
        miou, ahead = one.scores.miou, one.ahead
        behind = "" if one is ranked[0] else f"   behind by {ahead.value:.3f} [{ahead.low:.3f}, {ahead.high:.3f}]"
        lines.append(f"{one.source:14} hold-out mIoU {miou.value:.3f} [{miou.low:.3f}, {miou.high:.3f}]{behind}")
    return lines
