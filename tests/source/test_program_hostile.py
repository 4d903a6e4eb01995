"""torch.export archives from strangers: nothing in them runs, and each ends in our error."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from programs import calling, forge
from tcn_export.errors import CheckpointError, ExportError, UnsupportedModelError
from tcn_export.source.base import Told
from tcn_export.source.program import load_program


@pytest.mark.parametrize(
    "target",
    [
        "builtins.eval", "os.system", "torch.load", "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Storage", "torch.ops.aten.as_strided.default",
        "torch.ops.aten._cdist_forward.default", "torch.ops.profiler._record_function_enter.x",
        "torch._higher_order_ops.wrap.wrap", "torch.ops.aten.relu.__class__", "",
        "torch.ops.aten.relu.default.__globals__", "_operator.x", 7, None,
    ],
)  # fmt: skip
def test_only_operators_on_tensors_are_called(own, target):
    forge(own, model=calling(target, {"as_string": "touch ran"}))
    told = re.escape(f"calls `{target}`") + "|is no name of an operator"
    with pytest.raises((CheckpointError, UnsupportedModelError), match=told):
        load_program(own, Told())
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": {"as_ints": [2**40, 4]}},
        {"size": {"as_ints": [2**62, 2**62]}},
        {"size": {"as_ints": [-1]}},
        {"size": {"as_ints": ["1"]}},
        {"size": {"as_graph": {}}},
        {"size": {"as_operator": "x"}},
        {},
    ],
)
def test_arguments_that_do_not_fit_are_refused(own, arguments):
    forge(own, model=calling("torch.ops.aten.zeros.default", **arguments))
    with pytest.raises(ExportError):
        load_program(own, Told())


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("zeros.default", {"size": {"as_ints": [2**20, 2**14]}}),
        ("full.default", {"size": {"as_ints": [2**34]}, "fill_value": {"as_float": 1.0}}),
        ("repeat.default", {
            "self": {"as_tensor": {"name": "p_conv_weight"}},
            "repeats": {"as_ints": [2**10, 2**10, 2**10]},
        }),
    ],
)  # fmt: skip
def test_values_that_would_fill_the_memory_are_refused_before_they_are_made(
    own, target, arguments
):
    forge(own, model=calling(f"torch.ops.aten.{target}", **arguments))
    with pytest.raises(
        UnsupportedModelError, match=r"^`own.pt2` does not fit .* `aten\.\w+\.default` gives"
    ):
        load_program(own, Told())


def test_numbers_that_would_fill_the_memory_are_refused(own):
    def change(told):
        nodes = told["graph_module"]["graph"]["nodes"]
        for i in reversed(range(60)):
            last = {"as_name": f"n{i}"} if i else {"as_int": 10}
            arg = {"as_sym_int": last}
            nodes.insert(0, {
                "target": "_operator.mul", "metadata": {}, "is_hop_single_tensor_return": None,
                "inputs": [{"name": "", "arg": arg, "kind": 1}] * 2,
                "outputs": [{"as_sym_int": {"as_name": f"n{i + 1}"}}],
            })  # fmt: skip

    with pytest.raises(UnsupportedModelError, match="`mul` gives a number beyond"):
        load_program(forge(own, model=change), Told())


def changed(name, **entries):
    """Change what the archive says of a weight."""

    def change(told):
        entry = told["config"][name]
        for key, value in entries.items():
            place = entry if key in entry else entry["tensor_meta"]
            place[key] = value

    return change


def ints(*values):
    return [{"as_int": value} for value in values]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"use_pickle": True}, "is no plain tensor but pickled, which could run code"),
        ({"path_name": "../../sample_inputs/model.pt"}, "is damaged, or was written by"),
        ({"path_name": "/etc/passwd"}, "is damaged, or was written by"),
        ({"sizes": ints(4, 3, 2**40)}, "values in 144 bytes"),
        ({"sizes": ints(4, -3, 3)}, "values in 144 bytes"),
        ({"strides": ints(0, 0, 1)}, ""),
        ({"strides": ints(2**40, 3, 1)}, "reaches beyond its values"),
        ({"storage_offset": {"as_int": 8}}, "reaches beyond its values"),
        ({"storage_offset": {"as_int": -8}}, "values in 144 bytes"),
        ({"dtype": 99}, "is damaged, or was written by"),
        ({"tensor_meta": None}, "is no plain tensor|is damaged"),
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(own, entries, message):
    forge(own, model_weights_config=changed("conv.weight", **entries))
    if not message:  # many weights of one: no more memory than the file has
        assert load_program(own, Told()).module.conv.weight.shape == (4, 3, 3)
        return
    with pytest.raises(CheckpointError, match=message):
        load_program(own, Told())


def test_weights_that_are_no_numbers_are_refused(own):
    forge(own, weight_0=torch.full((36,), torch.nan).numpy().tobytes())
    with pytest.raises(UnsupportedModelError, match=r"36 of 36 values of `conv\.weight`"):
        load_program(own, Told())


@pytest.mark.parametrize("part", ["model", "model_weights_config", "weight_0"])
def test_archives_without_a_part_are_refused(own, part):
    with pytest.raises(CheckpointError):
        load_program(forge(own, **{part: None}), Told())


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"{}" * 100])
def test_other_files_are_refused(own, content):
    own.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is no \.pt2 archive .* or was cut short"):
        load_program(own, Told())


def test_archives_that_were_cut_short_are_refused(own, program_bytes):
    own.write_bytes(program_bytes[:-100])  # an archive within it is still whole
    with pytest.raises(CheckpointError, match=r"was cut short|holds 0 programs"):
        load_program(own, Told())


def test_archives_that_unpack_to_more_are_refused(own):
    with zipfile.ZipFile(own, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("own/models/model.json", b" " * 10**7)
    with pytest.raises(CheckpointError, match="would unpack to more than"):
        load_program(own, Told())


def test_compiled_code_is_refused(own):
    with zipfile.ZipFile(own, "a") as archive:
        archive.writestr("own/data/aotinductor/model/x.so", b"\x7fELF")
    with pytest.raises(CheckpointError, match="holds compiled code"):
        load_program(own, Told())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told["schema_version"].update(major=99), "has the schema 99; this ver"),
        (lambda told: told.clear(), "is damaged, or was written by a PyTorch"),
        (lambda told: told["graph_module"]["graph"].update(nodes=7), "is damaged, or was"),
    ],
)
def test_programs_of_another_form_are_refused(own, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_program(forge(own, model=change), Told())


def test_deeply_nested_text_is_refused(own):
    forge(own, model=b"[" * 10**5 + b"]" * 10**5)
    with pytest.raises(CheckpointError, match="RecursionError"):
        load_program(own, Told())


def places(told, path=()):
    """The paths of all values in JSON."""
    items = told.items() if isinstance(told, dict) else enumerate(told)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


ODD = st.sampled_from([None, True, -1, 0, 10**9, 2.5, "", "x", [], {}, [[]], {"as_int": -7}])


@given(data=st.data())
def test_forged_programs_never_end_in_a_traceback(program_bytes, data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "forged.pt2"
    path.write_bytes(program_bytes)
    part = data.draw(st.sampled_from(["model", "model_weights_config"]))

    def change(told):
        place = data.draw(st.sampled_from(list(places(told))))
        inner = told
        for key in place[:-1]:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[place[-1]] = data.draw(ODD)
        else:
            del inner[place[-1]]

    forge(path, **{part: change})
    try:
        load_program(path, Told())
    except ExportError as error:
        assert str(error)  # noqa: PT017 - much of what an archive says is not read


@pytest.mark.parametrize(
    ("target", "argument"),
    [
        ("torch.ops.aten.manual_seed.default", {"as_int": 7}),
        ("torch.manual_seed", {"as_int": 7}),
        ("torch._C._set_grad_enabled", {"as_bool": False}),
        ("torch.set_default_dtype", {"as_scalar_type": 8}),
    ],
)
def test_a_forged_program_changes_nothing_outside(own, target, argument):
    """Operators that seed, or switch modes, are none that compute."""
    torch.manual_seed(3)
    forge(own, model=calling(target, argument))
    with pytest.raises(UnsupportedModelError, match=re.escape(f"calls `{target}`")):
        load_program(own, Told())
    assert torch.initial_seed() == 3
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
