"""Predict a land-cover map with the model beside this file; needs numpy, onnxruntime and rasterio, nothing else.

python predict.py IN OUT.tif [--bands 4,1,2] [--window 512] [--overlap 0.25] [--batch 4]

IN is any raster that rasterio opens, 8 bits per band; OUT is a GeoTIFF of class indices, 255 where IN has no data.
The whole raster is held in memory: about 4 x (classes + 2) bytes per pixel.
"""

# weakseg copies this file into exported bundles as predict.py; it must not import weakseg.
import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio

HERE = Path(__file__).resolve().parent


def resample(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Shrink to the mean of what each pixel covers, or grow linearly between pixel centres; float64."""
    values = np.moveaxis(np.asarray(values, np.float64), axis, 0)
    count = values.shape[0]
    if size < count:
        total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
        edges = np.minimum(np.arange(size + 1) * (count / size), count)
        low = np.minimum(np.floor(edges + 1e-6).astype(int), count - 1)
        share = np.clip(edges - low, 0, 1).reshape(-1, *[1] * (values.ndim - 1))
        values = np.diff(total[low] * (1 - share) + total[low + 1] * share, axis=0) / (count / size)
    elif size > count:
        centres = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(np.floor(centres).astype(int), max(0, count - 2))
        share = (centres - low).reshape(-1, *[1] * (values.ndim - 1))
        values = values[low] * (1 - share) + values[np.minimum(low + 1, count - 1)] * share
    return np.moveaxis(values, 0, axis)


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Evenly spread starts of windows that cover ``length`` px with at least ``overlap`` in common."""
    if length <= size:
        return [0]
    stride = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [int(start) for start in np.linspace(0, length - size, count).round()]


def blend_weights(height: int, width: int) -> np.ndarray:
    """A pyramid that falls linearly to the rim: where windows overlap they cross-fade."""
    rows = 1 - np.abs(2 * np.arange(height, dtype=np.float32) + 1 - height) / (height + 1)
    columns = 1 - np.abs(2 * np.arange(width, dtype=np.float32) + 1 - width) / (width + 1)
    return np.minimum(rows[:, None], columns[None, :]).astype(np.float32)


def predict(image: np.ndarray, *, window: int, overlap: float, batch: int) -> np.ndarray:
    """uint8 (H, W, 3) -> probabilities float32 (C, H, W)."""
    settings = json.loads((HERE / "preprocessing.json").read_text())
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    size = [max(1, round(length * settings["scale"])) for length in image.shape[:2]]
    small = np.rint(resample(resample(image, 0, size[0]), 1, size[1])).clip(0, 255).astype(np.float32)
    mean, std = (np.array(settings[key], np.float32) * np.float32(255) for key in ("mean", "std"))
    pixels = ((small - mean) / std).transpose(2, 0, 1)
    rows, columns = min(window, size[0]), min(window, size[1])
    corners = [(r, c) for r in window_starts(size[0], window, overlap) for c in window_starts(size[1], window, overlap)]
    weights, mass = blend_weights(rows, columns), np.zeros(size, np.float32)
    total: np.ndarray = np.zeros(0, np.float32)
    for first in range(0, len(corners), batch):
        group = corners[first : first + batch]
        cut = np.stack([pixels[:, r : r + rows, c : c + columns] for r, c in group])
        for maps, (r, c) in zip(session.run(None, {"image": cut})[0], group, strict=True):
            total = total if total.size else np.zeros((len(maps), *size), np.float32)
            total[:, r : r + rows, c : c + columns] += maps * weights
            mass[r : r + rows, c : c + columns] += weights
    total /= mass
    return resample(resample(total, 1, image.shape[0]), 2, image.shape[1])


def main() -> None:
    """Read, predict, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--bands", help="three bands in the order of the training images, from 1")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # rasters without a place on Earth are welcome
    with rasterio.open(options.source) as file:
        bands = [int(part) for part in options.bands.split(",")] if options.bands else [1, 2, 3]
        if (
            len(bands) != 3
            or (file.count != 3 and not options.bands)
            or not 1 <= min(bands) <= max(bands) <= file.count
        ):
            sys.exit(
                f"{options.source} has {file.count} band(s): choose three with --bands, for instance --bands 4,1,2"
            )
        if any(file.dtypes[band - 1] != "uint8" for band in bands):
            sys.exit(f"{options.source} is {file.dtypes[0]}: convert it to 8 bits with gdal_translate -ot Byte -scale")
        image = np.moveaxis(file.read(bands), 0, -1)
        valid = file.read_masks(bands).any(axis=0)
        place = {"crs": file.crs} | ({} if file.transform.is_identity else {"transform": file.transform})
    table = json.loads((HERE / "classes.json").read_text())
    maps = predict(image, window=options.window, overlap=options.overlap, batch=options.batch)
    classes = np.where(valid, maps.argmax(0), 255).astype(np.uint8)
    colours = {index: (*row["colour"], 255) for index, row in enumerate(table["classes"])}
    layout = {"count": 1, "dtype": "uint8", "height": classes.shape[0], "width": classes.shape[1], "nodata": 255}
    layout |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    with rasterio.open(options.target, "w", driver="GTiff", **layout, **place) as file:
        file.write(classes, 1)
        file.write_colormap(1, colours)
        file.update_tags(**{f"CLASS_{index}": row["name"] for index, row in enumerate(table["classes"])})
    counts = np.bincount(classes.ravel(), minlength=256)
    for index, row in enumerate(table["classes"]):
        print(f"{index} {row['name']}: {counts[index] / max(1, valid.sum()):.1%}")


if __name__ == "__main__":
    main()
