"""The command line: thin, and quick to start (every heavy import waits for its command)."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from weakseg.core.errors import ParamsError, WeaksegError
from weakseg.stages import PER_SOURCE, STAGES, check_stage, run_stage

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

QUICK = ("code", "settings")  # write a few lines: no launcher, no torch
ONE_PROCESS = ("tiles", "pseudo", "audit", "report")  # under torchrun the main process alone does these


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
    """Run one pipeline stage, as dvc.yaml does; WEAKSEG_LAUNCH is a launcher to do it with, such as torchrun."""
    check_stage(name, source)
    if name in ONE_PROCESS:
        from weakseg.training.machine import machine_from_environment

        if not machine_from_environment().is_main:
            return
    elif (launcher := _launcher()) and name not in QUICK and "RANK" not in os.environ:
        os.execvp(launcher[0], [*launcher, "-m", "weakseg", *sys.argv[1:]])
    run_stage(context.obj, name, source)


def _launcher() -> list[str]:
    return shlex.split(os.environ.get("WEAKSEG_LAUNCH", ""))


@app.command()
def init(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(help="A preset (base, demo, vaihingen, dubai) or a params file.")
    ] = None,
) -> None:
    """Make a workspace at --root: params.yaml from CONFIG, dvc.yaml, DVC's own folder. Without CONFIG: renew one."""
    from weakseg.pipeline.workspace import create_workspace

    typer.echo(create_workspace(context.obj, config))


@data_app.command()
def synth(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
) -> None:
    """Write the 33 procedural scenes into the workspace's data/."""
    from weakseg.core.layout import Layout
    from weakseg.data.scenes.scene import write_scenes

    layout = Layout(context.obj)
    write_scenes(layout.data, seed=seed)
    typer.echo(f"wrote 33 scenes to {layout.data}")


@data_app.command()
def ensure(context: typer.Context) -> None:
    """See to it that data/ is there: make the embedded scenes where data.dvc is theirs, else say `dvc pull`."""
    from weakseg.pipeline.workspace import ensure_data

    typer.echo(ensure_data(context.obj))


@data_app.command(name="import")
def import_(
    context: typer.Context,
    images: Annotated[Path, typer.Argument(help="Zip or folder of images.")],
    labels: Annotated[list[Path], typer.Argument(help="Zips or folders of masks; eroded ones end in _noBoundary.")],
    classes: Annotated[
        str | None, typer.Option(help="classes.yaml of the masks, or a known set such as loveda; ISPRS without it.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Three bands to read, from 1, e.g. 4,1,2.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Values of one-band masks that mean ignore, e.g. 5,6.")] = None,
    masks_hold: Annotated[
        Literal["indices", "values", "colours"] | None,
        typer.Option(help="What one-band masks hold, where that can be read two ways."),
    ] = None,
    lossy_masks: Annotated[
        bool, typer.Option("--lossy-masks", help="Take JPEG masks if all values are known.")
    ] = False,
    nodata_is_class: Annotated[
        bool, typer.Option("--nodata-is-class", help="Read nodata values of masks like others.")
    ] = False,
    unlabelled: Annotated[bool, typer.Option("--allow-unlabelled", help="Take images without a mask too.")] = False,
    replace: Annotated[bool, typer.Option(help="Replace data that is there.")] = False,
    image_pattern: Annotated[
        str | None, typer.Option(help="Which part of an image's name is the area's, e.g. 'IMG_{area}_v2'.")
    ] = None,
    label_pattern: Annotated[str | None, typer.Option(help="The same for masks; regular expressions work too.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample-labels", help="Bring masks from other grids to that of their image.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and draw the sheet; leave data/ as it is.")] = False,
) -> None:
    """Check every image and mask and bring them into the workspace's data/, or report all problems and do nothing."""
    from weakseg.core.classes import ISPRS, find_classes
    from weakseg.core.layout import Layout
    from weakseg.data.importing.dataset import import_dataset
    from weakseg.report.import_sheet import draw_import_sheet

    layout, scheme = Layout(context.obj), find_classes(classes) if classes else ISPRS
    report = import_dataset(
        images,
        labels,
        layout.data,
        classes=scheme,
        bands=_numbers(bands) or None,
        ignore_values=_numbers(ignore),
        masks_hold=masks_hold,
        lossy_masks=lossy_masks,
        nodata_is_class=nodata_is_class,
        allow_unlabelled=unlabelled,
        replace=replace,
        image_pattern=image_pattern,
        label_pattern=label_pattern,
        resample=resample,
        dry_run=dry_run,
    )
    typer.echo(report)
    sheet = draw_import_sheet(layout.import_sheet, report.previews, scheme, areas=len(report.areas))
    typer.echo(f"{'nothing written; ' if dry_run else ''}look at {sheet}: does every mask lie on its image?")


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ParamsError(f"{text!r}", expected="whole numbers and commas", cure="write for instance 4,1,2") from error


