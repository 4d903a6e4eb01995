"""The scores of the eager model and of the artifact, side by side on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tcn_export.parity.rows import ParityReport

_FIGURES = {"precision": "precision", "sensitivity": "sensitivity", "f1": "F1"}


def score_change(report: ParityReport, everything: bool = False) -> RenderableType:
    """What the windows with labels say: before -> after; every class with ``everything``.

    Args:
        report: Has scores.
        everything: Also the table of all classes.
    """
    assert report.scores is not None
    before, after = report.scores["reference"], report.scores["actual"]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for title, value in _lines(before, after, report.loss):
        table.add_row(title, value)
    if everything and "classes" in before:
        return Group(table, Text(), _class_table(before["classes"], after["classes"]))
    return table


def _lines(
    before: Mapping[str, Any], after: Mapping[str, Any], loss: Mapping[str, Any] | None
) -> Iterable[tuple[str, str]]:
    bound = "" if loss is None else f" ({_bound(loss)})"
    if "accuracy" not in before:
        yield "RMSE", _change(before["rmse"], after["rmse"], "{:.6g}") + bound
        yield "MAE", _change(before["mae"], after["mae"], "{:.6g}")
        yield "R2", _change(before.get("r2"), after.get("r2"), "{:.4f}")
        return
    percent = _change(100 * before["accuracy"], 100 * after["accuracy"], "{:.2f} %")
    yield "accuracy", percent + bound
    yield "macro-F1", _change(before["macro_f1"], after["macro_f1"], "{:.4f}")
    falls = [
        (one["sensitivity"] - other["sensitivity"], one, other)
        for one, other in zip(before["classes"], after["classes"], strict=True)
        if one["support"]
    ]
    fall, one, other = max(falls, key=lambda entry: entry[0])
    if fall > 0:
        change = _change(one["sensitivity"], other["sensitivity"], "{:.4f}")
        yield "fell most", f"sensitivity to {one['name']}: {change}, {one['support']} labels"


def _bound(loss: Mapping[str, Any]) -> str:
    """What changed on how many windows, and what may be lost."""
    told = f"{loss['windows']:,} windows"
    if loss["changed"] is not None:
        told += f", {loss['changed']:,} answers changed"
    if loss["upper_points"] is None:
        return f"{told}: too few to bound the loss"
    confidence = f"{100 * loss['confidence']:.4g} %"
    most = f"at most {loss['upper_points']:.2f} points"
    if loss["changed"] is None:
        return f"{told}; relative error {most} higher, {confidence} bound"
    return f"{told}; {most} lost, {confidence} bound"


def _class_table(before: Iterable[Mapping[str, Any]], after: Iterable[Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for title in (*_FIGURES.values(), "labels"):
        table.add_column(title, justify="right")
    for one, other in zip(before, after, strict=True):
        changes = (_change(one[key], other[key], "{:.3f}") for key in _FIGURES)
        table.add_row(one["name"], *changes, str(one["support"]))
    return table


def _change(before: float | None, after: float | None, form: str) -> str:
    """Both figures; a dash for one that is not known."""
    told = ("-" if value is None else form.format(value) for value in (before, after))
    return " -> ".join(told)
