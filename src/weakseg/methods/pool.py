"""Refinement of windows in worker processes, through shared memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.core.errors import DataError, StageError
from weakseg.data.windows import HaloWindow, cut_area, paste
from weakseg.methods.scores import ScoreMaps

Image = npt.NDArray[np.uint8]
Refine = Callable[[Image, npt.NDArray[np.float32]], npt.NDArray[np.float32]]
Planes = npt.NDArray[np.intp]
Pending = tuple[int, ScoreMaps, HaloWindow, bool, Planes, Future[None]]
"""Slot, target, window, the area's last?, the target's maps that have a score there, the answer."""
PLANES: Final = 16  # classes that a slot has room for: hundreds in a scheme, but few in a window of 512 px


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has under ``taskset`` or in a container bound to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refine_in_processes(
    jobs: Iterable[tuple[Image, ScoreMaps]], refine: Refine, *, side: int, halo: int, workers: int
) -> Iterator[ScoreMaps]:
    """Refine (image, maps) pairs window by window in processes and yield the results, float32, in order.

    ``jobs`` is read as results are taken: memory is that of two windows per worker and the areas that they belong to.

    Args:
        jobs: pairs that fit together.
        refine: picklable; image (h, w, 3) and scores (n, h, w) of a window, of classes that have one there -> scores of
            the same shape. It runs here for a window of more than :data:`PLANES` classes.
        side, halo: px, see :func:`~weakseg.data.windows.cut_area`.

    Raises:
        StageError: a process died. The first error of ``refine`` is raised as it is.
    """
    coming = iter(jobs)
    first = next(coming, None)
    if first is None:
        return
    context = get_context("spawn")
    slots = Slots.allocate(context, 2 * workers, (side + 2 * halo) ** 2, min(PLANES, len(first[1].present)))
    pending: deque[Pending] = deque()  # windows come back in the order they were sent: an area is done with its last
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(slots, refine)) as pool:
        try:
            for number, (target, window, last, image, scores, planes) in enumerate(
                _cut(chain([first], coming), side, halo)
            ):
                if len(pending) == slots.count:
                    yield from _take(pending, slots)
                if not slots.has_room(scores.shape):
                    _paste(target, window, planes, refine(image, scores))
                    scores, planes = scores[:0], planes[:0]
                pixels, values = slots.views(number, scores.shape)
                pixels[:], values[:] = image, scores
                answer = pool.submit(_refine_slot, number, scores.shape)
                pending.append((number, target, window, last, planes, answer))
            while pending:
                yield from _take(pending, slots)
        except BrokenProcessPool as error:
            raise StageError(
                "a CRF worker process died",
                expected="enough memory for all of them, and a program that starts under `if __name__ == '__main__'`",
                cure="use fewer workers or a smaller window",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _cut(
    jobs: Iterable[tuple[Image, ScoreMaps]], side: int, halo: int
) -> Iterator[tuple[ScoreMaps, HaloWindow, bool, Image, npt.NDArray[np.floating], Planes]]:
    for image, maps in jobs:
        target = ScoreMaps(np.zeros(maps.scores.shape, np.float32), maps.present)
        windows = cut_area(image.shape[0], image.shape[1], side, halo)
        for window in windows:
            rows, columns, *_ = window
            part = maps.scores[:, rows, columns]
            planes = np.flatnonzero(part.any((1, 2)))
            yield target, window, window is windows[-1], image[rows, columns], part[planes], planes


def _take(pending: deque[Pending], slots: Slots) -> Iterator[ScoreMaps]:
    number, target, window, last, planes, future = pending.popleft()
    future.result()
    rows, columns, *_ = window
    _paste(target, window, planes, slots.views(number, (len(planes), *target.scores[0:0, rows, columns].shape[1:]))[1])
    if last:
        yield target


def _paste(target: ScoreMaps, window: HaloWindow, planes: Planes, values: npt.NDArray[np.floating]) -> None:
    for plane, refined in zip(planes, values, strict=True):
        paste(target.scores[plane : plane + 1], window, refined[None])


@dataclass(frozen=True)
class Slots:
    """Shared memory in which windows go to worker processes and come back, used in turn.

    A pipe holds 64 KB. Through it a window of some megabytes takes dozens of switches between two processes, and each
    of them waits for a core that another worker keeps busy: a tenth of the time on two cores.

    Attributes:
        memory: bytes, ``count`` slots of ``size``: a file of /dev/shm, or of the temporary folder where that is full.
    """

    memory: Any
    count: int
    size: int

    @classmethod
    def allocate(cls, context: Any, count: int, pixels: int, classes: int) -> Slots:
        """Slots for windows of up to ``pixels`` px and ``classes`` classes, to be handed to workers of ``context``."""
        size = _size(pixels, classes)
        return cls(context.RawArray("B", count * size), count, size)

    def has_room(self, shape: tuple[int, ...]) -> bool:
        """Whether a window with scores of this shape (n, h, w) fits into a slot."""
        classes, height, width = shape
        return _size(height * width, classes) <= self.size

    def views(self, number: int, shape: tuple[int, ...]) -> tuple[Image, npt.NDArray[np.float32]]:
        """Image (h, w, 3) and scores of ``shape`` (C, h, w) in a slot; numbers from 0 on go round.

        Raises:
            DataError: the slot is too small.
        """
        classes, height, width = shape
        if not self.has_room(shape):
            raise DataError(f"scores {shape}", expected="as many classes as the first area has", cure="refine it apart")
        start, values = number % self.count * self.size, classes * height * width
        scores = np.frombuffer(self.memory, np.float32, values, start).reshape(shape)
        pixels = np.frombuffer(self.memory, np.uint8, height * width * 3, start + 4 * values)
        return pixels.reshape(height, width, 3), scores


def _size(pixels: int, classes: int) -> int:
    return pixels * (4 * classes + 4)  # the image has 3 bytes per px; the fourth keeps the next slot aligned


_work: list[tuple[Slots, Refine]] = []  # of a worker process


def _start(slots: Slots, refine: Refine) -> None:
    _work[:] = [(slots, refine)]


def _refine_slot(number: int, shape: tuple[int, ...]) -> None:
    """In a worker: refine the window of a slot in place."""
    slots, refine = _work[0]
    image, scores = slots.views(number, shape)
    if len(scores):
        scores[:] = refine(image, scores)
