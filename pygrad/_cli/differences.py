"""Find code whose behaviour differs between micrograd and pygrad, and strings that name micrograd."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pygrad._core.text import shortened, visible

OLD, NEW = "micrograd", "pygrad"


Places = Iterator[tuple[int, str]]  # lines from 1, and a sentence for each

_MEANT = re.compile(  # a string that refers to the package, not one that mentions it
    rf"\A{OLD}(\.\w+)*\Z|\bimport\s+{OLD}\b|\bfrom\s+{OLD}(\.\w+)*\s+import\b|\b{OLD}\.(engine|nn)\b"
    rf"|\binstall\b[^\n]*\b{OLD}\b"
)
_OPS = {"+", "*", "-", "/", "**-1"}
_TESTS: Any = tuple(getattr(ast, name) for name in ("Compare", "Match") if hasattr(ast, name))
_EXACT = {"Fraction", "Decimal"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def left_alone(text: str) -> str:
    hint = f"install {NEW} there, as its README says" if "install" in text else "change it by hand where it is code"
    return f"{visible(shortened(text))!r} names {OLD} and is left alone: {hint}"


def strings(tree: ast.AST) -> Places:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _MEANT.search(node.value):
            yield node.lineno, left_alone(node.value)


def own_values(tree: ast.AST) -> list[tuple[int, str]]:
    """Classes that are copies of micrograd's Value, or of microgpt's."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _is_own_value(node):
            named = "" if node.name == "Value" else f" as {node.name}"
            text = f"defines a Value of its own, class {node.name}: delete it and import {NEW}'s"
            found.append((node.lineno, f"{text}: from {NEW}.engine import Value{named}"))
    return found


def _is_own_value(node: ast.AST) -> bool:
    if not isinstance(node, ast.ClassDef) or any(_name(base) != "object" for base in node.bases):
        return False
    methods = {part.name for part in node.body if isinstance(part, _FUNCTIONS[:2])}
    attributes = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    if {"_children", "_local_grads"} <= attributes:
        return "backward" in methods
    # The lecture's Value gets backward() late; before that, it is recognised by its additions to grads.
    return {"_prev", "_backward"} <= attributes and not methods.isdisjoint(("backward", "__add__", "__mul__"))


def _name(node: ast.AST | None) -> str:
    """The last part of a dotted name; "" for anything else."""
    return node.id if isinstance(node, ast.Name) else _attribute(node)


