"""Which attributes of TensorRT a source text touches, read from its syntax alone.

It needs our conventions, because nothing is imported:

- The module is called `trt` (also as an attribute: `library.trt`), and so are the real names.
- An object of TensorRT has the name in `CONVENTION`, in a variable, a parameter or an
  attribute of `self`, with or without leading underscores: `config`, `self._engine`. Such a
  name is TensorRT's unless it is annotated as something else (anything but Any and object),
  imported, a function, a class, or assigned something written out. Where a variable is
  assigned what the reader can follow (`net = builder.create_network(0)`,
  `flags = trt.BuilderFlag`), its name does not matter.
- What is touched must be in every version. What some versions lack is asked for by name,
  `getattr(owner, "name", None)` or `hasattr(owner, "name")`; in the same function it may then
  be touched directly. The name is written out, or runs through a tuple that is.
- An object of a class that some versions lack (IRuntimeConfig) exists only where its class
  does, so only those versions count for what is touched on it.
- A public method of a class derived from TensorRT's must override something.

What any other object is, the syntax does not say: `found[0].shape` is not read. Only the names
that the contract calls distinctive are told wherever they stand.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

CONVENTION = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "convolution": "IConvolutionLayer",
    "engine": "ICudaEngine",
    "host_memory": "IHostMemory",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "logger": "Logger",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "problem": "ParserError",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
    "tensor": "ITensor",
    "timing_cache": "ITimingCache",
}
RESULTS = {
    "build_serialized_network": "IHostMemory",
    "create_builder_config": "IBuilderConfig",
    "create_engine_inspector": "EngineInspector",
    "create_execution_context": "IExecutionContext",
    "create_network": "INetworkDefinition",
    "create_optimization_profile": "IOptimizationProfile",
    "create_runtime_config": "IRuntimeConfig",
    "create_timing_cache": "ITimingCache",
    "deserialize_cuda_engine": "ICudaEngine",
    "get_error": "ParserError",
    "get_input": "ITensor",
    "get_layer": "ILayer",
    "get_output": "ITensor",
    "get_timing_cache": "ITimingCache",
}
MODULES = ("trt", "tensorrt", "tensorrt_rtx")
LITERALS = (ast.Dict, ast.List, ast.Tuple, ast.Set, ast.JoinedStr, ast.DictComp, ast.ListComp)


@dataclass(frozen=True)
class Known:
    """Something of TensorRT: its module (no owner), a class, or an object of a class."""

    owner: str
    is_object: bool = False


@dataclass(frozen=True)
class Touch:
    """One attribute of TensorRT that a source text asks for.

    `name` is None where it is computed; `owner` is None where only the name is known.
    """

    file: str
    line: int
    function: str
    owner: str | None
    name: str | None
    optional: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def what(self) -> str:
        return ".".join(part for part in (self.owner or "trt", self.name) if part)


MODULE = Known("")
Scope = dict[str, "Known | None"]


@dataclass
class Reader(ast.NodeVisitor):
    """Collects the touches of one file; `classes` are all that any version has."""

    file: str
    classes: frozenset[str]
    distinctive: frozenset[str]
    touches: list[Touch] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    fields: list[Scope] = field(default_factory=lambda: [{}])
    functions: list[str] = field(default_factory=list)
    literals: dict[str, ast.expr] = field(default_factory=dict)
    texts: dict[str, list[str | None]] = field(default_factory=dict)

    def read(self, source: str) -> list[Touch]:
        tree = ast.parse(source, self.file)
        self.literals = written_out(tree)
        self.texts = looped_texts(tree, self.literals)
        self.enter(tree.body, {})
        return self.touches

    def enter(self, body: list[ast.stmt], scope: Scope) -> None:
        """Read statements in a scope of their own."""
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                scope[statement.name] = None
            elif isinstance(statement, ast.Import | ast.ImportFrom):
                names = ((alias.asname or alias.name) for alias in statement.names)
                scope.update(dict.fromkeys((n for n in names if n not in MODULES), None))
        self.scopes.append(scope)
        for statement in body:
            self.visit(statement)
        self.scopes.pop()

    def known(self, node: ast.expr) -> Known | None:
        """What an expression is, if it is TensorRT's."""
        if isinstance(node, ast.Name):
            return self.named(node.id, self.scopes)
        if isinstance(node, ast.Call):
            called = self.known(node.func)
            if called is not None and called.owner in self.classes and not called.is_object:
                return Known(called.owner, True)
            if isinstance(node.func, ast.Attribute) and self.known(node.func.value):
                result = RESULTS.get(node.func.attr)
                return Known(result, True) if result else None
        if not isinstance(node, ast.Attribute):
            return None
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.named(node.attr, self.fields[-1:])
        if node.attr in MODULES:
            return MODULE
        owner = self.known(node.value)
        inner = None if owner is None else f"{owner.owner}.{node.attr}".lstrip(".")
        return Known(inner) if inner in self.classes else None

    def named(self, name: str, scopes: list[Scope]) -> Known | None:
        """What a variable is: what its scope says, or what the convention says."""
        for scope in reversed(scopes):
            if name in scope:
                return scope[name]
        bare = name.lstrip("_")
        if bare in MODULES:
            return MODULE
        return Known(CONVENTION[bare], True) if bare in CONVENTION else None

    def touch(
        self, node: ast.expr | ast.stmt, owner: str | None, name: str | None, optional: bool
    ) -> None:
        function = self.functions[0] if self.functions else ""
        self.touches.append(Touch(self.file, node.lineno, function, owner, name, optional))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.known(node.value)
        if owner and (node.attr == "__version__" or not node.attr.startswith("__")):
            self.touch(node, owner.owner, node.attr, optional=False)
        elif owner is None and node.attr in self.distinctive:
            self.touch(node, None, node.attr, optional=False)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        asked = node.func.id if isinstance(node.func, ast.Name) else ""
        if asked in {"getattr", "hasattr", "setattr"} and len(node.args) > 1:
            owner = self.known(node.args[0])
            optional = asked == "hasattr" or (asked == "getattr" and len(node.args) > 2)
            for name in self.texts_of(node.args[1]):
                if owner is not None:
                    self.touch(node, owner.owner, name, optional)
                elif name in self.distinctive:
                    self.touch(node, None, name, optional)
        self.generic_visit(node)

    def texts_of(self, node: ast.expr) -> list[str | None]:
        """The names that an argument of getattr can be; None for one that is computed."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.Name) and node.id in self.texts:
            return self.texts[node.id]
        return [None]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        scope: Scope = {}
        for argument in arguments:
            self.annotate(scope, argument.arg, argument.annotation)
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        outer, self.texts = self.texts, looped_texts(node, self.literals)
        self.functions.append(f"{node.name}:{node.lineno}")
        self.enter(node.body, scope)
        self.functions.pop()
        self.texts = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            self.visit(base)
            owner = self.known(base)
            for item in node.body:
                if owner and isinstance(item, ast.FunctionDef) and item.name[0] != "_":
                    self.touch(item, owner.owner, item.name, optional=False)
        own: Scope = {}
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                self.annotate(own, item.target.id, item.annotation)
        self.fields.append(own)
        self.enter(node.body, {})
        self.fields.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        scope, name = self.bound(node.target)
        if name:
            self.annotate(scope, name, node.annotation)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        value = self.known(node.value)
        plain = isinstance(node.value, ast.Constant) and node.value.value is not None
        for target in node.targets:
            scope, name = self.bound(target)
            if name and (value or plain or isinstance(node.value, LITERALS)):
                scope[name] = value

    def bound(self, target: ast.expr) -> tuple[Scope, str]:
        """Where a target of an assignment is kept, and by which name; no name: nowhere."""
        if isinstance(target, ast.Name):
            return self.scopes[-1], target.id
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            return self.fields[-1], target.attr if target.value.id == "self" else ""
        return {}, ""

    def annotate(self, scope: Scope, name: str, annotation: ast.expr | None) -> None:
        """Take a name out of the convention when its annotation says that it is ours."""
        if annotation is None:
            return
        words = ast.unparse(annotation).strip("'\"").split(" | ")[0]
        first, _, rest = words.partition(".")
        if first in MODULES:
            scope[name] = Known(rest, True)
        elif words not in {"Any", "object", "types.ModuleType", "ModuleType"}:
            scope[name] = None


def written_out(tree: ast.AST) -> dict[str, ast.expr]:
    """What the variables of a file are assigned."""
    return {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def looped_texts(tree: ast.AST, literals: dict[str, ast.expr]) -> dict[str, list[str | None]]:
    """The strings that loop variables run through; None among them for what is computed."""
    texts: dict[str, list[str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            through = node.iter
            if isinstance(through, ast.Name):
                through = literals.get(through.id, through)
            found = getattr(through, "elts", None) or getattr(through, "keys", None) or [node]
            told = [str(n.value) if isinstance(n, ast.Constant) else None for n in found]
            texts.setdefault(node.target.id, []).extend(told)
    return texts
