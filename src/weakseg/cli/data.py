"""The commands of `weakseg data`: make, import, split and describe data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weakseg.core.errors import ParamsError
from weakseg.core.numbers import whole_numbers

if TYPE_CHECKING:
    from weakseg.data.importing.height_pairing import Beside

app = typer.Typer(name="data", help="Make, import and describe data.", no_args_is_help=True)


@app.command()
def synth(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
    heights: Annotated[bool, typer.Option("--heights", help="With heights as a fourth band.")] = False,
    objects: Annotated[
        int | None, typer.Option(help="Instead of the scenes: small images of 12 or 200 kinds of objects, and tags.")
    ] = None,
) -> None:
    """Write the 33 procedural scenes, or images of objects, into the workspace's data/."""
    from weakseg.core.layout import Layout
    from weakseg.data.scenes.object_pictures import write_objects
    from weakseg.data.scenes.painting import write_scenes

    layout = Layout(context.obj)
    if objects is not None:
        if heights:
            raise ParamsError("--objects and --heights", expected="one of them", cure="leave one out")
        typer.echo(f"wrote {write_objects(layout.data, objects, seed=seed)} images of objects to {layout.data}")
        return
    write_scenes(layout.data, seed=seed, heights=heights)
    typer.echo(f"wrote 33 scenes to {layout.data}")


@app.command()
def ensure(context: typer.Context) -> None:
    """See to it that data/ is there: make the embedded scenes where data.dvc is theirs, else say `dvc pull`."""
    from weakseg.pipeline.workspace import ensure_data

    typer.echo(ensure_data(context.obj))