def _attribute(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


def _walk(node: ast.AST, but: tuple[type, ...] = ()) -> Iterator[ast.AST]:
    """The nodes below `node`, except copies of Value, nodes of the types `but`, and the nodes below those."""
    todo = [node]
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            if not _is_own_value(child) and not isinstance(child, but):
                yield child
                todo.append(child)


def differences(tree: ast.Module) -> Places:
    """The documented differences, as far as a program's text shows them."""
    nodes = list(_walk(tree))
    yield from _missing(nodes)
    yield from _op_tests(nodes)
    yield from _second_passes(tree, nodes)
    yield from _numbers(nodes)
    yield from _wrong_inputs(nodes)
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == "RecursionError":
            yield node.lineno, f"{NEW} does not recurse: no graph is too deep for backward()"


def _missing(nodes: Iterable[ast.AST]) -> Places:
    """Imports that pygrad can't serve like micrograd."""
    for node in nodes:
        if isinstance(node, ast.Import):
            modules = [(renamed(name.name), "") for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [(renamed(node.module), name.name) for name in node.names]
        else:
            continue
        for module, name in modules:
            if module == NEW and name == "*":
                yield node.lineno, f"{OLD}'s imports no name, {NEW}'s every public one: import the names that are used"
            elif module is not None and not _has(module, name):
                yield node.lineno, f"{module}{f' has no {name}' if name else ' does not exist'}: bring along your own"


def _has(module: str, name: str) -> bool:
    """Whether pygrad has a module and, if one is given, a name in it."""
    if "._" in module or name.startswith("_"):
        return False
    try:
        found = importlib.import_module(module)
        return name in ("", "*") or hasattr(found, name) or find_spec(f"{module}.{name}") is not None
    except ImportError:
        return False


def _op_tests(nodes: Sequence[ast.AST]) -> Places:
    """Tests of `_op` that treat differences and quotients differently in the two libraries."""
    lines, words = [], set()
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, _TESTS) and any(_attribute(part) == "_op" for part in ast.iter_child_nodes(node)):
            tested = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            lines += [node.lineno] if tested & _OPS else []
        elif isinstance(node, ast.Subscript) and _attribute(node.slice) == "_op":
            lines.append(node.lineno)
    if not {"-", "/"} <= words:  # a program with both strings handles both libraries
        for line in lines:
            yield line, f"a - b and a / b are one node each in {NEW}, '-' and '/'; in {OLD} several, '+' and '*'"


def _roots(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The variables whose backward() a node calls, and the lines."""
    for part in [node, *_walk(node, _FUNCTIONS)]:
        if isinstance(part, ast.Call) and _attribute(part.func) == "backward":
            root = part.func.value  # type: ignore[attr-defined]
            if isinstance(root, ast.Name):
                yield root.id, part.lineno


def _stored(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _second_passes(tree: ast.Module, nodes: Iterable[ast.AST]) -> Places:
    """Second calls of backward() on one graph: in a loop that does not rebuild the graph, or further down."""
    text = f"a second backward() of one graph: {NEW} overwrites the grads between root and leaves, {OLD} adds to them"
    for node in [tree, *nodes]:
        if isinstance(node, _LOOPS):
            yield from ((line, text) for name, line in _roots(node) if name not in _stored(node))
        for suite in (getattr(node, "body", None), getattr(node, "orelse", None), getattr(node, "finalbody", None)):
            done: set[str] = set()
            for statement in suite if isinstance(suite, list) else ():
                if isinstance(statement, ast.Expr):
                    for name, line in _roots(statement):
                        if name in done:
                            yield line, text
                        done.add(name)
                done -= _stored(statement)


def _numbers(nodes: Sequence[ast.AST]) -> Places:
    """Code that depends on data not being float64."""
    values = {"Value"} | {part.asname for part in nodes if isinstance(part, ast.alias) and part.name == "Value"}
    formatted = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.Call) and node.args:
            name, first = _name(node.func), node.args[0]
            if name in values:
                yield from ((node.lineno, text) for text in _no_float(first))
            elif (name == "range" and any(_attribute(arg) == "data" for arg in node.args)) or (
                name == "isinstance" and _attribute(first) == "data" and _name_of_type(node.args[1:])
            ):
                yield node.lineno, _FLOAT
        elif isinstance(node, ast.Subscript) and _attribute(node.slice) == "data":
            yield node.lineno, _FLOAT
        elif isinstance(node, ast.Constant) and id(node) not in formatted and str(node.value).startswith("Value(data="):
            yield node.lineno, f"numbers are float64: the repr of Value(2) is Value(data=2.0, grad=0.0) in {NEW}"


def _name_of_type(arguments: Sequence[ast.expr]) -> bool:
    return any(_name(part) in {"int", "complex", *_EXACT} for arg in arguments for part in ast.walk(arg))


def _no_float(data: ast.expr) -> Iterator[str]:
    """Reasons why Value does not keep a number unchanged."""
    called = _name(data.func) if isinstance(data, ast.Call) else ""
    constants = [part.value for part in ast.walk(data) if isinstance(part, ast.Constant)] if not called else []
    is_text = isinstance(data, ast.Constant) and isinstance(data.value, (str, bytes))
    is_complex = called == "complex" or any(isinstance(constant, complex) for constant in constants)
    if called in _EXACT:
        yield f"{NEW} converts the {called} to float64, {OLD} keeps it"
    elif is_text or is_complex or isinstance(data, (ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)):
        yield f"a Value holds one real number in {NEW}: this raises TypeError"
    elif any(type(constant) is int and abs(constant) > 2**53 for constant in constants):
        yield f"{NEW} converts this int to float64, which has 53 bits; {OLD} keeps it"


def _wrong_inputs(nodes: Iterable[ast.AST]) -> Places:
    """Models called with a wrong number of inputs, if the source shows both numbers."""
    sizes: dict[str, set[Any]] = {}

    def size(call: ast.AST) -> Any:
        if isinstance(call, ast.Call) and _name(call.func) in ("MLP", "Layer", "Neuron") and call.args:
            return call.args[0].value if isinstance(call.args[0], ast.Constant) else None
        return None

    calls = []
    for node in nodes:
        if isinstance(node, ast.Assign):
            for name in _stored(node):
                sizes.setdefault(name, set()).add(size(node.value))
        elif isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], (ast.List, ast.Tuple)):
            calls.append((node.func, node.args[0].elts, node.lineno))
    for function, inputs, line in calls:
        known = sizes.get(_name(function), set()) if isinstance(function, ast.Name) else {size(function)}
        starred = any(isinstance(part, ast.Starred) for part in inputs)
        if len(known) == 1 and not starred and isinstance(number := next(iter(known)), int) and number != len(inputs):
            yield line, f"{len(inputs)} inputs for {number}: {NEW} raises ValueError, {OLD} drops the excess"


def renamed(module: str | None) -> str | None:
    """The module in pygrad for one in micrograd; None for other modules."""
    first, dot, rest = (module or "").partition(".")
    return f"{NEW}{dot}{rest}" if first == OLD else None


_FLOAT = f"data is always a float in {NEW}, even in Value(2): write int(v.data) for an int"
