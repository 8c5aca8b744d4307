"""Linear algebra of small dense matrices of Values and numbers, as numpy.linalg names it.

Rows are chosen as pivots by recorded comparisons, so one program is right for all matrices of a shape. Matrices that
NumPy refuses, singular or not positive definite, give inf or nan in a program.

Source: Golub & Van Loan, Matrix Computations (4th ed., 2013), ch. 3.4 and 4.2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

import numpy

from pygrad.engine import as_value
from pygrad.math import chosen

np: Any = numpy  # whose types do not know arrays of objects

MINORS = 8  # the largest matrix whose determinant is expanded by minors


def objects(values: Iterable[Any], shape: tuple[int, ...]) -> Any:
    values = list(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _square(a: Any, what: str) -> int:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"numpy.linalg.{what}: the shape is {a.shape}; it must be square in the last two axes")
    return int(a.shape[-1])


def _stacked(function: Callable[[Any], Any], a: Any) -> Any:
    """`function` of each matrix of a stack."""
    if a.ndim == 2:
        return function(a)
    parts = [function(matrix) for matrix in a.reshape(-1, *a.shape[-2:])]
    shape = getattr(parts[0], "shape", ()) if parts else ()
    return objects([x for part in parts for x in np.ravel(part)], (*a.shape[:-2], *shape))


def _eliminated(rows: list[list[Any]], n: int) -> tuple[list[list[Any]], Any]:
    """Rows, n numbers and right-hand sides, in triangular form, and the sign of the rows' order.

    A later row becomes the pivot if its number is larger; the exchange is recorded as a choice for each number.
    """
    sign: Any = 1.0
    for k in range(n):
        for i in range(k + 1, n):
            swap = abs(rows[i][k]) > abs(rows[k][k])
            if swap is False:
                continue
            upper, lower = rows[k], rows[i]
            rows[k] = upper[:k] + [chosen(swap, y, x) for x, y in zip(upper[k:], lower[k:])]
            rows[i] = lower[:k] + [chosen(swap, x, y) for x, y in zip(upper[k:], lower[k:])]
            sign = chosen(swap, -sign, sign)
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [0.0] * (k + 1) + [x - factor * y for x, y in zip(rows[i][k + 1 :], rows[k][k + 1 :])]
    return rows, sign


def _values(matrix: Any) -> list[list[Any]]:
    return [[as_value(x) for x in row] for row in matrix]


def _solved(a: Any, b: Any) -> Any:
    n = len(a)
    rows, _ = _eliminated([[*x, *y] for x, y in zip(_values(a), _values(b))], n)
    for i in reversed(range(n)):
        right = rows[i][n:]
        for j in range(i + 1, n):
            right = [x - rows[i][j] * y for x, y in zip(right, rows[j][n:])]
        rows[i][n:] = [x / rows[i][i] for x in right]
    return objects([x for row in rows for x in row[n:]], b.shape)


def solve(a: Any, b: Any) -> Any:
    """Gaussian elimination with partial pivoting."""
    n = _square(a, "solve")
    is_vector = b.ndim == 1 or (int(np.__version__.split(".")[0]) < 2 and b.ndim == a.ndim - 1)
    if is_vector:
        b = b[..., None]
    if b.shape[-2] != n:
        raise ValueError(f"numpy.linalg.solve: shapes {a.shape} and {b.shape} do not fit")
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*stack, n, n)), np.broadcast_to(b, (*stack, *b.shape[-2:]))
    both = zip(a.reshape(-1, n, n), b.reshape(-1, *b.shape[-2:]))
    found = objects([x for one, other in both for x in _solved(one, other).ravel()], b.shape)
    return found[..., 0] if is_vector else found


def inv(a: Any) -> Any:
    n = _square(a, "inv")
    return _stacked(lambda matrix: _solved(matrix, np.eye(n)), a)


def _by_minors(matrix: list[list[Any]]) -> Any:
    """Without a division, so that value and derivatives are right for singular matrices, too."""
    n = len(matrix)

    @functools.cache
    def minor(columns: tuple[int, ...]) -> Any:  # of the last rows
        if not columns:
            return 1.0
        row = matrix[n - len(columns)]
        total: Any = None
        for k, column in enumerate(columns):
            term = row[column] * minor(columns[:k] + columns[k + 1 :])
            total = term if total is None else total + term if k % 2 == 0 else total - term
        return total

    return minor(tuple(range(n)))


def _determinant(a: Any) -> Any:
    n = len(a)
    if n <= MINORS:
        return _by_minors(a.tolist())
    rows, sign = _eliminated(_values(a), n)
    return functools.reduce(lambda x, y: x * y, [rows[i][i] for i in range(n)], sign)


def det(a: Any) -> Any:
    """Up to 8 rows by minors; beyond by elimination, where a singular matrix gives nan."""
    _square(a, "det")
    return _stacked(_determinant, a)


class SlogdetResult(NamedTuple):
    sign: Any
    logabsdet: Any


def slogdet(a: Any) -> Any:
    n = _square(a, "slogdet")

    def both(matrix: Any) -> Any:
        if n <= MINORS:
            whole = as_value(_by_minors(matrix.tolist()))
            return objects([whole.sign(), whole.abs().log()], (2,))
        rows, sign = _eliminated(_values(matrix), n)
        sign = functools.reduce(lambda x, y: x * y, [rows[i][i].sign() for i in range(n)], sign)
        return objects([sign, sum(rows[i][i].abs().log() for i in range(n))], (2,))

    found = _stacked(both, a)
    return SlogdetResult(found[..., 0], found[..., 1])


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The factor of the lower triangle, which alone is read; of the upper one if `upper`."""
    n = _square(a, "cholesky")

    def factor(matrix: Any) -> Any:
        given = _values(matrix.T if upper else matrix)
        rows: list[list[Any]] = []
        for i in range(n):
            row: list[Any] = []
            for j in range(i + 1):
                rest = given[i][j]
                for x, y in zip(row, row if i == j else rows[j]):
                    rest = rest - x * y
                row.append(rest.sqrt() if i == j else rest / rows[j][j])
            rows.append(row + [0.0] * (n - 1 - i))
        found = objects([x for row in rows for x in row], (n, n))
        return found.T if upper else found

    return _stacked(factor, a)


