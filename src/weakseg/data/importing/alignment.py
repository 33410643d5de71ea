"""Whether a label lies on the grid of its image, and bringing it there.

Coordinates are compared where they mean the same: the corners of the label are brought into the CRS of the image, so
that two spellings of one CRS agree, and equal numbers in two zones do not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from weakseg.core.classes import IGNORE, Mask
from weakseg.core.errors import DataError
from weakseg.raster.georeference import moved
from weakseg.raster.header import RasterInfo, Transform

TOLERANCE: Final = 0.1  # px; rounded px sizes add up to hundredths over an image, the usual mistake is half a px
_NO_CRS: Final = 3857  # any CRS in metres does for two rasters that share one that is not known
_CURE: Final = "export the label again on the grid of the image"


def align_label(
    mask: Mask, label: RasterInfo, image: RasterInfo, *, names: tuple[str, str], resample: bool = False
) -> tuple[Mask, bool]:
    """The mask on the grid of the image, and whether it had to be resampled for that.

    A raster without a transform lies wherever the other one does. Where one CRS is missing it is taken to be the other.

    Args:
        mask: uint8 (H, W), the pixels of ``label``.
        names: of the label and the image, for errors.
        resample: bring a label from any other grid: nearest px, ``IGNORE`` where it has none.

    Raises:
        DataError: another size, or more than ``TOLERANCE`` px away, and no ``resample``; or no place in common.
    """
    same_size = (label.height, label.width) == (image.height, image.width)
    if label.transform is None or image.transform is None:
        if not same_size:
            raise _wrong_size(label, image, names, "")
        return mask, False
    shift = shift_of(label, image)
    if same_size and shift <= TOLERANCE:
        return mask, False
    if not np.isfinite(shift) or not _touches(label, image):
        raise _elsewhere(label, image, names, shift)
    if resample:
        known = label.crs or image.crs, image.crs or label.crs
        return _resampled(mask, (label.transform, image.transform), known, (image.height, image.width)), True
    option = ", or have it resampled (--resample-labels)"
    if not same_size:
        raise _wrong_size(label, image, names, option)
    raise DataError(
        f"{names[0]}: lies {shift:.1f} px off {names[1]}{_crs_words(label, image)}",
        expected=f"the place of its image, to {TOLERANCE} px",
        cure=f"mend the transform, CRS or world file of one of them{option}",
    )


def shift_of(label: RasterInfo, image: RasterInfo) -> float:
    """Largest distance of a corner of the label from the same px of the image's grid, px of the image.

    0 where one of them has no transform; not finite where the CRS of the label does not reach that of the image.
    """
    if label.transform is None or image.transform is None:
        return 0.0
    corners = _corners(label)
    offsets = _in_pixels(label, image, corners) - corners
    return float(np.hypot(offsets[:, 0], offsets[:, 1]).max())


def corners_on(raster: RasterInfo, image: RasterInfo) -> npt.NDArray[np.float64]:
    """Columns and rows (4, 2) of the corners of a raster on the grid of an image, one after the other around it.

    Not finite where the CRS of the raster does not reach that of the image; both have a transform.
    """
    return _in_pixels(raster, image, _corners(raster)[[0, 2, 3, 1]])


def box_in(raster: RasterInfo, crs: str) -> npt.NDArray[np.float64]:
    """Left, lower, right and upper end (4,) of a raster with a place in a CRS; infinite where that does not reach."""
    from rasterio.crs import CRS

    there = np.array(raster.transform).reshape(2, 3)
    places = _corners(raster) @ there[:, :2].T + there[:, 2]
    if raster.crs and raster.crs != crs:
        places = moved(places, CRS.from_wkt(raster.crs), CRS.from_wkt(crs))
    return np.concatenate([places.min(0), places.max(0)])


def _corners(raster: RasterInfo) -> npt.NDArray[np.float64]:
    return np.array([[x, y] for x in (0, raster.width) for y in (0, raster.height)], np.float64)


def _in_pixels(label: RasterInfo, image: RasterInfo, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points (N, 2) as column and row of the label -> column and row of the image."""
    from rasterio.crs import CRS

    there, here = (np.array(raster.transform).reshape(2, 3) for raster in (label, image))
    places = points @ there[:, :2].T + there[:, 2]
    if label.crs and image.crs and label.crs != image.crs:
        places = moved(places, CRS.from_wkt(label.crs), CRS.from_wkt(image.crs))
    with np.errstate(invalid="ignore"):  # places that the CRS of the image does not have are infinite
        return np.asarray((places - here[:, 2]) @ np.linalg.pinv(here[:, :2]).T)


def _touches(label: RasterInfo, image: RasterInfo) -> bool:
    """Whether the bounding box of the label on the grid of the image shares anything with the image."""
    places = _in_pixels(label, image, _corners(label))
    low, high = places.min(0), places.max(0)
    return bool((low < (image.width, image.height)).all() and (high > 0).all())


def _resampled(
    mask: Mask, transforms: tuple[Transform, Transform], systems: tuple[str | None, str | None], shape: tuple[int, int]
) -> Mask:
    """Nearest px of ``mask`` on a grid of ``shape``; transforms and CRS are those of the mask and of the grid."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    there, here = (CRS.from_wkt(system) if system else CRS.from_epsg(_NO_CRS) for system in systems)
    grid = np.full(shape, IGNORE, np.uint8)
    reproject(
        np.ascontiguousarray(mask),
        grid,
        src_transform=rasterio.Affine(*transforms[0]),
        src_crs=there,
        src_nodata=IGNORE,
        dst_transform=rasterio.Affine(*transforms[1]),
        dst_crs=here,
        dst_nodata=IGNORE,
        resampling=Resampling.nearest,
    )
    return grid


def _wrong_size(label: RasterInfo, image: RasterInfo, names: tuple[str, str], option: str) -> DataError:
    found, wanted = (f"{info.height}x{info.width} px" for info in (label, image))
    if 1 != image.orientation != label.orientation and (label.height, label.width) == (image.width, image.height):
        option += f", or see whether it is of the stored pixels (the image has EXIF orientation {image.orientation})"
    return DataError(f"{names[0]}: {found}", expected=f"{wanted} like {names[1]}", cure=f"{_CURE}{option}")


def _elsewhere(label: RasterInfo, image: RasterInfo, names: tuple[str, str], shift: float) -> DataError:
    corners = [f"{info.transform[2]:.8g}, {info.transform[5]:.8g}" for info in (label, image) if info.transform]
    far = f"{shift:,.1f} px" if np.isfinite(shift) else "out of reach"
    return DataError(
        f"{names[0]}: lies {far} off {names[1]}, its corner at {corners[0]} and the image's at {corners[1]}"
        + _crs_words(label, image),
        expected="a label that touches its image",
        cure="give the label its own CRS, or mend its transform",
    )


def _crs_words(label: RasterInfo, image: RasterInfo) -> str:
    if label.crs == image.crs:
        return ""
    return f" ({_crs_name(label.crs)}, the image {_crs_name(image.crs)})"


def _crs_name(wkt: str | None) -> str:
    if wkt is None:
        return "without CRS"
    from rasterio.crs import CRS

    code = CRS.from_wkt(wkt).to_epsg()
    return f"in EPSG:{code}" if code else f"in {wkt.split(chr(34))[1]}"
