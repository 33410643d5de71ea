"""An array of the store that is opened where it is used: 100,000 areas at once, without 100,000 memory maps.

Linux gives a process 65,530 maps. A :class:`StoredArray` knows shape and dtype of its file; the few thousand maps used
last stay open.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

OPEN: Final = 4096  # maps that stay open; each takes a few hundred bytes beside the pages that are in use


class StoredArray(np.lib.mixins.NDArrayOperatorsMixin):
    """A read-only ``.npy`` file that is cut, compared and converted like the array in it.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(self, path: Path) -> None:
        """Reads the header of the file; it must not be replaced by an array of another shape while this is in use."""
        self.path = str(path)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        self.shape: tuple[int, ...] = shape
        self.dtype: np.dtype[Any] = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._map(), dtype=dtype) if copy else np.asarray(self._map(), dtype=dtype)

    def __getitem__(self, here: Any) -> npt.NDArray[Any]:
        return np.asarray(self._map()[here])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, StoredArray) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def _map(self) -> npt.NDArray[Any]:
        stamp = os.stat(self.path)
        return _opened(self.path, (stamp.st_ino, stamp.st_mtime_ns))


@lru_cache(maxsize=OPEN)
def _opened(path: str, stamp: tuple[int, int]) -> npt.NDArray[Any]:
    """``stamp`` tells a file that was written anew from the one before."""
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
