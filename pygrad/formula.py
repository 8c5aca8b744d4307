"""Formulas: turn text such as "tanh(x*w + b)" into a Value, without eval.

Python's own parser reads the text (ast.parse), a whitelist limits its nodes, and the result is a postfix
program, so that neither reading nor evaluating recurses. Functions are the rows of csrc/ops/pgr_ops.h;
parts without variables are computed in plain floats by the same table.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import os
import re
import warnings
from typing import Any, Callable, NamedTuple, NoReturn, Union

from pygrad._core.errors import fail
from pygrad._core.ops import OPERATIONS, OPS, TABLE
from pygrad._pgr import ffi, lib
from pygrad._views.explorer import explore_formula
from pygrad._views.pages import Page
from pygrad.engine import Value, as_value

__all__ = ["CONSTANTS", "FUNCTIONS", "MAX_DEPTH", "MAX_LENGTH", "Formula", "FormulaError", "parse"]

#: Characters in a formula, at most.
MAX_LENGTH = 10_000
#: Nested operations, at most; a sum of n terms is n - 1 deep.
MAX_DEPTH = 500

#: Names that have a value unless a variable has the same name.
CONSTANTS = {"pi": math.pi, "e": math.e}

#: The names of functions: operations that are called by name, not by an operator.
FUNCTIONS: tuple[str, ...] = tuple(row.name for row in OPERATIONS if row.symbol.isalnum())

_OPERATORS: dict[type[ast.AST], tuple[str, Callable[..., Any]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv),
    ast.Mod: ("mod", operator.mod),
    ast.Pow: ("pow", operator.pow),
    ast.USub: ("neg", operator.neg),
}

# Names of refused nodes in messages.
_REFUSED: dict[str, str] = {
    "Attribute": "a dot after a name",
    "Subscript": "indexing",
    "Compare": "a comparison",
    "BoolOp": "'and' or 'or'",
    "Not": "'not'",
    "IfExp": "'if'",
    "Lambda": "a lambda",
    "NamedExpr": "an assignment",
    "Starred": "a star before a value",
    "JoinedStr": "a string",
    "Tuple": "a comma outside of a call",
    "BitXor": "'^' (a power is written **)",
    "FloorDiv": "'//'",
    "MatMult": "'@'",
}

_Operand = Union[float, Value]


class FormulaError(ValueError):
    """A formula that can't be read, or doesn't fit its variables.

    position: index of the character at fault, from 0, or None.

    >>> try:
    ...     parse("exp(x) * sim(x)")
    ... except FormulaError as error:
    ...     print(error, error.position)
    no function is named sim: did you mean sin or sigmoid? 9
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class _Step(NamedTuple):
    """One step of a postfix program: push `name`'s value, or `number`; if arity is not 0, apply `op`."""

    position: int
    number: float = 0.0
    name: str = ""
    op: int = 0
    arity: int = 0
    apply: Callable[..., Any] = float


