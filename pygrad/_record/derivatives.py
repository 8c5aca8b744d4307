"""Derivatives of functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp, named as in JAX.

All of them work on Values: called inside a function that is being recorded, they record the derivative. So they
compose with each other and with vmap.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 3, 5 and 7.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Callable, Union

from pygrad._core.errors import RecordingError
from pygrad._core.trees import (
    is_array,
    need_numpy,
    tree_flatten,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_unflatten,
)
from pygrad._record.arrays import like, object_array
from pygrad._record.function import Function, number_of, one_deeper, run_eagerly
from pygrad._record.recording import recordings
from pygrad._record.regions import jvp as _jvp, vjp as _vjp
from pygrad._record.variables import Results, Variables
from pygrad.engine import Value, as_value

Argnums = Union[int, Sequence[int]]


def _as_value(x: Any, what: str) -> Value:
    if isinstance(x, Value):
        return x
    if is_array(x) or isinstance(x, (list, tuple, dict)):
        raise TypeError(
            f"{what} needs a function whose result is a scalar, not {type(x).__name__}: jacobian takes others"
        )
    return Value(x)


def _selected(args: tuple[Any, ...], argnums: Argnums, by_element: bool = False) -> tuple[Variables, tuple[Any, ...]]:
    """The arguments to differentiate by, and all arguments with copies in their place."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in positions:
        if not isinstance(i, int):
            raise TypeError(f"argnums={argnums!r}: must be an int or a sequence of them, counted from 0")
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={argnums!r}: the function was called with {len(args)} arguments")
    positions = [i % len(args) for i in positions]
    distinct = list(dict.fromkeys(positions))
    variables = Variables(tuple([args[i] for i in distinct]), by_element=by_element)
    copies = dict(zip(distinct, variables.value))
    variables.order = [distinct.index(i) for i in positions]
    return variables, tuple([copies.get(i, x) for i, x in enumerate(args)])


def _value_and_grad(function: Callable[..., Any], argnums: Argnums) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        variables, copied = _selected(args, argnums)
        with recordings.derived() as level:
            value = _as_value(function(*copied), "grad")
        nodes = variables.nodes()
        try:
            grads = _vjp([value], [Value(1.0)], nodes, level)
        except RecordingError as error:
            if recordings.stack or recordings.deriving or not error.is_opaque:
                raise
            if level.regions:  # call the rules' functions as on any Values
                value = _as_value(function(*copied), "grad")
            value.backward()  # passes custom operations, but only gives first derivatives
            grads = [Value(v.grad) for v in nodes]
        results = variables.filled(grads)
        return value, results[0] if isinstance(argnums, int) else tuple([results[i] for i in variables.order])

    return inline


def value_and_grad(
    fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True, workers: int = 1
) -> Any:
    """A function that returns (fn(*args), its gradient), as jax.value_and_grad.

    fn returns a scalar. The gradient has the structure of argument number `argnums`; if argnums is a sequence, it is a
    tuple of gradients. record=False runs fn eagerly at every call, for control flow that depends on values; workers:
    see jit. Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2.

    >>> value_and_grad(lambda x: x ** 2)(3.0)
    (9.0, 6.0)
    """
    if fn is None:
        return functools.partial(value_and_grad, argnums=argnums, record=record, workers=workers)
    return Function(_value_and_grad(fn, argnums), fn, "value_and_grad", record, workers)


