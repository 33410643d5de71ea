"""ScoreMaps: what every weak-label method produces, and the only currency between them.

One artefact per area: which classes the area may hold, and their scores at full resolution.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path
from weakseg.core.reading import BROKEN_ZIP

Floats = npt.NDArray[np.floating]
Classes = npt.NDArray[np.intp]
_MOST_PACKED: Final = 1100  # bytes that deflate packs into one, at most 1032


@dataclass(frozen=True)
class ScoreMaps:
    """Class scores of one area: a map per class that it may hold, none for the others.

    Attributes:
        scores: float32 or float16 (P, H, W) in [0, 1], of the present classes in index order; larger means more
            certain; scores of a pixel need not sum to one.
        present: bool (C,), P of them True: where the area may hold the class.
    """

    scores: Floats
    present: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, planes: Floats, present: npt.NDArray[np.bool_] | None = None) -> ScoreMaps:
        """From maps of all classes (C, H, W); ``present``: which to keep, None: those with a score."""
        kept = np.asarray(planes.any((1, 2))) if present is None else present
        return cls(planes if kept.all() else planes[kept], kept)

    @property
    def classes(self) -> Classes:
        """Indices of the present classes, one per map."""
        return np.flatnonzero(self.present)

    def over(self, classes: npt.NDArray[np.integer]) -> Floats:
        """Maps (n, H, W) of the classes named, in their order; zeros for absent ones."""
        if np.array_equal(classes, self.classes):
            return self.scores
        place = np.cumsum(self.present) - 1
        maps = np.zeros((len(classes), *self.scores.shape[1:]), self.scores.dtype)
        here = self.present[classes]
        maps[here] = self.scores[place[classes[here]]]
        return maps

    def dense(self) -> Floats:
        """Maps of all classes (C, H, W)."""
        return self.over(np.arange(len(self.present)))

    def winners(self) -> npt.NDArray[np.intp]:
        """Index (H, W) of the class with the largest score at each pixel; 0 where none has any."""
        if not len(self.scores):
            return np.zeros(self.scores.shape[1:], np.intp)
        return np.where(self.scores.max(0) > 0, self.classes[self.scores.argmax(0)], 0)

    def but_silent(self, silent: npt.NDArray[np.bool_]) -> ScoreMaps:
        """The maps without any score at some pixels, bool (H, W), and without classes that have none left."""
        if not silent.any():
            return self
        scores, present = np.where(silent, 0, self.scores), self.present.copy()
        kept = np.asarray(scores.any((1, 2)))
        present[self.classes[~kept]] = False
        return ScoreMaps(scores[kept], present)


def check_scores(maps: ScoreMaps, name: str) -> ScoreMaps:
    """Return ``maps`` if they are well formed, else raise DataError naming ``name`` and the fault."""
    scores, present = maps.scores, maps.present
    if scores.ndim != 3 or present.ndim != 1 or len(scores) != present.sum():
        raise DataError(
            f"{name}: scores {scores.shape}, {int(present.sum())} of {present.shape} classes present",
            expected="(P, H, W), a map per present class",
            cure="rerun it",
        )
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=0.0))
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1.0 + 1e-3:
        raise DataError(
            f"{name}: scores from {low} to {high}",
            expected="finite values in [0, 1]",
            cure="look for NaN weights in the checkpoint that made them",
        )
    return maps


def save_scores(path: Path, maps: ScoreMaps) -> None:
    """Check, then write ``path`` (.npz, float16, no pickle) in one move: never half a file."""
    check_scores(maps, path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, scores=maps.scores.astype(np.float16), present=maps.present)


def load_scores(path: Path) -> ScoreMaps:
    """Read and check what :func:`save_scores` wrote; scores come back as float32."""
    if not path.is_file():
        raise DataError(f"no scores at {path}", expected="an .npz of ScoreMaps", cure="run the stage that writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            scores, present = (_read_member(archive, f"{name}.npy") for name in ("scores", "present"))
        if scores.dtype.kind != "f" or present.dtype != bool:
            raise ValueError(f"{scores.dtype} and {present.dtype}, not floats and booleans")
        scores, present = scores.astype(np.float32), present.copy()
        maps = ScoreMaps(scores, present)
        if scores.ndim == 3 and present.ndim == 1 and len(scores) == len(present) and not scores[~present].any():
            maps = ScoreMaps.of(scores, present)  # a file of before, with empty maps of absent classes
    except (*BROKEN_ZIP, KeyError, TypeError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(
            f"{path} is unreadable ({error})", expected="an .npz of ScoreMaps", cure="rerun its stage"
        ) from error
    return check_scores(maps, str(path))


def _read_member(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """One array of an .npz; nothing is allocated that its table or its header announces and the bytes do not have."""
    member = archive.getinfo(name)
    if member.file_size > _MOST_PACKED * member.compress_size:
        raise ValueError(f"{name} is announced as {member.file_size} bytes in {member.compress_size}")
    body = archive.read(member)  # to its end, so that its checksum is compared
    stream = io.BytesIO(body)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, by_column, dtype = read_header(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(body) - stream.tell():
        raise ValueError(f"{name} of {dtype} {shape} in {len(body)} bytes")
    values = np.frombuffer(body, dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if by_column else "C")
