"""custom_vjp and custom_jvp: functions with derivatives of their own, named as in JAX.

While a function runs that is differentiated afterwards, a call is a region (see regions.py). Eager Values give custom
nodes, whose step in backward() is the rule. Any other call is a call of the function.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Callable

from pygrad._core.errors import RecordingError, shown
from pygrad._core.numbers import positions
from pygrad._core.trees import Tracer, elements, is_array, tree_flatten, tree_leaves, tree_structure, tree_unflatten
from pygrad._record.arrays import like
from pygrad._record.recording import recordings
from pygrad._record.regions import Adjoints, Region, captured, handles
from pygrad._record.unknowns import Transposed
from pygrad.engine import Value, as_value


def values_of(tree: Any) -> list[Value]:
    """The numbers of a tree as Values, arrays element by element."""
    return [as_value(x) for x in tree_leaves(tree)]


def filled(tree: Any, adjoints: Adjoints) -> Any:
    """Adjoints or tangents in the structure of a tree; zeros for None."""
    return like(tree, [Value(0.0) if x is None else x for x in adjoints])


class Kept:
    """A tree of residuals, without its Values, which may be lanes: these are kept apart."""

    def __init__(self, tree: Any) -> None:
        self._leaves, self._structure = tree_flatten(() if tree is None else tree)
        self._is_none = tree is None
        self.values = [value for leaf in self._leaves if self._is_apart(leaf) for value in values_of(leaf)]

    @staticmethod
    def _is_apart(leaf: Any) -> bool:
        return isinstance(leaf, Value) or (is_array(leaf) and not isinstance(leaf, Tracer) and leaf.dtype == object)

    def tree(self, values: Sequence[Value]) -> Any:
        """The residuals, with these Values in them."""
        if self._is_none:
            return None
        rest = iter(values)
        leaves = []
        for leaf in self._leaves:
            if self._is_apart(leaf):
                leaves.append(like(leaf, [next(rest) for _ in tree_leaves(leaf)]))
            else:
                leaves.append(leaf)
        return tree_unflatten(self._structure, leaves)


# ---- Rules ------------------------------------------------------------------------------------------


class _Call:
    """One call of a function with a rule: `given` holds all arguments, of which `args` are differentiated."""

    is_for_each = False
    is_primitive = False

    def __init__(self, function: Any, given: tuple[Any, ...]) -> None:
        self.function, self.given, self.name = function, given, function.__name__
        count, fixed = len(given), function.nondiff_argnums
        wrong = [i for i in fixed if not -count <= i < count]
        if wrong:
            raise ValueError(f"nondiff_argnums={fixed!r}: {self.name} was called with {count} arguments")
        self._fixed = sorted({i % count for i in fixed})
        self.args = tuple([x for i, x in enumerate(given) if i not in self._fixed])
        self.result: Any = None

    def nondiff(self) -> list[Any]:
        return [self.given[i] for i in self._fixed]

    def all(self, args: Iterable[Any]) -> list[Any]:
        """The function's arguments, with `args` for those that are differentiated."""
        rest = iter(args)
        return [x if i in self._fixed else next(rest) for i, x in enumerate(self.given)]

    def primal(self, args: tuple[Any, ...]) -> tuple[Any, Sequence[Value]]:
        """(the result, Values that the rule needs)."""
        raise NotImplementedError

    def pullback(self, region: Any, cotangents: Adjoints) -> Adjoints:
        raise NotImplementedError

    def recorded(self) -> Any:
        """The result, as a region."""
        inputs = values_of(self.args)
        cuts = [value * 1.0 for value in inputs]
        with recordings.at(recordings.deriving - 1):
            self.result, kept = self.primal(like(self.args, cuts))
        region = Region(self, inputs, cuts, values_of(self.result), kept)  # type: ignore[arg-type]
        return like(self.result, region.outs)

    def eager(self) -> Any:
        """The result, as custom nodes."""
        operands = values_of(self.args)
        inputs = [Value(x.data) for x in operands]
        start, own = Value(0.0), set(handles(inputs))
        with recordings.at(0):
            self.result, kept = self.primal(like(self.args, inputs))
        results = values_of(self.result)
        for value in captured(start, results):
            if value._handle not in own:
                raise TypeError(
                    f"{self.name} uses {shown(value)}, which is not one of its arguments, so its rule does not cover "
                    "it: pass it as an argument, or use its .data"
                )
        return like(self.result, _Steps(self, inputs, kept).results(operands, [x.data for x in results]))

    def transposed(
        self, region: Any, count: int, function: Callable[[list[Value]], Adjoints], weights: Adjoints, what: str
    ) -> Adjoints:
        """The adjoints of `count` numbers of which a linear function makes results with the adjoints `weights`.

        For a Jacobian, a region is asked once for each row.
        """
        linear = region.linear or Transposed(count, function, what)
        if isinstance(region, Region):
            region.linear = linear
        return linear(weights)

    def need(self, tree: Any, like_tree: Any, what: str, whose: str) -> list[Value]:
        """The Values of a tree; TypeError unless it has the structure and shapes of another."""
        if tree_structure(tree) != tree_structure(like_tree):
            raise TypeError(f"{what} must have the structure and shapes of {whose}")
        return values_of(tree)


