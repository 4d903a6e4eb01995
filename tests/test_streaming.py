"""A live stream: what it refuses, what it keeps, and that sessions share nothing."""

from __future__ import annotations

import contextlib
import io
import tracemalloc

import numpy as np
import pytest

from support import make_checkpoint, run
from tcn_export import load_bundle, open_stream
from tcn_export.cli.export import main as export_command
from tcn_export.errors import BundleError, DataError, UsageError
from tcn_export.models.tcn import TCNConfig
from tcn_export.parity.tolerance import float32_limit
from tcn_export.peak_memory import peak_bytes

EVERY = TCNConfig(
    in_channels=3, outputs=4, widths=(8, 12, 12), dilations=(1, 2, 4), head="every"
)
HOPS = {"concat": 4, "ring": 1}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Bundles of one network, by the form of their states."""
    folder = tmp_path_factory.mktemp("streams")
    model = make_checkpoint(folder / "every.pt", EVERY)
    for form, hop in HOPS.items():
        done = run(
            export_command, model, "--target", "onnx", "--mode", "stream", "--hop", hop,
            "--state-form", form, "--out", folder, "-q",
        )  # fmt: skip
        assert done.code == 0, done.stderr
    return {
        form: load_bundle(folder / f"every-onnx-float32-stream{hop}")
        for form, hop in HOPS.items()
    }


@pytest.fixture(params=sorted(HOPS))
def bundle(request, bundles):
    return bundles[request.param]


def signal(streams=1, steps=48, seed=0):
    shape = (streams, 3, steps)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def answers(session, x, start=0, end=None):
    """Step by hops, and copy what comes."""
    end = x.shape[2] if end is None else end
    (spec,) = session.signature.outputs
    parts = [np.zeros((len(x), 4, 0), np.float32)]
    parts += [
        np.array(session.step(x[:, :, i : i + session.hop])[spec.name])
        for i in range(start, end, session.hop)
    ]
    return np.concatenate(parts, axis=2)


WRONG = {
    "no whole hop": lambda hop: signal(steps=2 * hop + 1),
    "no step": lambda hop: signal(steps=hop)[:, :, :0],
    "channels": lambda hop: signal(steps=hop)[:, :2],
    "streams": lambda hop: signal(2, hop),
    "axes": lambda hop: signal(steps=hop)[0],
    "dtype": lambda hop: signal(steps=hop).astype(np.float64),
    "integers": lambda hop: signal(steps=hop).astype(np.int64),
    "list": lambda hop: signal(steps=hop).tolist(),
    "none": lambda hop: None,
}


@pytest.mark.parametrize("wrong", sorted(set(WRONG)))
def test_a_wrong_chunk_is_told_with_both_sides_and_changes_nothing(bundle, wrong):
    session, x = open_stream(bundle), signal()
    if wrong == "no whole hop" and session.hop == 1:
        pytest.skip("every length is whole hops of one step")
    whole = answers(open_stream(bundle), x)
    first = answers(session, x, 0, 8)
    chunk = WRONG[wrong](session.hop)
    with pytest.raises(DataError) as error:
        session.step(chunk)
    text = str(error.value)
    assert f"float32 of the shape (1, 3, {session.hop})" in text
    found = str(chunk.shape) if isinstance(chunk, np.ndarray) else type(chunk).__name__
    assert found in text
    if wrong in ("dtype", "integers"):
        assert str(chunk.dtype) in text
    np.testing.assert_array_equal(np.concatenate([first, answers(session, x, 8)], 2), whole)


@pytest.mark.parametrize("lie_as", ["fortran", "reversed", "every other", "read only"])
def test_chunks_may_lie_in_memory_as_they_like(bundle, lie_as):
    x = signal()
    whole = answers(open_stream(bundle), x)
    other = {
        "fortran": np.asfortranarray(x),
        "reversed": x[:, :, ::-1].copy()[:, :, ::-1],
        "every other": np.repeat(x, 2, axis=2)[:, :, ::2],
        "read only": np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    }[lie_as]
    np.testing.assert_array_equal(answers(open_stream(bundle), other), whole)


def test_several_hops_are_the_same_as_one_after_the_other(bundle):
    x, session = signal(), open_stream(bundle)
    whole = answers(open_stream(bundle), x)
    parts = [
        np.array(session.step(part)["logits"]) for part in np.split(x, [16, 24, 28], axis=2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


def test_reset_begins_anew_to_the_bit(bundle):
    session, x = open_stream(bundle), signal()
    whole = answers(session, x)
    session.reset()
    np.testing.assert_array_equal(answers(session, x), whole)
    answers(session, signal(seed=1), 0, 20)  # in the middle of another signal
    session.reset()
    np.testing.assert_array_equal(answers(session, x), whole)


def test_sessions_of_one_bundle_share_nothing(bundle):
    signals = [signal(seed=seed) for seed in range(3)]
    whole = [answers(open_stream(bundle), x) for x in signals]
    sessions = [open_stream(bundle) for _ in signals]
    found = [[] for _ in signals]
    for start in range(0, 48, 4):
        for i, (session, x) in enumerate(zip(sessions, signals, strict=True)):
            found[i].append(answers(session, x, start, start + 4))
        if start == 24:
            sessions[0].reset()
    for parts, x in zip(found[1:], whole[1:], strict=True):
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), x)


def test_streams_in_step_are_as_exact_as_alone(bundle):
    x = signal(5)
    together = answers(open_stream(bundle, streams=5), x)
    alone = [answers(open_stream(bundle), x[i : i + 1]) for i in range(5)]
    # A matrix product of several rows may add in another order.
    apart = np.concatenate(alone)
    assert np.abs(together - apart).max() <= float32_limit(0.0, float(np.abs(apart).max()))


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("at", [0, 4, 20])
def test_saved_states_go_on_in_a_fresh_session_to_the_bit(bundle, streams, at, tmp_path):
    x, session = signal(streams), open_stream(bundle, streams)
    whole = answers(open_stream(bundle, streams), x)
    answers(session, x, 0, at)
    session.save(tmp_path / "states.npz")
    kept = session.states()
    answers(session, signal(streams, seed=1))  # what was saved does not move with it
    session.load(tmp_path / "states.npz")
    np.testing.assert_array_equal(answers(session, x, at), whole[:, :, at:])
    fresh = open_stream(bundle.path, streams)
    fresh.restore(kept)
    np.testing.assert_array_equal(answers(fresh, x, at), whole[:, :, at:])


def saved(bundle, streams=1, **changes):
    buffer = io.BytesIO()
    session = open_stream(bundle, streams)
    answers(session, signal(streams), 0, 8)
    session_file = {**session.states(), "model_sha256": session._model, **changes}
    np.savez(buffer, **{k: v for k, v in session_file.items() if v is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("cut", "cannot read states from"),
        ("empty", "cannot read states from"),
        ("pickled", "cannot read states from .*Python objects"),
        ("no model", "holds states of the model none"),
        ("another model", "Open the bundle that they were saved with"),
        ("streams", "Open as many streams as were saved"),
        ("missing", "the saved states are"),
        ("surplus", "the saved states are"),
        ("dtype", "float64"),
        ("no file", "cannot read states from"),
    ],
)
def test_foreign_or_damaged_states_are_refused_and_change_nothing(
    bundles, damage, told, tmp_path
):
    bundle, x = bundles["concat"], signal()
    name = bundle.manifest.signature.states[0].input
    state = open_stream(bundle).states()[name]
    good = saved(bundle)
    raw = {
        "cut": lambda: good[: len(good) // 2],
        "empty": lambda: b"",
        "pickled": lambda: saved(bundle, **{name: np.array([{"a": 1}], dtype=object)}),
        "no model": lambda: saved(bundle, model_sha256=None),
        "another model": lambda: saved(bundles["ring"]),
        "streams": lambda: saved(bundle, 2),
        "missing": lambda: saved(bundle, **{name: None}),
        "surplus": lambda: saved(bundle, more=state),
        "dtype": lambda: saved(bundle, **{name: state.astype(np.float64)}),
        "no file": lambda: None,
    }[damage]()
    if raw is not None:
        (tmp_path / "states.npz").write_bytes(raw)
    session = open_stream(bundle)
    first = answers(session, x, 0, 8)
    with pytest.raises(DataError, match=told):
        session.load(tmp_path / "states.npz")
    whole = answers(open_stream(bundle), x)
    np.testing.assert_array_equal(np.concatenate([first, answers(session, x, 8)], 2), whole)


def test_a_forged_position_in_a_ring_is_an_error_and_no_crash(bundles):
    session = open_stream(bundles["ring"])
    states = session.states()
    (position,) = [n for n, value in states.items() if value.dtype.kind == "i"]
    session.restore({**states, position: np.full_like(states[position], 10**12)})
    with contextlib.suppress(BundleError):  # refused, or read modulo the size of the ring
        session.step(signal(steps=1))


def test_a_step_allocates_nothing_that_stays(bundle):
    session = open_stream(bundle, streams=2)
    x = signal(2, session.hop)
    held = {name: id(value) for name, value in session.step(x).items()}
    for _ in range(500):
        session.step(x)
    before = peak_bytes()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in range(10_000):
            given = session.step(x)
        end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {name: id(value) for name, value in given.items()} == held
    assert end - start < 2048
    assert peak_bytes() - before < 4 * 2**20


def test_a_bundle_of_windows_is_no_stream(tiny_exports):
    with pytest.raises(
        UsageError, match=r"takes whole windows\. Export the model with --mode s"
    ):
        open_stream(tiny_exports["float32"])


@pytest.mark.parametrize("streams", [0, -1, 4097])
def test_no_streams_and_too_many_are_refused(bundles, streams):
    with pytest.raises(UsageError, match=f"{streams} streams were asked for; expected 1 to"):
        open_stream(bundles["concat"], streams)


def test_states_that_count_what_no_stream_has_seen_are_refused(bundles):
    session, x = open_stream(bundles["ring"]), signal()
    answers(session, x, end=20)
    saved = session.states()
    (name,) = (name for name, state in saved.items() if state.dtype == np.int64)
    for count in (-7, 2**63 - 1):
        with pytest.raises(DataError, match="counts"):
            session.restore({**saved, name: np.array([count])})
    with pytest.raises(DataError, match="expected a numpy array"):
        session.restore({**saved, name: [20]})
    on = answers(session, x, 20)
    np.testing.assert_array_equal(on, answers(open_stream(bundles["ring"]), x)[:, :, 20:])
