"""Pictures: rows and sheets of panels with captions, drawn with OpenCV alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from weakseg.core.classes import ClassScheme
from weakseg.core.files import atomic_path
from weakseg.report.many_classes import MANY

Picture = npt.NDArray[np.uint8]
GAP, CAPTION, SIDE = 6, 22, 420  # px
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 70, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def heat(scores: npt.NDArray[np.floating]) -> Picture:
    """One score map (H, W) in [0, 1] -> RGB (H, W, 3), viridis."""
    scaled = (np.clip(scores, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)


def shrink(scores: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.floating]:
    """A map (H, W) whose longer side is above ``side``, averaged down to it; a smaller one as it is."""
    scale = side / max(scores.shape)
    if scale >= 1:
        return scores
    size = (max(1, round(scores.shape[1] * scale)), max(1, round(scores.shape[0] * scale)))
    return np.asarray(cv2.resize(scores.astype(np.float32), size, interpolation=cv2.INTER_AREA))


def legend(scheme: ClassScheme, height: int) -> Picture:
    """Class names beside their colours, and that of unlabelled pixels: (height, 200, 3), or as high as it needs."""
    rows = [*zip(scheme.names, scheme.colours, strict=True), ("unlabelled", scheme.ignored_colour)]
    canvas = np.full((max(height, 20 * len(rows) + 8), 200, 3), 255, np.uint8)
    for index, (name, colour) in enumerate(rows):
        top = 6 + 20 * index
        cv2.rectangle(canvas, (6, top), (22, top + 14), colour, -1)
        cv2.rectangle(canvas, (6, top), (22, top + 14), (0, 0, 0), 1)
        cv2.putText(canvas, name, (30, top + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def draw_row(path: Path, panels: Sequence[tuple[str, Picture]]) -> Path:
    """Write captioned RGB panels side by side as a PNG; returns the path."""
    return draw_sheet(path, [panels])


def draw_sheet(path: Path, rows: Sequence[Sequence[tuple[str, Picture]]], *, side: int = SIDE) -> Path:
    """Write rows of captioned RGB panels, each scaled to a longer side of ``side`` px; returns the path.

    The suffix says how: ``.png``, or ``.jpg``, a tenth of the size (colours at full resolution, quality 70).
    """
    lines = [_line(panels, side) for panels in rows]
    width = max(line.shape[1] for line in lines)
    sheet = np.concatenate([_pad_right(line, width) for line in lines])
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1], JPEG if path.suffix == ".jpg" else ())
    return path


def _line(panels: Sequence[tuple[str, Picture]], side: int) -> Picture:
    parts = []
    for caption, picture in panels:
        scale = side / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        how = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
        panel = np.full((side + CAPTION, size[0] + GAP, 3), 255, np.uint8)
        panel[CAPTION : CAPTION + size[1], : size[0]] = cv2.resize(picture, size, interpolation=how)
        cv2.putText(panel, caption, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (0, 0, 0), 1, cv2.LINE_AA)
        parts.append(panel)
    return np.concatenate(parts, axis=1)


def _pad_right(line: Picture, width: int) -> Picture:
    return np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255)


def draw_confusion(path: Path, confusion: npt.NDArray[np.integer], names: Sequence[str]) -> Path:
    """Write a confusion matrix (C, C), rows truth, as a PNG: shares of each row as colour and in percent.

    Of more than :data:`MANY` classes it is colours alone, at the same size.
    """
    count, left, top = len(names), 170, 34
    cell = 74 if count <= MANY else max(2, MANY * 74 // count)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    canvas = np.full((top + count * cell, left + count * cell, 3), 255, np.uint8)
    canvas[top:, left:] = np.kron(heat(shares), np.ones((cell, cell, 1), np.uint8))
    names = names if count <= MANY else ()  # no room for words
    for row, name in enumerate(names):
        _write(canvas, name, (4, top + row * cell + cell // 2), (0, 0, 0))
        _write(canvas, name[:9], (left + row * cell + 4, 20), (0, 0, 0))
        for column in range(count):
            shade = (0, 0, 0) if shares[row, column] > 0.6 else (255, 255, 255)
            place = (left + column * cell + 18, top + row * cell + cell // 2)
            _write(canvas, f"{100 * shares[row, column]:.0f} %", place, shade)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), canvas[..., ::-1])
    return path


def _write(canvas: Picture, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