class _VjpCall(_Call):
    def primal(self, args: tuple[Any, ...]) -> tuple[Any, Sequence[Value]]:
        self.function.rule("defvjp")
        made = self.function.fwd(*self.all(args))
        if not isinstance(made, tuple) or len(made) != 2:
            raise TypeError(f"fwd of {self.name} must return a pair: the result, and the residuals that bwd needs")
        self._kept = Kept(made[1])
        return made[0], self._kept.values

    def pullback(self, region: Any, cotangents: Adjoints) -> Adjoints:
        residuals, cotangent = self._kept.tree(region.kept), filled(self.result, cotangents)
        given = self.function.rule("defvjp")(*self.nondiff(), residuals, cotangent)
        if not isinstance(given, (tuple, list)) or len(given) != len(self.args):
            raise TypeError(
                f"bwd of {self.name} must return a tuple of {len(self.args)}, a cotangent for each argument that is "
                "differentiated; None where it is zero"
            )
        out: list[Value | None] = []
        for i, (x, adjoint) in enumerate(zip(self.args, given)):
            if adjoint is None:
                out += [None] * len(tree_leaves(x))
            else:
                out += self.need(adjoint, x, f"bwd of {self.name}: cotangent {i}", f"argument {i}")
        return out

    def pushforward(self, region: Region, tangents: Adjoints) -> Adjoints:
        """By the transposed pullback."""
        return self.transposed(
            *(region, len(region.outs), lambda unknown: self.pullback(region, unknown), tangents),
            f"Forward mode needs a bwd that is linear in the cotangent; that of {self.name} is not. Use grad, vjp or a "
            "custom_jvp",
        )


class _JvpCall(_Call):
    def _apply(self, args: tuple[Any, ...], tangents: Any) -> tuple[Any, Any]:
        made = self.function.rule("defjvp")(*self.nondiff(), args, tangents)
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise TypeError(f"the rule of {self.name} must return a pair: the result and its tangent")
        return made[0], made[1]

    def primal(self, args: tuple[Any, ...]) -> tuple[Any, Sequence[Value]]:
        return self._apply(args, filled(args, [None] * len(tree_leaves(args))))[0], ()

    def _tangents(self, region: Any, tangents: Adjoints) -> list[Value]:
        made = self._apply(like(self.args, region.inputs), filled(self.args, tangents))[1]
        return self.need(made, self.result, f"the tangent that the rule of {self.name} returns", "the result")

    def pushforward(self, region: Region, tangents: Adjoints) -> Adjoints:
        return self._tangents(region, tangents)

    def pullback(self, region: Any, cotangents: Adjoints) -> Adjoints:
        """By the transposed rule."""
        return self.transposed(
            *(region, len(region.inputs), lambda unknown: self._tangents(region, unknown), cotangents),
            f"Reverse mode needs a rule that is linear in the tangents; that of {self.name} is not. Use custom_vjp",
        )


class _Steps:
    """The step of the node that all results of an eager call have as operand: it has taken their grads."""

    linear: Transposed | None = None

    def __init__(self, call: _Call, inputs: list[Value], kept: Sequence[Value]) -> None:
        self._call, self.inputs, self.kept = call, inputs, kept
        self._grads: dict[int, float] = {}

    def results(self, operands: list[Value], numbers: list[float]) -> list[Value]:
        """The results' nodes."""
        joint = Value(0.0, tuple(operands), self._call.name)
        joint._own["_custom"] = self
        outs = [Value(number, (joint,), self._call.name) for number in numbers]
        for k, out in enumerate(outs):
            out._own["_custom"] = _Step(self, k)
        self._count = len(outs)
        return outs

    def collect(self, joint: Value, k: int, grad: float) -> None:
        """Take the grad of result k."""
        if joint.grad == 0.0:  # the first of this pass
            self._grads.clear()
        joint.grad += 1.0
        self._grads[k] = grad

    def push(self, joint: Value) -> None:
        cotangents = [Value(self._grads[k]) if k in self._grads else None for k in range(self._count)]
        with recordings.at(0):
            adjoints = self._call.pullback(self, cotangents)
        for operand, adjoint in zip(joint._operands(), adjoints):
            if adjoint is not None:
                operand.grad += adjoint.data


class _Step:
    """The step of one result."""

    def __init__(self, steps: _Steps, index: int) -> None:
        self._steps, self._index = steps, index

    def push(self, out: Value) -> None:
        (joint,) = out._operands()
        self._steps.collect(joint, self._index, out.grad)


# ---- What users call --------------------------------------------------------------------------------


