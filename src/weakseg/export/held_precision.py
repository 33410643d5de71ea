"""What bf16 costs a model on the hold-out blocks of N1, so that `auto` may take it on other machines.

Measured where it can run: OpenVINO and a processor that multiplies bf16. No stage does this, since what stages write
must not depend on the processor; it comes with what leaves the workspace, `weakseg export` and `weakseg promote`.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from weakseg.core.errors import DataError, StageError, WeaksegError
from weakseg.data.store import open_array
from weakseg.evaluation.holdout import held_parts
from weakseg.export.own_data import check_own
from weakseg.export.quantise import holdout_miou
from weakseg.inference.model import load_predictor
from weakseg.inference.precision import Held, has_native_bf16
from weakseg.inference.scene import PLAIN
from weakseg.raster.stream import Pixels
from weakseg.training.checkpoints import load_checkpoint, save_checkpoint
from weakseg.training.machine import Machine

CHOOSING: Final = "choosing"  # folder beside a model file with the network that never saw the hold-out
_SIDE: Final = 256  # px of the images that OpenVINO is compared with torch on before it is asked


def measure_bf16(model_file: Path, tiles: Path) -> tuple[Held | None, str]:
    """mIoU on the hold-out in bf16 under OpenVINO and in float32; of two networks the one that loses more.

    A network that is reported has trained on all of N1, hold-out included; where the one that never saw it lies beside
    it, that one is measured too.

    Args:
        model_file: a checkpoint of the workspace.
        tiles: output of the tiles stage.

    Returns:
        What was found, or None, and in words what was found or why nothing was.
    """
    if not has_native_bf16():
        return None, "bf16 is not measured: this processor has none"
    if find_spec("openvino") is None:
        return None, "bf16 is not measured: it wants weakseg[openvino]"
    unseen = model_file.parent / CHOOSING / model_file.name
    files = [file for file in (model_file, unseen) if file.is_file()]
    try:
        found = [_measure(file, tiles) for file in files]
    except WeaksegError as error:
        return None, f"bf16 is not measured: {error}"
    worst = min(found, key=lambda held: held.after - held.before)
    return worst, f"{worst}, {'' if worst.allowed else 'not '}taken by --precision auto"


def _measure(model_file: Path, tiles: Path) -> Held:
    check_own(model_file, tiles)
    machine = Machine(device="cpu", precision="no", quiet=True)
    plain = load_predictor(model_file, PLAIN, machine, engine="torch")
    quick = load_predictor(model_file, PLAIN, machine.at_precision("bf16"), engine="openvino")
    assert quick.settle is not None
    quick.settle(0, lambda: _some_image(tiles), False)
    scores = [holdout_miou(predictor, tiles, machine) for predictor in (plain, quick)]
    return Held("openvino", "bf16", version("openvino"), *scores)


def _some_image(tiles: Path) -> Pixels:
    """The beginning of the first hold-out block, (1, K, h, w)."""
    area, part, _ = next(held_parts(tiles))
    image = np.array(open_array(tiles / "images", area)[:_SIDE, part][:, :_SIDE])
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def export_measured(model_file: Path, target: Path, *, tiles: Path) -> Held:
    """Write a copy of a model file that says what bf16 costs it.

    Raises:
        StageError: that cannot be measured here; nothing is written.
        DataError: the copy would be the file itself, which belongs to a stage.
    """
    if target.resolve() == model_file.resolve():
        raise DataError(f"{target} is the model itself", expected="another file", cure="choose another name")
    held, said = measure_bf16(model_file, tiles)
    if held is None:
        raise StageError(
            said, expected="a hold-out, OpenVINO and a processor with bf16", cure="export on such a machine"
        )
    add_held(model_file, target, held)
    return held


def add_held(model_file: Path, target: Path, held: Held) -> Path:
    """Write a copy of a model file that says ``held``; returns its path."""
    save_checkpoint(target, {**load_checkpoint(model_file), **held.entries()})
    return target
