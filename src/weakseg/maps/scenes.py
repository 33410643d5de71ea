"""A mosaic's map cut back into one file per scene, and a virtual raster (VRT) over them: parts to copy and to share."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from weakseg.core.classes import IGNORE, ClassScheme
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.maps.legend import add_categories, read_legend
from weakseg.raster.mosaic import Mosaic, Scene
from weakseg.raster.stream import BLOCK, gdal_settings, open_raster
from weakseg.raster.whole import whole_raster


def cut_scenes(raster: Path, mosaic: Mosaic, folder: Path) -> list[Path]:
    """Write the part of a mosaic's map under every scene into a folder, and ``NAME.vrt`` over them beside the map.

    The parts hold the same pixels where scenes overlap, so their order in the VRT changes nothing.

    Raises:
        DataError: the map is not on the grid of the mosaic, or the disk does not take the files.
    """
    with open_raster(raster) as file:
        if file.shape != (mosaic.height, mosaic.width):
            raise DataError(f"{raster}: {file.shape} px", expected="the map of the mosaic", cure="predict it again")
        parts = [_cut(file, scene, folder / f"{scene.source.path.stem}.tif") for scene in mosaic.scenes]
        wkt, transform = file.crs.to_wkt(), list(file.transform.to_gdal())
    target = raster.with_suffix(".vrt")
    root = _vrt(mosaic, parts, read_legend(raster), wkt, transform, target.parent)
    with atomic_path(target) as temporary:
        temporary.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return parts


def _cut(file: Any, scene: Scene, target: Path) -> Path:
    import rasterio
    from rasterio.windows import Window
    from rasterio.windows import transform as part_of

    height, width = scene.source.height, scene.source.width
    whole = Window(scene.column, scene.row, width, height)
    layout = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": IGNORE, "height": height, "width": width}
    layout |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    layout |= {"crs": file.crs, "transform": part_of(whole, file.transform)}
    with (
        whole_raster(target) as temporary,
        gdal_settings(sidecars=False),
        rasterio.open(temporary.absolute(), "w", **layout) as out,
    ):
        for row in range(0, height, 4 * BLOCK):
            rows = min(4 * BLOCK, height - row)
            values = file.read(1, window=Window(scene.column, scene.row + row, width, rows))
            out.write(values, 1, window=Window(0, row, width, rows))
        out.descriptions = file.descriptions
        out.update_tags(**{key: text for key, text in file.tags().items() if key.startswith("CLASS_")})
        out.write_colormap(1, file.colormap(1))
    return target


def _vrt(
    mosaic: Mosaic, parts: list[Path], classes: ClassScheme, wkt: str, transform: list[float], folder: Path
) -> ET.Element:
    root = ET.Element("VRTDataset", rasterXSize=str(mosaic.width), rasterYSize=str(mosaic.height))
    ET.SubElement(root, "SRS").text = wkt
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, transform))
    metadata = ET.SubElement(root, "Metadata")
    for index, name in enumerate(classes.names):
        ET.SubElement(metadata, "MDI", key=f"CLASS_{index}").text = name
    band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    ET.SubElement(band, "Description").text = "class"
    ET.SubElement(band, "NoDataValue").text = str(IGNORE)
    ET.SubElement(band, "ColorInterp").text = "Palette"
    table = ET.SubElement(band, "ColorTable")
    for red, green, blue, alpha in classes.colour_table().values():
        ET.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))
    add_categories(band, classes)
    for scene, part in zip(mosaic.scenes, parts, strict=True):
        _add_source(band, scene, part, folder)
    return root


def _add_source(band: ET.Element, scene: Scene, part: Path, folder: Path) -> None:
    source = ET.SubElement(band, "ComplexSource")
    place = part.resolve().relative_to(folder.resolve()).as_posix()
    ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = place
    ET.SubElement(source, "SourceBand").text = "1"
    for name, column, row in (("SrcRect", 0, 0), ("DstRect", scene.column, scene.row)):
        numbers = {"xOff": column, "yOff": row, "xSize": scene.source.width, "ySize": scene.source.height}
        ET.SubElement(source, name, {key: str(number) for key, number in numbers.items()})
    ET.SubElement(source, "NODATA").text = str(IGNORE)
