"""Finished bands of rows on disk until a raster is whole: each written whole or not at all, so a kill loses none."""

from __future__ import annotations

import glob
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np

from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.core.files import atomic_path, remove_folder
from weakseg.raster.stream import BLOCK, Pixels, Source, open_reader

_LENGTH: Final = np.dtype("<u8")  # of a compressed layer


class Spool:
    """A folder with a journal and one file per band of ``BLOCK`` rows: the lengths of its compressed layers, then they.

    The journal names what the bands belong to; a folder of anything else is thrown away. The folder is locked until
    :meth:`close`; the lock ends with its process, however that ends.

    Attributes:
        bands: of the whole raster.  finished: of them on disk, from the top.

    Raises:
        DataError: another process is at work on the same raster.
    """

    def __init__(self, folder: Path, identity: str, source: Source, *, fresh: bool = False) -> None:
        self.folder, self.source = folder, source
        self.bands = -(-source.height // BLOCK)
        self._lock = _lock(folder.with_suffix(".lock"))
        journal = folder / "journal.json"
        belongs = {"identity": identity, "layers": "apart"}  # a build that kept them together has another journal
        if fresh or not journal.is_file() or json.loads(journal.read_text()) != belongs:
            remove_folder(folder)
            with atomic_path(journal) as temporary:
                temporary.write_text(json.dumps(belongs))
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
                    np.maximum(layers, (~valid).view(np.uint8) * np.uint8(IGNORE), out=layers)
                pieces = [zlib.compress(layer.tobytes(), 1) for layer in layers]
                with atomic_path(self._path(index)) as temporary:
                    temporary.write_bytes(
                        b"".join([np.array([len(piece) for piece in pieces], _LENGTH).tobytes(), *pieces])
                    )

            def write(layers: Pixels) -> None:
                if pending:
                    pending.pop().result()
                pending.append(pool.submit(save, self.finished, layers))
                self.finished += 1

            yield write
            if pending:
                pending.pop().result()

    def read(self, index: int, layers: int, place: slice = slice(None)) -> Pixels:
        """Band ``index`` of ``layers`` layers as uint8 (K, rows, W), those at ``place`` alone."""
        rows = min(BLOCK, self.source.height - index * BLOCK)
        try:
            content = self._path(index).read_bytes()
            lengths = np.frombuffer(content, _LENGTH, layers).astype(int)
            ends = lengths.cumsum() + lengths.size * _LENGTH.itemsize
            chosen = list(zip(ends - lengths, ends, strict=True))[place]
            plain = b"".join(zlib.decompress(content[start:end]) for start, end in chosen)
            return np.frombuffer(plain, np.uint8).reshape(len(chosen), rows, self.source.width)
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(
                f"{self._path(index)} is damaged", expected="a finished band", cure="predict again with --no-resume"
            ) from error

    def remove(self) -> None:
        """Delete the folder, once the raster is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()  # Windows deletes no open file
        Path(self._lock.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let others in; what is on disk stays."""
        self._lock.close()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.z"


def _lock(path: Path) -> IO[str]:
    """Hold an advisory lock on a file until it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        if sys.platform == "win32":  # bundles run there too
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataError(
            f"{path} is locked", expected="one process for one map", cure="wait until the other one ends"
        ) from error
    return file


def remove_leftovers(path: Path) -> None:
    """Delete what killed processes left of writing ``path`` (``files.atomic_path``); call it with the spool locked."""
    for temporary in path.parent.glob(f".*-{glob.escape(path.stem)}.tmp{path.suffix}"):
        temporary.unlink(missing_ok=True)