class Formula:
    """A parsed formula, made by `parse`.

    text: as given. names: the variables that need a value, in order of appearance. constants: those of
    pi and e that appear; a variable of the same name replaces them.

    >>> parse("2 * pi * r + a").names
    ['r', 'a']
    """

    def __init__(self, text: str, steps: list[_Step]) -> None:
        appearing = dict.fromkeys(step.name for step in steps if step.name)
        self.text = text
        self.names: list[str] = [name for name in appearing if name not in CONSTANTS]
        self.constants: list[str] = [name for name in appearing if name in CONSTANTS]
        self._steps = steps

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    def value(self, /, **variables: Any) -> Value:
        """Evaluate with these variables: Values, or numbers, which become Values labelled with their names.

        Scalars, float64. A variable that appears twice is one Value. Raises FormulaError for a variable without
        a value and a value without a variable; ZeroDivisionError, ValueError or OverflowError where Python's
        floats and `math` raise them; TypeError for values that are not numbers.

        >>> y = parse("x*w + 1").value(x=2.0, w=3.0)
        >>> y.data
        7.0
        """
        self._check(variables)
        leaves: dict[str, _Operand] = {
            name: value if isinstance(value, Value) else Value(value, label=name) for name, value in variables.items()
        }
        stack: list[_Operand] = []
        for step in self._steps:
            if step.arity:
                operands = stack[-step.arity :]
                stack[-step.arity :] = [_apply(step, operands)]
            else:
                stack.append(leaves[step.name] if step.name in leaves else CONSTANTS.get(step.name, step.number))
        return as_value(stack[0])

    def explore(self, path: str | os.PathLike[str] | None = "formula.html", /, **variables: Any) -> Page:
        """Write the page of `pygrad.explore` for this formula, with a field that shows other formulas as you type.

        variables and errors: see `value`. path: the file; None writes nothing, and the result displays itself in a
        notebook.

        >>> parse("x*w + 1").explore(None, x=2.0, w=3.0).path is None
        True
        """
        return explore_formula(self.value(**variables), self.text, FUNCTIONS, path)

    def _check(self, variables: dict[str, Any]) -> None:
        given = f"given: {', '.join(variables)}" if variables else "none is given"
        for step in self._steps:
            if step.name and step.name not in variables and step.name not in CONSTANTS:
                hint = f"; as a function it is written {step.name}(...)" if step.name in FUNCTIONS else ""
                raise FormulaError(f"no value for {step.name} ({given}){hint}", step.position)
        known = [*self.names, *self.constants]
        for name in variables:
            if name not in known:
                theirs = f"its variables: {', '.join(known)}" if known else "it has no variables"
                raise FormulaError(f"{name} is not in the formula ({theirs})")


def _apply(step: _Step, operands: list[_Operand]) -> _Operand:
    """Compute one operation: on floats without the tape, to fold constants; else record it."""
    row = TABLE[step.op]
    if row.has_param and len(operands) == 2 and isinstance(operands[1], Value):
        raise FormulaError(f"the second argument of {row.name} must be a number", step.position)
    if not any(isinstance(operand, Value) for operand in operands):
        a = float(operands[0])  # type: ignore[arg-type]
        b = float(operands[1]) if len(operands) == 2 else row.param_default  # type: ignore[arg-type]
        out = ffi.new("double *")
        status = lib.pgr_op_value(step.op, a, b, out)
        if status != lib.PGR_OK:
            fail(status, step.op, a, b)
        return float(out[0])
    result: Value = step.apply(*operands)
    return result


