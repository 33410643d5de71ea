"""A trained model as MLflow's registry keeps it: a pyfunc from code, with a signature and an example of a request."""

from __future__ import annotations

import base64
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

import weakseg
from weakseg.core.bands import Bands
from weakseg.raster.pictures import encode_png
from weakseg.raster.uploads import encode_pixels
from weakseg.training.checkpoints import bands_of, load_checkpoint

EVALUATION: Final = "evaluation"  # name of the report among the model's artefacts
_REQUIREMENTS: Final = (
    *("torch", "torchvision", "numpy", "scipy", "opencv-python-headless", "rasterio", "timm"),
    *("segmentation-models-pytorch", "accelerate", "pydantic", "ruamel.yaml", "typer", "rich", "safetensors"),
)


def save_pyfunc(weights: Path, evaluation: Path, folder: Path) -> None:
    """Write the MLflow model ``folder``: model file, evaluation, our package, signature, input example."""
    import mlflow
    import pandas as pd

    package, example = Path(weakseg.__file__).parent, _example(bands_of(load_checkpoint(weights)))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints on type annotations of predict
        named = Path(shutil.copyfile(evaluation, Path(scratch) / f"{EVALUATION}.json"))
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / "serving" / "registered_model.py"),
            artifacts={"weights": str(weights), EVALUATION: str(named)},
            code_paths=[str(package)],
            signature=_signature(),
            input_example=pd.DataFrame({"file": [base64.b64encode(example).decode()]}),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS],
        )


def _signature() -> Any:
    """Columns, because a request may bring files.

    Both are of any type and checked by the model: MLflow would drop the characters of a file that are not in its base64
    alphabet (and with them bytes of a JPEG, in silence), and would take minutes over pixels.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array

    flags = [ParamSpec(name, DataType.boolean, False) for name in ("confidence", "png")]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "file", required=False), ColSpec(AnyType(), "pixels", required=False)]),
        outputs=Schema(
            [
                ColSpec(AnyType(), "classes"),
                ColSpec(Array(DataType.string), "names"),
                ColSpec(AnyType(), "confidence", required=False),
            ]
        ),
        params=ParamSchema([*flags, *(ParamSpec(name, DataType.string, "") for name in ("bands", "stretch"))]),
    )


def _example(bands: Bands) -> bytes:
    """A file of 48 x 64 px for the input example: three slopes as PNG, or slopes in all bands as GeoTIFF."""
    rows, columns = np.mgrid[:48, :64]
    slopes = [4 * columns, 5 * rows, 2 * (rows + columns)]
    if bands.plain:
        return encode_png(np.stack(slopes, axis=-1).astype(np.uint8))
    layers = [slopes[index % 3] for index in range(len(bands))]
    return encode_pixels(np.stack(layers, axis=-1).astype(bands.dtype), "example", bands)
