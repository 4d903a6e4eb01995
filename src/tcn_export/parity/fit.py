"""Do these windows belong to this model? Asked before anything is computed with them."""

from __future__ import annotations

from tcn_export.data import Windows, check_labels
from tcn_export.errors import DataError
from tcn_export.graph import Signature, TensorSpec


def check_class_names(named: tuple[str, ...], classes: tuple[str, ...], where: str) -> None:
    """Raise `DataError` where data names its classes otherwise than the model does.

    A model that numbers its classes does not name them; then only their number counts.
    """
    if classes == tuple(map(str, range(len(classes)))) and len(named) == len(classes):
        return
    if named and classes and named != classes:
        raise DataError(
            f"{where} names its classes {', '.join(named)}, but the model was trained on "
            f"{', '.join(classes)}. Leave out the windows of other classes, and bring the "
            "labels and `class_names` into the model's order."
        )


def check_fit(
    windows: Windows, signature: Signature, task: str, classes: tuple[str, ...], where: str
) -> None:
    """Check channels, length and labels against a model.

    Args:
        windows: The data.
        signature: The model's; its first input and output are the signal and the answer.
        task: ``classification`` or ``regression``.
        classes: Names of the classes, in the order of the outputs.
        where: Names the data in the message.

    Raises:
        DataError: They do not belong together.
    """
    spec = signature.inputs[0]
    wanted_channels, wanted_steps = spec.shape[1:]
    _, channels, steps = windows.x.shape
    if channels != wanted_channels:
        raise DataError(
            f"{where} has {channels} channels, but the model takes {wanted_channels}. Use the "
            "data the model was trained for."
        )
    if isinstance(wanted_steps, int) and steps != wanted_steps:
        raise DataError(
            f"{where} has windows of {steps} steps, but the model takes {wanted_steps}. "
            f"Export it with --length {steps}, or with --length dynamic for any length."
        )
    if windows.y is None:
        return
    if windows.is_classification != (task == "classification"):
        held = "class indices" if windows.is_classification else "floating targets"
        wanted = "class indices" if task == "classification" else "floating targets"
        raise DataError(
            f"{where} holds {held}, but the model was trained for {task}, on {wanted}. Use "
            "the data the model was trained for."
        )
    output = signature.outputs[0]
    if windows.is_classification:
        check_labels(windows, len(classes), where)
        _check_shape(windows, (output.shape[0], *output.shape[2:]), output, where)
    else:
        _check_shape(windows, output.shape, output, where)


def _check_shape(
    windows: Windows, shape: tuple[int | str, ...], output: TensorSpec, where: str
) -> None:
    assert windows.y is not None
    if not TensorSpec(output.name, output.dtype, shape).accepts(windows.y.shape):
        raise DataError(
            f"the labels of {where} have the shape {windows.y.shape}; the model's answers "
            f"`{output.name}` need ({', '.join(map(str, shape))})."
        )