def parse(text: str) -> Formula:
    """Read a formula: numbers, names, + - * / % **, parentheses and calls of FUNCTIONS.

    Raises FormulaError, with the position, for anything else, for more than MAX_LENGTH characters or
    MAX_DEPTH levels, and for numbers that exceed float64; TypeError if `text` is not a str.

    >>> parse("tanh(x*w + b)").names
    ['x', 'w', 'b']
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula must be a str, not {type(text).__name__}")
    return Formula(text, _Reader(text).steps())


class _Reader:
    """Reads one text into steps; contains the whitelist."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise FormulaError(f"a formula may have {MAX_LENGTH} characters, this one has {len(text)}", MAX_LENGTH)
        flat = re.sub(r"\s", " ", text)
        self.indent = len(flat) - len(flat.lstrip(" "))
        self.flat = flat.strip(" ")
        if not self.flat:
            raise FormulaError("the formula is empty", 0)
        for character in "#\0":  # comments, and null bytes, which ast.parse refuses in several ways
            if character in self.flat:
                raise FormulaError(f"{character!r} can't be in a formula", self.indent + self.flat.index(character))

    def position(self, node: Any) -> int:
        """The character at which a node starts; ast counts UTF-8 bytes."""
        return self.indent + len(self.flat.encode()[: node.col_offset].decode())

    def after(self, node: ast.expr) -> int:
        """The character at which the operator after a node starts."""
        end = len(self.flat.encode()[: node.end_col_offset].decode())
        return self.indent + end + len(self.flat[end:]) - len(self.flat[end:].lstrip(" )"))

    def tree(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.flat, mode="eval").body
        except SyntaxError as error:
            raise self.unreadable(error) from None
        except UnicodeEncodeError as error:
            raise FormulaError("half of a surrogate pair can't be in a formula", self.indent + error.start) from None
        except (MemoryError, RecursionError):
            raise FormulaError(f"the formula is nested more than {MAX_DEPTH} levels deep") from None

    def unreadable(self, error: SyntaxError) -> FormulaError:
        """Python's message, without its guesses about programs."""
        message = re.split(r"\. (?:Maybe|Perhaps|Did) ", error.msg)[0]
        column = min(max((error.offset or 1) - 1, 0), len(self.flat))
        if message == "invalid syntax" and error.offset == 0:
            message, column = "the formula ends too early", len(self.flat)
        elif message == "unexpected EOF while parsing":  # Python 3.9 says so for any mistake at the end
            message = "invalid syntax"
        elif message == "invalid decimal literal":
            message += " (a product is written 2*x)"
        elif "integer string conversion" in message:
            message = "a number is too large for a float64"
        return FormulaError(message, self.indent + column)

    def steps(self) -> list[_Step]:
        """Postfix order: visit each node before its operands, the last operand first, then reverse."""
        steps: list[_Step] = []
        todo: list[tuple[ast.expr, int]] = [(self.tree(), 0)]
        while todo:
            node, depth = todo.pop()
            if depth > MAX_DEPTH:
                raise FormulaError(f"the formula is nested more than {MAX_DEPTH} levels deep", self.position(node))
            step, operands = self.step(node)
            if step is not None:
                steps.append(step)
            todo.extend((operand, depth + 1) for operand in operands)
        return steps[::-1]

    def step(self, node: ast.expr) -> tuple[_Step | None, list[ast.expr]]:
        """One node's step, and its operands."""
        position = self.position(node)
        if isinstance(node, ast.Constant):
            return _Step(position, number=self.number(node)), []
        if isinstance(node, ast.Name):
            return _Step(position, name=node.id), []
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
            return None, [node.operand]
        if isinstance(node, (ast.UnaryOp, ast.BinOp)):
            operands = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
            if type(node.op) not in _OPERATORS:
                self.refuse(node.op, position if isinstance(node, ast.UnaryOp) else self.after(node.left))
            name, apply = _OPERATORS[type(node.op)]
            return _Step(position, op=OPS[name], arity=len(operands), apply=apply), operands
        if isinstance(node, ast.Call):
            return self.call(node, position), list(node.args)
        return self.refuse(node, position)

    def number(self, node: ast.Constant) -> float:
        position = self.position(node)
        if type(node.value) not in (int, float):
            raise FormulaError(f"{self.source(node)} is not a real number", position)
        try:
            number = float(node.value)  # type: ignore[arg-type, unused-ignore]
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise FormulaError(f"{self.source(node)} is too large for a float64", position)
        return number

    def call(self, node: ast.Call, position: int) -> _Step:
        if not isinstance(node.func, ast.Name):
            raise FormulaError("only a function's name can be called", position)
        name = node.func.id
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(name, FUNCTIONS, 2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(FUNCTIONS))}"
            raise FormulaError(f"no function is named {self.source(node.func)}: {hint}", position)
        if node.keywords:
            raise FormulaError(f"{name} takes no keyword arguments", position)
        row = TABLE[OPS[name]]
        least = 2 if row.is_binary else 1
        most = 2 if row.has_param else least
        if not least <= len(node.args) <= most:
            arguments = f"{most} argument{'s' if most > 1 else ''}" if least == most else f"{least} or {most} arguments"
            raise FormulaError(f"{name} takes {arguments}, not {len(node.args)}", position)

        def apply(first: _Operand, *rest: _Operand) -> Value:
            result: Value = getattr(as_value(first), name)(*rest)
            return result

        return _Step(position, op=row.op, arity=len(node.args), apply=apply)

    def source(self, node: ast.expr) -> str:
        found = ast.get_source_segment(self.flat, node) or "it"
        return found if len(found) <= 30 else f"{found[:27]}..."

    def refuse(self, node: ast.AST, position: int) -> NoReturn:
        kind = type(node).__name__
        raise FormulaError(
            f"{_REFUSED.get(kind, 'this')} can't be in a formula: it has numbers, names, + - * / % **, "
            "parentheses and functions",
            position,
        )