def einsum(subscripts: Any, *operands: Any) -> Any:
    """The sum of products over the whole index space, an operand at a time: for small arrays."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"numpy.einsum: {subscripts!r} is for {len(terms)} operands; there are {len(operands)}")
    terms, dots = _without_dots(terms, operands)
    letters = "".join(terms)
    if not arrow:
        out = "..." + "".join(sorted(x for x in set(letters) - set(dots) if letters.count(x) == 1))
    out = out.replace("...", dots)
    total, have = _picked(operands[0], terms[0])
    for i in range(1, len(terms)):
        later = set("".join(terms[i + 1 :]) + out)
        other, its = _picked(operands[i], terms[i])
        order = have + [x for x in its if x not in have]
        total = _spread(total, have, order) * _spread(other, its, order)
        total, have = _summed(total, order, later)
    total, have = _summed(total, have, set(out))
    return total.transpose([have.index(x) for x in out]) if out else total[()]


def with_letters(args: tuple[Any, ...]) -> list[Any]:
    """The arguments of einsum with subscripts as text: they may be lists of numbers after each operand."""
    if isinstance(args[0], str):
        return [args[0], *(np.asarray(x, dtype=object) for x in args[1:])]

    def text(places: Any) -> str:
        return "".join("..." if x is Ellipsis else chr(ord("a") + x) for x in places)

    terms = [text(places) for places in args[1::2]]
    subscripts = ",".join(terms) + (f"->{text(args[-1])}" if len(args) % 2 else "")
    return [subscripts, *(np.asarray(x, dtype=object) for x in args[: 2 * len(terms) : 2])]


def _without_dots(terms: list[str], operands: Any) -> tuple[list[str], str]:
    """Terms with letters for '...', and these letters."""
    spare = [chr(x) for x in range(ord("A"), ord("Z") + 1) if chr(x) not in "".join(terms)]
    most = max((x.ndim - len(t.replace("...", "")) for t, x in zip(terms, operands) if "..." in t), default=0)
    dots = "".join(spare[:most])
    found = []
    for term, x in zip(terms, operands):
        own = x.ndim - len(term.replace("...", ""))
        if own < 0 or (own > 0 and "..." not in term):
            raise ValueError(f"numpy.einsum: {term!r} does not fit an operand of shape {x.shape}")
        found.append(term.replace("...", dots[most - own :]))
    return found, dots


def _picked(x: Any, letters: str) -> tuple[Any, list[str]]:
    """The operand with an axis for each letter: repeated letters pick diagonals."""
    have = list(letters)
    for letter in dict.fromkeys(letters):
        while have.count(letter) > 1:
            i = have.index(letter)
            j = have.index(letter, i + 1)
            x = np.diagonal(x, axis1=i, axis2=j)
            have = have[:i] + have[i + 1 : j] + have[j + 1 :] + [letter]
    return x, have


def _spread(x: Any, have: list[str], order: list[str]) -> Any:
    """With an axis for each letter of `order`, of length 1 for those it lacks."""
    x = x.transpose([have.index(letter) for letter in order if letter in have])
    return x.reshape(
        [x.shape[[y for y in order if y in have].index(letter)] if letter in have else 1 for letter in order]
    )


def _summed(x: Any, have: list[str], wanted: set[str]) -> tuple[Any, list[str]]:
    axes = tuple(i for i, letter in enumerate(have) if letter not in wanted)
    if axes:
        x = np.asarray(np.add.reduce(x, axis=axes), dtype=object)
    return x, [letter for letter in have if letter in wanted]
