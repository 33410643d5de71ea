"""One class of a data set against the rest: the same images, masks of two classes, for tags that say yes or no.

    python scripts/one_class.py WORKSPACE CLASS NEW [--rest rest]

reads data/ of WORKSPACE (images, labels, classes.yaml) and writes data/ of NEW: its images are a link, in its masks
every other class is the background ``rest`` (docs/data.md, "One class against the rest"); what is ignored stays so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio

from weakseg.core.classes import IGNORE, ClassScheme, Mask, load_classes
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout
from weakseg.raster.header import quiet
from weakseg.raster.open import read_mask


def main() -> None:
    """Write the new workspace's data/ and say what share of the pixels the class has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("name", metavar="CLASS")
    parser.add_argument("new", type=Path)
    parser.add_argument("--rest", default="rest")
    options = parser.parse_args()
    old, new = Layout(options.workspace.resolve()), Layout(options.new)
    scheme = load_classes(old.classes)
    index, two = scheme.index(options.name), two_classes(scheme, options.name, options.rest)
    if new.data.exists():
        raise DataError(f"{new.data} is there", expected="a new folder", cure="name another one")
    new.labels.mkdir(parents=True)
    new.images.symlink_to(old.images)
    two.save(new.classes)
    pixels = np.zeros(2, np.int64)
    for path in sorted(old.labels.iterdir()):
        mask = against_rest(read_mask(path, scheme), index)
        write_mask(new.labels / f"{path.stem}.tif", mask, path)
        pixels += [(mask == 0).sum(), (mask != IGNORE).sum()]
    print(f"{options.name}: {pixels[0] / max(1, pixels[1]):.1%} of the labelled pixels")


def two_classes(scheme: ClassScheme, name: str, rest: str) -> ClassScheme:
    """The scheme of one class and the background ``rest``, in the class's colour and a grey that nothing else has."""
    colour = scheme.colours[scheme.index(name)]
    taken = {colour, *(other for _, other in scheme.ignored)}
    other = next((grey,) * 3 for grey in range(256) if (grey,) * 3 not in taken)
    return ClassScheme((name, rest), (colour, other), scheme.ignored, background=rest)


def against_rest(mask: Mask, index: int) -> Mask:
    """A mask uint8 (H, W) of many classes: 0 where it is ``index``, 1 where another class, 255 stays 255."""
    return np.where(mask == IGNORE, IGNORE, mask != index).astype(np.uint8)


def write_mask(path: Path, mask: Mask, like: Path) -> None:
    """A GeoTIFF of indices uint8 (H, W) in the place of the mask ``like``."""
    with quiet(), rasterio.open(like) as file:
        place = {"crs": file.crs, "transform": file.transform} if file.crs else {}
    layout = {"height": mask.shape[0], "width": mask.shape[1], "count": 1, "dtype": "uint8", "compress": "deflate"}
    with quiet(), rasterio.open(path, "w", driver="GTiff", **layout, **place) as file:
        file.write(mask, 1)


if __name__ == "__main__":
    main()
