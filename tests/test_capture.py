from __future__ import annotations

import copy
import logging
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from support import TINY_LENGTH, eager_double, make_source, operators
from tcn_export.canonical import canonicalize
from tcn_export.capture import capture, export_copy
from tcn_export.graph import MODULE_KEY
from tcn_export.models.resnet1d import ResNet1dConfig
from tcn_export.models.tcn import TCNConfig
from tcn_export.source.foreign import load_factory

WEIGHT_NORM = TCNConfig(
    in_channels=2, outputs=3, widths=(4, 4), dilations=(1, 2), norm="weight"
)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    source = make_source(tmp_path_factory.mktemp("capture") / "model.pt")
    return source, capture(source, TINY_LENGTH, 20)


def test_nodes_and_values_are_named_after_their_modules(captured):
    _, graph = captured
    conv = next(n for n in graph.model.graph if n.name == "blocks.1.body.conv1/Conv")
    assert conv.outputs[0].name == "blocks.1.body.conv1/Conv"
    assert conv.inputs[1].name == "blocks.1.body.conv1.weight"
    assert conv.metadata_props == {MODULE_KEY: "blocks.1.body.conv1"}
    names = [v.name for v in graph.model.graph.initializers.values()]
    assert "blocks.0.body.conv1/Slice.ends" in names
    assert not [name for name in names if name.startswith("val_")]


def test_inputs_and_outputs_are_those_of_the_signature(captured):
    source, graph = captured
    assert [v.name for v in graph.model.graph.inputs] == ["signal"]
    assert [v.name for v in graph.model.graph.outputs] == ["logits"]
    assert str(graph.model.graph.inputs[0].shape) == f"[batch,3,{TINY_LENGTH}]"
    assert graph.signature.inputs[0].shape == ("batch", 3, TINY_LENGTH)
    assert source.signature.inputs[0].shape == ("batch", 3, "length")


def test_nothing_of_the_exporting_machine_is_left_in_the_file(captured):
    _, graph = captured
    raw = ir.to_proto(graph.model).SerializeToString()
    for trace in (b"site-packages", b".py", b"torch.nn", b"stack_trace"):
        assert trace not in raw


def test_batch_norm_and_crop_are_left_for_the_rewrites(captured):
    _, graph = captured
    assert operators(graph).count("BatchNormalization") == 3
    assert operators(graph).count("Slice") == 3


def test_graph_passes_the_checker_and_computes_the_network(captured):
    source, graph = captured
    proto = ir.to_proto(graph.model)
    onnx.checker.check_model(proto, full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, TINY_LENGTH)).astype(np.float32)
    (actual,) = ReferenceEvaluator(proto).run(None, {"signal": x})
    np.testing.assert_allclose(actual, eager_double(source, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [7, 24, 31])
def test_symbolic_length_holds_for_any_length(tmp_path, length):
    config = TCNConfig(in_channels=2, outputs=3, widths=(4,), dilations=(2,), head="every")
    source = make_source(tmp_path / "model.pt", config)
    graph = capture(source, None, 20)
    x = np.random.default_rng(0).standard_normal((3, 2, length)).astype(np.float32)
    (actual,) = ReferenceEvaluator(ir.to_proto(graph.model)).run(None, {"signal": x})
    np.testing.assert_allclose(actual, eager_double(source, x), rtol=1e-4, atol=1e-4)


def test_weight_norm_is_removed_on_a_copy_and_the_original_still_runs(tmp_path):
    source = make_source(tmp_path / "model.pt", WEIGHT_NORM)
    x = torch.randn(2, 2, TINY_LENGTH)
    before = source.module(x)
    graph = capture(source, TINY_LENGTH, 20)
    assert torch.equal(source.module(x), before)
    assert (
        "conv1.parametrizations.weight.original0" in source.module.blocks[0].body.state_dict()
    )
    assert set(operators(graph)) <= {
        "Sub", "Mul", "Pad", "Conv", "Relu", "Add", "Gather", "Gemm", "Slice",
    }  # fmt: skip
    assert len([1 for op in operators(graph) if op == "Mul"]) == 1  # the normalisation's own


def test_weight_norm_is_rounded_once(tmp_path):
    source = make_source(tmp_path / "model.pt", WEIGHT_NORM)
    exact = copy.deepcopy(source.module).double().blocks[1].body.conv1.weight
    plain = export_copy(source.module).blocks[1].body.conv1.weight
    assert torch.equal(plain, exact.detach().float())


def test_even_kernels_export_their_asymmetric_pads(tmp_path):
    config = ResNet1dConfig(in_channels=2, outputs=3, widths=(4,), strides=(1,), kernel_size=8)
    graph = capture(make_source(tmp_path / "model.pt", config), TINY_LENGTH, 20)
    pads = [n for n in graph.model.graph if n.op_type == "Pad"]
    assert len(pads) == 2
    assert pads[0].inputs[1].const_value.numpy().tolist() == [0, 0, 3, 0, 0, 4]


def test_folding_constants_that_are_no_numbers_is_quiet():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 3] x) => (float[N, 3] y) '
        "{ z = Constant<value = float[1] {0}>()  n = Div(z, z)  y = Add(x, n) }"
    )
    folded = ir.from_proto(model)
    canonicalize(folded)
    assert [node.op_type for node in folded.graph] == ["Add"]


def test_recurrent_layers_are_traced_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recurrent_network.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n        self.rnn = nn.LSTM(3, 4, batch_first=True)\n"
        "    def forward(self, x):\n        return self.rnn(x.transpose(1, 2))[0][:, -1]\n"
    )
    source = load_factory("recurrent_network:Net", (3, 12))
    with warnings.catch_warnings(record=True) as told:  # raised, they would only end a try
        warnings.simplefilter("always")
        graph = capture(source, 12, 20)
    assert not [str(one.message) for one in told]
    assert "LSTM" in operators(graph)


def test_exporting_is_quiet_and_leaves_the_loggers_alone(tmp_path, caplog, recwarn):
    level = logging.getLogger("torch.onnx").level
    capture(make_source(tmp_path / "model.pt"), TINY_LENGTH, 20)
    assert not [r for r in caplog.records if r.levelno >= logging.INFO]
    assert not recwarn.list
    assert logging.getLogger("torch.onnx").level == level
