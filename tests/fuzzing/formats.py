"""All formats by name; each module is imported where one of its formats is asked for, as some take seconds."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from tests.fuzzing.harness import Format

MODULES: Final = {
    "text_formats": ("params.yaml", "classes.yaml", "bands.yaml", "map_of_names", "tags.csv", "answers.jsonl"),
    "label_formats": (
        "coco", "geojson_boxes", "gpkg_and_fgb", "label-studio", "via", "fiftyone", "layers", "cvat",
    ),
    "model_formats": (
        "checkpoint_bytes", "checkpoint_content", "weight_files", "onnx_and_bundles", "scoremaps_npz", "zips",
    ),
    "request_formats": ("serve_requests", "tag_requests", "mlflow_rows"),
    "raster_formats": ("geotiff", "png", "jpeg", "jpeg_2000", "sidecars", "vrt"),
}  # fmt: skip
NAMES: Final = tuple(name for names in MODULES.values() for name in names)


def find_format(name: str) -> type[Format]:
    """The class of a format."""
    module = next(module for module, names in MODULES.items() if name in names)
    found = [one for one in vars(import_module(f"tests.fuzzing.{module}")).values() if isinstance(one, type)]
    named = {one.name.replace(" ", "_"): one for one in found if issubclass(one, Format) and hasattr(one, "name")}
    return named[name]
