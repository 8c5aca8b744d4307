"""Roots and fixed points, differentiated by the implicit function theorem.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 15; Blondel et al., Efficient and modular
implicit differentiation, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable

from pygrad._core.layer import TAPE
from pygrad._core.trees import need_numpy, tree_leaves, tree_structure
from pygrad._pgr import lib
from pygrad._record.arrays import like
from pygrad._record.function import one_deeper
from pygrad._record.recording import is_lane, recordings
from pygrad._record.regions import Adjoints, Region, captured, handles, vjp
from pygrad._record.rules import values_of
from pygrad.engine import Value, as_value, value_of

Solve = Callable[[Callable[[Any], Any], Any], Any]


def solve_linear(matrix: Sequence[Sequence[Any]], right: Sequence[Any]) -> list[Value]:
    """The solution of a linear system; see linear.py. One of several unknowns needs NumPy."""
    n = len(right)
    if n == 1:
        return [as_value(right[0] / matrix[0][0])]
    need_numpy()
    from pygrad._record.linear import objects, solve

    rows = objects([x for row in matrix for x in row], (n, n))
    return [as_value(x) for x in solve(rows, objects(right, (n,)))]


class _Root:
    """The rule of a root: f(x) = 0 as x and what f uses change together.

    `kept` of its region holds the rows of f's Jacobian by x, and those by what f uses, the inputs.
    """

    name = "custom_root"
    is_for_each = True
    is_primitive = False

    def __init__(self, x: Any, tangent_solve: Solve | None) -> None:
        self._x, self._tangent_solve = x, tangent_solve
        self._count = len(tree_leaves(x))

    def _rows(self, region: Region) -> tuple[list[list[Value]], list[list[Value]]]:
        n, width = self._count, self._count + len(region.inputs)
        rows = [list(region.kept[width * i : width * (i + 1)]) for i in range(n)]
        return [row[:n] for row in rows], [row[n:] for row in rows]

    def _solved(self, matrix: list[list[Value]], right: list[Value]) -> list[Value]:
        if self._tangent_solve is None:
            return solve_linear(matrix, right)

        def product(v: Any) -> Any:
            given = values_of(v)
            return like(self._x, [total(a * b for a, b in zip(row, given)) for row in matrix])

        return values_of(self._tangent_solve(product, like(self._x, right)))

    def pullback(self, region: Region, cotangents: Adjoints) -> Adjoints:
        by_x, by_inputs = self._rows(region)
        given = [Value(0.0) if value is None else -value for value in cotangents]
        weights = self._solved([list(column) for column in zip(*by_x)], given)
        return [total(w * row[k] for w, row in zip(weights, by_inputs)) for k in range(len(region.inputs))]

    def pushforward(self, region: Region, tangents: Adjoints) -> Adjoints:
        by_x, by_inputs = self._rows(region)

        def term(by_input: Value, tangent: Value, value: Value) -> Value:
            product = by_input * tangent
            if region.group is None and is_lane(value):  # of a vmap that f calls
                return value_of(lib.pgr_h_lane_sum(TAPE, product._handle, value._handle))
            return product

        changes = [
            total(term(a, t, value) for a, t, value in zip(row, tangents, region.inputs) if t is not None)
            for row in by_inputs
        ]
        return self._solved(by_x, [-change for change in changes])


def total(values: Iterable[Value]) -> Value:
    return sum(values, Value(0.0))


def custom_root(f: Callable[[Any], Any], x0: Any, solve: Solve, tangent_solve: Solve | None = None) -> Any:
    """A root of f, found by `solve` and differentiated by the implicit function theorem, as jax.lax.custom_root.

    f takes a number, an array or a tree x and returns the same structure; variables that it reads from outside are its
    parameters. solve(f, x0) returns x with f(x) = 0. The derivatives of the result with respect to the parameters, of
    any order, are those of the root, if the Jacobian of f with respect to x is not singular; the solver's steps do not
    matter. While a function is recorded, `solve` is recorded, too: let it take a fixed number of steps, for example of
    Newton's method with `grad` or `jacobian`, or a while_loop. tangent_solve(g, y) solves g(x) = y for a linear g; the
    default is Gaussian elimination with partial pivoting, for small systems. Called with plain numbers, custom_root
    returns what solve returns. Raises TypeError if f's result differs from x in structure or shapes.

    >>> from pygrad import grad
    >>> def newton(f, x):
    ...     for _ in range(6):
    ...         x = x - f(x) / grad(f)(x)
    ...     return x
    >>> def sqrt(a):
    ...     return custom_root(lambda x: x * x - a, 1.5, newton)
    >>> round(grad(sqrt)(2.0), 12)  # 1 / (2 * sqrt(2))
    0.353553390593
    """
    depth = recordings.deriving
    if not depth and not recordings.stack:
        x = one_deeper(solve, (f, x0))  # whose transforms take Values
        return x if recordings.plain else _eager(f, x)
    start = like(x0, values_of(x0))
    if not depth:
        return solve(f, start)
    with recordings.at(0):
        x = solve(f, start)
        values = [value.detach() for value in values_of(x)]
        _need_alike(f(like(x, values)), x)  # besides, f makes what it makes once
    for k in range(1, depth + 1):  # the innermost derivative takes the last region, and sees the one before
        values = _region(f, x, values, k, tangent_solve).outs
    return like(x, values)


def _region(f: Callable[[Any], Any], x: Any, values: list[Value], depth: int, tangent_solve: Solve | None) -> Region:
    with recordings.at(depth) as level:
        copies = [value * 1.0 for value in values]
        start = Value(0.0)
        residuals = values_of(f(like(x, copies)))
    own = set(handles(copies))
    inputs = [value for value in captured(start, residuals) if value._handle not in own]
    level.cuts = [*copies, *inputs]
    with recordings.at(depth - 1):
        rows = [vjp([root], [Value(1.0)], level.cuts, level) for root in residuals]
    cuts = [value * 1.0 for value in values]
    return Region(_Root(x, tangent_solve), inputs, cuts, cuts, [value for row in rows for value in row], values)


def _need_alike(residual: Any, x: Any) -> None:
    if tree_structure(residual) != tree_structure(x):
        raise TypeError("custom_root: f must return a tree of the structure and shapes of its argument")


def _eager(f: Callable[[Any], Any], x: Any) -> Any:
    """x, with what it needs for backward(): a Newton step of length 0, whose derivative is the root's."""
    given = tree_leaves(x)
    numbers = [v.data if isinstance(v, Value) else v for v in given]
    copies = [Value(n) if isinstance(v, Value) else v for v, n in zip(given, numbers)]
    start = Value(0.0)
    made = f(like(x, copies))
    _need_alike(made, x)
    residuals = tree_leaves(made)
    own = {v._handle for v in copies if isinstance(v, Value)}
    used = captured(start, [r for r in residuals if isinstance(r, Value)])
    if all(value._handle in own for value in used):
        return like(x, numbers)
    with recordings.derived() as level:
        variables = [Value(n) for n in numbers]
        roots = values_of(f(like(x, variables)))
    rows = [vjp([root], [Value(1.0)], variables, level) for root in roots]
    steps = solve_linear(rows, [r - r.data for r in map(as_value, residuals)])
    return like(x, [n - step for n, step in zip(numbers, steps)])


def fixed_point(g: Callable[[Any], Any], x0: Any, *, steps: int = 50, solve: Solve | None = None) -> Any:
    """A fixed point x = g(x), found by `steps` steps from x0, or by solve(g, x0), and differentiated as a root.

    g takes a number, an array or a tree and returns the same structure. The derivatives with respect to variables that
    g reads from outside are those of the fixed point, not of the steps: see custom_root. Every step is recorded. Raises
    what custom_root raises.

    >>> from pygrad import grad
    >>> def kepler(m, e):  # the eccentric anomaly E, with dE/dm = 1 / (1 - e * cos(E))
    ...     return fixed_point(lambda x: m + e * x.sin(), m)
    >>> round(grad(kepler)(1.0, 0.2), 9)
    1.081314097
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r}: must be a positive int")

    def iterate(_f: Callable[[Any], Any], x: Any) -> Any:
        for _ in range(steps):
            x = g(x)
        return x

    def residual(x: Any) -> Any:
        after = g(x)
        _need_alike(after, x)
        return like(x, [b - a for a, b in zip(tree_leaves(x), tree_leaves(after))])

    return custom_root(residual, x0, iterate if solve is None else lambda _f, x: solve(g, x))
