from __future__ import annotations

import io
import pickle  # noqa: TID251 - a bomb is made with it
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from support import TINY_TCN, make_checkpoint
from tcn_export.errors import CheckpointError, OutputError
from tcn_export.source.checkpoint import load_source

MARKER = "ran.txt"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_source_is_the_network_that_was_saved(tiny_model):
    source = load_source(tiny_model)
    assert source.name == "tiny"
    assert not source.module.training
    assert not any(p.requires_grad for p in source.module.parameters())
    assert source.classes == tuple(f"class {i}" for i in range(4))
    assert source.signature.inputs[0].shape == ("batch", 3, "length")
    state = content(tiny_model)["state_dict"]
    for name, value in source.module.state_dict().items():
        assert torch.equal(value, state[name])
    np.testing.assert_allclose(1 / source.spread, state["normalize.scale"][:, 0], rtol=1e-6)


def test_equal_networks_give_equal_bytes_whatever_the_file_is_called(tmp_path):
    one, other = make_checkpoint(tmp_path / "one.pt"), make_checkpoint(tmp_path / "other.pt")
    assert one.read_bytes() == other.read_bytes()


def edit(key, value, inside=None):
    def change(entries):
        (entries if inside is None else entries[inside])[key] = value

    return change


def drop(key, inside=None):
    def change(entries):
        del (entries if inside is None else entries[inside])[key]

    return change


def poison(entries):
    entries["state_dict"]["head.weight"][0, 0] = torch.nan


def silence(entries):
    entries["state_dict"]["normalize.scale"][1] = 0


LOOP: list = []
LOOP.append(LOOP)
WEIGHT = "blocks.1.body.conv1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("format", "zip"), "its `format` is 'zip', expected 'tcn-export-checkpoint'"),
        (edit("schema", 99), "has the schema 99; this version reads 1"),
        (drop("task"), "lacks the field `task`"),
        (drop("length", "input"), "lacks the field `input.length`"),
        (edit("architecture", 7), "`architecture` in .* is a int; expected str"),
        (edit("architecture", "lstm"), "cannot be built: the architecture 'lstm'"),
        (edit("task", "ranking"), "`task` in .* is 'ranking'"),
        (edit("sample_rate_hz", -1.0), "`sample_rate_hz` in .* is -1.0"),
        (edit("kernel_size", 10**12, "config"), "cannot be built: `kernel_size`"),
        (edit("widths", [60000, 12, 12], "config"), "its configuration asks for"),
        (edit("widths", "x", "config"), "cannot be built: `widths`"),
        (drop("head", "config"), "cannot be built: the configuration of a TCN has the fields"),
        (edit("channels", 5, "input"), "`input.channels` in .* is 5, but the network takes 3"),
        (edit("length", 0, "input"), "`input.length` in .* is 0"),
        (edit("length", 10**14, "input"), "expected 1 to 1,000,000"),
        (edit("length", 2**70, "input"), "expected 1 to 1,000,000"),
        (edit("schema", torch.ones(2)), "has the schema tensor"),
        (
            edit("convolutions", torch.ones(2), "config"),
            "`config.convolutions` in .* Tensor th",
        ),
        (edit("convolutions", True, "config"), r"`convolutions` \(=True\) must be 1 or 2"),
        (
            edit("training", {"loss": [torch.ones(1)]}),
            r"`training.loss\[0\]` in .* is a Tensor",
        ),
        (
            edit("training", {"loss": float("inf")}),
            "`training.loss` in .* is a float that JSON",
        ),
        (lambda m: m["training"].update(loop=LOOP), "is nested more than 20 deep"),
        (edit("sample_rate_hz", 10**400), "`sample_rate_hz` in .* is 1000"),
        (edit("training", {3: 1}), "`training` in .* is a dict that JSON cannot hold"),
        (
            edit("classes", ["a", "b", "c", 4]),
            "`classes` in .* must hold different, printable names",
        ),
        (edit("classes", ["a"]), "names 1 classes, but the network has 4 outputs"),
        (drop(WEIGHT, "state_dict"), f"1 missing \\({WEIGHT}\\)"),
        (edit("more", torch.zeros(1), "state_dict"), r"1 not expected \(more\)"),
        (
            edit(WEIGHT, torch.zeros(1), "state_dict"),
            r"of the shape \(1,\); its configuration",
        ),
        (edit(WEIGHT, torch.zeros(12, 8, 3).double(), "state_dict"), "is torch.float64"),
        (edit(WEIGHT, [1.0], "state_dict"), "is not a dense, contiguous tensor"),
        (edit(WEIGHT, torch.zeros(12, 8, 3).to_sparse(), "state_dict"), "not a dense"),
        (edit(WEIGHT, torch.zeros(1, 1, 1).expand(12, 8, 3), "state_dict"), "not a dense"),
        (poison, r"1 of 48 values of `head\.weight` in .* are NaN"),
        (silence, r"`normalize\.scale` in .* holds zeros"),
    ],
)
def test_forged_fields_are_named(tmp_path, change, message):
    path = make_checkpoint(tmp_path / "model.pt")
    entries = content(path)
    change(entries)
    torch.save(entries, path)
    with pytest.raises(CheckpointError, match=message):
        load_source(path)


