"""The cache speeds an export up, and nothing depends on it."""

from __future__ import annotations

import pytest

from support import run
from tcn_export.bundle import load_bundle
from tcn_export.cli.export import main as export_command
from tcn_export.quantize.cache import NOWHERE, VARIABLE, Cache, key_of
from tcn_export.quantize.watch import Watch
from tcn_export.structure import NUMBER, Each


def test_keys_tell_apart_what_reads_the_same_in_a_row():
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc") != key_of(b"abc")
    assert key_of(b"ab", b"c") == key_of(memoryview(b"ab"), b"c")


def test_entries_are_read_back_and_nowhere_keeps_none(tmp_path):
    cache, form = Cache(tmp_path / "new"), Each(NUMBER)
    assert cache.read("k", form) is None
    cache.write("k", {"a": 0.1})
    assert cache.read("k", form) == {"a": 0.1}
    assert cache.read("k", [NUMBER]) is None  # of another form
    NOWHERE.write("k", {"a": 0.1})
    assert NOWHERE.read("k", form) is None


@pytest.fixture
def export(tiny_model, tiny_data, tmp_path, monkeypatch):
    """Export int8 by the real command; its ranges, and how often the graph was measured."""
    measured = []
    for name in ("extremes", "histograms"):
        original = getattr(Watch, name)

        def spy(*arguments, name=name, original=original):
            measured.append(name)
            return original(*arguments)

        monkeypatch.setattr(Watch, name, spy)

    def once():
        measured.clear()
        line = [tiny_model, "--target", "onnx", "--precision", "int8", "--data", tiny_data]
        line += ["--calibration", "percentile", "--max-drop", 5, "--layout", "1d"]
        ran = run(export_command, *line, "--out", tmp_path / "out", "--overwrite", "-q")
        assert ran.code == 0
        bundle = load_bundle(tmp_path / "out" / "tiny-onnx-int8")
        return bundle.files["model.onnx"], list(measured)

    return once


def test_a_second_export_measures_nothing_and_gives_the_same(export, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    first, measured = export()
    assert measured == ["extremes", "histograms"]
    second, measured = export()
    assert measured == []
    assert second == first


def test_export_without_a_cache_measures_each_time(export, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, _ = export()
    second, measured = export()
    assert measured == ["extremes", "histograms"]
    assert second == first
    assert not (tmp_path / "cache").exists()


def test_export_goes_on_where_the_cache_cannot_be_written(export, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    _, measured = export()
    assert measured == ["extremes", "histograms"]
    assert (tmp_path / "file").read_text() == "in the way"
