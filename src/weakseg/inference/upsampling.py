"""Upsampling as transposed convolutions, in OpenVINO's graph: the same sums with fewer products.

A 3 x 3 convolution over maps of doubled sides meets each of their px four times over: its nine taps fall on four px of
the small maps. So it is a transposed convolution of stride 2 with kernels of 4 x 4, whose taps are sums of the nine,
and takes 4/9 of the products; the doubled maps are never made. In the U-Net's decoder that is a fifth of all products
(docs/decisions.md). Maps of few channels that are doubled by mixing, as those of the classes, are a transposed
convolution of each channel with one kernel, whose border px stand twice; OpenVINO's own way takes twice as long there.
Rounding differs by 1e-6 of a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

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

    A convolution is rewritten where it reads maps doubled by copies, alone or as the first of maps side by side; so is
    doubling by mixing.
    """
    from openvino import opset13 as ops

    found = _mix_by_convolution(model, ops)
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


def _mix_by_convolution(model: Any, ops: Any) -> int:
    """Rewrite what doubles a few maps by mixing; how many there were."""
    found = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not _doubles(node, "linear_onnx", (("half_pixel", None),)):
            continue
        small = node.input_value(0)
        count = small.get_partial_shape()[1].get_length()
        if count <= _FEW:
            taps = np.tile(np.outer(_MIX, _MIX).astype(np.float32), (count, 1, 1, 1, 1))
            wide = ops.pad(small, [0, 0, 1, 1], [0, 0, 1, 1], "edge")
            cut = {"pads_begin": [3, 3], "pads_end": [3, 3], "dilations": [1, 1]}
            mixed = ops.group_convolution_backprop_data(wide, ops.constant(taps), [2, 2], **cut)
            node.output(0).replace(mixed.output(0))
            found += 1
    return found


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
    if node.get_type_name() != "Interpolate":
        return None, None
    return (node.input_value(0), beside) if _doubles(node, "nearest", _COPIES) else (None, None)


def _doubles(node: Any, mode: str, ways: Sequence[tuple[str, str | None]]) -> bool:
    """Whether an Interpolate gives (1, C, 2 h, 2 w) of (1, C, h, w) in one of these ways."""
    attributes = node.get_attributes()
    places, rounds = attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
    if attributes["mode"] != mode or not any(places == way and rounded in (rounds, None) for way, rounded in ways):
        return False
    before, after = node.input_value(0).get_partial_shape(), node.output(0).get_partial_shape()
    if attributes["antialias"] or any(attributes["pads_begin"]) or any(attributes["pads_end"]):
        return False
    if before.is_dynamic or after.is_dynamic or len(before) != 4:
        return False
    images, channels, height, width = before.to_shape()
    return list(after.to_shape()) == [images, channels, 2 * height, 2 * width]
