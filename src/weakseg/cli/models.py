"""The commands that use a trained model: registry, maps, export, demo page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weakseg.core.errors import ParamsError
from weakseg.core.numbers import decimals, whole_numbers

if TYPE_CHECKING:
    from weakseg.inference.engine import Choice

app = typer.Typer()

ModelAddress = Annotated[
    str, typer.Option(help="Model file, exported model or bundle, models:/weakseg@champion, models:/weakseg/3.")
]


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


def say_tag_errors(root: Path, tags: Path) -> None:
    """Say where the workspace of a tag table states that its tags have errors, which maps take for right."""
    from weakseg.core.layout import Layout
    from weakseg.core.params import load_params

    layout = Layout(root)
    if tags.resolve() != layout.tags_csv.resolve() or not layout.params.is_file():
        return
    rates = load_params(layout.params).tags
    if rates.missing_rate or rates.wrong_rate:
        typer.echo(
            f"params.yaml states tags of which {rates.missing_rate:.0%} are missing and {rates.wrong_rate:.0%} wrong: "
            "--tags takes them for right, and classes that are missing vanish from their crops",
            err=True,
        )


def how_it_ran(engine: Choice | None) -> str:
    """The engine of a map for a line of the log, with the comparison on which it was chosen."""
    if engine is None:
        return ""
    said = "".join(f"; not {reason}" for reason in engine.passed_over) + (f"; {engine.why}" if engine.why else "")
    return f", {engine}" + (f" (against torch: {engine.parity})" if engine.parity else "") + said


@app.command()
def predict(
    context: typer.Context,
    where: Annotated[str, typer.Argument(metavar="IN", help="Raster, folder, or quoted pattern.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".tif; a folder where IN is a folder or pattern.")],
    model: ModelAddress,
    window: Annotated[int, typer.Option(help="Side of the windows, px.")] = 512,
    overlap: Annotated[float, typer.Option(help="Of neighbouring windows, as a share.")] = 0.25,
    batch: Annotated[int, typer.Option(help="Windows per forward pass; a CPU takes 512 x 512 px at a time.")] = 4,
    all_views: Annotated[bool, typer.Option("--views", help="Mean over the eight flips and turns.")] = False,
    scales: Annotated[str, typer.Option(help="Mean over resized windows too, e.g. 0.75,1,1.25.")] = "1",
    probabilities: Annotated[Path | None, typer.Option(help="Also write class probabilities (uint8).")] = None,
    confidence: Annotated[Path | None, typer.Option(help="Also write the winner's probability, calibrated.")] = None,
    entropy: Annotated[Path | None, typer.Option(help="Also write how undecided each pixel is (uint8).")] = None,
    margin: Annotated[Path | None, typer.Option(help="Also write the winner's lead over the second (uint8).")] = None,
    applicability: Annotated[
        Path | None, typer.Option(help="Also write how unlike the training each pixel is (uint8, 100: the limit).")
    ] = None,
    max_unlike: Annotated[
        float, typer.Option(help="Write nothing where a larger share is unlike anything the model has seen.")
    ] = 1.0,
    polygons: Annotated[
        Path | None, typer.Option(help="Also write .gpkg, .parquet, .fgb or .geojson, for a single map.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands to read: 4,1,2, or of models that know names nir=4,red=1,green=2.")
    ] = None,
    heights: Annotated[
        Path | None, typer.Option(help="Heights beside the raster, for a model that wants them; or a folder of them.")
    ] = None,
    terrain: Annotated[Path | None, typer.Option(help="Terrain models to take off them.")] = None,
    ground: Annotated[int, typer.Option(help="Or the side in px of a ground filter, as in the import.")] = 0,
    stretch: Annotated[str | None, typer.Option(help="LOW,HIGH become 0 and 255: for 16 bits or floats.")] = None,
    gsd: Annotated[
        str, typer.Option(help="At another ground sampling distance: auto | resample | refuse | ignore")
    ] = "auto",
    tags: Annotated[
        Path | None,
        typer.Option(help="Tag table of these very images: a class that a tag rules out wins nowhere in its crop."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted map.")] = True,
    engine: Annotated[
        str, typer.Option(help="What runs the network on a CPU: auto | openvino | onnx | torch")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="auto | float32 | bf16 | fp16; default: WEAKSEG_PRECISION.", show_default=False)
    ] = None,
    cog: Annotated[
        bool | None, typer.Option(help="Cloud Optimized GeoTIFF; default: for a single map.", show_default=False)
    ] = None,
    crs: Annotated[str | None, typer.Option(help="Of the maps, e.g. EPSG:25832.")] = None,
    res: Annotated[float | None, typer.Option(help="Side of the maps' pixels, in units of their CRS.")] = None,
    area: Annotated[Path | None, typer.Option(help="Vector file of polygons to clip the maps to.")] = None,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="All scenes of a folder as one map without seams, OUT/mosaic.tif.")
    ] = False,
    skip_unread: Annotated[
        bool,
        typer.Option("--skip-unread", help="Of a folder, leave out the files that are not .tif, .png, .jpg or .vrt."),
    ] = False,
) -> None:
    """Predict land-cover maps of whole rasters, window by window."""
    from weakseg.inference.allocation import keep_buffers
    from weakseg.inference.held_tags import locate_table
    from weakseg.inference.options import Options
    from weakseg.inference.predict import predict_mosaic, predict_rasters
    from weakseg.inference.rasters import parse_reading
    from weakseg.inference.scene import DIHEDRAL, PLAIN
    from weakseg.maps.deliver import Delivery, deliver_map
    from weakseg.maps.scenes import cut_scenes
    from weakseg.raster.listing import is_several
    from weakseg.registry.addresses import find_model
    from weakseg.training.machine import machine_from_environment

    several = is_several(where, mosaic=mosaic)
    if polygons and several and not mosaic:
        raise ParamsError("--polygons with several rasters", expected="one raster or --mosaic", cure="add --mosaic")
    if polygons and area and polygons.resolve() == area.resolve():
        raise ParamsError(f"--polygons {polygons} is the --area", expected="a new file", cure="choose another name")
    machine = machine_from_environment()
    machine = machine if precision is None else machine.at_precision(precision)
    options = Options(
        window,
        overlap,
        batch,
        probabilities,
        confidence,
        resume,
        entropy,
        margin,
        applicability,
        max_unlike,
        tags=locate_table(tags, where) if tags else None,
    )
    if tags:
        say_tag_errors(context.obj, tags)
    views = DIHEDRAL if all_views else PLAIN
    reading = parse_reading(bands, stretch, heights, terrain, ground, gsd, skip_unread)
    keep_buffers()
    model_file = find_model(context.obj, model)
    shared: dict[str, Any] = {
        "views": views,
        "scales": decimals(scales),
        **vars(reading),
        "machine": machine,
        "engine": engine,
    }
    if mosaic:
        if not machine.is_main:
            return
        target, options = options.within(target, "mosaic.tif")
        done, scenes = predict_mosaic(model_file, where, target, options=options, **shared)
        maps = [done]
        cut_scenes(done.target, scenes, done.target.parent)
    else:
        maps = predict_rasters(model_file, where, target, options=options, **shared)
    if not machine.is_main:
        return
    delivery = Delivery(mosaic or not several if cog is None else cog, crs, res, area)
    for done in maps:
        deliver_map(done.target, delivery, layers=done.layers)
        typer.echo(f"{done.target}: {done.windows} windows, {done.seconds:.1f} s" + how_it_ran(done.engine))
        if done.held is not None:
            typer.echo(f"{done.target}: held to the tags of {done.held} crops")
        if done.lacking:
            typer.echo(
                f"{done.target}: the raster lacks {', '.join(done.lacking)}, in whose place stands the mean of N1"
            )
        if done.empty:
            typer.echo(f"{done.target}: no pixel of the raster has data, so all of the map is 255; check its nodata")
        if done.uneven is not None:
            across, down = done.uneven
            typer.echo(
                f"{done.target}: px of the raster are {across:.3g} m across and {down:.3g} m down: things look "
                "stretched, unless they did so in the training; gdalwarp -tr makes px square"
            )
        if done.unlike is not None and done.unlike >= 0.005:
            typer.echo(f"{done.unlike:.0%} of this raster is unlike anything the model has seen: see --applicability")
    if polygons:
        from weakseg.maps.polygons import write_polygons

        write_polygons(target, polygons, confidence=options.confidence)


@app.command(name="polygons")
def map_polygons(
    raster: Annotated[Path, typer.Argument(metavar="MAP", help="Map that `predict` wrote.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".gpkg, .parquet, .fgb or .geojson.")],
    confidence: Annotated[Path | None, typer.Option(help="Confidence that was predicted with the map.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of the simplification, px; 0 keeps every corner.")] = 1.0,
    min_area: Annotated[
        float | None, typer.Option(help="Smaller patches go to a neighbour, m2 (px without a CRS); default 16 px.")
    ] = None,
    min_gap: Annotated[float, typer.Option(help="Smaller gaps without data are filled, m2 (px without a CRS).")] = 0.0,
    regular: Annotated[
        str, typer.Option(help="Classes that get right angles, e.g. building; their edges are shared no more.")
    ] = "",
) -> None:
    """Turn a map into polygons with class, area on the ground and mean confidence."""
    from weakseg.maps.polygons import PolygonOptions, write_polygons

    names = tuple(name.strip() for name in regular.split(",") if name.strip())
    options = PolygonOptions(tolerance, min_area, min_gap, names)
    count = write_polygons(raster, target, confidence=confidence, options=options)
    typer.echo(f"{target}: {count} polygons")


@app.command()
def export(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="MODEL", help="Model file or models:/weakseg@champion.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File, or folder of a bundle.")],
    to: Annotated[
        str,
        typer.Option(
            help="onnx | deepness (QGIS plugin) | pt2 (torch.export) | torchscript | bundle | model (a copy that says "
            "what bf16 costs)"
        ),
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="For CPUs: 8-bit integers, checked on the workspace's hold-out.")
    ] = False,
    applicability: Annotated[
        bool, typer.Option("--applicability", help="With a second output: how unlike the training every pixel is.")
    ] = False,
) -> None:
    """Write a model for other programs, with a STAC item beside it, and check it against this one."""
    from functools import partial

    from weakseg.core.layout import Layout
    from weakseg.export.fixed import SIDE, export_deepness, export_pt2
    from weakseg.export.held_precision import export_measured, measure_bf16
    from weakseg.export.item import write_model_item
    from weakseg.export.model_files import export_bundle, export_onnx, export_torchscript
    from weakseg.registry.addresses import find_model

    free: dict[str, Any] = {"onnx": export_onnx, "torchscript": export_torchscript, "bundle": export_bundle}
    fixed = {"deepness": export_deepness, "pt2": export_pt2}
    tiles = Layout(context.obj).tiles
    if to == "model" and not (int8 or applicability):
        typer.echo(f"{target}: {export_measured(find_model(context.obj, source), target, tiles=tiles)}")
        return
    if to not in free | fixed:
        raise ParamsError(f"--to {to}", expected=" | ".join([*free, *fixed, "model"]), cure="name one of them")
    if applicability and to in fixed:
        raise ParamsError(f"--applicability --to {to}", expected=" | ".join(free), cure="name one of them")
    if to == "torchscript":
        typer.echo("warning: PyTorch has deprecated TorchScript; --to pt2 is what it names instead", err=True)
    if int8:
        from weakseg.export.quantise import export_int8

        if applicability:
            raise ParamsError("--int8 --applicability", expected="one of the two", cure="leave one out")
        if to not in ("onnx", "bundle"):
            raise ParamsError(f"--int8 --to {to}", expected="onnx | bundle", cure="name one of them")
        quantise = partial(export_int8, tiles=tiles)
        model_file = find_model(context.obj, source)
        held = quantise(model_file, target) if to == "onnx" else export_bundle(model_file, target, write=quantise)
        write_model_item(model_file, target, to)
        typer.echo(f"{target}: mIoU on the hold-out {held.after:.4f}, in float32 {held.before:.4f}")
        return
    model_file = find_model(context.obj, source)
    if to in fixed:
        difference = fixed[to](model_file, target)
    elif to == "torchscript":
        difference = export_torchscript(model_file, target, applicability=applicability)
    else:  # what OpenVINO can run
        bf16, said = measure_bf16(model_file, tiles)
        difference = free[to](model_file, target, applicability=applicability, held=bf16)
        typer.echo(f"{target}: {said}")
    write_model_item(model_file, target, to, side=SIDE if to in fixed else None)
    typer.echo(f"{target}: largest difference of a probability {difference:.1e}")


@app.command()
def demo(
    context: typer.Context,
    model: ModelAddress = "models:/weakseg@champion",
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 takes a free one.")] = 8008,
    bands: Annotated[str | None, typer.Option(help="Bands to read, from 1, e.g. 4,1,2.")] = None,
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
    with make_server(service, model, port=port, bands=whole_numbers(bands), stretch=decimals(stretch)) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port} shows {model}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")


@app.command()
def serve(
    context: typer.Context,
    model: ModelAddress = "models:/weakseg@champion",
    tiles: Annotated[
        Path | None, typer.Option(help="For /tiles: a map of `weakseg predict`, or a raster to apply the model to.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; there is no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8009,
    at_work: Annotated[int, typer.Option(help="Requests at a time; more are told to come again (503).")] = 8,
    bands: Annotated[str | None, typer.Option(help="Bands of the raster for tiles, from 1, e.g. 4,1,2.")] = None,
) -> None:
    """Serve maps over HTTP: the page, /map, /tiles/{z}/{x}/{y}.png, /healthz, /metrics, /openapi.json."""
    import uvicorn

    from weakseg.inference.allocation import keep_buffers
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import PLAIN
    from weakseg.registry.addresses import find_model
    from weakseg.serving.application import make_application
    from weakseg.serving.open_rasters import Rasters
    from weakseg.serving.service import MapService, limits_from_environment
    from weakseg.serving.xyz import open_tiles
    from weakseg.training.machine import machine_from_environment

    if at_work < 1:
        raise ParamsError(f"--at-work {at_work}", expected="1 or more", cure="mend it")
    keep_buffers()
    predictor = load_predictor(find_model(context.obj, model), PLAIN, machine_from_environment())
    service = MapService(predictor, limits_from_environment())
    shown = None if tiles is None else open_tiles(tiles, service, whole_numbers(bands))
    own = ("127.0.0.1", "localhost") if host in ("127.0.0.1", "localhost") else ("*",)
    rasters = Rasters(service, context.obj)
    application = make_application(service, model, tiles=shown, rasters=rasters, at_work=at_work, hosts=own)
    typer.echo(f"http://{host}:{port} serves {model}; Ctrl-C ends it")
    uvicorn.run(application, host=host, port=port, log_level="warning")