def _decimals(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ParamsError(f"{text!r}", expected="numbers and commas", cure="write for instance 0.75,1,1.25") from error


@data_app.command()
def tags(
    context: typer.Context,
    size: Annotated[int, typer.Option(help="Side of a tag crop, px of the raw image.")] = 200,
    min_share: Annotated[float, typer.Option(help="Percent of a crop that makes a class present; 0: any pixel.")] = 0.0,
    write: Annotated[bool, typer.Option(help="Write data/tags/tags.csv; without it only the table is shown.")] = False,
) -> None:
    """Derive crop tags from the masks, and show what tags say per crop size: presence, entropy, co-occurrence."""
    from weakseg.pipeline.workspace import describe_tags, write_mask_tags

    if write:
        typer.echo(write_mask_tags(context.obj, size=size, min_share=min_share))
    typer.echo(describe_tags(context.obj, min_share=min_share))


@data_app.command()
def boxes(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None, typer.Argument(help="COCO JSON, GeoJSON, .gpkg, .shp, .fgb; or folders.")
    ] = None,
    from_masks: Annotated[str | None, typer.Option(help="Derive boxes of these classes: car,building.")] = None,
    min_pixels: Annotated[int, typer.Option(min=1, help="With --from-masks: smaller objects get no box.")] = 1,
    single_objects: Annotated[bool, typer.Option(help="COCO's iscrowd 1 is one object drawn as a mask.")] = False,
    skip_classes: Annotated[str, typer.Option(help="Leave these classes of the files out: lorry,bus.")] = "",
    replace: Annotated[bool, typer.Option(help="Replace boxes that are there.")] = False,
) -> None:
    """Check bounding boxes and bring them into data/boxes/, or report all problems and do nothing."""
    from weakseg.pipeline.workspace import import_box_files, write_mask_boxes

    if bool(sources) == bool(from_masks):
        raise ParamsError(
            "box files and --from-masks" if sources else "no box files",
            expected="either files or --from-masks",
            cure="name the files, or the classes of --from-masks",
        )
    if from_masks:
        names = tuple(name.strip() for name in from_masks.split(","))
        typer.echo(write_mask_boxes(context.obj, names, min_pixels=min_pixels, replace=replace))
    else:
        skipped = tuple(name.strip() for name in skip_classes.split(",") if name.strip())
        options = {"single_objects": single_objects, "replace": replace}
        typer.echo(import_box_files(context.obj, sources or [], skip_classes=skipped, **options))


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
    from weakseg.pipeline.workspace import write_split

    typer.echo(write_split(context.obj, (pixel, tagged, validation), seed=seed, every_class=every_class))


@app.command()
def show(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Weak-label method, such as irnet.")],
    area: Annotated[str, typer.Option(help="Area of N1 or N2.")],
) -> None:
    """Write one sheet: image, truth, each class's map, refinement, pseudo-mask."""
    from weakseg.report.sheets import draw_area_sheet

    typer.echo(draw_area_sheet(context.obj, method, area))


@app.command(name="label-cost")
def label_cost(
    context: typer.Context,
    steps: Annotated[int | None, typer.Option(min=1, help="Most steps of a training; without it all.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Train only this budget now; may be given again.")] = None,
) -> None:
    """Train at the budgets of the section `label_cost`, draw mIoU against labelling hours, say what to label next."""
    from weakseg.studies.budgets import run_label_cost

    points, sentence = run_label_cost(context.obj, steps=steps, only=only or ())
    for point in points:
        spread = f"{min(point.seeds):.3f} to {max(point.seeds):.3f} ({len(point.seeds)})"
        typer.echo(f"{point.name:24} {point.hours:8.2f} h   mIoU {point.miou:.3f}   seeds {spread}")
    typer.echo(sentence)


@app.command()
def results(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to keep the run, for instance results/demo.")],
) -> None:
    """Keep a finished run: its tables, numbers and maps, and the machine that made them, for git."""
    from weakseg.report.results import save_results

    typer.echo(f"{folder}: {', '.join(save_results(context.obj, folder))}")


