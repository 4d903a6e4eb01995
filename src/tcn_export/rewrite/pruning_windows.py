"""Convolutions and pools on values that hold some of their steps only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from tcn_export.rewrite.base import Refused, add_initializer, constant
from tcn_export.rewrite.pruned import Pruned, given, placed, take
from tcn_export.rewrite.strided import OUTSIDE, Index, Strided, fit, useful_taps
from tcn_export.timeline.passage import Window

Edit = Callable[[], None]


def prune_convolution(node: ir.Node, pruned: Pruned) -> Edit:
    """A convolution reads what is left: as a strided window, else tap by tap.

    Taps that lie in the padding for every output are cut off the kernel.
    """
    spatial = _spatial_axis(node, pruned)
    places = pruned.places(node, 0)
    taps = useful_taps(places)
    cut = _cut_kernel(node, pruned, taps)
    places = places[:, taps]
    read = _read_window(node, pruned, spatial, places)
    return _both(cut, read or _gather_taps(node, pruned, spatial, places))


def has_idle_taps(node: ir.Node, pruned: Pruned) -> bool:
    """Whether taps of a convolution read padding for every output."""
    if node.op_type != "Conv" or not isinstance(pruned.reading_of(node, 0, 0), Window):
        return False
    try:
        places = pruned.places(node, 0)
    except Refused:
        return False
    return useful_taps(places) != slice(0, places.shape[1])


def prune_pool(node: ir.Node, pruned: Pruned) -> Edit:
    """A pool is a window; what it makes of padding allows no other form."""
    spatial = _spatial_axis(node, pruned)
    if node.attributes.get_int("ceil_mode", 0):
        raise Refused("it rounds its length up")
    refuse_several_outputs(node)
    places = pruned.places(node, 0)
    read = _read_window(node, pruned, spatial, places, is_dense=node.op_type != "MaxPool")
    if read is None and (places == OUTSIDE).any():
        raise Refused("some of what it reads is padding, at uneven distances")
    return read or _gather_taps(node, pruned, spatial, places)


def refuse_several_outputs(node: ir.Node) -> None:
    """Raise `Refused` where more than one output of a node is seen."""
    if sum(bool(value.uses()) or value.is_graph_output() for value in node.outputs) > 1:
        raise Refused("it has several outputs")


def _read_window(
    node: ir.Node, pruned: Pruned, spatial: int, places: Index, is_dense: bool = False
) -> Edit | None:
    """Read places as one window, if they form one; without dilation, if it ``is_dense``."""
    held = len(pruned.steps_of(given(node, 0)))
    window = fit(places, held)
    if window is None or (is_dense and window.dilation > 1):
        return None
    taps, narrow = places.shape[1], _nothing
    if (window.start, window.stop) != (0, held):  # then what lies between goes as well
        used = np.unique(places[places != OUTSIDE])
        narrow = pruned.narrow(node, 0, used)
        inside = np.where(places == OUTSIDE, OUTSIDE, np.searchsorted(used, places))
        window = fit(inside, len(used))
        if window is None or (is_dense and window.dilation > 1):
            return None

    def edit() -> None:
        narrow()
        _set_attributes(node, spatial, taps, window)

    return edit


def _nothing() -> None:
    pass


def _spatial_axis(node: ir.Node, pruned: Pruned) -> int:
    """Which of the axes behind the channels is time."""
    axis = pruned.axis_of(given(node, 0)) - 2
    if axis < 0:
        raise Refused("its steps are on the axis of the batch or of the channels")
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    shape = given(node, 0).shape
    assert shape is not None
    if automatic not in ("NOTSET", "VALID") and len(shape) > 3:
        raise Refused(f"it pads several axes automatically ({automatic})")
    return axis


def _both(first: Edit, second: Edit) -> Edit:
    def edit() -> None:
        first()
        second()

    return edit


def _cut_kernel(node: ir.Node, pruned: Pruned, taps: slice) -> Edit:
    weight, axis = given(node, 1), pruned.axis_of(given(node, 0))
    assert weight.shape is not None
    if taps == slice(0, weight.shape[axis]):
        return _nothing
    array = constant(weight, "weight")
    kept = np.ascontiguousarray(np.take(array, range(taps.start, taps.stop), axis=axis))

    def edit() -> None:
        assert node.graph is not None
        new = add_initializer(node.graph, f"{weight.name}/taps", kept)
        node.replace_input_with(1, new)

    return edit


def _gather_taps(node: ir.Node, pruned: Pruned, spatial: int, places: Index) -> Edit:
    """Read tap after tap of output after output, and let the window step over the taps."""
    axis, (outputs, taps) = pruned.axis_of(given(node, 0)), places.shape
    used = np.unique(places[places != OUTSIDE])
    narrow = pruned.narrow(node, 0, used)
    has_padding = bool((places == OUTSIDE).any())
    places = np.where(places == OUTSIDE, len(used), np.searchsorted(used, places)).ravel()

    def edit() -> None:
        narrow()
        value = given(node, 0)
        if has_padding:
            value = _with_a_zero_behind(node, value, axis)
        node.replace_input_with(0, take(value, axis, places, node))
        _set_attributes(
            node, spatial, taps, Strided(0, outputs * taps, taps, 1, front=0, behind=0)
        )

    return edit


def _with_a_zero_behind(node: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    graph, output = node.graph, node.outputs[0]
    assert graph is not None
    assert output.shape is not None
    pads = np.zeros((2, len(output.shape)), np.int64)
    pads[1, axis] = 1
    counts = add_initializer(graph, f"{node.name}/pads", pads.ravel())
    return placed(ir.node("Pad", [value, counts]), f"{value.name}/zero", value, node)


def _set_attributes(node: ir.Node, spatial: int, taps: int, window: Strided) -> None:
    axes = len(node.outputs[0].shape or ()) - 2
    ones = [1] * axes
    weight = node.inputs[1] if node.op_type == "Conv" else None
    kernel = (
        [int(str(size)) for size in weight.shape[2:]]
        if weight is not None and weight.shape is not None
        else list(node.attributes.get_ints("kernel_shape", ones))
    )
    strides = list(node.attributes.get_ints("strides", ones))
    dilations = list(node.attributes.get_ints("dilations", ones))
    pads = list(node.attributes.get_ints("pads", [0] * 2 * axes))
    kernel[spatial], strides[spatial] = taps, window.stride
    dilations[spatial] = window.dilation
    pads[spatial], pads[spatial + axes] = window.front, window.behind
    node.attributes.pop("auto_pad", None)
    numbers = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    # Pools know them in newer operator versions only, quantised ones in none.
    node.attributes.pop("dilations", None)
    if node.op_type == "Conv" or max(dilations) > 1:
        numbers["dilations"] = dilations
    for name, values in numbers.items():
        node.attributes[name] = ir.AttrInt64s(name, values)
