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


def _product(x: _Piece, y: _Piece) -> _Piece:
    if x.text == y.text:
        return _Piece(f"{x.within(_ATOM)}²", _POWER)
    return _Piece(f"{x.within(_PRODUCT)} · {y.within(_PRODUCT)}", _PRODUCT)


def _of(row: _Piece, *xs: _Piece) -> _Piece:
    if row.text == "POW":
        return _Piece(f"{xs[0].within(_ATOM)}^{xs[1].within(_ATOM)}", _POWER)
    return _Piece(f"{row.text.lower()}({', '.join(x.text for x in xs)})")


def _text(template: _Piece, *xs: _Piece) -> _Piece:
    pretty = re.sub(r"\bpi\b", "π", template.text[1:-1].replace("!=", "≠"))
    is_atom = re.fullmatch(r"\[[^][]*\]|\S+", pretty) is not None
    return _Piece(pretty.format(*(x.text for x in xs)), _ATOM if is_atom else _SUM)


# The arithmetic of derivatives: see csrc/ops/words.h.
_WORDS: dict[str, Callable[..., _Piece]] = {
    "ADD_": lambda x, y: _Piece(f"{x.text} + {y.text}", _SUM),
    "SUB_": lambda x, y: _Piece(f"{x.text} − {y.within(_PRODUCT)}", _SUM),
    "MUL_": _product,
    "DIV_": lambda x, y: _Piece(f"{x.within(_PRODUCT)} / {y.within(_POWER)}", _PRODUCT),
    "NEG_": lambda x: _Piece(f"−{x.within(_PRODUCT)}", _SUM),
    "NUMBER_": lambda x: _Piece(f"{float(x.text):.6g}".replace("-", "−"), _SUM if x.text[0] == "-" else _ATOM),
    "OF_": _of,
    "TEXT_": _text,
}
_NAMES = {"ONE": "1", "ZERO": "0", "HALF": "½"}


def _read(tokens: Iterator[str], names: dict[str, _Piece]) -> _Piece:
    token = next(tokens)
    if token not in _WORDS:
        return names.get(token) or _Piece(_NAMES.get(token, token))
    parts = []
    assert next(tokens) == "("
    while True:
        parts.append(_read(tokens, names))
        if next(tokens) == ")":
            return _WORDS[token](*parts)


@functools.cache
def _tokens(expression: str) -> tuple[str, ...]:
    return tuple(re.findall(r'"[^"]*"|-?\d[\d.]*(?:e-?\d+)?|\w+|[(),]', expression))


def partial(op: int, operand: int, names: tuple[str, str, str]) -> str:
    """The partial derivative of an operation by an operand, 0 or 1, as text.

    names: of the two operands and of the result, bracketed if they are longer than a name. A sum is returned in
    brackets.
    """
    expression = TABLE[op].db if operand else TABLE[op].da
    pieces = {key: _Piece(name) for key, name in zip("abv", names)}
    return _read(iter(_tokens(expression)), pieces).within(_PRODUCT)