def grad(fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns fn's gradient, structured as the argument, as jax.grad. See value_and_grad.

    >>> grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 3.0})
    {'a': 3.0, 'b': 2.0}
    >>> grad(grad(lambda x: x ** 3))(2.0)
    12.0
    """
    if fn is None:
        return functools.partial(grad, argnums=argnums, record=record, workers=workers)
    both = _value_and_grad(fn, argnums)
    return Function(lambda *args: both(*args)[1], fn, "grad", record, workers)


def _need_alike(x: Any, y: Any, what: str, whose: str) -> None:
    """Raise ValueError unless `y` has the structure of `x`."""
    if tree_structure(x) != tree_structure(y):
        raise ValueError(f"{what} must have the structure and shapes of {whose}")


def _inline_jvp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, tangents: Any) -> Any:
        primals, tangents = tuple(primals), tuple(tangents)
        _need_alike(primals, tangents, "tangents", "the arguments")
        variables = Variables(primals, along=tangents)
        with recordings.derived() as level:
            result = fn(*variables.value)
        results = Results(result)
        nodes = variables.nodes()
        return result, results.filled(_jvp(nodes, variables.tangents(tangents), results.nodes, level))

    return inline


class _Pullback:
    """Calls fn once; then maps cotangents of its result to the arguments' gradients."""

    def __init__(self, fn: Callable[..., Any], primals: tuple[Any, ...]) -> None:
        self._fn, self._primals = fn, primals
        self._within = recordings.stack[-1].within if recordings.stack else None
        self._variables = Variables(primals)
        with recordings.derived() as self._level:
            self.result = fn(*self._variables.value)

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        _need_alike(self.result, cotangent, "the cotangent", "the result")
        if recordings.stack and recordings.stack[-1].within is not self._within:
            # Lanes of fn's vmaps must not meet those of the vmap around the call: record fn slice by slice.
            return _Pullback(self._fn, self._primals)(cotangent)
        results = Results(self.result, along=cotangent)
        nodes = self._variables.nodes()
        grads: tuple[Any, ...] = self._variables.filled(_vjp(results.nodes, results.seeds, nodes, self._level))
        return grads


def _inline_vjp(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda primals, cotangent: _Pullback(fn, tuple(primals))(cotangent)


def _directional(make: Callable[..., Any], fn: Callable[..., Any], name: str, record: bool) -> Function:
    """`make(fn)` as a Function. A recorded fn caches it; any other is recorded anew, since it may have changed."""
    if not isinstance(fn, Function):
        return Function(make(fn), fn, name, record)
    if (name, record) not in fn.derived:
        fn.derived[name, record] = Function(make(fn), fn, name, record)
    return fn.derived[name, record]


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, record: bool = True) -> Any:
    """(fn(*primals), its derivative in the direction of `tangents`), as jax.jvp.

    primals and tangents are sequences of arguments of the same structure; else it raises ValueError. Every call
    records fn, since the variables that it reads may have changed. To avoid that cost, pass jit(fn), which records
    once per structure and shape of the arguments, or call jvp within a jit. Source: Griewank & Walther, ch. 3.1.

    >>> jvp(lambda x: x ** 2, (3.0,), (1.0,))
    (9.0, 6.0)
    """
    return _directional(_inline_jvp, fn, "jvp", record)(tuple(primals), tuple(tangents))


def vjp(fn: Callable[..., Any], *primals: Any, record: bool = True) -> tuple[Any, Callable[[Any], Any]]:
    """(fn(*primals), pullback), as jax.vjp: pullback(cotangent) is the tuple of the arguments' gradients.

    The cotangent has the structure of fn's result; else it raises ValueError. Every call records fn, as jvp does. The
    pullback differentiates fn as it was then, and can be called any number of times. Source: Griewank & Walther,
    ch. 3.2.

    >>> value, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> value, pullback(1.0)
    (6.0, (3.0, 2.0))
    """
    if recordings.stack or recordings.eager:
        pullback = _Pullback(fn, primals)
        return pullback.result, pullback
    if not record:
        pullback = one_deeper(functools.partial(_Pullback, fn), (primals,))
        return tree_map(number_of, pullback.result), lambda cotangent: run_eagerly(pullback, (cotangent,))
    pull = _directional(_inline_vjp, fn, "vjp", record)
    value = _directional(lambda f: f, fn, "jit", record)(*primals)
    pull.program(primals, value)
    return value, lambda cotangent: pull(primals, cotangent)


