"""``build_engine.py``: modules of this package, put into one file that needs none of them.

The kit builds, runs and judges with the very code that the exporter uses; a second version,
written for the device, would drift from it. Every piece is written for Python 3.8 and imports
the standard library, numpy and other pieces only; `assemble` checks that while it joins them.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass, field
from importlib import import_module, resources

from tcn_export import __version__

SCRIPT_FILE = "build_engine.py"
PIECES = (
    "tcn_export.errors",
    "tcn_export.archive",
    "tcn_export.bench",
    "tcn_export.parity.metrics",
    "tcn_export.parity.tolerance",
    "tcn_export.parity.golden",
    "tcn_export.parity.rows",
    "tcn_export.parity.gate",
    "tcn_export.targets.streamed",
    "tcn_export.targets.cuda_driver",
    "tcn_export.targets.tensorrt.probe",
    "tcn_export.targets.tensorrt.cudart",
    "tcn_export.targets.tensorrt.request",
    "tcn_export.targets.tensorrt.journal",
    "tcn_export.targets.tensorrt.builder",
    "tcn_export.targets.tensorrt.worker",
    "tcn_export.targets.tensorrt.engine",
    "tcn_export.targets.tensorrt.kernels",
    "tcn_export.targets.tensorrt.sidecar",
    "tcn_export.targets.tensorrt.trtexec",
    "tcn_export.kit.proof",
    "tcn_export.kit.streaming",
    "tcn_export.kit.script",
)
_OURS = "tcn_export"
_OLDEST_PYTHON = (3, 8)
_NUMPY = "import numpy as np"
_GUARDED_NUMPY = """try:
    import numpy as np
except ImportError:
    print("Error: numpy is missing for this Python. On a Jetson: sudo apt install "
          "python3-numpy", file=sys.stderr)
    sys.exit(4)"""


@dataclass
class _Joined:
    """What was taken from the pieces so far."""

    modules: set[str] = field(default_factory=set)
    names: dict[str, set[str]] = field(default_factory=dict)
    bodies: list[str] = field(default_factory=list)
    defined: dict[str, str] = field(default_factory=dict)


def assemble() -> str:
    """The text of ``build_engine.py``; equal sources give equal text.

    Raises:
        AssertionError: A piece uses what the script does not hold: a bug of ours.
    """
    joined, docstring = _Joined(), ""
    for name in PIECES:
        text = _source(name)
        tree = ast.parse(text, name, feature_version=_OLDEST_PYTHON)
        docstring = ast.get_docstring(tree) or ""
        _add(joined, name, text, tree)
    digest = hashlib.sha256("".join(joined.bodies).encode()).hexdigest()
    head = [
        "#!/usr/bin/env python3",
        f'"""{docstring}\n"""',
        f"# Written by tcn-export {__version__} from its own modules (sha256 {digest[:16]}).",
        "# Do not edit: change the export, and let it write this again.",
        "from __future__ import annotations",
        "\n".join(_imports(joined)),
    ]
    return "\n\n".join([*head, *joined.bodies]) + "\n"


def _imports(joined: _Joined) -> list[str]:
    froms = [
        f"from {module} import {', '.join(sorted(names))}"
        for module, names in sorted(joined.names.items())
        if names
    ]
    modules = sorted(joined.modules - {_NUMPY})
    return [*modules, *froms, "", _GUARDED_NUMPY]


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    return resources.files(import_module(package)).joinpath(f"{module}.py").read_text()


def _add(joined: _Joined, name: str, text: str, tree: ast.Module) -> None:
    lines = text.splitlines()
    kept: list[str] = []
    is_last = name == PIECES[-1]
    end_of_last = 0
    for index, node in enumerate(tree.body):
        start, end = _span(node)
        # What stands between two statements belongs to the second one: comments.
        between = lines[end_of_last : start - 1]
        end_of_last = end
        if index == 0 and _is_docstring(node):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            _take_import(joined, name, node)
            continue
        if _asks(node, "TYPE_CHECKING") or (_asks(node, "__name__") and not is_last):
            continue
        _define(joined, name, node)
        kept += [*between, *lines[start - 1 : end]]
    title = f"# {'-' * 10} {name} {'-' * 10}"
    joined.bodies.append("\n".join([title, *kept]).strip())


def _span(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return start, node.end_lineno or start


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _take_import(joined: _Joined, piece: str, node: ast.Import | ast.ImportFrom) -> None:
    module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    assert module is not None
    if module == "__future__":
        return
    if module.split(".")[0] != _OURS:
        if isinstance(node, ast.Import):
            joined.modules.add(ast.unparse(node))
        else:
            imported = {alias.name for alias in node.names} - {"TYPE_CHECKING"}
            joined.names.setdefault(module, set()).update(imported)
        return
    for alias in node.names:
        holder = joined.defined.get(alias.name)
        if holder != module or alias.asname is not None:
            raise AssertionError(
                f"{piece} imports {alias.name} from {module}, which is no earlier piece of "
                "build_engine.py under that name"
            )


def _asks(node: ast.stmt, name: str) -> bool:
    """Whether a statement is ``if`` with a condition that mentions ``name``."""
    return isinstance(node, ast.If) and name in {
        inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)
    }


def _define(joined: _Joined, piece: str, node: ast.stmt) -> None:
    """Note the names that a statement defines; two pieces must not define one differently."""
    names: list[str] = []
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [
            inner.id for t in targets for inner in ast.walk(t) if isinstance(inner, ast.Name)
        ]
    for name in names:
        holder = joined.defined.setdefault(name, piece)
        if holder != piece:
            raise AssertionError(
                f"both {holder} and {piece} define {name}; build_engine.py has room for one"
            )
