"""Upsampling as transposed convolutions or matrix products, in OpenVINO's graph: the same sums with fewer products.

A 3 x 3 convolution over maps of doubled sides meets each of their px four times over: its nine taps fall on four px of
the small maps. So it is a transposed convolution of stride 2 with kernels of 4 x 4, whose taps are sums of the nine,
and takes 4/9 of the products; the doubled maps are never made. In the U-Net's decoder that is a fifth of all products
(docs/decisions.md). Maps of few channels that are doubled by mixing, as those of the classes, are a transposed
convolution of each channel with one kernel, whose border px stand twice; OpenVINO's own way takes twice as long there.
Those that grow more, as the dissimilarity index, are a product with a matrix per axis, where its own way takes four
milliseconds for a map of 512 px, a tenth of the whole network in bf16. Rounding differs by 1e-6 of a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from weakseg.raster.resample import plan_axis

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Rows before and after, columns before and after."""
_SAME: Final = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}  # of a convolution
_COPIES: Final = (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))  # ways to double sides by copies
_FEW: Final = 8  # channels; of more OpenVINO's own doubling by mixing was not compared
_MIX: Final = (0.25, 0.75, 0.75, 0.25)  # of an axis: what a small px gives to the four around it


def doubled_kernel(kernel: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Kernel (out, in, 3, 3) on doubled maps -> that of the transposed convolution (in, out, 4, 4) on the small ones.

    The latter has stride 2 and a padding of 1.
    """
    turned = kernel[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).astype(np.float64)
    taps = np.zeros((*turned.shape[:2], 4, 4))
    for row in range(2):
        for column in range(2):
            taps[:, :, row : row + 3, column : column + 3] += turned
    return taps.astype(np.float32)


def fold_upsampling(model: Any) -> int:
    """Rewrite an openvino.Model of known sides in place; how many convolutions are others now.

    A convolution is rewritten where it reads maps doubled by copies, alone or as the first of maps side by side; so are
    few maps that grow by mixing.
    """
    from openvino import opset13 as ops

    found = _mix(model, ops)
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or not _is_same(node):
            continue
        small, beside = _doubled(node.input_value(0))
        if small is None:
            continue
        kernel = node.input_value(1).get_node().get_data()
        count = small.get_partial_shape()[1].get_length()
        taps = ops.constant(doubled_kernel(kernel[:, :count]))
        maps = ops.convolution_backprop_data(small, taps, [2, 2], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 1])
        if beside is not None:
            rest = ops.constant(np.ascontiguousarray(kernel[:, count:], np.float32))
            maps = ops.add(maps, ops.convolution(beside, rest, [1, 1], [1, 1], [1, 1], [1, 1]))
        node.output(0).replace(maps.output(0))
        found += 1
    if found:
        model.validate_nodes_and_infer_types()
    return found


def _mix(model: Any, ops: Any) -> int:
    """Rewrite what makes a few maps larger by mixing; how many there were."""
    found = 0
    for node in model.get_ordered_ops():
        sides = _grown(node, "linear_onnx", (("half_pixel", None),))
        if sides is None or node.input_value(0).get_shape()[1] > _FEW:
            continue
        mixed = _by_convolution(node.input_value(0), ops) if _doubles(sides) else _by_products(node, sides, ops)
        node.output(0).replace(mixed.output(0))
        found += 1
    return found


def _by_convolution(small: Any, ops: Any) -> Any:
    """Maps doubled by mixing."""
    taps = np.tile(np.outer(_MIX, _MIX).astype(np.float32), (small.get_shape()[1], 1, 1, 1, 1))
    wide = ops.pad(small, [0, 0, 1, 1], [0, 0, 1, 1], "edge")
    cut = {"pads_begin": [3, 3], "pads_end": [3, 3], "dilations": [1, 1]}
    return ops.group_convolution_backprop_data(wide, ops.constant(taps), [2, 2], **cut)


def _by_products(node: Any, sides: Sides, ops: Any) -> Any:
    """Maps made larger by mixing, the rows and then the columns."""
    rows, columns = (ops.constant(plan_axis(*lengths).matrix.toarray()) for lengths in sides)
    return ops.matmul(ops.matmul(rows, node.input_value(0), False, False), columns, False, True)


def _is_same(node: Any) -> bool:
    """Whether a convolution has a constant float32 kernel of 3 x 3 and keeps the sides."""
    weights, attributes = node.input_value(1), node.get_attributes()
    return (
        weights.get_node().get_type_name() == "Constant"
        and weights.get_element_type().get_type_name() == "f32"
        and list(weights.get_shape())[2:] == [3, 3]
        and attributes.get("auto_pad") == "explicit"
        and all(list(attributes[name]) == wanted for name, wanted in _SAME.items())
    )


def _doubled(value: Any) -> tuple[Any, Any]:
    """Maps before they were doubled, and those beside them or None; (None, None) where nothing was."""
    node = value.get_node()
    beside = None
    if node.get_type_name() == "Concat" and node.get_attributes()["axis"] == 1 and node.get_input_size() == 2:
        beside, node = node.input_value(1), node.input_value(0).get_node()
    sides = _grown(node, "nearest", _COPIES)
    return (node.input_value(0), beside) if sides and _doubles(sides) else (None, None)


def _grown(node: Any, mode: str, ways: Sequence[tuple[str, str | None]]) -> Sides | None:
    """The sides that an Interpolate makes larger in one of these ways; None where it does not, or both are not."""
    if node.get_type_name() != "Interpolate":
        return None
    attributes = node.get_attributes()
    places, rounds = attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
    if attributes["mode"] != mode or not any(places == way and rounded in (rounds, None) for way, rounded in ways):
        return None
    before, after = node.input_value(0).get_partial_shape(), node.output(0).get_partial_shape()
    if attributes["antialias"] or any(attributes["pads_begin"]) or any(attributes["pads_end"]):
        return None
    if before.is_dynamic or after.is_dynamic or len(before) != 4:
        return None
    images, channels, *small = before.to_shape()
    rows, columns = zip(small, list(after.to_shape())[2:], strict=True)
    grows = rows[0] < rows[1] and columns[0] < columns[1]
    return (rows, columns) if grows and list(after.to_shape())[:2] == [images, channels] else None


def _doubles(sides: Sides) -> bool:
    return all(after == 2 * before for before, after in sides)
