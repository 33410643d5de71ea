"""Outlines of patches as polygons that fit together: every corner of one lies on a corner of its neighbour.

``rasterio.features.shapes`` leaves out the vertex where a third polygon touches a straight edge. Such polygons are no
valid coverage, and ``shapely.coverage_simplify`` leaves their edges alone without a word. So vertices are set at all
corners of pixels where three patches meet, and along the sides of a block where the neighbour's outlines end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.maps.blocks import Block, Labels

Corners = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


def outline_block(framed: Labels, block: Block, tolerance: float) -> tuple[Labels, Any]:
    """The polygons of one block, in columns and rows of the whole map.

    Args:
        framed: patches (h + 2, w + 2) of the block and of one pixel around it.
        tolerance: of the simplification in px, the root of the area of the triangles that may go; 0 keeps all corners.
            The sides of the block stay, so that the polygons of the next one fit.

    Returns:
        patches int32 (n,) and as many shapely polygons; a patch can have several.
    """
    import shapely

    labels = np.ascontiguousarray(framed[1:-1, 1:-1])
    patches, points, rings, owners = _trace(labels)
    points, rings = _insert(points, rings, find_nodes(framed))
    polygons = shapely.polygons(shapely.linearrings(points, indices=rings), indices=owners)
    if tolerance:
        polygons = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    offset = np.array([block.column, block.row], float)
    return patches, shapely.transform(polygons, lambda places: places + offset)


def find_nodes(framed: Labels) -> Corners:
    """(n, 2) columns and rows, from the block's upper left, of corners of pixels where outlines must have a vertex.

    That is where three or four patches meet (or two across), and on the sides of the block where an outline arrives
    from within or from without.
    """
    a, b, c, d = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    up, down, left, right = a != b, c != d, a != c, b != d
    nodes = up.astype(np.uint8) + down + left + right >= 3
    nodes[[0, -1]] |= (up | down)[[0, -1]]
    nodes[:, [0, -1]] |= (left | right)[:, [0, -1]]
    return np.argwhere(nodes)[:, ::-1].astype(np.int64)


def _trace(labels: Labels) -> tuple[Labels, Points, npt.NDArray[np.int64], Labels]:
    """Rings along the sides of pixels, first the outer one of each polygon and then its holes.

    Returns:
        patch of every polygon (n,); closed rings as points (m, 2); ring of every point (m,); polygon of every ring.
    """
    from rasterio.features import shapes

    patches: list[int] = []
    rings: list[list[tuple[float, float]]] = []
    owners: list[int] = []
    for geometry, patch in shapes(labels, connectivity=4):
        owners += [len(patches)] * len(geometry["coordinates"])
        patches.append(int(patch))
        rings += geometry["coordinates"]
    lengths = np.array([len(ring) for ring in rings])
    points = np.array([point for ring in rings for point in ring], float)
    return np.array(patches, np.int32), points, np.repeat(np.arange(len(rings)), lengths), np.array(owners, np.int32)


def _insert(points: Points, rings: npt.NDArray[np.int64], nodes: Corners) -> tuple[Points, npt.NDArray[np.int64]]:
    """Rings (m, 2) with a vertex at every node that lies inside one of their upright or level edges."""
    start, end = points[:-1].astype(np.int64), points[1:].astype(np.int64)
    inner = rings[:-1] == rings[1:]
    pieces, owners, places = [points], [rings], [np.arange(len(points), dtype=float)]
    for axis in (0, 1):  # edges along x, then along y
        edges = np.flatnonzero(inner & (start[:, 1 - axis] == end[:, 1 - axis]))
        stride = int(max(points.max(), nodes.max(initial=0))) + 2
        keys = np.sort(nodes[:, 1 - axis] * stride + nodes[:, axis])
        line = start[edges, 1 - axis] * stride
        low = np.minimum(start[edges, axis], end[edges, axis])
        high = np.maximum(start[edges, axis], end[edges, axis])
        begin, stop = np.searchsorted(keys, line + low, "right"), np.searchsorted(keys, line + high, "left")
        counts = np.maximum(0, stop - begin)
        owner = np.repeat(edges, counts)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found = keys[np.repeat(begin, counts) + steps] % stride
        new = np.empty((len(owner), 2))
        new[:, axis], new[:, 1 - axis] = found, start[owner, 1 - axis]
        pieces.append(new)
        owners.append(rings[owner])
        places.append(owner + np.abs(found - start[owner, axis]) / stride)
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(pieces)[order], np.concatenate(owners)[order]
