"""Derivatives of functions: grad, value_and_grad, vjp, jvp, linearize, named as in JAX; jacobians.py has the others.

All of them work on Values: called inside a function that is being recorded, they record the derivative. So they
compose with each other and with vmap.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 3, 5 and 7.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Union

from pygrad._core.errors import RecordingError, shown
from pygrad._core.trees import is_array, tree_map, tree_structure
from pygrad._record.function import Function, _itself, number_of, one_deeper, run_eagerly
from pygrad._record.recording import recordings
from pygrad._record.regions import jvp as _jvp, take, vjp as _vjp
from pygrad._record.variables import Results, Variables
from pygrad.engine import Value, as_value

Argnums = Union[int, Sequence[int]]


def _as_value(x: Any, what: str) -> Value:
    if isinstance(x, Value):
        return x
    if is_array(x) and not x.ndim:
        return as_value(x.item())
    if is_array(x) or isinstance(x, (list, tuple, dict)):
        found = f"an array of shape {x.shape}" if is_array(x) else f"a {type(x).__name__}"
        raise TypeError(
            f"{what} needs a function whose result is a scalar, not {found}: "
            f"jacobian takes others, and vmap({what}(f)) points one by one"
        )
    return Value(x)


def _selected(
    args: tuple[Any, ...], keywords: Iterable[str], argnums: Argnums, by_element: bool = False
) -> tuple[Variables, tuple[Any, ...]]:
    """The arguments to differentiate by, and all arguments by position with copies in their place."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in positions:
        if not -len(args) <= i < len(args):
            names = ", ".join(keywords)
            raise TypeError(
                f"argnums={argnums!r}: the function was called with {len(args)} arguments by position"
                + (f"; to differentiate with respect to {names}, pass by position" if names else "")
            )
    positions = [i % len(args) for i in positions]
    distinct = list(dict.fromkeys(positions))
    variables = Variables(tuple([args[i] for i in distinct]), by_element=by_element)
    copies = dict(zip(distinct, variables.value))
    variables.order = [distinct.index(i) for i in positions]
    return variables, tuple([copies.get(i, x) for i, x in enumerate(args)])


def _split(result: Any, has_aux: bool, whose: str) -> tuple[Any, Any]:
    """(what is differentiated, the rest) of a function's result."""
    if not has_aux:
        return result, None
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(f"{whose} with has_aux=True needs a function that returns (result, aux), not {shown(result)}")
    return result[0], result[1]


def _value_and_grad(function: Callable[..., Any], argnums: Argnums, has_aux: bool = False) -> Callable[..., Any]:
    def inline(*args: Any, **keywords: Any) -> Any:
        variables, copied = _selected(args, keywords, argnums)
        with recordings.derived() as level:
            result, aux = _split(function(*copied, **keywords), has_aux, "grad")
            value = _as_value(result, "grad")
        nodes = variables.nodes()
        take(level, nodes)
        try:
            grads = _vjp([value], [Value(1.0)], nodes, level)
        except RecordingError as error:
            if recordings.stack or recordings.deriving or not error.is_opaque:
                raise
            if level.regions():  # call the rules' functions as on any Values
                value = _as_value(_split(function(*copied, **keywords), has_aux, "grad")[0], "grad")
            value.backward()  # passes custom operations, but only gives first derivatives
            grads = [Value(v.grad) for v in nodes]
        results = variables.filled(grads)
        slope = results[0] if isinstance(argnums, int) else tuple([results[i] for i in variables.order])
        return ((value, aux) if has_aux else value), slope

    return inline


def _gradient(function: Callable[..., Any], argnums: Argnums, has_aux: bool = False) -> Callable[..., Any]:
    both = _value_and_grad(function, argnums, has_aux)

    def inline(*args: Any, **keywords: Any) -> Any:
        value, slope = both(*args, **keywords)
        return (slope, value[1]) if has_aux else slope

    return inline


