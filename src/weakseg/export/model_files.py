"""Models for other programs: ONNX, TorchScript, and a folder that needs nothing of this project.

All three take normalised images (B, 3, H, W) float32 of any batch and size, named ``image``, and give ``probabilities``
(B, C, H, W). Every export is run and compared with the network it came from before it takes its name. The single files
carry classes and preprocessing as JSON, the text of the bundle's two files together, under the key ``SETTINGS``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from weakseg.core.bands import parse_bands
from weakseg.core.classes import ClassScheme
from weakseg.core.errors import DataError, ParamsError, WeightsError
from weakseg.core.files import atomic_path
from weakseg.core.import_graph import Package, reach
from weakseg.inference.engine import session_plain
from weakseg.inference.model import SETTINGS
from weakseg.inference.onnx_file import open_session
from weakseg.inference.precision import KEY, Held
from weakseg.networks.applicability import read_applicability
from weakseg.networks.portable import TRACED, ExportNet, quiet, write_onnx
from weakseg.raster.formats import DRIVERS
from weakseg.training.checkpoints import scheme_of

Written = TypeVar("Written")

PARITY: Final = 1e-4  # largest difference of a probability that counts as the same network
_CHECKED: Final = ((1, 64, 64), (3, 33, 129), (1, 5, 7))
_REQUIREMENTS: Final = "numpy>=2.2\nonnxruntime>=1.22\nopencv-python-headless>=4.11\nrasterio>=1.4.3\nscipy>=1.15\n"
_PACKAGE: Final = Path(__file__).parents[1]
_PROGRAM: Final = "weakseg.export.bundled"
_SCRIPT: Final = f'''"""Land-cover maps by the model beside this script; `python predict.py --help` says how."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "modules"))  # copies of weakseg's modules, before any weakseg that is installed

from {_PROGRAM} import main  # noqa: E402

if __name__ == "__main__":
    main(HERE)
