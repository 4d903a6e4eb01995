from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tcn_export import files
from tcn_export.errors import OutputError


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_is_written_and_replaced_whole(tmp_path):
    target = tmp_path / "bundle"
    files.write_folder(target, {"a": b"1", "b": b"2"}, replace=False)
    assert content(target) == {"a": b"1", "b": b"2"}
    files.write_folder(target, {"c": b"3"}, replace=True)
    assert content(target) == {"c": b"3"}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_replacing_works_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = tmp_path / "bundle"
    files.write_folder(target, {"a": b"1"}, replace=True)
    files.write_folder(target, {"b": b"2"}, replace=True)
    assert content(target) == {"b": b"2"}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_this_system_exchanges_names_at_once(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "x").touch()
    assert files._exchange(one, other)
    assert [p.name for p in other.iterdir()] == ["x"]


def test_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    target = tmp_path / "bundle"
    files.write_folder(target, {"a": b"1"}, replace=True)
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_folder(target, {"b": b"2", "no/such/folder": b""}, replace=True)
    assert content(target) == {"a": b"1"}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_parent_that_is_a_file_is_an_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    for write in (
        lambda: files.write_folder(blocker / "bundle", {}, replace=True),
        lambda: files.write_bytes(blocker / "x", b""),
        lambda: files.check_writable(blocker / "out"),
    ):
        with pytest.raises(OutputError, match="cannot be written"):
            write()


def test_leftovers_of_dead_writers_are_removed_and_those_of_living_ones_are_not(tmp_path):
    names = {".bundle.0000dead.tmp", ".bundle.0000live.tmp", ".bundle.000a11fe.tmp"}
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").touch()
    (tmp_path / ".bundle.00001111.tmp").mkdir()  # somebody is about to write here
    with files._claimed(tmp_path / ".bundle.000a11fe.tmp"):
        files.write_folder(tmp_path / "bundle", {"a": b"1"}, replace=False)
    assert {p.name for p in tmp_path.iterdir()} == {
        "bundle",
        ".bundle.000a11fe.tmp",  # locked
        ".bundle.0000live.tmp",  # not one of ours: "live" is no hexadecimal number
        ".bundle.00001111.tmp",
    }


def test_link_stays_a_link_and_what_it_means_is_replaced(tmp_path):
    files.write_folder(tmp_path / "real", {"a": b"1"}, replace=False)
    (tmp_path / "link").symlink_to("real")
    files.write_folder(tmp_path / "link", {"b": b"2"}, replace=True)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == {"b": b"2"}
    assert {p.name for p in tmp_path.iterdir()} == {"link", "real"}


def test_leftovers_of_names_with_brackets_are_removed(tmp_path):
    (tmp_path / ".m[1].0000dead.tmp").mkdir()
    (tmp_path / ".m[1].0000dead.tmp" / "x").touch()
    files.write_folder(tmp_path / "m[1]", {"a": b"1"}, replace=False)
    assert [p.name for p in tmp_path.iterdir()] == ["m[1]"]


def test_folder_that_came_meanwhile_is_kept(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_folder(tmp_path / "bundle", {"a": b"1"}, replace=False)
    assert content(tmp_path / "bundle") == {"precious.txt": b"mine"}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_asking_whether_a_folder_is_writable_leaves_nothing(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tcn_export.files import write_folder
    big = {f"file{i}": sys.argv[2].encode() * 200_000 for i in range(40)}
    while True:
        write_folder(Path(sys.argv[1]), big, replace=True)
""")


def test_killed_writer_leaves_the_old_folder_or_the_new_one(tmp_path):
    """kill -9 at any moment: the folder is whole, old or new, and there at all times."""
    target = tmp_path / "bundle"
    files.write_folder(target, {f"file{i}": b"0" * 200_000 for i in range(40)}, replace=True)
    for attempt in range(12):
        letter = "abcdefghijkl"[attempt]
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(target), letter])
        end = time.monotonic() + 20
        while not list(tmp_path.glob(".bundle.*.tmp")) and time.monotonic() < end:
            time.sleep(0.001)
        for _ in range(attempt):
            assert target.is_dir()
            time.sleep(0.004)
        assert writer.poll() is None, "the writer ended before it was killed"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        found = content(target)
        assert len(found) == 40
        assert len(set(found.values())) == 1
        assert {len(raw) for raw in found.values()} == {200_000}
    for leftover in tmp_path.glob(".bundle.*.tmp"):
        os.utime(leftover, (0, 0))  # a young, empty one may belong to somebody who just begins
    files.write_folder(target, {"a": b"1"}, replace=True)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
