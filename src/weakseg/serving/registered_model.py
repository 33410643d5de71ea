"""The model that MLflow's registry keeps, as code: MLflow runs this file when it saves and when it loads the model."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel

COLUMNS = ("file", "pixels")


class Refused(MlflowException):  # type: ignore[misc]
    """A request that its sender can mend: status 4xx and one sentence; MLflow's own answer repeats the data first."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence, error_code=BAD_REQUEST)
        self.sentence, self.status = sentence, status

    def get_http_status_code(self) -> int:
        return self.status

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.sentence})


class RegisteredSegmenter(PythonModel):  # type: ignore[misc]
    """Rows with a ``file`` (GeoTIFF, PNG or JPEG) or ``pixels`` (H x W x 3, 0..255) -> class maps of any H and W.

    A file comes as bytes or in base64, of either alphabet, with or without its padding, or as a data URI.

    A row of the answer has ``classes`` (H x W, indices into ``names``, 255: no data) and, if the parameter
    ``confidence`` is true, ``confidence`` (H x W, probability times 254). With the parameter ``png`` both are grey PNGs
    in base64. The parameter ``bands`` chooses three bands, e.g. "4,1,2", and ``stretch`` says which two values of a
    file with more than 8 bits become 0 and 255, e.g. "0,2047".
    """

    def load_context(self, context: Any) -> None:
        from weakseg.inference.model import load_predictor
        from weakseg.inference.scene import PLAIN
        from weakseg.serving.request_guard import guard_requests
        from weakseg.serving.service import MapService, limits_from_environment
        from weakseg.training.machine import machine_from_environment

        predictor = load_predictor(Path(context.artifacts["weights"]), PLAIN, machine_from_environment())
        self.service = MapService(predictor, limits_from_environment())
        guard_requests(self.service.limits)

    # MLflow reads these type hints: a table leaves the checks to the signature
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        from weakseg.core.errors import WeaksegError
        from weakseg.serving.service import TooLargeError

        try:
            return self._answer(model_input.to_dict("records"), params or {})
        except WeaksegError as error:
            raise Refused(str(error), 413 if isinstance(error, TooLargeError) else 400) from error

    def _answer(self, rows: Sequence[Mapping[Any, Any]], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        from weakseg.core.errors import DataError

        bands, stretch = _numbers(params, "bands", int), _numbers(params, "stretch", float)
        budget, answers = self.service.limits.pixels, []
        if not rows:
            raise DataError("request without images", expected="rows with file or pixels", cure="name the column")
        encode = _base64_png if params.get("png") else _whole_numbers
        for index, row in enumerate(image for given in rows for image in _images(given)):
            column, value = _given(row, index)
            name = f"image {index}"
            if column == "file":
                answer = self.service.answer_file(value, name, bands=bands, stretch=stretch, budget=budget)
            else:
                answer = self.service.answer_pixels(value, name, bands=bands, budget=budget)
            budget -= answer.classes.size
            layers = {"classes": encode(answer.classes), "names": list(self.service.predictor.scheme.names)}
            answers.append(layers | ({"confidence": encode(answer.confidence)} if params.get("confidence") else {}))
        return answers


def _images(row: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """One row per image: the form {"inputs": {"file": [a, b]}} arrives as one row with a list."""
    files = row.get("file")
    return [{**row, "file": file} for file in files] if isinstance(files, list) and files else [row]


def _given(row: Mapping[Any, Any], index: int) -> tuple[str, Any]:
    from weakseg.core.errors import DataError

    empty = (type(None), float)  # pandas fills gaps with NaN
    given = [(name, row[name]) for name in COLUMNS if not isinstance(row.get(name), empty)]
    if len(given) == 1 and given[0][0] == "file":
        return "file", _bytes(given[0][1], index)
    if len(given) != 1:
        raise DataError(
            f"row {index} with {' and '.join(name for name, _ in given) or 'neither file nor pixels'}",
            expected="a file or pixels",
            cure="send one of the two columns",
        )
    return given[0]


def _bytes(value: Any, index: int) -> bytes:
    """The bytes of a file, or its base64 (a data URI too)."""
    from weakseg.raster.uploads import decode_file

    return decode_file(value, f"image {index}")


def _numbers(params: Mapping[str, Any], name: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """The numbers of a parameter such as "4,1,2"; none where it is empty."""
    from weakseg.core.errors import ParamsError

    text = params.get(name, "")
    try:
        return tuple(kind(part) for part in text.split(",") if text)
    except ValueError as error:
        raise ParamsError(f"{name} {text!r}", expected="numbers and commas", cure="write for instance 4,1,2") from error


def _base64_png(layer: Any) -> str:
    from weakseg.raster.pictures import encode_png

    return base64.b64encode(encode_png(layer)).decode()


def _whole_numbers(layer: Any) -> list[list[int]]:
    numbers: list[list[int]] = layer.tolist()
    return numbers


set_model(RegisteredSegmenter())
