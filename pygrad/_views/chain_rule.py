"""The chain rule in words: partial derivatives of operations as readable text, from csrc/ops/pgr_ops.h."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Callable, NamedTuple

from pygrad._core.ops import TABLE

# How tightly a piece of text binds: decides where brackets are needed.
_SUM, _PRODUCT, _POWER, _ATOM = range(4)


class _Piece(NamedTuple):
    text: str
    tightness: int = _ATOM

    def within(self, tightness: int) -> str:
        return self.text if self.tightness >= tightness else f"({self.text})"


def _call(name: str) -> Callable[..., _Piece]:
    return lambda *xs: _Piece(f"{name}({', '.join(x.text for x in xs)})")


def _product(x: _Piece, y: _Piece) -> _Piece:
    if x.text == y.text:
        return _square(x)
    return _Piece(f"{x.within(_PRODUCT)} · {y.within(_PRODUCT)}", _PRODUCT)


def _square(x: _Piece) -> _Piece:
    return _Piece(f"{x.within(_ATOM)}²", _POWER)


def _quotient(x: _Piece, y: _Piece) -> _Piece:
    return _Piece(f"{x.within(_PRODUCT)} / {y.within(_POWER)}", _PRODUCT)


def _plus(x: _Piece, y: _Piece) -> _Piece:
    return _Piece(f"{x.text} + {y.text}", _SUM)


def _power(x: _Piece, y: str) -> _Piece:
    return _Piece(f"{x.within(_ATOM)}^{y}", _POWER)


# The words of csrc/ops/pgr_ops.h.
_WORDS: dict[str, Callable[..., _Piece]] = {
    "ADD_": _plus,
    "SUB_": lambda x, y: _Piece(f"{x.text} − {y.within(_PRODUCT)}", _SUM),
    "MUL_": _product,
    "DIV_": _quotient,
    "NEG_": lambda x: _Piece(f"−{x.within(_PRODUCT)}", _SUM),
    "OF_": lambda row, *xs: _call(row.text.lower())(*xs),
    "EITHER_": lambda formula: formula,
    "LESS_": lambda x, y: _Piece(f"[1 if {x.text} < {y.text} else 0]"),
    "PICK_": lambda c, x: _Piece(f"[{x.text} if {c.text} ≠ 0 else 0]"),
    "SLOPE_": lambda a, b: _Piece(f"[1 if {a.text} > 0 else {b.text}]"),
    "WINS_": lambda a, b: _Piece(f"[1 if {a.text} > {b.text}, ½ if equal, else 0]"),
    "UNIT_": lambda p, a, b: _quotient(p, _Piece(f"{_square(a).text} + {_square(b).text}", _SUM)),
    "NUMBER_": lambda x: _Piece(f"{float(x.text):.6g}".replace("-", "−"), _SUM if x.text[0] == "-" else _ATOM),
    "DIV_DB_": lambda a, b, _v: _Piece(f"−{_quotient(a, _square(b)).text}", _SUM),
    "POW_DA_": lambda a, b: _product(b, _power(a, f"({b.within(_PRODUCT)} − 1)")),
    "POW_DB_": lambda _a, _b, v: _product(v, _Piece(f"log({_a.text})")),
    "HYPOT_DA_": lambda p, _a, _b, v: _quotient(p, v),
    "ERF_DA_": lambda a: _Piece(f"2 / sqrt(π) · exp(−{_square(a).text})", _PRODUCT),
}
_NAMES = {"ONE": "1", "ZERO": "0", "HALF": "½"}


def _read(tokens: Iterator[str], names: dict[str, _Piece]) -> _Piece:
    token = next(tokens)
    if token not in _WORDS:
        return names.get(token) or _Piece(_NAMES.get(token, token))
    parts = []
    assert next(tokens) == "("
    depth = 0
    while token == "EITHER_" and ((skipped := next(tokens)) != "," or depth > 0):  # skip C code
        depth += (skipped == "(") - (skipped == ")")
    while True:
        parts.append(_read(tokens, names))
        if next(tokens) == ")":
            return _WORDS[token](*parts)


@functools.cache
def _tokens(expression: str) -> tuple[str, ...]:
    return tuple(re.findall(r"-?\d[\d.]*(?:e-?\d+)?|\w+|[(),]", expression))


def partial(op: int, operand: int, names: tuple[str, str, str]) -> str:
    """The partial derivative of an operation by an operand, 0 or 1, as text.

    names: of the two operands and of the result, bracketed if they are longer than a name. A sum is returned in
    brackets.
    """
    expression = TABLE[op].db if operand else TABLE[op].da
    pieces = {key: _Piece(name) for key, name in zip("abv", names)}
    return _read(iter(_tokens(expression)), pieces).within(_PRODUCT)