@app.command()
def readme(context: typer.Context) -> None:
    """Rewrite the generated tables of README.md and docs/results.md from results/."""
    from weakseg.report.readme import update_documents

    typer.echo("\n".join(map(str, update_documents(context.obj))) or "nothing to change")


@runs_app.command()
def send(context: typer.Context) -> None:
    """Send what was kept while the tracking server was away."""
    from weakseg.tracking import send_spool

    typer.echo(send_spool(context.obj))


tune_app = typer.Typer(help="Hyper-parameter search on the hold-out inside N1.", invoke_without_command=True)
app.add_typer(tune_app, name="tune")

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
    from weakseg.studies.ablation import load_variants, run_ablation

    run_ablation(context.obj, load_variants(table), _numbers(seeds), typer.echo, only=only or ())
    typer.echo((context.obj / "reports" / "ablation.md").read_text())


@app.command()
def promote(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="Source of labels whose model is evaluated.")],
    alias: Annotated[str, typer.Option(help="champion or challenger.")] = "champion",
) -> None:
    """Register the model of SOURCE and move the alias to it if it passes the gates of the section `promote`."""
    from weakseg.core.layout import Layout
    from weakseg.core.methods import SOURCES
    from weakseg.core.params import load_params
    from weakseg.registry.promotion import promote_source
    from weakseg.registry.versions import Gates

    if source not in SOURCES:
        raise ParamsError(f"source {source}", expected=" | ".join(SOURCES), cure="check the spelling")
    limits = load_params(Layout(context.obj).params).promote
    gates = Gates(limits.min_gain, limits.max_drop, limits.allowance)
    outcome = promote_source(context.obj, source, name=limits.model, gates=gates, alias=alias)
    for warning in outcome.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for gate in outcome.results:
        typer.echo(f"{'passed' if gate.passed else 'FAILED'} {gate.name}: {gate.found}; expected {gate.expected}")
    if not outcome.moved:
        raise typer.Exit(2)
    typer.echo(f"{outcome.alias} is now version {outcome.version}, before {outcome.previous or 'none'}")


@app.command()
def rollback(
    context: typer.Context,
    alias: Annotated[str, typer.Option(help="champion or challenger.")] = "champion",
) -> None:
    """Move the alias back to the version that held it before."""
    from weakseg.core.layout import Layout
    from weakseg.core.params import load_params
    from weakseg.registry.versions import rollback as roll_back

    outcome = roll_back(context.obj, load_params(Layout(context.obj).params).promote.model, alias=alias)
    typer.echo(f"{outcome.alias} is version {outcome.version} again, was {outcome.previous}")


@runs_app.command()
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


ModelAddress = Annotated[
    str, typer.Option(help="Model file, exported model or bundle, models:/weakseg@champion, models:/weakseg/3.")
]


