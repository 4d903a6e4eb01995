"""An ONNX file as a source: its own graph is exported, and it is its own oracle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto

from tcn_export.errors import UnsupportedModelError, UsageError
from tcn_export.graph import BATCH, LENGTH, Dimension
from tcn_export.source.base import Layout, Source, Told
from tcn_export.source.foreign import described
from tcn_export.source.interface import find_interface
from tcn_export.source.onnx_checks import infer, standardize
from tcn_export.source.onnx_module import OnnxModule
from tcn_export.source.onnx_reading import read_model
from tcn_export.source.probe import Probe

_CHANGES_NO_AXIS = {
    "Abs", "Add", "Cast", "Clip", "Div", "Identity", "Mul", "Neg", "Pad", "Pow", "Relu",
    "Sqrt", "Sub", "Tanh",
}  # fmt: skip
_SWAPS = [0, 2, 1]
_CHECK_IT = "Check the file with the tool that wrote it."


@dataclass(frozen=True, slots=True)
class _Signal:
    """The input of a model: its name, sizes, and which axis is time."""

    name: str
    batch: Dimension | None
    channels: int
    length: Dimension | None
    layout: Layout


def load_onnx(path: Path, told: Told) -> Source:
    """Read an ONNX model, and find out what goes in and what comes out.

    Args:
        path: The file; its weights lie in it, or beside it.
        told: What the user says; ``input_shape`` fixes what the file leaves open.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or reaches for other files.
        UnsupportedModelError: The model cannot be exported; the message says why.
        UsageError: What was told contradicts the file, or does not suffice.
    """
    model, digest = read_model(path)
    model = standardize(path, model)
    signal = _signal(path, model.graph, told)
    steps, is_fixed = _steps(path, signal, told)
    _open_axes(model.graph, signal)
    model = infer(path, model)
    is_nlc = signal.layout == "NLC"
    probe = Probe(
        str(path), OnnxModule(model).eval(), signal.channels, is_nlc, UnsupportedModelError,
        _CHECK_IT,
    )  # fmt: skip
    notes: tuple[str, ...] = ()
    if signal.batch is not None and not isinstance(signal.batch, str):
        way_out = (
            f"In the file the batch is fixed at {signal.batch}: export it again with a "
            f"dynamic one (dynamic_axes={{'{signal.name}': {{0: 'batch'}}}}). "
        )
        probe.check_apart(steps, way_out)
        notes = (f"the file's batch of {signal.batch} was opened; windows do not mix",)
    told = replace(told, input_shape=(signal.channels, steps), layout=signal.layout)
    names = tuple(value.name for value in model.graph.output)
    found = find_interface(probe, told, signal.name, names, is_fixed)
    probe = replace(probe, module=found.module, is_nlc=False)
    probe.check_repeats(steps)
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    return Source(
        name=path.stem,
        path=path,
        kind="onnx",
        sha256=digest,
        **described(
            replace(found, notes=(*notes, *found.notes)), signal.channels, told.meaning
        ),
        architecture=_printable(f"ONNX {opset}, {model.producer_name or 'unknown producer'}"),
        config={},
        training={},
        only_single=probe.why_only_single(steps),
        model=model,
    )


def _signal(path: Path, graph: onnx.GraphProto, told: Told) -> _Signal:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(f"`{value.name}`" for value in inputs) or "none"
        raise UnsupportedModelError(
            f"{path} takes {len(inputs)} inputs ({names}); expected one signal. Make "
            "constants of the others before you export it."
        )
    (value,) = inputs
    dimensions = [
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]
    kind = value.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or len(dimensions) != 3:
        found = TensorProto.DataType.Name(kind) if kind else "no tensor"
        shape = " x ".join(str(n or "?") for n in dimensions) or "no known shape"
        raise UnsupportedModelError(
            f"the input `{value.name}` of {path} is {found}, {shape}; expected FLOAT, "
            "(batch, channels, steps). Put a Squeeze or Unsqueeze inside the network."
        )
    batch, first, second = dimensions
    layout = told.layout or _layout(graph, value.name, (first, second), told)
    channels, length = (first, second) if layout == "NCL" else (second, first)
    if told.input_shape is not None:
        for what, have, want in zip(
            ("channels", "steps"), (channels, length), told.input_shape, strict=True
        ):
            if isinstance(have, int) and have != want:
                raise UsageError(
                    f"{path} takes {have} {what}, and --input-shape says {want}. The file "
                    "fixes that: leave it out, or give another file."
                )
        channels = told.input_shape[0]
    if not isinstance(channels, int):
        raise UsageError(
            f"{path} leaves its channels open (`{channels or '?'}`). Give --input-shape "
            "CHANNELS,LENGTH."
        )
    return _Signal(value.name, batch, channels, length, layout)


def _layout(
    graph: onnx.GraphProto, name: str, sizes: tuple[Dimension | None, ...], told: Told
) -> Layout:
    """Which axis is time: by the sizes that were told, or by what the first layer takes.

    A convolution has channels in front of steps. Where the signal is transposed on its way to
    the first one, it is (batch, steps, channels).
    """
    if told.input_shape is not None:
        ways: dict[Layout, tuple[int, ...]] = {
            "NCL": told.input_shape,
            "NLC": told.input_shape[::-1],
        }
        fits = [
            layout
            for layout, wanted in ways.items()
            if all(
                not isinstance(n, int) or n == m for n, m in zip(sizes, wanted, strict=True)
            )
        ]
        if len(fits) == 1:
            return fits[0]
    swapped, current = False, name
    for node in graph.node:
        if current not in node.input:
            continue
        if node.op_type == "Transpose" and _permutation(node) == _SWAPS:
            swapped = not swapped
        elif node.op_type == "Conv":
            return "NLC" if swapped else "NCL"
        elif node.op_type not in _CHANGES_NO_AXIS:
            break
        current = node.output[0]
    return "NCL"


def _permutation(node: onnx.NodeProto) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), [])


def _steps(path: Path, signal: _Signal, told: Told) -> tuple[int, bool]:
    """Steps to run it at, and whether the file fixes them."""
    length = signal.length
    if isinstance(length, int):
        if told.is_dynamic or (told.length or length) != length:
            wanted = "any" if told.is_dynamic else told.length
            raise UsageError(
                f"{path} was exported for windows of {length} steps, and --length asks for "
                f"{wanted}. Export it again with that length, or with a dynamic one."
            )
        return length, True
    steps = told.input_shape[1] if told.input_shape is not None else told.length
    if steps is None:
        raise UsageError(
            f"{path} leaves the length of a window open (`{length or '?'}`). Give "
            f"--input-shape {signal.channels},LENGTH."
        )
    return steps, False


def _open_axes(graph: onnx.GraphProto, signal: _Signal) -> None:
    """Give the input our names for what is open, and let no constant hold the batch."""
    value = next(v for v in graph.input if v.name == signal.name)
    del graph.input[:]
    length = signal.length if isinstance(signal.length, int) else LENGTH
    shape: list[Dimension] = [BATCH, signal.channels, length]
    if signal.layout == "NLC":
        shape = [BATCH, length, signal.channels]
    value.type.CopyFrom(onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, shape))
    graph.input.append(value)
    if isinstance(signal.batch, int):
        _open_reshapes(graph, signal.batch)


def _open_reshapes(graph: onnx.GraphProto, batch: int) -> None:
    """Let Reshape take the batch from its input (0), where the file has its number."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        keeps_zeros = any(a.name == "allowzero" and a.i for a in node.attribute)
        if node.op_type != "Reshape" or node.input[1] not in constants or keeps_zeros:
            continue
        sizes = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
        if sizes.size and sizes[0] == batch:
            sizes[0] = 0
            name = f"{node.name}.shape"
            graph.initializer.append(onnx.numpy_helper.from_array(sizes, name))
            node.input[1] = name


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