def test_pickled_module_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match="could run code") as caught:
        load_source(path)
    assert 'torch.save(model.state_dict(), "weights.pt")' in str(caught.value)


def test_pickle_that_would_run_code_does_not_run(tmp_path):
    marker, path = tmp_path / MARKER, tmp_path / "model.pt"
    torch.save({"format": Bomb(marker)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_source(path)
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(CheckpointError, match="not a complete zip archive"):
        load_source(path)
    assert not marker.exists()
    torch.load(io.BytesIO(_bomb_archive(marker)), weights_only=False)
    assert marker.exists()  # the bomb is live


def _bomb_archive(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Bomb(marker), buffer)
    return buffer.getvalue()


def test_bare_state_dict_and_other_values_are_told_apart(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match="is a bare state dict of 2 tensors"):
        load_source(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_source(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_source(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load_source(tmp_path)


def test_parameters_in_place_of_buffers_are_their_values(tmp_path):
    path = make_checkpoint(tmp_path / "model.pt")
    entries = content(path)
    state = entries["state_dict"]
    state["normalize.mean"] = nn.Parameter(state["normalize.mean"])
    torch.save(entries, path)
    assert load_source(path).center.shape == (3,)


def test_programs_and_packed_archives_are_told_apart(tmp_path):
    path = make_checkpoint(tmp_path / "model.pt")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + bytes(10**6))
    with pytest.raises(CheckpointError, match="would unpack to"):
        load_source(path)
    data = tmp_path / "windows.npz"
    np.savez_compressed(data, x=np.zeros((4, 3, 24)))
    with pytest.raises(CheckpointError, match=r"is a data file \(\.npz\).*--data"):
        load_source(data)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(CheckpointError, match=r"is a TorchScript program.*--factory"):
        load_source(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("fuzz") / "model.pt").read_bytes()


def _forged(member: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", member)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


PLACES = st.one_of(  # anywhere, in the pickle, in the archive's directory
    st.integers(0, 10**6), st.integers(0, 3000), st.integers(-2500, -1)
)
DAMAGE = st.one_of(
    st.integers(0, 10**6).map(lambda end: lambda raw: raw[: end % len(raw)]),
    st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=6).map(
        lambda flips: lambda raw: _flip(raw, flips)
    ),
    st.binary(max_size=60).map(lambda member: lambda _: _forged(member)),
    st.binary().map(lambda content: lambda _: content),
)


def _flip(original: bytes, flips: list[tuple[int, int]]) -> bytes:
    raw = bytearray(original)
    for place, bits in flips:
        raw[place % len(raw)] ^= bits
    return bytes(raw)


def test_no_flipped_bit_of_a_weight_goes_unnoticed(original, tmp_path):
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        member = max(archive.infolist(), key=lambda m: m.file_size)
        start = original.index(archive.read(member))
    for place in range(start, start + member.file_size, 97):
        (tmp_path / "m.pt").write_bytes(_flip(original, [(place, 64)]))
        with pytest.raises(CheckpointError, match="the checksum of its part"):
            load_source(tmp_path / "m.pt")


@given(damage=DAMAGE)
def test_damaged_checkpoints_never_end_in_a_traceback(original, tmp_path_factory, damage):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(damage(original))
    try:
        source = load_source(path)
    except CheckpointError as error:
        assert str(path) in str(error)  # noqa: PT017 - a bit between two parts hurts nobody
    else:
        assert source.channels == TINY_TCN.in_channels


def test_unwritable_path_is_an_error_and_leaves_nothing(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        make_checkpoint(blocker / "model.pt")
    assert list(tmp_path.iterdir()) == [blocker]