def value_and_grad(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """A function that returns (fn(*args), its gradient), as jax.value_and_grad.

    fn returns a scalar. The gradient has the structure of argument number `argnums`; if argnums is a sequence, it is a
    tuple of gradients. Keyword arguments are not differentiated. has_aux: fn returns (scalar, aux), aux being any
    tree of numbers; the result is ((scalar, aux), gradient). record=False runs fn eagerly at every call, for control
    flow that depends on values; workers: see jit. Raises TypeError if fn's result is not a scalar, or argnums fits no
    argument. Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2.

    >>> value_and_grad(lambda x: x ** 2)(3.0)
    (9.0, 6.0)
    """
    if fn is None:
        return functools.partial(value_and_grad, argnums=argnums, has_aux=has_aux, record=record, workers=workers)
    return Function(_value_and_grad, fn, "value_and_grad", record, workers, argnums=argnums, has_aux=has_aux)


def grad(
    fn: Callable[..., Any] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """A function that returns fn's gradient, structured as the argument, as jax.grad. See value_and_grad.

    has_aux: fn returns (scalar, aux), and the result is (gradient, aux). Raises what value_and_grad raises.

    >>> grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 3.0})
    {'a': 3.0, 'b': 2.0}
    >>> grad(grad(lambda x: x ** 3))(2.0)
    12.0
    """
    if fn is None:
        return functools.partial(grad, argnums=argnums, has_aux=has_aux, record=record, workers=workers)
    return Function(_gradient, fn, "grad", record, workers, argnums=argnums, has_aux=has_aux)


def _need_alike(x: Any, y: Any, what: str, whose: str) -> None:
    """Raise ValueError unless `y` has the structure of `x`."""
    if tree_structure(x) != tree_structure(y):
        raise ValueError(f"{what} must have the structure and shapes of {whose}")


def _push(fn: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    def inline(primals: Any, tangents: Any) -> Any:
        primals, tangents = tuple(primals), tuple(tangents)
        _need_alike(primals, tangents, "tangents", "the arguments")
        variables = Variables(primals, along=tangents)
        with recordings.derived() as level:
            result, aux = _split(fn(*variables.value), has_aux, "jvp")
        results = Results(result)
        nodes = variables.nodes()
        take(level, nodes)
        slopes = results.filled(_jvp(nodes, variables.tangents(tangents), results.nodes, level))
        return (result, slopes, aux) if has_aux else (result, slopes)

    return inline


class _Linear:
    """fn called once, at primals; a subclass maps tangents or cotangents by its derivative."""

    def __init__(self, fn: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, by_element: bool) -> None:
        self._fn, self._primals, self._has_aux, self._by_element = fn, primals, has_aux, by_element
        self._recording = recordings.stack[-1] if recordings.stack else None
        self._within = None if self._recording is None else self._recording.within
        self._variables = Variables(primals, by_element=by_element)
        with recordings.derived() as self._level:
            self.result, self.aux = _split(fn(*self._variables.value), has_aux, "vjp")
        take(self._level, self._variables.nodes())

    def _here(self) -> Any:
        """Itself, or within another vmap than before fn recorded anew: the lanes of its vmaps must not meet others."""
        if self._recording is not None and recordings.stack and recordings.stack[-1].within is not self._within:
            return type(self)(self._fn, self._primals, self._has_aux, self._by_element)
        return self


class _Pullback(_Linear):
    """Maps cotangents of fn's result to the arguments' gradients."""

    def __init__(self, fn: Any, primals: Any, has_aux: bool = False, by_element: bool = False) -> None:
        super().__init__(fn, primals, has_aux, by_element)

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        _need_alike(self.result, cotangent, "the cotangent", "the result")
        here = self._here()
        results = Results(here.result, along=cotangent)
        nodes = here._variables.nodes()
        grads: tuple[Any, ...] = here._variables.filled(_vjp(results.nodes, results.seeds, nodes, here._level))
        return grads


class _Pushforward(_Linear):
    """Maps tangents of the arguments to those of fn's result."""

    def __init__(self, fn: Any, primals: Any, has_aux: bool = False, by_element: bool = True) -> None:
        super().__init__(fn, primals, has_aux, by_element)

    def __call__(self, *tangents: Any) -> Any:
        _need_alike(self._primals, tangents, "tangents", "the arguments")
        here = self._here()
        results = Results(here.result)
        nodes = here._variables.nodes()
        return results.filled(_jvp(nodes, here._variables.tangents(tangents), results.nodes, here._level))


def _pull(fn: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    return lambda primals, cotangent: _Pullback(fn, tuple(primals), has_aux)(cotangent)


def _slope(fn: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    push = _push(fn, has_aux)
    return lambda primals, tangents: push(primals, tangents)[1]


def _directional(make: Callable[..., Any], fn: Callable[..., Any], name: str, record: bool, **options: Any) -> Function:
    """`make(fn)` as a Function. A recorded fn caches it; any other is recorded anew, since it may have changed."""
    if not isinstance(fn, Function):
        return Function(make, fn, name, record, **options)
    key = (make, record, *options.items())
    if key not in fn.derived:
        fn.derived[key] = Function(make, fn, name, record, **options)
    return fn.derived[key]


def jvp(
    fn: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
    *,
    record: bool = True,
) -> Any:
    """(fn(*primals), its derivative in the direction of `tangents`), as jax.jvp.

    primals and tangents are sequences of arguments of the same structure; else it raises ValueError. has_aux: fn
    returns (result, aux), and aux comes third. Every call records fn, since the variables that it reads may have
    changed. To avoid that cost, pass jit(fn), which records once per structure and shape of the arguments, or call jvp
    within a jit. Source: Griewank & Walther, ch. 3.1.

    >>> jvp(lambda x: x ** 2, (3.0,), (1.0,))
    (9.0, 6.0)
    """
    return _directional(_push, fn, "jvp", record, has_aux=has_aux)(tuple(primals), tuple(tangents))


def _linear(
    kind: Any, make: Any, name: str, fn: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, record: bool
) -> tuple[Any, ...]:
    """(fn(*primals), the function of `kind`), and aux if there is one."""
    if recordings.stack or recordings.eager:
        function = kind(fn, primals, has_aux)
        value, call = (function.result, function.aux), function
    elif not record:
        function = one_deeper(functools.partial(kind, fn), (primals, has_aux))
        value, call = tree_map(number_of, (function.result, function.aux)), functools.partial(_eager, function)
    else:
        of_both = _directional(make, fn, name, record, has_aux=has_aux)
        result = _directional(_itself, fn, "jit", record)(*primals)
        value = _split(result, has_aux, name)
        of_both.program(primals, value[0] if name == "vjp" else primals)  # now, with fn as it is
        call = functools.partial(_apply, of_both.as_it_is(), primals, name == "linearize")
    return (value[0], call, value[1]) if has_aux else (value[0], call)


def _eager(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given) if recordings.stack or recordings.eager else run_eagerly(function, given)


def _apply(function: Function, primals: tuple[Any, ...], is_spread: bool, *given: Any) -> Any:
    return function(primals, given if is_spread else given[0])


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False, record: bool = True) -> Any:
    """(fn(*primals), pullback), as jax.vjp: pullback(cotangent) is the tuple of the arguments' gradients.

    The cotangent has the structure of fn's result; else it raises ValueError. has_aux: fn returns (result, aux), and
    aux comes third. Every call records fn, as jvp does. The pullback differentiates fn as it was then, and can be
    called any number of times. Source: Griewank & Walther, ch. 3.2.

    >>> value, pullback = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> value, pullback(1.0)
    (6.0, (3.0, 2.0))
    """
    return _linear(_Pullback, _pull, "vjp", fn, primals, has_aux, record)


def linearize(fn: Callable[..., Any], *primals: Any, has_aux: bool = False, record: bool = True) -> Any:
    """(fn(*primals), push), as jax.linearize: push(*tangents) is fn's derivative at primals in that direction.

    Tangents have the structure of primals; else it raises ValueError. has_aux: see vjp. Every call records fn, as
    jvp does; push differentiates fn as it was then. Source: Griewank & Walther, ch. 3.1.

    >>> value, push = linearize(lambda x, y: x * y, 2.0, 3.0)
    >>> value, push(1.0, 0.0), push(0.0, 1.0)
    (6.0, 3.0, 2.0)
    """
    return _linear(_Pushforward, _slope, "linearize", fn, primals, has_aux, record)
