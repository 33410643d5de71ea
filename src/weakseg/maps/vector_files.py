"""Writing polygons in batches, in bounded memory, as GeoPackage, GeoParquet, FlatGeobuf or GeoJSON.

Batches go into a GeoPackage, the one format that all programs append to, and from there in a stream to the others.
pyogrio (0.13) appends columns by their position, whatever they are called, and polygons of another CRS as they are;
:meth:`PolygonFile.append` refuses both.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError, ParamsError
from weakseg.core.files import atomic_path
from weakseg.maps.polygon_style import add_style
from weakseg.raster.formats import reason_of
from weakseg.raster.whole import vector_errors

LAYER: Final = "classes"
SUFFIXES: Final = (".gpkg", ".parquet", ".geoparquet", ".fgb", ".geojson", ".json")
_ROWS: Final = 20_000  # in memory while one format becomes another


class PolygonFile:
    """A GeoPackage that takes frames of one set of columns and one CRS."""

    def __init__(self, path: Path, columns: tuple[str, ...], crs: Any) -> None:
        self.path, self.columns, self.crs, self.rows = path, columns, crs, 0

    def append(self, frame: Any) -> None:
        """Add the rows of a GeoDataFrame.

        Raises:
            DataError: it has other columns, other types of them, or another CRS.
        """
        if set(frame.columns) != {*self.columns, "geometry"} or frame.crs != self.crs:
            raise DataError(
                f"columns {', '.join(frame.columns)} in {frame.crs}",
                expected=f"{', '.join(self.columns)}, geometry in {self.crs}",
                cure="report this fault",
            )
        if len(frame):
            ordered = frame[[*self.columns, "geometry"]]
            options = {"driver": "GPKG", "layer": LAYER, "engine": "pyogrio", "geometry_type": "Polygon"}
            ordered.to_file(self.path, mode="a" if self.rows else "w", SPATIAL_INDEX="YES", **options)
            self.rows += len(frame)


def check_suffix(target: Path) -> None:
    """Refuse a name from whose suffix no format follows."""
    if target.suffix.lower() not in SUFFIXES:
        raise ParamsError(
            f"{target}",
            expected="a name that ends in .gpkg, .parquet (GeoParquet), .fgb (FlatGeobuf) or .geojson",
            cure="rename it",
        )


def only_layer(path: Path) -> str:
    """The layer with places of a vector file; tables without, such as styles of QGIS, are none.

    Raises:
        DataError: it cannot be read, or has none or several.
    """
    import pyogrio

    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except (pyogrio.errors.DataSourceError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read ({reason_of(error)})",
            expected="a vector file that GDAL reads",
            cure="check the path",
        ) from error
    if len(layers) != 1:
        raise DataError(
            f"{path}: layers {', '.join(layers) or 'without places'}",
            expected="one layer",
            cure="copy the one that is meant into a file of its own: ogr2ogr area.gpkg FILE LAYER",
        )
    return layers[0]


@contextmanager
def polygon_file(
    target: Path, columns: tuple[str, ...], crs: Any, empty: Any, *, scheme: ClassScheme
) -> Iterator[PolygonFile]:
    """Write a vector file whole or not at all, in the format of its suffix; GeoJSON in WGS84, as RFC 7946 has it.

    ``empty`` is a frame without rows, written where none was appended. A GeoPackage brings the colours of ``scheme``.
    """
    check_suffix(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with vector_errors(target), tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as folder:
        spool = PolygonFile(Path(folder) / "spool.gpkg", columns, crs)
        yield spool
        if not spool.rows:
            empty[[*columns, "geometry"]].to_file(
                spool.path, driver="GPKG", layer=LAYER, engine="pyogrio", geometry_type="Polygon"
            )
        with atomic_path(target) as temporary:
            _convert(spool.path, temporary, target.suffix.lower(), scheme)


def _convert(spool: Path, target: Path, suffix: str, scheme: ClassScheme) -> None:
    if suffix == ".gpkg":
        add_style(spool, LAYER, scheme)
        spool.replace(target)
    elif suffix in (".parquet", ".geoparquet"):
        _to_parquet(spool, target)
    else:
        _to_ogr(spool, target, "FlatGeobuf" if suffix == ".fgb" else "GeoJSON")


def _to_ogr(spool: Path, target: Path, driver: str) -> None:
    import pyogrio

    options = {"layer_options": {"RFC7946": "YES"}} if driver == "GeoJSON" else {}
    with pyogrio.open_arrow(spool, layer=LAYER, batch_size=_ROWS) as (meta, reader):
        pyogrio.write_arrow(
            reader,
            target,
            driver=driver,
            layer=LAYER,
            crs=meta["crs"],
            geometry_type="Polygon",
            geometry_name=meta["geometry_name"] or "wkb_geometry",
            **options,
        )


def _to_parquet(spool: Path, target: Path) -> None:
    """GeoParquet 1.1: a Parquet table with polygons as WKB and a description of them under the key ``geo``."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyogrio

    with pyogrio.open_arrow(spool, layer=LAYER, batch_size=_ROWS) as (meta, stream):
        reader = pa.RecordBatchReader.from_stream(stream)
        name = meta["geometry_name"] or "wkb_geometry"
        fields = [
            pa.field("geometry", pa.binary()) if field.name == name else field.remove_metadata()
            for field in reader.schema
        ]
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": _describe(meta["crs"])}}
        schema = pa.schema(fields, metadata={b"geo": json.dumps(geo).encode()})
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in reader:
                arrays = [array.cast(field.type) for array, field in zip(batch.columns, fields, strict=True)]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _describe(crs: str | None) -> dict[str, Any]:
    from pyproj import CRS

    known = None if crs is None else CRS.from_user_input(crs).to_json_dict()
    return {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": known}