@app.command()
def predict(
    context: typer.Context,
    where: Annotated[str, typer.Argument(metavar="IN", help="Raster, folder, or quoted pattern.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".tif; a folder where IN is a folder or pattern.")],
    model: ModelAddress,
    window: Annotated[int, typer.Option(help="Side of the windows, px.")] = 512,
    overlap: Annotated[float, typer.Option(help="Of neighbouring windows, as a share.")] = 0.25,
    batch: Annotated[int, typer.Option(help="Windows per forward pass.")] = 4,
    all_views: Annotated[bool, typer.Option("--views", help="Mean over the eight flips and turns.")] = False,
    scales: Annotated[str, typer.Option(help="Mean over resized windows too, e.g. 0.75,1,1.25.")] = "1",
    probabilities: Annotated[Path | None, typer.Option(help="Also write class probabilities (uint8).")] = None,
    confidence: Annotated[Path | None, typer.Option(help="Also write the winner's probability (uint8).")] = None,
    polygons: Annotated[Path | None, typer.Option(help="Also write a .gpkg, for a single raster.")] = None,
    bands: Annotated[str | None, typer.Option(help="Three bands to read, from 1, e.g. 4,1,2.")] = None,
    stretch: Annotated[str | None, typer.Option(help="LOW,HIGH become 0 and 255: for 16 bits or floats.")] = None,
    gsd: Annotated[
        str, typer.Option(help="At another ground sampling distance: auto | resample | refuse | ignore")
    ] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted map.")] = True,
    skip_unread: Annotated[
        bool,
        typer.Option("--skip-unread", help="Of a folder, leave out the files that are not .tif, .png, .jpg or .vrt."),
    ] = False,
) -> None:
    """Predict land-cover maps of whole rasters, window by window."""
    from weakseg.inference.allocation import keep_buffers
    from weakseg.inference.model import load_predictor
    from weakseg.inference.options import Options
    from weakseg.inference.predict import predict_rasters
    from weakseg.inference.scene import DIHEDRAL, PLAIN
    from weakseg.registry.addresses import find_model
    from weakseg.training.machine import machine_from_environment

    if polygons and (Path(where).is_dir() or (any(mark in where for mark in "*?[") and not Path(where).exists())):
        raise ParamsError("--polygons with several rasters", expected="one raster", cure="predict one by one")
    machine = machine_from_environment()
    options = Options(window, overlap, batch, probabilities, confidence, resume)
    views = DIHEDRAL if all_views else PLAIN
    chosen = _numbers(bands) or None
    low_high = _decimals(stretch)
    if stretch is not None and len(low_high) != 2:
        raise ParamsError(f"--stretch {stretch}", expected="two numbers", cure="write for instance 0,2047")
    keep_buffers()
    model_file = find_model(context.obj, model)
    maps = predict_rasters(
        model_file,
        where,
        target,
        views=views,
        scales=_decimals(scales),
        bands=chosen,
        stretch=(low_high[0], low_high[1]) if low_high else None,
        gsd=gsd,  # type: ignore[arg-type]  # predict_rasters refuses other words
        skip_unread=skip_unread,
        machine=machine,
        options=options,
    )
    if not machine.is_main:
        return
    for done in maps:
        typer.echo(f"{done.target}: {done.windows} windows, {done.seconds:.1f} s")
    if polygons:
        from weakseg.inference.polygons import write_polygons

        write_polygons(target, polygons, load_predictor(model_file, PLAIN, machine).scheme)


@app.command()
def export(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="MODEL", help="Model file or models:/weakseg@champion.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File, or folder of a bundle.")],
    to: Annotated[str, typer.Option(help="onnx | torchscript | bundle")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="For CPUs: 8-bit integers, checked on the workspace's hold-out.")
    ] = False,
) -> None:
    """Write a model for other programs and check it against this one."""
    from functools import partial

    from weakseg.export.files import export_bundle, export_onnx, export_torchscript
    from weakseg.registry.addresses import find_model

    kinds = {"onnx": export_onnx, "torchscript": export_torchscript, "bundle": export_bundle}
    if to not in kinds:
        raise ParamsError(f"--to {to}", expected=" | ".join(kinds), cure="name one of them")
    if int8:
        from weakseg.core.layout import Layout
        from weakseg.export.quantise import export_int8

        if to == "torchscript":
            raise ParamsError("--int8 --to torchscript", expected="onnx | bundle", cure="name one of them")
        quantise = partial(export_int8, tiles=Layout(context.obj).tiles)
        model_file = find_model(context.obj, source)
        held = quantise(model_file, target) if to == "onnx" else export_bundle(model_file, target, write=quantise)
        typer.echo(f"{target}: mIoU on the hold-out {held.after:.4f}, in float32 {held.before:.4f}")
        return
    difference = kinds[to](find_model(context.obj, source), target)
    typer.echo(f"{target}: largest difference of a probability {difference:.1e}")


@app.command()
def demo(
    context: typer.Context,
    model: ModelAddress = "models:/weakseg@champion",
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 takes a free one.")] = 8008,
    bands: Annotated[str | None, typer.Option(help="Three bands to read, from 1, e.g. 4,1,2.")] = None,
    stretch: Annotated[str | None, typer.Option(help="LOW,HIGH become 0 and 255: for 16 bits or floats.")] = None,
) -> None:
    """Show a local page to drop an image on and see its map; nothing is stored, nothing leaves this machine."""
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import PLAIN
    from weakseg.registry.addresses import find_model
    from weakseg.serving.demo import make_server
    from weakseg.serving.service import MapService, limits_from_environment
    from weakseg.training.machine import machine_from_environment

    predictor = load_predictor(find_model(context.obj, model), PLAIN, machine_from_environment())
    service = MapService(predictor, limits_from_environment())
    with make_server(service, model, port=port, bands=_numbers(bands), stretch=_decimals(stretch)) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port} shows {model}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")


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