@app.command(name="import")
def import_(
    context: typer.Context,
    images: Annotated[Path, typer.Argument(help="Zip or folder of images.")],
    labels: Annotated[
        list[Path] | None, typer.Argument(help="Zips or folders of masks; eroded ones end in _noBoundary.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="classes.yaml of the masks, or a known set such as loveda; ISPRS without it.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands to read: 4,1,2 or red,green,blue,nir,height or nir=4,red=1,green=2.")
    ] = None,
    portal: Annotated[
        str | None, typer.Option(help="Where the images come from, which names their bands, e.g. nrw-dop10.")
    ] = None,
    heights: Annotated[
        Path | None, typer.Option(help="Surface models beside the images: a folder, a zip, or one raster for all.")
    ] = None,
    terrain: Annotated[
        Path | None, typer.Option(help="Terrain models to take off the heights, in the same ways.")
    ] = None,
    height_pattern: Annotated[str | None, typer.Option(help="Which part of their names is the area's.")] = None,
    ground: Annotated[
        int,
        typer.Option(min=0, help="Side in px of a ground filter, wider than any building; 0 is none."),
    ] = 0,
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
    partly: Annotated[
        bool,
        typer.Option("--partly-labelled", help="255 in masks: nobody has looked, not: no class."),
    ] = False,
    replace: Annotated[bool, typer.Option(help="Replace data that is there.")] = False,
    image_pattern: Annotated[
        str | None, typer.Option(help="Which part of an image's name is the area's, e.g. 'IMG_{area}_v2'.")
    ] = None,
    label_pattern: Annotated[str | None, typer.Option(help="The same for masks; regular expressions work too.")] = None,
    resample: Annotated[
        bool, typer.Option("--resample-labels", help="Bring masks from other grids to that of their image.")
    ] = False,
    tags: Annotated[
        Path | None,
        typer.Option(
            help="Tags of whole images: a CSV image,tags; COCO; a folder of VOC or ImageNet DET XML; the images' own "
            "folder, with a folder per class in it."
        ),
    ] = None,
    tags_from: Annotated[
        Literal["csv", "coco", "xml", "folders"] | None, typer.Option(help="Which of these, where there are several.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--map", help="YAML of `name: class` lines for the names in the tags; null: out.")
    ] = None,
    unmarked: Annotated[
        Literal["absent", "unknown"] | None, typer.Option(help="What a class is that an image is not tagged with.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and draw the sheet; leave data/ as it is.")] = False,
) -> None:
    """Check every image and mask and bring them into the workspace's data/, or report all problems and do nothing."""
    from weakseg.core.classes import ISPRS, find_classes
    from weakseg.core.layout import Layout
    from weakseg.core.portals import find_portal
    from weakseg.data.importing.dataset import import_dataset
    from weakseg.data.importing.image_tags import TagSource
    from weakseg.data.importing.products import as_rasters
    from weakseg.labels.class_map import read_class_map
    from weakseg.raster.band_names import parse_choice
    from weakseg.report.import_sheet import draw_import_sheet

    if portal and bands:
        raise ParamsError("--portal and --bands", expected="one of them", cure="leave one out")
    origin = find_portal(portal) if portal else None
    if not labels and not unlabelled and tags is None:
        raise ParamsError(
            "no masks",
            expected="zips or folders of masks behind the images",
            cure="name them, or say --allow-unlabelled",
        )
    if tags is None and (tags_from or names or unmarked):
        raise ParamsError("--tags-from, --map or --unmarked alone", expected="--tags", cure="name it too")
    layout, scheme = Layout(context.obj), find_classes(classes) if classes else ISPRS
    choice = parse_choice(origin.bands if origin else bands)
    with as_rasters(images, choice, layout.root) as rasters:
        report = import_dataset(
            rasters,
            labels or [],
            layout.data,
            classes=scheme,
            bands=choice,
            portal=origin,
            heights=_beside(heights, terrain, height_pattern, ground),
            ignore_values=whole_numbers(ignore),
            masks_hold=masks_hold,
            lossy_masks=lossy_masks,
            nodata_is_class=nodata_is_class,
            allow_unlabelled=unlabelled,
            partly_labelled=partly,
            replace=replace,
            image_pattern=image_pattern,
            label_pattern=label_pattern,
            resample=resample,
            tags=TagSource(tags, read_class_map(names, scheme), tags_from, unmarked) if tags else None,
            dry_run=dry_run,
        )
    typer.echo(report)
    sheet = draw_import_sheet(layout.import_sheet, report.previews, scheme, areas=len(report.areas))
    typer.echo(f"{'nothing written; ' if dry_run else ''}look at {sheet}: does every mask lie on its image?")


@app.command()
def stack(
    product: Annotated[Path, typer.Argument(help="A Sentinel-2 product of level 2A, NAME.SAFE.")],
    target: Annotated[Path, typer.Argument(help="The GeoTIFF to write.")],
    bands: Annotated[
        str | None, typer.Option(help="Names of bands, such as blue,green,red,nir; all without it.")
    ] = None,
) -> None:
    """Bring bands of 10, 20 and 60 m to one grid, in one GeoTIFF that `weakseg predict` takes."""
    from weakseg.data.importing.products import names_of
    from weakseg.raster.band_names import parse_choice
    from weakseg.raster.safe import CODES, describe_layer, open_product, stack_product

    names = names_of(parse_choice(bands), product) if bands else tuple(CODES)
    found = open_product(product, names)
    stack_product(found, target)
    for layer in found.layers:
        typer.echo(f"{layer.name}: {describe_layer(layer, found)}")


def _beside(heights: Path | None, terrain: Path | None, pattern: str | None, ground: int) -> Beside | None:
    from weakseg.data.importing.height_pairing import Beside

    if heights is None:
        if terrain or pattern or ground:
            raise ParamsError("terrain, --height-pattern or --ground alone", expected="--heights", cure="name them too")
        return None
    if terrain and ground:
        raise ParamsError("--terrain and --ground", expected="one of them", cure="leave --ground out")
    return Beside(heights, terrain, pattern, ground)


@app.command()
def tags(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of tags to read; with --to the file to write.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="Program of the files: label-studio, cvat, via, fiftyone, qgis, osm; else as they show."
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Write for label-studio (.json) or qgis (.gpkg).")] = None,
    field: Annotated[
        str | None, typer.Option(help="Control, attribute or column with the classes, where there are several.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="The only layer of a GeoPackage that is read.")] = None,
    names: Annotated[
        Path | None,
        typer.Option("--map", help="YAML of `name: class` lines, of osm `key=value: class`; null: out."),
    ] = None,
    unmarked: Annotated[
        Literal["absent", "unknown"] | None, typer.Option(help="What a class is that was not marked of a crop.")
    ] = None,
    annotator: Annotated[str | None, typer.Option(help="Who it was, where the files name nobody.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Files win over what tags.csv knows already.")] = False,
    order: Annotated[Path | None, typer.Option(help="With --to: crops of this CSV, as `weakseg next` writes.")] = None,
    model: Annotated[
        str, typer.Option(help="With --to: whose guesses are shown: a model's address, auto or none.")
    ] = "none",
    pictures: Annotated[
        Literal["chips", "scenes"], typer.Option(help="With --to label-studio: a picture per crop, or per area.")
    ] = "chips",
    prefix: Annotated[
        str | None, typer.Option(help="With --to label-studio: what stands before the pictures' names in addresses.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of a tag crop, px of the raw image; 200 from masks.")
    ] = None,
    min_share: Annotated[float, typer.Option(help="Percent of a crop that makes a class present; 0: any pixel.")] = 0.0,
    write: Annotated[bool, typer.Option(help="Write data/tags/tags.csv; without it only the table is shown.")] = False,
) -> None:
    """Bring tags in from other programs, or hand crops out to them; without files derive tags from the masks."""
    if to is not None:
        from weakseg.tagging.handing_out import HandOut, export_tags

        if not files or len(files) != 1 or from_ is not None:
            raise ParamsError(f"--to {to} with {len(files or ())} files", expected="the file to write", cure="name one")
        typer.echo(export_tags(context.obj, files[0], HandOut(to, order, model, pictures, prefix)))
    elif files:
        from weakseg.tagging.exchange import TagImport, import_tags

        how = TagImport(from_, field, names, unmarked, annotator, replace, layer, size, min_share)
        typer.echo(import_tags(context.obj, files, how))
    elif from_ is not None:
        raise ParamsError(f"--from {from_} without files", expected="files of tags", cure="name them")
    else:
        _mask_tags(context.obj, size=size or 200, min_share=min_share, write=write)


def _mask_tags(root: Path, *, size: int, min_share: float, write: bool) -> None:
    from weakseg.pipeline.workspace import describe_tags, write_mask_tags

    if write:
        typer.echo(write_mask_tags(root, size=size, min_share=min_share))
    typer.echo(describe_tags(root, min_share=min_share))


@app.command()
def masks(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Layers of polygons: .gpkg, .geojson, .shp, .fgb.")],
    field: Annotated[str | None, typer.Option(help="Column with the classes; class, label, category or name.")] = None,
    layer: Annotated[str | None, typer.Option(help="The only layer of a GeoPackage that is read.")] = None,
    names: Annotated[
        Path | None, typer.Option("--map", help="YAML of `name: class` lines; null leaves a name out.")
    ] = None,
    on_top: Annotated[
        str, typer.Option(help="Classes that cover others where polygons overlap, the topmost first: car,tree.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Give up masks that the areas have.")] = False,
) -> None:
    """Draw masks of part of an area from polygons; where there is none nothing is known (255)."""
    from weakseg.core.classes import load_classes
    from weakseg.core.layout import Layout
    from weakseg.data.importing.drawn import import_drawn
    from weakseg.report.import_sheet import draw_import_sheet

    order = [name.strip() for name in on_top.split(",") if name.strip()]
    options = {"field": field, "layer": layer, "names": names, "on_top": order, "replace": replace}
    drawn = import_drawn(context.obj, files, **options)  # type: ignore[arg-type]
    typer.echo("\n".join(drawn.said))
    layout = Layout(context.obj)
    sheet = draw_import_sheet(layout.import_sheet, drawn.previews, load_classes(layout.classes), areas=drawn.areas)
    typer.echo(f"look at {sheet}: does every mask lie on its image?")


@app.command()
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


@app.command()
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
