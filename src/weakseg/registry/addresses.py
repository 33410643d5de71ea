"""Addresses of models: a path, or ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION`` in MLflow's registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlparse

from weakseg.core.config import parse_yaml
from weakseg.core.errors import DataError, ParamsError, TrackingError
from weakseg.registry.versions import champion_of
from weakseg.tracking import connect, mlflow_errors, tracking_uri

if TYPE_CHECKING:
    from weakseg.inference.engine import Wanted
    from weakseg.inference.model import Predictor

_ADDRESS: Final = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")


def open_model(
    address: str | Path,
    *,
    root: Path = Path(),
    views: bool = False,
    scales: Sequence[float] = (1.0,),
    engine: Wanted = "auto",
    precision: str | None = None,
) -> Predictor:
    """A trained network, ready for :func:`weakseg.predict`.

    Args:
        address: a model file (``out/checkpoints/<source>/seed0.pt``), anything that ``weakseg export`` wrote, or
            ``models:/NAME@ALIAS`` and ``models:/NAME/VERSION`` in MLflow's registry.
        root: the workspace whose registry an address means.
        views: average the probabilities over the eight flips and quarter turns: eight times the work.
        scales: sides of the windows to average over, as a share of their own, e.g. ``(0.75, 1, 1.25)``.
        engine: what runs the network on a CPU: ``openvino``, ``onnx``, ``torch``, or the best of them for each raster.
        precision: ``float32``, ``bf16``, ``fp16`` or ``auto``; None: what WEAKSEG_PRECISION says.

    Raises:
        WeightsError, ParamsError, TrackingError: no such model, or one that does not load.
    """
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import DIHEDRAL, PLAIN
    from weakseg.training.machine import machine_from_environment

    seen, machine = DIHEDRAL if views else PLAIN, machine_from_environment()
    machine = machine if precision is None else machine.at_precision(precision)
    return load_predictor(find_model(root, str(address)), seen, machine, scales=tuple(scales), engine=engine)


def find_model(root: Path, address: str) -> Path:
    """The file or folder on this machine that an address means, for ``predictors.load_predictor``.

    Args:
        root: the workspace whose registry is asked: MLFLOW_TRACKING_URI, else its own sqlite file.
        address: a path, or the address of a version that ``weakseg promote`` registered. A folder that MLflow has
            downloaded counts as the model in it. A model in a store elsewhere is fetched once and kept in
            ``.weakseg/models``; versions never change.

    Raises:
        ParamsError: an address that starts with ``models:`` and does not go on as it should.
        TrackingError: there is no such version or alias, or the server does not answer.
    """
    if not address.startswith("models:"):
        path = Path(address)
        description = path / "MLmodel"
        return path / _weights_in(description.read_text(), address) if description.is_file() else path
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ParamsError(
            f"model {address}",
            expected="models:/NAME@ALIAS or models:/NAME/VERSION, e.g. models:/weakseg@champion",
            cure="mend the address",
        )
    name, alias, number = found.groups()
    _check_store(root, address)
    if alias is not None:
        held = champion_of(root, name, alias=alias)
        if held is None:
            raise TrackingError(
                f"{name} has no {alias}",
                expected="a version with that alias",
                cure="promote one with `weakseg promote`",
            )
        number = held[0]
    with mlflow_errors(root):
        client = connect(root)
        version = client.get_model_version(name, number)
        folder = _local_folder(version.source)
        if folder is not None:
            return folder / _weights_in((folder / "MLmodel").read_text(), address)
        return _fetch(client, version.run_id, root.resolve() / ".weakseg" / "models" / version.run_id, address)


def _check_store(root: Path, address: str) -> None:
    """Asking an sqlite file that is not there would make an empty one."""
    uri = tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise TrackingError(
            f"no registry {uri} for {address}",
            expected="the workspace in which `weakseg promote` ran, or its tracking server",
            cure="name it with --root, or set MLFLOW_TRACKING_URI",
        )


def _local_folder(source: str) -> Path | None:
    """The registered folder where it lies on this machine, else None."""
    address = urlparse(source)
    folder = Path(unquote(address.path))
    return folder if address.scheme in ("", "file") and (folder / "MLmodel").is_file() else None


def _weights_in(description: str, address: str) -> str:
    """The place of the model file, from the text of MLmodel."""
    try:
        place = PurePosixPath(parse_yaml(description)["flavors"]["python_function"]["artifacts"]["weights"]["path"])
    except (KeyError, TypeError, DataError):
        place = PurePosixPath("/")
    if place.is_absolute() or ".." in place.parts:  # a description from elsewhere must not name a file of this machine
        raise TrackingError(
            f"{address} holds no weights of weakseg",
            expected="a version registered by `weakseg promote`",
            cure="choose another version",
        )
    return str(place)


def _fetch(client: Any, run_id: str, kept: Path, address: str) -> Path:
    """The model file of a store elsewhere, from ``kept`` if it was fetched before."""
    if kept.is_dir():
        return next(kept.iterdir())
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        description = Path(client.download_artifacts(run_id, "model/MLmodel", scratch)).read_text()
        weights = Path(client.download_artifacts(run_id, f"model/{_weights_in(description, address)}", scratch))
        whole = Path(scratch) / "whole"
        whole.mkdir()
        weights.rename(whole / weights.name)
        if not kept.is_dir():
            whole.rename(kept)
    return kept / weights.name