def _inline_jacobian(fn: Callable[..., Any], argnums: int) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        variables, copied = _selected(args, argnums, by_element=True)
        x, wrt = variables.value[0], variables.nodes()
        with recordings.derived() as level:
            result = fn(*copied)
        roots = [as_value(value) for value in tree_leaves(result)]
        one, zero = Value(1.0), Value(0.0)
        if len(roots) <= len(wrt):
            rows = [_vjp([root], [one], wrt, level) for root in roots]
        else:
            units = [[one if j == i else zero for j in range(len(wrt))] for i in range(len(wrt))]
            columns = [_jvp(wrt, unit, roots, level) for unit in units]
            rows = [list(row) for row in zip(*columns)]
        return _nest(result, x, rows)

    return inline


def _nest(result: Any, x: Any, rows: list[list[Any]]) -> Any:
    """The rows of a Jacobian, in the result's structure; each entry has the argument's. Arrays are joined."""
    out, structure = tree_flatten(result)
    at = 0
    blocks = []
    for leaf in out:
        if not is_array(leaf):
            blocks.append(like(x, rows[at]))
            at += 1
            continue
        np = need_numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        inner, inner_structure = tree_flatten(x)
        entries = [tree_flatten(like(x, row))[0] for row in rows[at : at + count]]
        at += count
        joined = []
        for k, part in enumerate(inner):
            shape = part.shape if is_array(part) else ()
            array = np.empty((count, *shape), dtype=object)
            for i in range(count):
                array[i] = entries[i][k]
            joined.append(object_array(array.ravel(), (*leaf.shape, *shape)))
        blocks.append(tree_unflatten(inner_structure, joined))
    return tree_unflatten(structure, blocks)


def jacobian(fn: Callable[..., Any] | None = None, argnums: int = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns fn's Jacobian by one argument: result's shape + argument's shape, as jax.jacobian.

    Uses reverse or forward mode, whichever takes fewer passes. record, workers: see value_and_grad, jit. Source:
    Griewank & Walther, ch. 3.

    >>> jacobian(lambda x: [x[0] * x[1], x[0] ** 2])([2.0, 3.0])
    [[3.0, 2.0], [4.0, 0.0]]
    """
    if fn is None:
        return functools.partial(jacobian, argnums=argnums, record=record, workers=workers)
    return Function(_inline_jacobian(fn, argnums), fn, "jacobian", record, workers)


def hessian(fn: Callable[..., Any] | None = None, argnums: int = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns the matrix of second derivatives of fn by one argument. fn returns a scalar.

    Its shape is the argument's, twice. record, workers: see value_and_grad, jit. Source: Griewank & Walther, ch. 5.

    >>> hessian(lambda x: x[0] ** 2 * x[1])([1.0, 2.0])
    [[4.0, 2.0], [2.0, 0.0]]
    """
    if fn is None:
        return functools.partial(hessian, argnums=argnums, record=record, workers=workers)
    both = _value_and_grad(fn, argnums)
    return Function(_inline_jacobian(lambda *args: both(*args)[1], argnums), fn, "hessian", record, workers)


def hvp(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """A function of (x, v) that returns the Hessian of fn at x times v, without forming it: forward over reverse.

    x and v have the same structure. record, workers: see value_and_grad, jit. Source: Pearlmutter, Fast exact
    multiplication by the Hessian, Neural Computation 6(1), 1994.

    >>> hvp(lambda x: x[0] ** 2 * x[1])([1.0, 2.0], [1.0, 0.0])
    [4.0, 2.0]
    """
    if fn is None:
        return functools.partial(hvp, record=record, workers=workers)
    both = _value_and_grad(fn, 0)
    push = _inline_jvp(lambda x: both(x)[1])
    return Function(lambda x, v: push((x,), (v,))[1], fn, "hvp", record, workers)
