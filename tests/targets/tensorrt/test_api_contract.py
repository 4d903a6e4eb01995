"""Our code touches only what every TensorRT that it is made for has."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

import tcn_export
from targets.tensorrt.api_contract import (
    check,
    recorded,
    touched,
)

TARGET = Path(tcn_export.__file__).parent / "targets" / "tensorrt"


@pytest.fixture(scope="module")
def surface():
    return recorded()


def breaches(surface, text):
    return check({"planted.py": dedent(text).strip()}, surface)


def test_our_code_touches_what_all_versions_have(surface):
    sources = {
        str(path.relative_to(TARGET)): path.read_text() for path in TARGET.rglob("*.py")
    }
    assert sum(len(touched(text, file, surface)) for file, text in sources.items()) >= 1
    assert check(sources, surface) == []


PLANTED = {
    "trt.BuilderFlag.FP16": "BuilderFlag.FP16 is forbidden: precision lives in the graph",
    "config.set_flag(trt.BuilderFlag.INT8)": "BuilderFlag.INT8 is forbidden",
    "config.int8_calibrator = None": "IBuilderConfig.int8_calibrator is forbidden",
    "thing.int8_calibrator = None": "trt.int8_calibrator is forbidden",
    "layers[0].dynamic_range": "trt.dynamic_range is forbidden",
    "tensor.set_dynamic_range(-1, 1)": "ITensor.set_dynamic_range is forbidden",
    "convolution.precision = trt.int8": "IConvolutionLayer.precision is forbidden",
    "network.get_layer(0).set_output_type(0, trt.int8)": "ILayer.set_output_type is forbidden",
    "builder.platform_has_fast_fp16": "Builder.platform_has_fast_fp16 is forbidden",
    "engine.device_memory_size": "ICudaEngine.device_memory_size is forbidden: 11 has device_",
    "int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)": "EXPLICIT_BATCH is forbidden",
    "getattr(trt.BuilderFlag, 'FP16', None)": "BuilderFlag.FP16 is forbidden",
    "hasattr(builder, 'platform_has_tf32')": "Builder.platform_has_tf32 is forbidden",
    "trt.Bulder(logger)": "trt.Bulder is in none of the recorded versions",
    "network.num_layres": "INetworkDefinition.num_layres is in none",
    "getattr(trt.BuilderFlag, 'STRICT_NAN', None)": "BuilderFlag.STRICT_NAN is in none",
    "trt.BuilderFlag.STRICT_NANS": "STRICT_NANS is not in 10.3; ask with getattr or hasattr",
    "engine.create_runtime_config()": "ICudaEngine.create_runtime_config is not in 10.3;",
    "config.num_compute_capabilities = 1": "is not in 10.3, 10.16, 11.4;",
    "getattr(config, 'num_compute_capabilities')": "is not in 10.3, 10.16, 11.4;",
    "tensor.location": "ITensor.location is not in rtx-1.7;",
    "trt.Logger.Severity.LOUD": "Logger.Severity.LOUD is in none",
    "trt.Logger.Severity.VERBOSE.name": None,
    "getattr(trt.BuilderFlag, asked, None)": "BuilderFlag is asked for a computed name",
    "runtime_config.cuda_graph_strategy = 1": "cuda_graph_strategy is not in 10.16, 11.4;",
    "runtime_config.set_execution_context_allocation_strategy(1)": None,
    "self._engine.num_bindings": "ICudaEngine.num_bindings is in none",
    "self.trt.Loger": "trt.Loger is in none",
    "trt.Builder(logger).create_netwrk(0)": "Builder.create_netwrk is in none",
    "trt.__version__": None,
}


@pytest.mark.parametrize(("line", "message"), PLANTED.items(), ids=PLANTED)
def test_planted_line_is_told_with_its_place(surface, line, message):
    found = breaches(surface, f"def build(trt, builder, config):\n    {line}")
    if message is None:
        assert found == []
    else:
        assert [place for place in found if place.startswith("planted.py:2: ")] == found
        assert len(found) == 1
        assert message in found[0]


def test_names_that_we_give_do_not_hide_what_is_touched(surface):
    found = breaches(
        surface,
        """
        def build(trt, builder):
            flags = trt.BuilderFlag
            flags.STRICT_NANS
            net = builder.create_network(0)
            net.num_layres
            for name in ("TF32", "STRICT_NAN"):
                getattr(flags, name, None)
        """,
    )
    assert [place.partition(" is ")[0] for place in found] == [
        "planted.py:3: BuilderFlag.STRICT_NANS",
        "planted.py:5: INetworkDefinition.num_layres",
        "planted.py:7: BuilderFlag.STRICT_NAN",
    ]


def test_a_loop_of_another_function_hides_no_computed_name(surface):
    found = breaches(
        surface,
        """
        FLAGS = ("TF32", "STRICT_NANS")

        def known(trt):
            return [getattr(trt.BuilderFlag, name, None) for name in FLAGS]

        def asked(trt, names):
            return [getattr(trt.BuilderFlag, name, None) for name in names]
        """,
    )
    assert [place.partition(";")[0] for place in found] == [
        "planted.py:7: BuilderFlag is asked for a computed name"
    ]


def test_overriding_methods_must_override_something(surface):
    found = breaches(
        surface,
        """
        def monitor(trt):
            class Monitor(trt.IProgressMonitor):
                def phase_start(self, phase, parent, steps): ...
                def step_completed(self, phase, step): ...
                def _bar(self): ...
        """,
    )
    assert len(found) == 1
    assert found[0].startswith("planted.py:4: IProgressMonitor.step_completed is in none")


def test_asking_allows_the_same_name_in_the_same_function_only(surface):
    found = breaches(
        surface,
        """
        def asked(config, engine):
            if hasattr(config, "num_compute_capabilities"):
                config.num_compute_capabilities = 1
            make = getattr(engine, "create_runtime_config", None)

        def did_not_ask(config):
            config.num_compute_capabilities = 1
        """,
    )
    assert len(found) == 1
    assert found[0].startswith(
        "planted.py:7: IBuilderConfig.num_compute_capabilities is not in"
    )


def test_clean_code_passes(surface):
    text = """
        import json
        from ours import profile

        class Session:
            config: Options
            _engine: Any

            def __init__(self, trt: Any, options: Options) -> None:
                logger = trt.Logger(trt.Logger.WARNING)
                self._runtime = trt.Runtime(logger)
                self._engine = self._runtime.deserialize_cuda_engine(b"")
                self._engine.num_io_tensors, self.config.ours, profile.make()

        def build(trt, layer: Layer, tensor):
            layer.ours
            builder = trt.Builder(trt.Logger())
            network = builder.create_network(
                1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            )
            config = builder.create_builder_config()
            config.clear_flag(trt.BuilderFlag.TF32)
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
            context = {}
            context.update(json.loads("{}"))
        """
    assert breaches(surface, text) == []
    assert len(touched(dedent(text), "clean.py", surface)) > 12
