"""Who is asked about every crop: task (i) and its students as they stand in out/checkpoints, and experts' ScoreMaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np

from weakseg.core.classes import ClassScheme
from weakseg.core.errors import ParamsError, StageError
from weakseg.core.layout import Layout
from weakseg.core.methods import ENTRIES, ORACLE
from weakseg.core.params import Params
from weakseg.evaluation.reports import order_among
from weakseg.labels.tags import Window
from weakseg.methods.scores import load_scores
from weakseg.studies.acquisition.change import Floats
from weakseg.studies.acquisition.looks import Grid, Image, Maps, Predict, encode_image
from weakseg.tagging.guesses import predict_with, seen_by
from weakseg.training.machine import Machine

_TINY: Final = 1e-6


class Committee(NamedTuple):
    """Who is asked: ``names`` for people, ``members``, and the encoder of the most advanced network."""

    names: tuple[str, ...]
    members: tuple[Predict, ...]
    encode: Callable[[str, Image], tuple[Grid, Floats]]


def find_networks(layout: Layout, params: Params, sources: Sequence[str]) -> list[Path]:
    """Model files of the committee, those of task (i) first, the most advanced last; a file per seed.

    Args:
        sources: of which sources; without it those of params.yaml, without the oracle.

    Raises:
        ParamsError: the oracle, which saw the truth, or no such source.
        StageError: no network is there.
    """
    strays = [source for source in sources if source == ORACLE or source not in ENTRIES]
    if strays:
        raise ParamsError(
            f"--sources {', '.join(strays)}",
            expected=f"some of {', '.join(source for source in ENTRIES if source != ORACLE)}",
            cure="name others; the oracle saw the truth of what is to be labelled",
        )
    chosen = [source for source in ENTRIES if source in (sources or params.sources) and source != ORACLE]
    files = [layout.checkpoints(source) / f"seed{seed}.pt" for source in chosen for seed in params.segment.seeds]
    found = [file for file in files if file.is_file()]
    if not found:
        raise StageError(
            f"no network of {', '.join(chosen) or 'any source'} in {layout.out / 'checkpoints'}",
            expected="trained networks, which know where they are unsure",
            cure="run `dvc repro`; before the first training tag what `weakseg tag` serves",
        )
    return found


def gather_committee(
    layout: Layout, params: Params, scheme: ClassScheme, files: Sequence[Path], machine: Machine
) -> Committee:
    """Open the networks, and the experts of the section ``fused`` whose scores are there."""
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import PLAIN

    members = []
    for file in files:
        predictor = load_predictor(file, PLAIN, machine)
        order = order_among(predictor.scheme.names, scheme.names, str(file))
        members.append(_network(predict_with(predictor, layout.images, machine), order))
    experts = [name for name in params.fused.experts if layout.scores(name).is_dir()]
    members += [_expert(layout.scores(name), params.tiles.scale, len(scheme)) for name in experts]
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    return Committee((*names, *experts), tuple(members), _encoder(layout, files[-1], machine))


def _network(say: Callable[[str, Image], Maps], order: Sequence[int]) -> Predict:
    return lambda area, _window, image: say(area, image)[list(order)]


def _encoder(layout: Layout, file: Path, machine: Machine) -> Callable[[str, Image], tuple[Grid, Floats]]:
    from weakseg.inference.model import load_predictor
    from weakseg.inference.scene import PLAIN
    from weakseg.raster.resample import resize_image
    from weakseg.training.segmenter import load_segmenter

    predictor, model = load_predictor(file, PLAIN, machine), load_segmenter(file)[0].to(machine.torch_device())

    see = seen_by(predictor, layout.images)

    def encode(area: str, image: Image) -> tuple[Grid, Floats]:
        image, scale = see(area, image)
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        seen = image if scale == 1 else resize_image(image, size, how)
        grid, weights = encode_image(model, seen, machine)
        return Grid(grid.features, grid.cell / scale), weights

    return encode


def _expert(folder: Path, scale: float, classes: int) -> Predict:
    """What ScoreMaps say, as probabilities; NaN where they say nothing: other areas, classes of no score.

    Most experts are silent where there is no tag, and where there is one nobody asks them.
    """

    @lru_cache(1)
    def scores_of(area: str) -> Maps:
        return np.asarray(load_scores(folder / f"{area}.npz").dense(), np.float32)

    def predict(area: str, window: Window, image: Image) -> Maps:
        height, width = image.shape[:2]
        row, column = round(window[0] * scale), round(window[1] * scale)
        bottom, right = round((window[0] + height) * scale), round((window[1] + width) * scale)
        if not (folder / f"{area}.npz").is_file():
            return np.full((classes, height, width), np.nan, np.float32)
        part = scores_of(area)[:, row : max(bottom, row + 1), column : max(right, column + 1)]
        total = part.sum(0)
        shares = np.where(total > _TINY, part / np.maximum(total, _TINY), np.nan)
        return np.stack([cv2.resize(layer, (width, height), interpolation=cv2.INTER_NEAREST) for layer in shares])

    return predict