class _Custom:
    """A function with a rule. Its arguments are trees of numbers and arrays, but for those in nondiff_argnums."""

    _call: type[_Call]
    _definer: str

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(fun):
            raise TypeError(f"{type(self).__name__} takes a function, not {fun!r}")
        functools.update_wrapper(self, fun)
        vars(self).pop("__wrapped__")  # it is not all that a call may run
        self._fun = fun
        self._rule: Any = None
        found = positions(nondiff_argnums, "nondiff_argnums")
        self.nondiff_argnums = (found,) if isinstance(found, int) else found
        try:
            self.__signature__: Any = inspect.signature(fun)
        except (TypeError, ValueError):
            self.__signature__ = None
        self.__name__ = getattr(fun, "__name__", type(fun).__name__)
        self.__qualname__ = getattr(fun, "__qualname__", self.__name__)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By name where that finds it, as functions are pickled; else by value."""
        found: Any = sys.modules.get(self.__module__) if self.__module__ != "__main__" else None
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else super().__reduce_ex__(protocol)

    def rule(self, definer: str) -> Any:
        if self._rule is None:
            raise RecordingError(f"{self.__name__} has no rule for its derivative yet: {self.__name__}.{definer}(...)")
        return self._rule

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.__signature__ is not None:  # the rule gets all arguments by position
            bound = self.__signature__.bind(*args, **keywords)
            bound.apply_defaults()
            args, keywords = bound.args, bound.kwargs
        if keywords:
            raise TypeError(f"{self.__name__}: its rule takes arguments by position, not as {', '.join(keywords)}=")
        call = self._call(self, args)
        if not _has_values(call.args):
            return self._fun(*args)
        if recordings.deriving:
            return call.recorded()
        return self._fun(*args) if recordings.stack or recordings.plain else call.eager()


def _has_values(tree: Any) -> bool:
    """Whether a tree holds a Value, or an array of them."""
    leaves = tree_flatten(tree)[0]
    return any(
        isinstance(x, (Value, Tracer)) or (is_array(x) and any(isinstance(y, Value) for y in elements(x)))
        for x in leaves
    )


class custom_vjp(_Custom):  # noqa: N801
    """A function with a rule for its vector-Jacobian product, as jax.custom_vjp.

    f.defvjp(fwd, bwd): fwd(*args) returns (f's result, residuals). bwd(residuals, cotangent) returns a tuple: for each
    argument its cotangent, or None for zero. Arguments, results and residuals are numbers, arrays and trees of them.
    nondiff_argnums: positions of arguments that are not differentiated, such as functions and strings; bwd gets them
    first. In forward mode the rule is transposed, so bwd must be linear in the cotangent there. Derivatives of the
    derivative go through fwd and bwd; they use the rule again if fwd calls f. A variable that f uses but does not take
    as an argument raises RecordingError, since the rule does not cover it.

    >>> from pygrad import grad
    >>> @custom_vjp
    ... def clipped(x):
    ...     return x * x
    >>> clipped.defvjp(lambda x: (x * x, x), lambda x, g: ((g * 2 * x).min(1.0),))
    >>> grad(clipped)(0.25), grad(clipped)(3.0)
    (0.5, 1.0)
    """

    _call = _VjpCall

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule."""
        for what, function in (("fwd", fwd), ("bwd", bwd)):
            if not callable(function):
                raise TypeError(f"{self.__name__}.defvjp: {what} must be a function, not {function!r}")
        self.fwd, self._rule = fwd, bwd


class custom_jvp(_Custom):  # noqa: N801
    """A function with a rule for its Jacobian-vector product, as jax.custom_jvp.

    f.defjvp(rule): rule(primals, tangents) gets two tuples, with an entry for each argument, and returns (f's result,
    its tangent). Reverse mode transposes it, so it must be linear in the tangents. nondiff_argnums: positions of
    arguments that are not differentiated, such as functions and strings; the rule gets them first. Derivatives of the
    derivative go through the rule; they use it again where it calls f. A variable that f uses but does not take as an
    argument raises RecordingError, since the rule does not cover it.

    >>> from pygrad import grad
    >>> @custom_jvp
    ... def power(x, n):
    ...     return x ** n
    >>> power.defjvps(lambda t, y, x, n: t * n * y / x, None)
    >>> grad(power)(3.0, 2.0)
    6.0
    """

    _call = _JvpCall

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule; returns it, so this is a decorator."""
        if not callable(rule):
            raise TypeError(f"{self.__name__}.defjvp: the rule must be a function, not {rule!r}")
        self._rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set a rule for each argument: rule(tangent, result, *args) returns its part of the tangent; None: zero."""
        if self.nondiff_argnums:
            raise TypeError(f"{self.__name__}.defjvps: a function with nondiff_argnums needs defjvp")

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            result = self(*primals)
            total: list[Any] = [0.0] * len(tree_leaves(result))
            for one, tangent in zip(rules, tangents):
                if one is not None:
                    total = [x + y for x, y in zip(total, tree_leaves(one(tangent, result, *primals)))]
            return result, like(result, total)

        self._rule = rule
