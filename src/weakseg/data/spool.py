"""Finished bands of rows on disk until a raster is whole: each written whole or not at all, so a kill loses none."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from weakseg.classes import IGNORE
from weakseg.data.files import atomic_path
from weakseg.data.streaming import BLOCK, Pixels, Source, open_reader
from weakseg.errors import DataError


class Spool:
    """A folder with a journal and one compressed file per band of ``BLOCK`` rows.

    The journal names what the bands belong to; a folder of anything else is thrown away.

    Attributes:
        bands: of the whole raster.  finished: of them on disk, from the top.
    """

    def __init__(self, folder: Path, identity: str, source: Source, *, fresh: bool = False) -> None:
        self.folder, self.source = folder, source
        self.bands = -(-source.height // BLOCK)
        journal = folder / "journal.json"
        if fresh or not journal.is_file() or json.loads(journal.read_text()) != {"identity": identity}:
            shutil.rmtree(folder, ignore_errors=True)
            with atomic_path(journal) as temporary:
                temporary.write_text(json.dumps({"identity": identity}))
        self.finished = next((i for i in range(self.bands) if not self._path(i).is_file()), self.bands)

    @contextmanager
    def writing(self) -> Iterator[Callable[[Pixels], None]]:
        """A function that takes the next band, uint8 (K, rows, W), and writes it in a thread of its own.

        Pixels without data become 255 in all K layers. At most one band waits; an error is raised at the next call, or
        at the end of the block.
        """
        pending: list[Future[None]] = []
        with open_reader(self.source) as reader, ThreadPoolExecutor(1) as pool:

            def save(index: int, layers: Pixels) -> None:
                rows = layers.shape[1]
                valid = reader.valid((index * BLOCK, 0, rows, self.source.width))
                if valid is not None:
                    layers[:, ~valid] = IGNORE
                with atomic_path(self._path(index)) as temporary:
                    temporary.write_bytes(zlib.compress(layers.tobytes(), 1))

            def write(layers: Pixels) -> None:
                if pending:
                    pending.pop().result()
                pending.append(pool.submit(save, self.finished, layers))
                self.finished += 1

            yield write
            if pending:
                pending.pop().result()

    def read(self, index: int, layers: int) -> Pixels:
        """Band ``index`` as uint8 (layers, rows, W)."""
        rows = min(BLOCK, self.source.height - index * BLOCK)
        shape = (layers, rows, self.source.width)
        try:
            return np.frombuffer(zlib.decompress(self._path(index).read_bytes()), np.uint8).reshape(shape)
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(
                f"{self._path(index)} is damaged", expected="a finished band", cure="predict again with --no-resume"
            ) from error

    def remove(self) -> None:
        """Delete the folder, once the raster is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.z"
