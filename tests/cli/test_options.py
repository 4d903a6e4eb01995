"""The defaults stand in the library and in the help; they must not drift apart."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from tcn_export.benchmarking import BenchOptions
from tcn_export.cli.bench import main as bench_command
from tcn_export.cli.export import main as export_command
from tcn_export.cli.train import main as train_command
from tcn_export.cli.trt import split_trt_options
from tcn_export.models import ARCHITECTURES
from tcn_export.models.blocks import Norm
from tcn_export.models.tcn import Head
from tcn_export.options import AUTO, LAYOUTS, ExportOptions
from tcn_export.quantize.dialects import METHODS
from tcn_export.rewrite import plans
from tcn_export.targets import TARGETS
from tcn_export.targets.base import Precision
from tcn_export.targets.tensorrt.settings import Runtime
from tcn_export.targets.tensorrt.versions import VERSIONS
from tcn_export.training.fit import ClassWeights, FitOptions


@pytest.mark.parametrize(
    ("command", "arguments", "options"),
    [
        (export_command, ["m.pt", "--target", "onnx"], ExportOptions),
        (train_command, ["BasicMotions"], FitOptions),
        (bench_command, ["bundle"], BenchOptions),
    ],
)
def test_defaults_are_those_of_the_library(command, arguments, options):
    told = command.make_context("command", list(arguments)).params
    if command is export_command:
        told, trt = split_trt_options(told)
        assert trt == ExportOptions().trt
        told["trt"] = trt
    for field in fields(options):
        assert told[field.name] == field.default, field.name


@pytest.mark.parametrize(
    ("command", "name", "choices"),
    [
        (export_command, "target", TARGETS),
        (export_command, "precision", (*get_args(Precision), AUTO)),
        (export_command, "calibration", METHODS),
        (export_command, "trt_version", tuple(VERSIONS)),
        (export_command, "trt_runtime", get_args(Runtime)),
        (export_command, "layout", {AUTO}.union(*LAYOUTS.values())),
        (train_command, "arch", tuple(ARCHITECTURES)),
        (train_command, "norm", get_args(Norm)),
        (train_command, "head", get_args(Head)),
        (train_command, "class_weights", get_args(ClassWeights)),
    ],
)
def test_choices_are_those_of_the_library(command, name, choices):
    (parameter,) = (p for p in command.params if p.name == name)
    assert set(parameter.type.choices) == set(choices)


def test_every_layout_that_may_be_asked_for_is_written_down():
    assert set(plans.LAYOUTS) == set().union(*LAYOUTS.values())
