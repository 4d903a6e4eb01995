"""The script is one file of our own modules, for Python 3.8 and numpy alone."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from targets.tensorrt import api_contract
from tcn_export.kit import amalgamate
from tcn_export.kit.amalgamate import assemble


def test_it_needs_neither_tcn_export_nor_torch(kits):
    text = (kits / "tiny-trt-float32" / "build_engine.py").read_text()
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}


def test_its_text_is_python_38_and_touches_what_every_tensorrt_has():
    text = assemble()
    ast.parse(text, feature_version=(3, 8))
    assert api_contract.check({"build_engine.py": text}, api_contract.recorded()) == []
    assert assemble() == text, "equal sources give equal text"


def test_nothing_in_it_is_evaluated_that_python_38_lacks():
    """Annotations may say what they like; the rest is run."""
    tree = ast.parse(assemble())
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Name("said"))
    run_time = ast.unparse(tree)
    for newer in (r"\bremoveprefix\(", r"\bslots=True", r"\bzip\(.*\bstrict=", r" \|= "):
        assert not re.search(newer, run_time), newer
    generic = r"\b(list|dict|tuple|set|type|Callable|Mapping|Sequence|Iterable|Iterator)\[\w"
    assert not re.search(generic, run_time)


def test_pieces_that_do_not_fit_together_are_a_bug_of_ours(monkeypatch):
    pieces = tuple(p for p in amalgamate.PIECES if not p.endswith("metrics"))
    monkeypatch.setattr(amalgamate, "PIECES", pieces)
    with pytest.raises(AssertionError, match=r"imports .* from tcn_export\.parity\.metrics"):
        assemble()


def test_two_pieces_cannot_define_one_name():
    joined, definition = amalgamate._Joined(), ast.parse("LIMIT = 1").body[0]
    amalgamate._define(joined, "one", definition)
    amalgamate._define(joined, "one", definition)
    with pytest.raises(AssertionError, match="both one and other define LIMIT"):
        amalgamate._define(joined, "other", definition)
