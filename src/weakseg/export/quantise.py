"""Models in 8-bit integers for CPUs: ONNX by static quantisation, calibrated on N1, checked on its hold-out.

onnxruntime's quantiser left to itself also rounds the arithmetic on shapes that makes a graph take any size: paddings
move by a pixel or more, and mIoU falls by up to 1.5 points. So only nodes through which pixels flow are quantised.

Weights take seven bits. Processors with AVX2 and no VNNI add two products in 16 bits, where full weights overflow: the
same file lost 2 to 5 points there that lost .3 to .5 elsewhere (docs/decisions.md).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weakseg.core.classes import IGNORE
from weakseg.core.errors import ParamsError, StageError, WeightsError
from weakseg.core.files import atomic_path
from weakseg.data.crops.augment import Preprocessing, normalise
from weakseg.data.store import list_areas, open_array
from weakseg.evaluation.holdout import held_blocks, score_holdout
from weakseg.export.model_files import add_properties, export_onnx
from weakseg.export.own_data import check_own
from weakseg.inference.model import Predictor, load_predictor
from weakseg.inference.scene import PLAIN, sweep_windows
from weakseg.training.machine import Machine
from weakseg.training.segmenter import load_segmenter

ALLOWED: Final = 0.005  # of mIoU, that int8 may lose on the hold-out
_CROPS: Final = 32
_SIDE: Final = 256  # px of the calibration crops
_KINDS: Final = frozenset(("Conv", "Clip", "Relu", "Add", "Concat", "Resize", "Pad", "Slice", "MaxPool"))


@dataclass(frozen=True)
class Quantised:
    """mIoU on the hold-out blocks of N1, before and after."""

    before: float
    after: float


def export_int8(model_file: Path, target: Path, *, tiles: Path) -> Quantised:
    """Write an ``.onnx`` file whose convolutions multiply 8-bit integers (QDQ, weights per channel).

    Args:
        target: a name that ends in ``.onnx``.
        tiles: output of the tiles stage; 32 crops of the N1 areas beside the hold-out set the activation ranges.

    Raises:
        WeightsError: the hold-out's mIoU falls by more than 0.5 points; nothing is written.
        StageError: there is no hold-out to check on.
        DataError: there are no tiles, or the model was not trained on them.
        ParamsError: the extra ``export`` is not installed.
    """
    areas = list_areas(tiles, "pixel")
    if not held_blocks(tiles):
        raise StageError(
            f"no hold-out in {tiles}",
            expected="tiles.holdout above 0, to check int8 on",
            cure="export without --int8",
        )
    check_own(model_file, tiles)
    machine = Machine(device="cpu", precision="no", quiet=True)
    with tempfile.TemporaryDirectory() as folder, atomic_path(target) as temporary:
        plain = Path(folder) / "plain.onnx"
        export_onnx(model_file, plain)
        _quantise(plain, temporary, _crops(tiles, areas, load_segmenter(model_file)[0].preprocessing))
        before, after = (
            holdout_miou(load_predictor(path, PLAIN, machine), tiles, machine) for path in (plain, temporary)
        )
        if not after >= before - ALLOWED:
            raise WeightsError(
                f"int8: mIoU of the hold-out falls from {before:.4f} to {after:.4f}",
                expected=f"at most {ALLOWED} less",
                cure="export without --int8",
            )
    return Quantised(before, after)


def _quantise(source: Path, target: Path, crops: Iterator[dict[str, Any]]) -> None:
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ParamsError("no onnxruntime", expected="the extra export", cure="install weakseg[export]") from error

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(crops, None)

    prepared = source.with_name("prepared.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_quantize=pixel_nodes(onnx.load(prepared).graph),
        )
    add_properties(target, properties)


def pixel_nodes(graph: Any) -> list[str]:
    """Names of the nodes of an ONNX graph to quantise: those that pixels flow through, but the first and last Conv.

    The first sees the image and the last gives the logits, where 8 bits cost most and save least.
    """
    reached: set[str] = set()
    found, convolutions = [], [node.name for node in graph.node if node.op_type == "Conv"]
    for node in graph.node:  # in an order in which inputs come first
        if node.op_type != "Conv" and (node.op_type == "Shape" or reached.isdisjoint(node.input)):
            continue
        reached.add(node.output[0])  # a second one is indices of a max-pooling
        if node.op_type in _KINDS and len(node.output) == 1 and node.name not in (convolutions[0], convolutions[-1]):
            found.append(node.name)
    return found


def _crops(tiles: Path, areas: list[str], preprocessing: Preprocessing) -> Iterator[dict[str, Any]]:
    """Normalised crops of the N1 areas in turn, at random places, as the input of an exported network."""
    rng = np.random.default_rng(0)
    areas = [name for name in areas if _first_held(tiles, name) != 0]  # an image may be held out whole
    for index in range(_CROPS):
        name = areas[index % len(areas)]
        image = open_array(tiles / "images", name)[:, : _first_held(tiles, name)]
        row, column = (int(rng.integers(0, max(1, length - _SIDE + 1))) for length in image.shape[:2])
        crop = np.array(image[row : row + _SIDE, column : column + _SIDE])
        yield {"image": normalise(torch.from_numpy(crop).permute(2, 0, 1)[None], preprocessing).numpy()}


def holdout_miou(predictor: Predictor, tiles: Path, machine: Machine) -> float:
    """mIoU of a predictor, pooled over the hold-out blocks of N1."""

    def winners(area: str, part: slice) -> npt.NDArray[np.integer]:
        image = np.array(open_array(tiles / "images", area)[:, part])
        maps = sweep_windows(predictor.forward, image, window=512, overlap=0.25, batch=4, machine=machine)
        return np.asarray(maps.argmax(0))

    return score_holdout(tiles, predictor.scheme.names, winners)["miou"]


def _first_held(tiles: Path, name: str) -> int | None:
    """Where the hold-out block of an N1 area begins, which reaches to its right border; None without one."""
    columns = np.flatnonzero((open_array(tiles / "holdout", name) != IGNORE).any(0))
    return int(columns[0]) if len(columns) else None