'''


def export_onnx(model_file: Path, target: Path, *, applicability: bool = False, held: Held | None = None) -> float:
    """Write one ``.onnx`` file; returns the largest difference of a probability from torch's.

    ``applicability``: with a second output ``dissimilarity``, above 1 where nothing like it was seen. ``held``: what
    bf16 costs the model, which the file then says, as it does where the model file says it.

    Raises:
        WeightsError: the exported network differs by more than 1e-4.
        ParamsError: the extra ``export`` is not installed, or the model has no ``applicability``.
    """
    network, scheme, content = open_network(model_file, applicability, held)
    with atomic_path(target) as temporary:
        write_onnx(network, temporary)
        add_properties(temporary, {SETTINGS: settings_text(scheme, content)})
        return check_parity(target, network, session_plain(open_session(temporary, 0)))


def export_torchscript(model_file: Path, target: Path, *, applicability: bool = False) -> float:
    """Write one TorchScript file, traced; returns the largest difference of a probability, as :func:`export_onnx`."""
    network, scheme, content = open_network(model_file, applicability)
    extra = {SETTINGS: settings_text(scheme, content)}
    with atomic_path(target) as temporary, quiet(), torch.no_grad():
        traced = torch.jit.trace(network, network.zeros(*TRACED), check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(temporary), _extra_files=extra)
        return check_parity(target, network, torch.jit.load(str(temporary)))  # type: ignore[no-untyped-call]


@overload
def export_bundle(
    model_file: Path, target: Path, *, applicability: bool = False, held: Held | None = None
) -> float: ...
@overload
def export_bundle(model_file: Path, target: Path, *, write: Callable[[Path, Path], Written]) -> Written: ...
def export_bundle(
    model_file: Path,
    target: Path,
    *,
    write: Callable[[Path, Path], Any] | None = None,
    applicability: bool = False,
    held: Held | None = None,
) -> Any:
    """Write a folder with the model, its classes and preprocessing, a script, requirements and INSTRUCTIONS.md.

    The folder needs neither weakseg nor torch: ``modules`` holds copies of what the script reaches of this package, in
    a folder of their own so that ``import weakseg`` beside the script does not find them. A folder that is there is
    replaced if it is a bundle, else refused. ``write`` makes its ``model.onnx``, and what it says is returned.
    """
    _, scheme, content = open_network(model_file, applicability, None if write else held)
    content |= {KEY: []} if write else {}  # another network than the model file's
    write = write or partial(export_onnx, applicability=applicability)
    if target.exists() and not (target / "model.onnx").is_file() and (target.is_file() or any(target.iterdir())):
        raise DataError(f"{target} is no bundle", expected="a new or empty folder", cure="choose another name")
    building = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        said = write(model_file, building / "model.onnx")
        for name, text in _texts(scheme, content).items():
            (building / name).write_text(text)
        copy_modules(building / "modules")
        shutil.rmtree(target, ignore_errors=True)
        building.replace(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return said


def copy_modules(target: Path) -> None:
    """Copy the modules that a bundle's program reaches, by their imports, into a folder, as they are."""
    package = Package(_PACKAGE)
    for name in reach(package, _PROGRAM):
        copy = target / package.files[name].relative_to(_PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package.files[name], copy)


def open_network(
    model_file: Path, applicability: bool = False, held: Held | None = None
) -> tuple[ExportNet, ClassScheme, dict[str, Any]]:
    """The network of a model file as it is exported, its classes, and what else a user of it must know."""
    from weakseg.training.segmenter import load_segmenter

    model, content = load_segmenter(model_file)
    settings: dict[str, Any] = {**model.preprocessing.numbers(), "scale": content["scale"], "gsd": content.get("gsd")}
    settings |= {"bands": content["bands"]} if "bands" in content else {}
    settings |= {"temperatures": content.get("temperatures"), "applicable": applicability}
    settings |= held.entries() if held else {key: content[key] for key in (KEY,) if key in content}
    known = read_applicability(content.get("applicability")) if applicability else None
    if applicability and known is None:
        raise ParamsError(
            f"{model_file} does not know what it was trained on",
            expected="a model of a weakseg from 2026-11-28 on",
            cure="train it again, or export without --applicability",
        )
    return ExportNet(model, known).eval(), scheme_of(content), settings


def check_parity(
    target: Path,
    network: ExportNet,
    exported: Callable[[Tensor], Tensor | Sequence[Tensor]],
    shapes: Sequence[tuple[int, int, int]] = _CHECKED,
) -> float:
    """The largest difference between the outputs of a network and of its export, on random images of some sizes.

    Raises:
        WeightsError: it is above 1e-4, or the shapes differ; ``target`` is for the error.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.no_grad():
        for count, *size in shapes:
            images = torch.randn((count, network.channels, *size), generator=generator)
            for expected, found in zip(_outputs(network(images)), _outputs(exported(images)), strict=True):
                if found.shape != expected.shape:
                    return _differs(target, float("inf"))
                worst = max(worst, float((found - expected).abs().max()))
    return worst if worst <= PARITY else _differs(target, worst)


def _outputs(found: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _differs(target: Path, worst: float) -> NoReturn:
    raise WeightsError(
        f"{target}: probabilities differ by {worst:.2g} from torch's",
        expected=f"<= {PARITY}",
        cure="report this fault",
    )


def settings_text(scheme: ClassScheme, settings: dict[str, Any]) -> str:
    """Classes and preprocessing as JSON, as :mod:`weakseg.inference.model` reads them."""
    return json.dumps({**settings, **scheme.by_index().to_table()})


def add_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Store metadata in an ONNX file; the settings are where ``predictors`` look for them."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(properties))
    onnx.save(model, path)


def _texts(scheme: ClassScheme, settings: dict[str, Any]) -> dict[str, str]:
    """The small files of a bundle."""
    formula = "(value / 255 - mean) / std per band, after resampling by scale"
    return {
        "classes.json": json.dumps(scheme.by_index().to_table(), indent=1) + "\n",
        "preprocessing.json": json.dumps({**settings, "formula": formula}, indent=1) + "\n",
        "requirements.txt": _REQUIREMENTS,
        "predict.py": _SCRIPT,
        "INSTRUCTIONS.md": _instructions(scheme, settings),
    }


def _instructions(scheme: ClassScheme, settings: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {index} | {name} | {', '.join(map(str, colour))} |"
        for index, (name, colour) in enumerate(zip(scheme.names, scheme.colours, strict=True))
    )
    known = f"{settings['gsd']} m per px" if settings["gsd"] else "not recorded"
    return f"""# Land-cover model

Python 3.11 or newer.

    python -m venv env
    env/bin/pip install -r requirements.txt
    env/bin/python predict.py IN.tif OUT.tif

{_input_words(settings)} OUT is a GeoTIFF of class indices on the grid of IN (CRS, transform, control points), tiled and
compressed, with a colour table and class names; 255 is no data, and is there wherever IN has none.

Ground sampling distance of the training rasters: {known}. `--gsd` says what to do with a raster at another one:
`auto` resamples where both are known, `resample` and `refuse` stop where one is not, `ignore` takes IN as it is. The
map is always on the grid of IN.

The script is `weakseg predict` for this one model: `modules` holds copies of weakseg's own files. It takes what that
takes, so a folder or a quoted pattern as IN (OUT is then a folder), `--mosaic`, files beside the map such as
`--confidence`; `python predict.py --help` names all.

Rasters of any size: IN is read window by window, OUT written row by row. The script holds one row of windows, about
{4 * (len(scheme) + 1)} x window bytes per px of width, beside the network's own memory. A smaller `--window` or
`--batch` takes less, `--threads` bounds the cores, `--overlap` trades speed for smoother joins. With a damaged IN, or
without room, it ends with one sentence, exit code 1 and no OUT. What is finished waits in `.OUT.part` beside OUT, and
the same command goes on from there.

| value | class | colour (R, G, B) |
|---|---|---|
{rows}

`model.onnx` takes `image`, float32 (batch, {len(settings["mean"])}, height, width) of any size, {_formula(settings)},
and gives `probabilities`, float32 (batch, {len(scheme)}, height, width).
"""


def _input_words(settings: dict[str, Any]) -> str:
    if "bands" not in settings or parse_bands(settings["bands"], "the model file").plain:
        return f"""IN is a raster ({", ".join(DRIVERS)})
with the three bands of the training images in their order; where it has more, name three: `--bands 4,1,2`, or by
name, `--bands nir=4,red=1,green=2`. Other than 8 bits per band: `--stretch LOW,HIGH`, the values of black and white,
chosen as for the training images."""
    bands = parse_bands(settings["bands"], "the model file")
    wanted = ", ".join(f"{band.name} ({band.dtype})" for band in bands.members)
    lacking = ", ".join(band.name for band in bands.members if band.drop)
    may = f"\n{lacking} may be missing; heights may lie in a raster of their own, `--heights`." if lacking else ""
    named = ",".join(f"{band.name}={number}" for number, band in enumerate(bands.members, 1))
    return f"""IN is a raster ({", ".join(DRIVERS)})
with the bands of the training images, by their descriptions, else in their order: {wanted}.
Else name them: `--bands {named}`, or their numbers in that order.{may}"""


def _formula(settings: dict[str, Any]) -> str:
    """How pixels become the network's input, in words."""
    resized = "" if settings["scale"] == 1 else f"resampled by {settings['scale']}, then "
    mean, std = (np.round(settings[key], 4).tolist() for key in ("mean", "std"))
    return f"{resized}(value / 255 - {mean}) / {std} per band"
